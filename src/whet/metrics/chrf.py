"""How many short runs of letters the answers share with the data, over all rows together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import NAN, true_and_given_text
from whet.words import overlap

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics

ORDERS = range(1, 7)
FACTOR = 2**2
"""Square of beta: recall weighs twice as much as precision."""


@plugin
class Chrf:
    """Corpus chrF, 0..100: F2 of runs of one to six letters, without spaces. Good for languages rich in forms, and for short answers.

    Popovic 2015, eq. 1; equal to sacrebleu's chrF2 (Post 2018; one reference, no word n-grams, effective order).
    """

    lowercase: bool = False
    """Upper and lower case alike."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 100.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "chrF"
    claim: ClassVar[str] = "a chrF of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        """Runs given, true and matched, of each length in turn. [18]"""
        truth, given = (
            "".join((text.lower() if self.lowercase else text).split()) for text in true_and_given_text(example, output)
        )
        found: list[float] = []
        for order in ORDERS:
            left, right = _runs(truth, order), _runs(given, order)
            found += [right.total() if left else 0, left.total(), overlap(left, right)]
        return tuple(found)

    def reduce(self, statistics: Statistics) -> float:
        """F2 of the mean precision and mean recall over the lengths that occur in both."""
        if not len(statistics):
            return NAN
        given, true, matched = statistics[:, : 3 * len(ORDERS)].sum(axis=0).reshape(-1, 3).T
        both = (given > 0) & (true > 0)
        if not both.any():
            return 0.0
        precision, recall = (float((matched[both] / counts[both]).mean()) for counts in (given, true))
        if not precision + recall:
            return 0.0
        return 100 * (1 + FACTOR) * precision * recall / (FACTOR * precision + recall)


def _runs(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
