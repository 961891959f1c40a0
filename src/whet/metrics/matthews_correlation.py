"""How far true and predicted classes go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import NAN, class_codes, class_counts

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class MatthewsCorrelation:
    """Correlation of true and predicted class, -1..1: honest where one class is common, since guessing scores 0.

    Matthews 1975; for several classes Gorodkin 2004, eq. 8. As scikit-learn's matthews_corrcoef, but undefined, not 0, where only
    one class is true. For one label per row.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("label",)
    title: ClassVar[str] = "Matthews correlation"
    claim: ClassVar[str] = "a Matthews correlation of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return class_codes(example, output)

    def reduce(self, statistics: Statistics) -> float:
        support, claimed, found = class_counts(statistics)
        n = float(support.sum())
        spread_true, spread_claimed = n * n - float(support @ support), n * n - float(claimed @ claimed)
        if not spread_true:
            return NAN
        if not spread_claimed:
            return 0.0
        return (n * float(found.sum()) - float(support @ claimed)) / math.sqrt(spread_true * spread_claimed)
