"""Small weights set to zero."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from whet.models.policy import Policy
from whet.models.prune import check_pattern, linear_blocks, prune_layers
from whet.plugins import plugin
from whet.types import Batch


@plugin
class Magnitude:
    """The smallest weights of each linear layer set to zero. Han et al. 2015 (arXiv:1506.02626), section 3.1, without training again."""

    sparsity: float = Field(0.5, gt=0, lt=1)
    """Share of each layer's weights that goes; not used with a pattern n:m."""
    pattern: str = "any"
    """any, or n:m: the n largest of each m neighbours stay, such as 2:4."""

    calibration_rows: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        for layers in linear_blocks(policy):
            prune_layers(layers, lambda _, weight: weight.abs(), self.sparsity, self.pattern, by_row=False)
        return policy
