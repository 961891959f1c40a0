"""Precision by class, every row counting the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import class_codes, class_scores

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class WeightedPrecision:
    """Of what is called a class, the share that is it; mean over classes, each weighing what it has of true rows.

    As scikit-learn's precision_score with average='weighted' and zero_division=0.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    title: ClassVar[str] = "Weighted precision"
    claim: ClassVar[str] = "a weighted precision of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return class_codes(example, output)

    def reduce(self, statistics: Statistics) -> float:
        scores = class_scores(statistics)
        return scores.weighted(scores.precision)
