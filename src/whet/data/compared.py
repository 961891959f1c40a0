"""What is compared of rows where near duplicates are looked for: what the model is shown, without what all conversations begin or end with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

from whet.data.keys import shown
from whet.data.shingles import as_read
from whet.types import Example

FEWEST_ALIKE = 20
"""Conversations from which on what all of them begin or end with is not compared."""


class Cut(NamedTuple):
    """How many characters at either end of each text are not compared."""

    begin: int = 0
    end: int = 0


WHOLE = Cut()


def compared_text(example: Example, cut: Cut) -> str:
    """Return what is compared of a row."""
    text = as_read(shown(example))
    return text[cut.begin : len(text) - cut.end] if cut != WHOLE else text


def shared_cut(texts: Iterable[str]) -> Cut:
    """Return what all of these texts begin and end with. They are gone through twice."""
    begin = _shared_beginning(texts)
    return Cut(begin, _shared_beginning(text[begin:][::-1] for text in texts))


def _shared_beginning(texts: Iterable[str]) -> int:
    """Return how many characters all texts begin with: those of the first and the last in order."""
    low: str | None = None
    high = ""
    for text in texts:
        low, high = text if low is None or text < low else low, max(text, high)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(low or "", high, strict=False)))
