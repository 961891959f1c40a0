"""What answers are worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class MeanReward:
    """Mean of what the objective's reward gives to the answers, in its own unit."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = math.inf
    needs: ClassVar[tuple[str, ...]] = ("reward",)
    title: ClassVar[str] = "Mean reward"
    claim: ClassVar[str] = "a mean reward of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.reward is not None, f"row {example.id}: the output has no reward"
        return (output.reward,)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
