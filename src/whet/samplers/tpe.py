"""Tree-structured Parzen estimator."""

from typing import Any

from pydantic import Field

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Sampler, Space


@plugin
class Tpe(Sampler):
    """Tree-structured Parzen estimator: tries what good trials had and bad ones had not. Bergstra et al. 2011 (NeurIPS 24), section 4."""

    startup: int = Field(5, ge=1)
    """Trials drawn at random before it learns from them."""
    candidates: int = Field(24, ge=1)
    """Draws of which the most promising is tried."""

    def build(self, space: Space, seed: int) -> Any:
        return optuna().samplers.TPESampler(n_startup_trials=self.startup, n_ei_candidates=self.candidates, seed=seed)
