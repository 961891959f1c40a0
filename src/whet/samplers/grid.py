"""Grid search."""

import itertools
import math
from typing import Any

from pydantic import Field

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Sampler, Space


@plugin
class Grid(Sampler):
    """Every combination once, in a shuffled order; a range is cut into even points. The search ends where none is left."""

    points: int = Field(5, ge=2)
    """Values of each range, ends included; evenly spaced, by ratio where the range is `log`."""

    def build(self, space: Space, seed: int) -> Any:
        """Return optuna's GridSampler; its order is the same whatever the seed, since it is built anew for each trial."""
        module = optuna()

        class Exhaustive(module.samplers.GridSampler):  # type: ignore[misc, name-defined]
            def after_trial(self, *_: Any) -> None:
                """The caller counts; optuna's own would stop a loop that there is none of."""

        return Exhaustive(self._values(space), seed=0)

    def size(self, space: Space) -> int:
        return math.prod(len(values) for values in self._values(space).values())

    def _values(self, space: Space) -> dict[str, list[Any]]:
        return {key: self._points(distribution) for key, distribution in space.items()}

    def _points(self, distribution: Any) -> list[Any]:
        choices = getattr(distribution, "choices", None)
        if choices is not None:
            return list(choices)
        low, high, step = distribution.low, distribution.high, distribution.step
        whole = isinstance(low, int)
        if step is not None and (not whole or step != 1):
            count = math.floor((high - low) / step + 1e-9) + 1
            return [low + number * step for number in range(count)]
        shares = [number / (self.points - 1) for number in range(self.points)]
        found = [low * (high / low) ** share if distribution.log else low + (high - low) * share for share in shares]
        found = [low, *(min(max(value, low), high) for value in found[1:-1]), high]
        return [key for key, _ in itertools.groupby(round(value) for value in found)] if whole else found
