"""How far off a number is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_predicted_value

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class MeanAbsoluteError:
    """Mean distance between the predicted and the true number, in its own unit."""

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("value",)
    title: ClassVar[str] = "Mean absolute error"
    claim: ClassVar[str] = "off by {value} on average on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = true_and_predicted_value(example, output)
        return (abs(given - truth),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
