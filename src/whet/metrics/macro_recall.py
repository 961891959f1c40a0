"""Recall by class, every class counting the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import class_codes, class_scores

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class MacroRecall:
    """Of what is a class, the share that is found; mean over the classes that occur in truth or predictions.

    As scikit-learn's recall_score with average='macro' and zero_division=0. A rare class counts as much as a frequent one.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    title: ClassVar[str] = "Macro recall"
    claim: ClassVar[str] = "a macro recall of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return class_codes(example, output)

    def reduce(self, statistics: Statistics) -> float:
        scores = class_scores(statistics)
        return scores.macro(scores.recall)
