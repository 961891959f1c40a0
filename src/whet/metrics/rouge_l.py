"""How much of the answer stands in the same order in the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text
from whet.words import common_subsequence, f1, rouge_words

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class RougeL:
    """F1 of the longest common subsequence of words; mean over rows.

    Lin 2004, ROUGE; equal to the package rouge-score (its words are runs of a-z and 0-9), but for an answer in the data that
    has no such word: there rouge-score always says 0, and here other letters and signs are compared one by one.
    """

    stem: bool = False
    """Compare words without their endings (Porter); needs whet[meteor]."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "ROUGE-L"
    claim: ClassVar[str] = "a ROUGE-L of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        true_words, given_words = rouge_words(*true_and_given_text(example, output), self.stem)
        if not true_words:
            return (float(not given_words),)
        return (f1(common_subsequence(true_words, given_words), len(true_words), len(given_words)),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
