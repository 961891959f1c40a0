"""Rows of Excel workbooks (xlsx): cells as Excel would write them to CSV, with the sheet and the row they stand in."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import PurePosixPath

from whet.data.delimited import Record
from whet.data.notices import counted
from whet.data.rows import MAX_ROW, RawRow, Reject
from whet.data.table import HEAD, below_titles, names_columns, of_records
from whet.data.unpack import Budget, Member, Piece, opened_member, opened_zip
from whet.data.xml_events import Event, xml_events
from whet.display import brief
from whet.errors import DataError

WORKBOOK = "xl/workbook.xml"
MAX_STRINGS = 512 * 2**20
"""Characters of a workbook's table of texts, which is held in memory."""
MAX_COLUMNS = 16_384
DATES = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
"""Built-in number formats that write dates and times. ECMA-376 part 1, 18.8.30."""
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet of a workbook."""

    title: str
    part: str
    """Its file in the archive."""
    num_rows: int
    """With those above the first that is read, where the top of the sheet has not been looked at."""


@dataclass(frozen=True, slots=True)
class Book:
    """What the cells of a workbook refer to."""

    strings: list[str]
    dates: frozenset[int]
    """Cell styles that write dates."""
    epoch: datetime


Events = Callable[[str], Iterator[Event]]


def is_xlsx(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is a workbook."""
    return WORKBOOK in archive.NameToInfo


def xlsx_rows(piece: Piece, notices: list[str], budget: Budget, sheet: str | None = None) -> Iterator[RawRow | Reject]:
    """Yield the rows of a workbook: of the sheet that is named, else of the largest one and of those with the same columns.

    `line` is the number of the row. Raises DataError where there is no such sheet, or nothing in it.
    """
    with opened_zip(piece) as archive:
        events = partial(_events, archive, piece, budget)
        sheets = _sheets(archive, piece, events)
        if sheet is not None and sheet not in {one.title for one in sheets}:
            raise DataError(f"{piece.name}: there is no sheet '{brief(sheet)}'. Sheets with rows: {_names(sheets)}.")
        strings = _strings(events, piece.name) if "xl/sharedStrings.xml" in archive.NameToInfo else []
        dates = _date_styles(events) if "xl/styles.xml" in archive.NameToInfo else frozenset()
        book = Book(strings, dates, _epoch(events))
        chosen = (
            [one for one in sheets if one.title == sheet]
            if sheet is not None
            else _alike(sheets, events, book, piece.name, notices)
        )
        for one in chosen:
            yield from _table(one, events, book, piece.name, notices)


def _part(archive: zipfile.ZipFile, part: str, piece: Piece) -> Member:
    info = archive.NameToInfo.get(part)
    if info is None:
        raise DataError(
            f"{piece.name}: a workbook without its part {brief(part)}. Open it in its own program, and save it again."
        )
    return opened_member(archive, info, f"{piece.name}/{part}")


def _events(archive: zipfile.ZipFile, piece: Piece, budget: Budget, part: str) -> Iterator[Event]:
    with _part(archive, part, piece) as stream:
        yield from xml_events(stream, piece.name, budget)


def _sheets(archive: zipfile.ZipFile, piece: Piece, events: Events) -> list[Sheet]:
    """Return the sheets with rows, in the order of the workbook, hidden ones left out. Raises DataError where there are none."""
    targets = {
        event.attributes.get("Id"): event.attributes.get("Target", "")
        for event in events("xl/_rels/workbook.xml.rels")
        if event.kind == "start" and event.value == "Relationship" and event.attributes.get("Type", "").endswith("/worksheet")
    }
    found = []
    for event in events(WORKBOOK):
        if event.kind == "start" and event.value == "sheet" and event.attributes.get("state", "visible") == "visible":
            target = targets.get(event.attributes.get("id"))
            part = str(PurePosixPath("xl", target)) if target and not target.startswith("/") else (target or "").lstrip("/")
            if part in archive.NameToInfo and (num_rows := _count_rows(archive, part, piece)):
                found.append(Sheet(event.attributes.get("name", ""), part, num_rows))
    if not found:
        raise DataError(f"{piece.name}: a workbook without a row. Give a file with at least one row.")
    return found


