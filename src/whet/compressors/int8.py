"""Weights in 8 bits."""

from collections.abc import Sequence
from typing import ClassVar

from whet.models.policy import Policy
from whet.models.rounded import round_network
from whet.plugins import plugin
from whet.types import Batch


@plugin
class Int8:
    """Weights rounded to int8 with a scale for each row; inputs stay as they are. Dettmers et al. 2022 (arXiv:2208.07339), section 2.1.

    Without that paper's outlier columns: weights alone have few. Rounded by torchao, computed with without it.
    """

    calibration_rows: ClassVar[int] = 0

    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        round_network(policy.network, 8, None)
        return policy
