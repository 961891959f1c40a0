"""Cosine schedule."""

import math

from whet.plugins import plugin


@plugin
class Cosine:
    """Linear warm-up, then down to zero along half a cosine. Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        if step <= num_warmup:
            return step / max(1, num_warmup)
        return 0.5 * (1 + math.cos(math.pi * (step - 1 - num_warmup) / max(1, num_steps - num_warmup)))
