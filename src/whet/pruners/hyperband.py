"""Hyperband."""

from typing import Any

from pydantic import Field

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Pruner


@plugin
class Hyperband(Pruner):
    """Brackets of successive halving, from many short trials to few long ones. Li et al. 2018 (arXiv:1603.06560), algorithm 1."""

    shortest: int = Field(1, ge=1)
    """Validations that every trial gets."""
    factor: int = Field(3, ge=2)
    """Of so many trials one goes on at each rung."""

    def build(self) -> Any:
        return optuna().pruners.HyperbandPruner(min_resource=self.shortest, max_resource="auto", reduction_factor=self.factor)
