"""How much of a summary of several lines stands in the same order in the data, line by line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text
from whet.words import f1, rouge_tokens, rouge_words, subsequence_places

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class RougeLsum:
    """F1 of the words in the longest common subsequences of each true line with all given ones; mean over rows.

    Lin 2004, ROUGE, section 3.2; equal to the package rouge-score (a line is a sentence; its words are runs of a-z and 0-9), but
    for an answer in the data that has no such word: there rouge-score always says 0, and here signs are compared one by one.
    """

    stem: bool = False
    """Compare words without their endings (Porter); needs whet[meteor]."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "ROUGE-Lsum"
    claim: ClassVar[str] = "a ROUGE-Lsum of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = true_and_given_text(example, output)
        latin = "a" if rouge_tokens(truth) else ""  # decides for all lines what a word is
        true_lines, given_lines = (
            [rouge_words(latin, line, self.stem)[1] for line in text.split("\n")] for text in (truth, given)
        )
        left, right = (Counter(word for line in lines for word in line) for lines in (true_lines, given_lines))
        if not left:
            return (float(not right),)
        num_true, num_given, hits = left.total(), right.total(), 0
        for line in true_lines:
            places = set[int]().union(*(subsequence_places(line, other) for other in given_lines))
            for place in sorted(places):
                word = line[place]
                if left[word] and right[word]:  # no word counts more often than it stands in either
                    hits, left[word], right[word] = hits + 1, left[word] - 1, right[word] - 1
        return (f1(hits, num_true, num_given),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
