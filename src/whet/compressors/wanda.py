"""Weights that matter little for what really comes in set to zero."""

from collections.abc import Sequence

from pydantic import Field

from whet.errors import ModelError
from whet.models.policy import Policy
from whet.models.prune import check_pattern, input_norms, linear_blocks, prune_layers
from whet.plugins import plugin
from whet.types import Batch


@plugin
class Wanda:
    """Weights of least |weight| x input norm set to zero, in each row. Sun et al. 2023 (arXiv:2306.11695), eq. 1 and algorithm 1.

    Block by block, so that the inputs of a block are those behind the blocks that are pruned already. Calibrated on training rows.
    """

    sparsity: float = Field(0.5, gt=0, lt=1)
    """Share of each row's weights that goes; not used with a pattern n:m."""
    calibration_rows: int = Field(128, ge=1)
    """Training rows, drawn by the run's seed, whose inputs are measured. The paper takes 128 texts."""
    pattern: str = "any"
    """any, or n:m: the n best of each m neighbours stay, such as 2:4."""

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        if not calibration:
            raise ModelError("wanda weighs weights by their inputs and was given no rows. Give it rows, or use magnitude.")
        for layers in linear_blocks(policy):
            norms = input_norms(policy, layers, calibration)
            prune_layers(
                layers,
                lambda name, weight, norms=norms: weight.abs() * norms[name].to(weight.dtype),  # type: ignore[misc]
                self.sparsity,
                self.pattern,
                by_row=True,
            )
        return policy