def _count_rows(archive: zipfile.ZipFile, part: str, piece: Piece) -> int:
    """Return the rows of a sheet, without parsing it."""
    budget, count, tail = Budget(piece.name, piece.path.stat().st_size), 0, b""
    with _part(archive, part, piece) as stream:
        while block := stream.read(1 << 20):
            budget.spend(len(block))
            count += len(re.findall(rb"<(?:\w+:)?row[\s>]", tail + block))
            tail = block[-16:] if not re.search(rb"<(?:\w+:)?row[\s>]", block[-16:]) else b""
    return count


def _strings(events: Events, name: str) -> list[str]:
    found: list[str] = []
    text: list[str] = []
    total, inside, phonetic = 0, False, False
    for kind, value, _ in events("xl/sharedStrings.xml"):
        if kind == "text":
            if inside and not phonetic:
                text.append(value)
                total += len(value)
        elif value == "t":
            inside = kind == "start"
        elif value == "rPh":
            phonetic = kind == "start"
        elif value == "si" and kind == "end":
            found.append(_unescaped("".join(text)))
            text = []
        if total > MAX_STRINGS:
            raise DataError(
                f"{name}: its texts are longer than {MAX_STRINGS // 2**20} million characters. Save the sheet as CSV."
            )
    return found


def _unescaped(text: str) -> str:
    """Return a text with what Excel writes as _x000D_ and the like. ECMA-376 part 1, 22.9.2.19."""
    if "_x" not in text:
        return text
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


def _date_styles(events: Events) -> frozenset[int]:
    custom: set[int] = set()
    styles: list[int] = []
    inside = False
    for kind, value, attributes in events("xl/styles.xml"):
        if kind == "start" and value == "numFmt":
            code = _QUOTED.sub("", attributes.get("formatCode", "")).split(";")[0].lower()
            if re.search(r"[dmyhs]", code) and "general" not in code:
                custom.add(_int(attributes.get("numFmtId", "")))
        elif value == "cellXfs":
            inside = kind == "start"
        elif inside and kind == "start" and value == "xf":
            styles.append(_int(attributes.get("numFmtId", "")))
    return frozenset(index for index, number in enumerate(styles) if number in DATES or number in custom)


def _epoch(events: Events) -> datetime:
    """Return day 0 of the workbook's dates. 1900 was no leap year, and Excel counts it as one."""
    for event in events(WORKBOOK):
        if event.kind == "start" and event.value == "workbookPr" and event.attributes.get("date1904") in {"1", "true"}:
            return datetime(1904, 1, 1)
    return datetime(1899, 12, 30)


def _alike(sheets: list[Sheet], events: Events, book: Book, name: str, notices: list[str]) -> list[Sheet]:
    """Return the largest sheet and those whose first row below titles is the same, and say what is left out."""
    largest = max(sheets, key=lambda sheet: sheet.num_rows)
    tops = {sheet.part: _top(list(islice(_records(sheet, events, book), HEAD))) for sheet in sheets}
    first, _ = tops[largest.part]
    counts = [replace(sheet, num_rows=sheet.num_rows - tops[sheet.part][1]) for sheet in sheets]
    chosen = [sheet for sheet in counts if tops[sheet.part][0] == first]
    left = [sheet for sheet in counts if tops[sheet.part][0] != first]
    if len(chosen) > 1:
        notices.append(f"{name}: {len(chosen)} sheets have the same columns and were read: {_titles(chosen)}.")
    if left:
        notices.append(
            f"{name}: the sheet {_titles(chosen)} was read, and {_titles(left)} left out, since {'its' if len(left) == 1 else 'their'} columns "
            "are others. Choose with data.sources: [{name: files, path: ..., sheet: ...}]."
        )
    return chosen


