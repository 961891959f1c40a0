"""Linear schedule."""

from whet.plugins import plugin


@plugin
class Linear:
    """Linear warm-up, then down to zero in a straight line."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        if step <= num_warmup:
            return step / max(1, num_warmup)
        return (num_steps - step + 1) / max(1, num_steps - num_warmup)
