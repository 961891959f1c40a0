"""Bayesian optimisation by a Gaussian process."""

from typing import Any

from pydantic import Field

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Sampler, Space


@plugin
class Gp(Sampler):
    """A Gaussian process of the score, and the setting of the largest expected improvement. Snoek et al. 2012 (arXiv:1206.2944)."""

    startup: int = Field(5, ge=1)
    """Trials drawn at random before it learns from them."""

    def build(self, space: Space, seed: int) -> Any:
        return optuna().samplers.GPSampler(n_startup_trials=self.startup, seed=seed)
