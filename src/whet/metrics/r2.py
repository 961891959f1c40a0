"""Share of the variance that is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import NAN, true_and_predicted_value

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class R2:
    """Coefficient of determination: 1 less the squared errors over the variance of the truth.

    As scikit-learn's r2_score: 0 for always answering the mean, below 0 for worse; nan where the truth does not vary.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("value",)
    title: ClassVar[str] = "R²"
    claim: ClassVar[str] = "an R² of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return true_and_predicted_value(example, output)

    def reduce(self, statistics: Statistics) -> float:
        truth, given = statistics[:, 0], statistics[:, 1]
        if (
            not len(truth) or truth.min() == truth.max()
        ):  # a mean of equal numbers may be rounded, and then they would seem to vary
            return NAN
        return 1 - float(((truth - given) ** 2).sum()) / float(((truth - truth.mean()) ** 2).sum())
