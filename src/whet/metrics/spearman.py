"""Whether numbers come in the right order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import correlation, ranks, true_and_predicted_value

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Spearman:
    """Rank correlation of predicted and true numbers, from -1 to 1; ties share their mean rank.

    Spearman 1904; nan where either does not vary.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("value",)
    title: ClassVar[str] = "Rank correlation"
    claim: ClassVar[str] = "a rank correlation of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return true_and_predicted_value(example, output)

    def reduce(self, statistics: Statistics) -> float:
        return correlation(ranks(statistics[:, 0]), ranks(statistics[:, 1]))
