"""Physical lines of a text, numbered from 1; a line too long to hold is told apart, never held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TextIO

from whet.data.marks import Marks
from whet.data.rows import MAX_ROW


class Line(NamedTuple):
    """A physical line without its end; `text` is None where it is longer than MAX_ROW."""

    number: int
    text: str | None


def physical_lines(stream: TextIO, newline: str = "\n", marks: Marks | None = None) -> Iterator[Line]:
    """Yield each line of a stream that was opened with this `newline`; `marks` note where lines begin, and leap over those known."""
    number = 0
    while True:
        if marks is not None and marks.due:
            number = marks.met(stream, number)
        if not (text := stream.readline(MAX_ROW + 1)):
            return
        number += 1
        if text.endswith(newline):
            yield Line(number, text[:-1].removesuffix("\r"))
        elif len(text) <= MAX_ROW:
            yield Line(number, text.removesuffix("\r"))
        else:
            while text and not text.endswith(newline):
                text = stream.readline(MAX_ROW)
            yield Line(number, None)
