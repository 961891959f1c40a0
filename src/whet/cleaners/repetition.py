"""Texts that say one thing over and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Unwanted


@plugin
class Repetition:
    """Drops rows with a text that repeats itself: lines, runs of words, or one character. After Rae et al. 2021 (arXiv:2112.11446), table A1."""

    lines: float = Field(0.3, gt=0, le=1)
    """Share of the lines that stand there again, above which the text goes."""
    runs: float = Field(0.2, gt=0, le=1)
    """Share of the characters that lie in the commonest run of 2, 3 or 4 words, above which the text goes, where that run comes three times."""
    characters: float = Field(0.5, gt=0, le=1)
    """Share of the characters but spaces that are one and the same in a row, such as !!!!!!, above which the text goes."""
    min_words: int = Field(20, ge=1)
    """Words from which on lines and runs are looked at: a short text may well say the same word twice."""
    min_characters: int = Field(20, ge=1)
    """Characters from which on repeated ones are looked at."""

    def clean(self, text: str) -> str:
        """Return the text as it is. Raises Unwanted."""
        dense = "".join(text.split())
        if len(dense) >= self.min_characters:
            _refuse(_longest_run(dense) / len(dense), self.characters, "characters are one and the same in a row")
        words = text.split()
        if len(words) < self.min_words:
            return text
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        _refuse(1 - len(set(lines)) / len(lines), self.lines, "lines stand there again")
        length = sum(map(len, words))
        for width in (2, 3, 4):
            _refuse(_commonest(words, width) / length, self.runs, f"letters lie in one run of {width} words")
        return text


def _refuse(share: float, most: float, what: str) -> None:
    if share > most:
        raise Unwanted(f"a text that repeats itself: {share:.0%} of its {what}; allowed: {most:.0%}")


def _longest_run(text: str) -> int:
    longest = run = 1
    for one, other in pairwise(text):
        run = run + 1 if one == other else 1
        longest = max(longest, run)
    return longest


def _commonest(words: Sequence[str], width: int) -> int:
    """Return the letters in the commonest run of so many words, wherever it stands; 0 where it stands twice at most."""
    runs = Counter(zip(*(words[place:] for place in range(width)), strict=False))
    if not runs:
        return 0
    letters = {run: times * sum(map(len, run)) for run, times in runs.items() if times > 2}
    return max(letters.values(), default=0)