def _top(head: list[Record]) -> tuple[list[str] | None, int]:
    """Return the first row below titles, and how many rows are no rows of the table: the titles and the header."""
    below = below_titles(head, [])
    width = _width(head)
    headed = names_columns(list(_padded(below, iter(()), width)), width, ".csv")
    return next((record.fields for record in below), None), len(head) - len(below) + headed


def _titles(sheets: list[Sheet]) -> str:
    return ", ".join(f"'{brief(sheet.title)}' ({counted(sheet.num_rows, 'row')})" for sheet in sheets[:8])


def _names(sheets: list[Sheet]) -> str:
    return ", ".join(f"'{brief(sheet.title)}'" for sheet in sheets[:8])


def _table(sheet: Sheet, events: Events, book: Book, name: str, notices: list[str]) -> Iterator[RawRow | Reject]:
    shown = f"{name}[{sheet.title}]"
    found = _records(sheet, events, book)
    head = list(islice(found, HEAD))
    width = _width(head)
    yield from of_records(_padded(head, found, width), width, shown, ".csv", notices)


def _width(head: list[Record]) -> int:
    return max((len(record.fields or ()) for record in head), default=0)


def _padded(head: list[Record], rest: Iterator[Record], width: int) -> Iterator[Record]:
    for part in (head, rest):
        for record in part:
            fields = record.fields
            yield record if fields is None else record._replace(fields=fields + [""] * (width - len(fields)))


def _records(sheet: Sheet, events: Events, book: Book) -> Iterator[Record]:
    """Yield the rows that hold something, without the empty cells at their end."""
    fields: list[str] = []
    number = size = column = 0
    kind = style = ""
    text: list[str] = []
    inside = False
    for event, value, attributes in events(sheet.part):
        if event == "text":
            if inside and size <= MAX_ROW:
                text.append(value)
                size += len(value)
        elif value in {"v", "t"}:
            inside = event == "start"
        elif value == "c":
            if event == "start":
                column, kind, style, text = (
                    _column(attributes.get("r", ""), len(fields)),
                    attributes.get("t", "n"),
                    attributes.get("s", "0"),
                    [],
                )
            elif column < MAX_COLUMNS:
                fields += [""] * (column - len(fields))
                fields.append(_written("".join(text), kind, _int(style), book))
                size += len(fields[-1])
        elif value == "row":
            if event == "start":
                number, fields, size = _int(attributes.get("r", "")) or number + 1, [], 0
            else:
                while fields and not fields[-1].strip():
                    fields.pop()
                if fields:
                    yield Record(number, fields) if size <= MAX_ROW else Record(number, None, "too long")


def _column(place: str, following: int) -> int:
    """Return the column of a cell such as B7, from 0; the one that follows where it does not say."""
    letters = re.match(r"[A-Z]{1,3}", place)
    if letters is None:
        return following
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return max(number - 1, following)


def _written(text: str, kind: str, style: int, book: Book) -> str:
    """Return a cell as text: whole numbers without a point, dates by ISO 8601."""
    if kind == "s":
        index = _int(text)
        return book.strings[index] if 0 <= index < len(book.strings) and text.strip() else ""
    if kind in {"str", "inlineStr"}:
        return _unescaped(text)
    if kind == "b":
        return {"0": "false", "1": "true"}.get(text.strip(), text)
    if kind == "n" and text:
        return _number(text, style in book.dates, book.epoch)
    return text.removesuffix("T00:00:00") if kind == "d" else text


def _number(text: str, dated: bool, epoch: datetime) -> str:
    try:
        number = float(text)
        if not dated:
            return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        moment = epoch + timedelta(seconds=round(number * 86_400))
    except (ValueError, OverflowError):
        return text
    if 0 <= number < 1:
        return moment.strftime("%H:%M:%S")
    return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat(" ")


def _int(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*\d{1,10}\s*", text, re.ASCII) else 0
