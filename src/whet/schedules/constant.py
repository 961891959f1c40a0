"""Constant schedule."""

from whet.plugins import plugin


@plugin
class Constant:
    """Linear warm-up, then the same rate to the end."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        if step <= num_warmup:
            return step / max(1, num_warmup)
        return 1.0
