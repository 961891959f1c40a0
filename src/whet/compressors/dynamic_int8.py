"""Weights and inputs in 8 bits."""

from collections.abc import Sequence
from typing import ClassVar

from whet.models.policy import Policy
from whet.models.rounded import round_network
from whet.plugins import plugin
from whet.types import Batch


@plugin
class DynamicInt8:
    """Weights and, as they come in, inputs rounded to int8, so that products are of integers. Jacob et al. 2018 (arXiv:1712.05877), section 2; symmetric.

    A scale for each row of a weight and for each token's input, so an answer does not depend on what else is asked. Embedding and
    output head keep their inputs.
    """

    calibration_rows: ClassVar[int] = 0

    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        round_network(policy.network, 8, None, dynamic=True)
        return policy
