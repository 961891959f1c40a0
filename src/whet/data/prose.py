"""Rows of plain text files: documents, one per line, per block between blank lines, or per end-of-text mark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Literal

from whet.data.lines import Line
from whet.data.rows import MAX_ROW, RawRow, Reject, too_long

MARK = "<|endoftext|>"
LONG = 80  # characters; a file whose lines are nearly all longer has one paragraph on each line
PASSAGE = 2000  # characters
_SENTENCE = re.compile(r"(?<=[.!?\u2026])\s+|(?<=[\u3002\uff01\uff1f])")
Layout = Literal["marks", "lines", "blocks", "wrapped"]
SAID: dict[Layout, str] = {
    "marks": f"plain text; one row for each document between {MARK} marks",
    "lines": "plain text; one row for each line",
    "blocks": "plain text; one row for each block between blank lines",
    "wrapped": "plain text; one row for each paragraph between blank lines, its lines joined",
}


def layout(lines: Sequence[Line]) -> Layout:
    """Return how these first lines of a file divide it into documents."""
    texts = [line.text.strip() for line in lines if line.text is not None]
    filled = [text for text in texts if text]
    if any(MARK in text for text in filled):
        return "marks"
    if len(texts) - len(filled) <= 0.01 * len(texts) or sum(len(text) >= LONG for text in filled) >= 0.85 * len(filled):
        return "lines"
    following = [text for before, text in pairwise(texts) if before and text]
    lower = sum(text[0].islower() for text in following)
    return "wrapped" if following and lower >= 0.6 * len(following) else "blocks"


def documents(
    first_lines: Sequence[Line], rest: Iterator[Line], name: str, notices: list[str], *, passages: bool = False
) -> Iterator[RawRow | Reject]:
    """Yield one row with the field `text` per document, with the line where it begins.

    `passages`: a file of one long line is a text that nobody has divided, and becomes a row for each passage of it.
    """
    kind = layout(first_lines)
    filled = [line for line in first_lines if line.text is None or line.text.strip(" \t\r\f\ufeff")]
    following = next(rest, None) if passages and len(filled) == 1 else None
    if passages and len(filled) == 1 and following is None and kind == "lines" and len(filled[0].text or "") > 2 * PASSAGE:
        number, text = filled[0]
        notices.append(f"{name}: plain text of one long line; one row for each passage of about {PASSAGE:,} characters.")
        yield from (RawRow(name, number, {"text": passage}) for passage in _passages((text or "").strip("\ufeff")))
        return
    notices.append(f"{name}: {SAID[kind]}.")
    yield from divided(chain(first_lines, [following] if following else [], rest), kind, name)


def divided(lines: Iterator[Line], kind: Layout, name: str) -> Iterator[RawRow | Reject]:
    """Yield one row with the field `text` per document of lines that are laid out so."""
    if kind == "lines":
        for number, text in lines:
            if text is None:
                yield too_long(name, number)
            elif text.strip(" \t\r\f\ufeff"):
                yield RawRow(name, number, {"text": text.strip("\ufeff")})
        return
    for number, block in _marked(lines) if kind == "marks" else _blocks(lines):
        if block is None:
            yield too_long(name, number)
        else:
            yield RawRow(name, number, {"text": " ".join(block.split()) if kind == "wrapped" else block})


def _passages(text: str) -> Iterator[str]:
    """Yield a text in parts that end with a sentence, as near below the length of a passage as they can."""
    held = ""
    for sentence in _SENTENCE.split(text):
        if held and len(held) + len(sentence) > PASSAGE:
            yield held
            held = ""
        held = f"{held} {sentence}" if held else sentence
    if held.strip():
        yield held


def _blocks(lines: Iterator[Line]) -> Iterator[tuple[int, str | None]]:
    block: list[str] = []
    start = size = 0
    for number, text in lines:
        if text is not None and text.strip():
            start = start if block else number
            block.append(text.rstrip().strip("\ufeff"))
            size += len(text) + 1
        elif block:
            yield start, "\n".join(block)
            block, size = [], 0
        if text is None or size > MAX_ROW:
            yield start if block else number, None
            block, size = [], 0
    if block:
        yield start, "\n".join(block)


def _marked(lines: Iterator[Line]) -> Iterator[tuple[int, str | None]]:
    block: list[str] = []
    start = size = 0
    for number, text in lines:
        if text is None:
            yield number, None
            continue
        *ended, last = text.split(MARK)
        for piece in ended:
            whole = "\n".join([*block, piece]).strip()
            if whole:
                yield (start if block else number), whole
            block, size = [], 0
        if block or last.strip():
            start = start if block else number
            block.append(last)
            size += len(last) + 1
        if size > MAX_ROW:
            yield start, None
            block, size = [], 0
    whole = "\n".join(block).strip()
    if whole:
        yield start, whole
