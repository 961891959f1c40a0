"""Random search."""

from typing import Any

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Sampler, Space


@plugin
class Random(Sampler):
    """Each setting drawn by itself. Bergstra and Bengio 2012 (JMLR 13), section 2: better than a grid where few keys matter."""

    def build(self, space: Space, seed: int) -> Any:
        return optuna().samplers.RandomSampler(seed=seed)
