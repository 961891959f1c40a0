"""Median pruning."""

from typing import Any

from pydantic import Field

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Pruner


@plugin
class Median(Pruner):
    """Gives a trial up whose best validation so far is worse than the median of earlier trials there. Golovin et al. 2017 (Vizier), 3.2."""

    startup: int = Field(3, ge=1)
    """Trials that run to their end before any is given up."""
    warmup: int = Field(1, ge=0)
    """Validations of a trial in which it is not given up."""

    def build(self) -> Any:
        return optuna().pruners.MedianPruner(n_startup_trials=self.startup, n_warmup_steps=self.warmup)
