"""Weights in 4 bits."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from whet.models.policy import Policy
from whet.models.rounded import round_network
from whet.plugins import plugin
from whet.types import Batch


@plugin
class Int4:
    """Weights rounded to int4 with a scale for each group of inputs; inputs stay as they are. Frantar et al. 2023 (arXiv:2210.17323), section 2, round-to-nearest.

    Embedding and output head get 8 bits. Rounded by torchao, computed with without it.
    """

    group_size: Literal[16, 32, 64, 128] = 32
    """Neighbouring inputs that share a scale. Smaller is more exact and larger on the disk: a scale takes 32 bits."""

    calibration_rows: ClassVar[int] = 0

    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        round_network(policy.network, 4, self.group_size)
        return policy
