"""Warm-up, stable, decay."""

import math
from typing import Literal

from pydantic import Field

from whet.plugins import plugin


@plugin
class Wsd:
    """Linear warm-up, then the same rate until a last, short fall (warm-up, stable, decay). Hu et al. 2024 (arXiv:2404.06395), eq. 1.

    What was trained until the fall can be trained on with other lengths of it. The paper's fall is exponential; the forms here are those
    of Hägele et al. 2024 (arXiv:2405.18392), section 3, who find 1 - sqrt the best.
    """

    decay: float = Field(default=0.1, gt=0, le=1)
    """Share of all steps in which the rate falls, at the end; at least one step, and never a part of the warm-up or its peak."""
    shape: Literal["linear", "1-sqrt"] = "linear"
    """linear: in a straight line. 1-sqrt: one minus the root of the share that is done, which falls faster at first."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        if step <= num_warmup:
            return step / max(1, num_warmup)
        num_decay = min(max(1, round(self.decay * num_steps)), num_steps - max(1, num_warmup))
        fallen = step - (num_steps - num_decay)
        if fallen <= 0:
            return 1.0
        done = fallen / (num_decay + 1)  # so that the last step still learns
        return 1 - (done if self.shape == "linear" else math.sqrt(done))
