"""How many words of the answer are those in the data, as ROUGE counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text
from whet.words import ngram_f1, rouge_words

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Rouge1:
    """F1 of the words that both answers have; mean over rows.

    Lin 2004, ROUGE; equal to the package rouge-score (its words are runs of a-z and 0-9), but for an answer in the data
    which has no such word: there rouge-score always says 0, and here other letters and signs are compared one by one.
    """

    stem: bool = False
    """Compare words without their endings (Porter); needs whet[meteor]."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "ROUGE-1"
    claim: ClassVar[str] = "a ROUGE-1 of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return (ngram_f1(*rouge_words(*true_and_given_text(example, output), self.stem), 1),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
