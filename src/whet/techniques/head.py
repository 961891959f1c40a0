"""Only the head learns."""

import math
from pathlib import Path
from typing import ClassVar

from whet.errors import ModelError
from whet.models.policy import Policy
from whet.plugins import plugin


@plugin
class Head:
    """The network is frozen; only the head on top of it learns. The fastest way, for encoders whose embeddings already fit."""

    mergeable: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((math.inf, 1e-2),)
    why_rates: ClassVar[str] = "only the head learns"

    def attach(self, policy: Policy, seed: int) -> None:
        if not len(policy.heads):
            raise ModelError(
                "technique 'head' trains a head on a frozen network, and this objective has none. Use technique 'lora' or 'full'."
            )
        policy.network.requires_grad_(False)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        """Nothing to take off."""

    def merge(self, policy: Policy) -> None:
        """Nothing to fold in."""

    def save(self, policy: Policy, folder: Path) -> None:
        """Nothing beside the head, which is saved with every policy."""

    def load(self, policy: Policy, folder: Path) -> None:
        """Nothing beside the head, which is loaded with every policy."""
