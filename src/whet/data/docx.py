"""Rows of Word files (docx): one for each section, tables with tabs between their cells."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterator

from whet.data.rows import MAX_ROW, RawRow, Reject
from whet.data.sections import Block, section_rows
from whet.data.unpack import Budget, Piece, opened_member, opened_zip
from whet.data.xml_events import Event, xml_events

DOCUMENT = "word/document.xml"
_STYLES = "word/styles.xml"


def is_docx(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is a Word file."""
    return DOCUMENT in archive.NameToInfo


def docx_rows(piece: Piece, budget: Budget) -> Iterator[RawRow | Reject]:
    """Yield the sections; `line` is the number of the paragraph, from 1. What was deleted with changes tracked is left out."""
    with opened_zip(piece) as archive:
        headings = _headings(archive, piece, budget) if _STYLES in archive.NameToInfo else frozenset()
        yield from section_rows(_paragraphs(_events(archive, DOCUMENT, piece, budget), headings), piece.name, "\n")


def _events(archive: zipfile.ZipFile, part: str, piece: Piece, budget: Budget) -> Iterator[Event]:
    with opened_member(archive, archive.NameToInfo[part], f"{piece.name}/{part}") as stream:
        yield from xml_events(stream, piece.name, budget)


def _headings(archive: zipfile.ZipFile, piece: Piece, budget: Budget) -> frozenset[str]:
    """Return the ids of the styles of headings: their names are English in every language's Word."""
    found, style = set(), ""
    for kind, value, attributes in _events(archive, _STYLES, piece, budget):
        if kind != "start":
            continue
        if value == "style":
            style = attributes.get("styleId", "")
        elif (value == "name" and re.fullmatch(r"heading \d|title", attributes.get("val", ""), re.IGNORECASE)) or (
            value == "outlineLvl" and attributes.get("val", "9") != "9"
        ):
            found.add(style)
    return frozenset(found)


def _paragraphs(events: Iterator[Event], headings: Collection[str]) -> Iterator[Block]:
    text: list[str] = []
    number = cells = skipped = size = 0
    inside = heading = False
    for kind, value, attributes in events:
        if value == "Fallback":  # the same again, for older programs
            skipped += 1 if kind == "start" else -1
        elif skipped:
            continue
        elif kind == "text":
            if inside and size <= MAX_ROW:
                text.append(value)
                size += len(value)
        elif value == "t":
            inside = kind == "start"
        elif value == "tc":
            cells += 1 if kind == "start" else -1
            if kind == "end" and not cells:
                text.append("\t")
        elif kind == "start":
            if value in {"tab", "br", "cr"} and not inside:
                text.append("\t" if value == "tab" else "\n")
            heading = heading or (value == "pStyle" and attributes.get("val", "") in headings)
        elif value in {"p", "tr"}:
            number += value == "p"
            if cells:  # a cell's paragraphs stay on its line
                text.append(" ")
                continue
            whole = (
                "".join(text).strip()
                if value == "p"
                else "\t".join(" ".join(cell.split()) for cell in "".join(text).split("\t")).strip()
            )
            yield Block(max(number, 1), whole if size <= MAX_ROW else None, whole if heading and value == "p" else "")
            text, size, heading = [], 0, False
