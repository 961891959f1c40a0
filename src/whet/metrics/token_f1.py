"""How many words of the answer are those in the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text
from whet.words import f1, overlap, squad_words

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class TokenF1:
    """F1 of the words that both answers have, in any order; mean over rows.

    Rajpurkar et al. 2016 (arXiv:1606.05250), as SQuAD's script counts: lower case, without ASCII punctuation and the words
    a, an and the; where either has no word left, 1 if neither has.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "Token F1"
    claim: ClassVar[str] = "a token F1 of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = true_and_given_text(example, output)
        true_words, given_words = squad_words(truth), squad_words(given)
        if not true_words or not given_words:
            return (float(true_words == given_words),)
        return (f1(overlap(true_words, given_words), len(true_words), len(given_words)),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
