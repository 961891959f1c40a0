"""Whether all labels of a row are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import label_sets, mean

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class ExactSet:
    """Share of rows whose predicted labels are exactly the true ones.

    As scikit-learn's accuracy_score of several labels (subset accuracy).
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    title: ClassVar[str] = "All labels right"
    claim: ClassVar[str] = "every label right in {value} of {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = label_sets(example, output)
        return (float(truth == given),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
