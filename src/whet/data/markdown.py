"""Rows of Markdown files: one for each section."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from whet.data.lines import Line
from whet.data.rows import RawRow, Reject
from whet.data.sections import Block, section_rows

SUFFIXES = frozenset({".md", ".markdown"})
HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def markdown_rows(lines: Iterable[Line], name: str) -> Iterator[RawRow | Reject]:
    """Yield each section with the line where it begins; a heading without text of its own is no row."""
    return section_rows(_blocks(lines), name, "\n")


def _blocks(lines: Iterable[Line]) -> Iterator[Block]:
    """Yield the lines without the front matter; a # within fenced code is no heading."""
    fence, front = "", False
    for number, text in lines:
        if text is None:
            yield Block(number, None)
            continue
        text = text.strip("\ufeff\r")
        if number == 1 and text.rstrip() == "---":
            front = True
        elif front:
            front = text.rstrip() not in {"---", "..."}
        else:
            mark = FENCE.match(text)
            if mark and (not fence or (mark[1][0] == fence[0] and len(mark[1]) >= len(fence))):
                fence = "" if fence else mark[1]
            heading = None if fence else HEADING.match(text)
            yield Block(number, text, heading[1] if heading else "")
