"""How far off a number is, large misses counting more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_predicted_value

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class RootMeanSquaredError:
    """Root of the mean squared distance between the predicted and the true number, in its own unit."""

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("value",)
    title: ClassVar[str] = "Root mean squared error"
    claim: ClassVar[str] = "a typical miss of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = true_and_predicted_value(example, output)
        return ((given - truth) ** 2,)

    def reduce(self, statistics: Statistics) -> float:
        return math.sqrt(mean(statistics))
