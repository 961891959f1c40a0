"""F1 over all labels of all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import NAN, label_sets

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class MicroF1:
    """F1 over every pair of row and label, for rows with several labels.

    As scikit-learn's f1_score with average='micro'. 1 where there was no label to find and none was given.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    title: ClassVar[str] = "Micro F1"
    claim: ClassVar[str] = "a micro F1 of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = label_sets(example, output)
        return float(len(truth & given)), float(len(given - truth)), float(len(truth - given))

    def reduce(self, statistics: Statistics) -> float:
        if not len(statistics):
            return NAN
        right, extra, missed = (float(total) for total in statistics.sum(axis=0))
        return 2 * right / (2 * right + extra + missed) if right + extra + missed else 1.0
