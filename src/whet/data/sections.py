"""Sections of a text: what stands below each heading, with its title."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from whet.data.rows import MAX_ROW, RawRow, Reject, too_long


class Block(NamedTuple):
    """A line or paragraph with its number from 1. A heading begins a section; a text of None is longer than a row may be."""

    number: int
    text: str | None
    title: str = ""


def section_rows(blocks: Iterable[Block], name: str, joint: str) -> Iterator[RawRow | Reject]:
    """Yield one row for each section with text below its heading, with `text` (its heading on top) and `title`."""
    title, start, size = "", 0, 0
    held: list[str] = []
    for block in blocks:
        if block.title:
            yield from _section(held, title, start, size, name, joint)
            title, held, size = block.title, [], 0
        if block.text is None:
            size = MAX_ROW + 1
        elif held or block.text.strip():
            held.append(block.text) if size <= MAX_ROW else None
            size += len(block.text) + len(joint)
        start = block.number if block.title or (len(held) == 1 and block.text and block.text.strip()) else start or block.number
    yield from _section(held, title, start, size, name, joint)


def _section(held: list[str], title: str, start: int, size: int, name: str, joint: str) -> Iterator[RawRow | Reject]:
    if size > MAX_ROW:
        yield too_long(name, start)
        return
    text = joint.join(held).strip()
    if text and any(part.strip() for part in held[bool(title) :]):
        yield RawRow(name, start, {"title": title, "text": text})
