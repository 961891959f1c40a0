"""No pruning."""

from typing import Any

from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Pruner


@plugin
class NoPruner(Pruner):
    """Every trial runs to its end."""

    def build(self) -> Any:
        return optuna().pruners.NopPruner()
