"""Rows of the user's files, whatever the format: decided by what is in the file, not only by how its name ends."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path, PosixPath, PurePosixPath
from typing import BinaryIO, Literal, TextIO

from whet.data.collected import collected_rows, is_collected
from whet.data.conll import conll_rows, is_conll
from whet.data.docx import docx_rows, is_docx
from whet.data.encoding import Decoding, detect, opened
from whet.data.find import belonging, find_files
from whet.data.html import SUFFIXES as HTML
from whet.data.html import html_row, is_html
from whet.data.json_rows import json_document, json_lines
from whet.data.lines import Line, physical_lines
from whet.data.markdown import SUFFIXES as MARKDOWN
from whet.data.markdown import markdown_rows
from whet.data.marks import Marks, version
from whet.data.pdf import MAGIC as PDF
from whet.data.pdf import pdf_rows
from whet.data.prose import documents
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading, sample, table
from whet.data.unpack import MAX_DEPTH, Budget, Piece, decompressed, is_zip, magic_of, member, opened_zip
from whet.data.xlsx import is_xlsx, xlsx_rows
from whet.errors import DataError
from whet.files import naming, unnamed_file

Format = Literal["lines of JSON", "JSON", "table or text"]
TEXT = ".txt"
"""The ending that a file is read as if it had where it is text, whatever it looks like."""
COLUMNAR = {b"PAR1": "parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow"}
"""How files of columns begin, and their format; the last is Arrow's streaming format, in which `datasets` keeps its files."""
JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})


def read_files(
    paths: Sequence[Path], notices: list[str] | None = None, reading: Reading | None = None
) -> Iterator[RawRow | Reject]:
    """Yield every row of the files in order, and what cannot be read as a Reject. What was assumed goes to `notices`.

    `reading` says what is known of the files, and is told what was found.

    Raises DataError for a file that is missing, empty, not text, changed while it is read, or broken so that nothing after the place can
    be trusted.
    """
    said, reading = notices if notices is not None else [], reading or Reading()
    files = [file for path in paths for file in find_files(path, said)]
    reading.alone = len(files) == 1
    if reading.marks is not None:
        yield from _read_on(files, said, reading, reading.marks)
        return
    for file in files:
        if file.is_fifo():
            with file.open("rb") as pipe, spooled(pipe, str(file)) as copy:
                yield from _read_file(copy, said, reading)
        else:
            yield from _read_file(file, said, reading)


def _read_on(files: Sequence[Path], notices: list[str], reading: Reading, marks: Marks) -> Iterator[RawRow | Reject]:
    """Yield the rows of files that were not read to their ends before, none of which is a pipe."""
    for number, file in enumerate(files):
        places = marks.is_done(number, file)
        if places is None:
            marks.goes_on()
            one = replace(reading, dates={})
            yield from _read_file(file, notices, one)
            places = {name: date for name, date in one.dates.items() if name != str(file)}
            marks.ended(file, places)
        _note_dates(reading.dates, {str(file): _written(file.stat()), **places})
    marks.goes_on()


def _note_dates(dates: dict[str, str], new: Mapping[str, str]) -> None:
    """Keep the latest date of each file or place."""
    for name, date in new.items():
        dates[name] = max(dates.get(name, ""), date)


def _written(found: os.stat_result) -> str:
    """Return when a file was written, by ISO 8601."""
    return datetime.datetime.fromtimestamp(found.st_mtime, datetime.UTC).isoformat(timespec="seconds")


class Spooled(PosixPath):
    """A copy of what can be read only once: a pipe, standard input."""

    shown: str
    """What it is called in messages."""


@contextmanager
def spooled(source: BinaryIO, shown: str) -> Iterator[Spooled]:
    """Give a file with all that comes from `source`; it is gone at the end of the block."""
    with unnamed_file() as place:
        copy = Spooled(place)
        copy.shown = shown
        with naming(Path(tempfile.gettempdir())), copy.open("wb") as file:
            shutil.copyfileobj(source, file)
        yield copy


def _read_file(path: Path, notices: list[str], reading: Reading) -> Iterator[RawRow | Reject]:
    name = path.shown if isinstance(path, Spooled) else str(path)
    try:
        found = path.stat()
        reading.dates[name] = _written(found)
        yield from _read_piece(Piece.of(path, name), Budget(name, found.st_size), notices, reading)
        if not path.exists() or version(path.stat()) != version(found):
            raise DataError(f"{name}: was changed while it was read. Run the command again when nobody writes to the file.")
    except PermissionError:
        raise DataError(f"{name}: you are not allowed to read this file. Change its permissions, or copy it.") from None


def _read_piece(piece: Piece, budget: Budget, notices: list[str], reading: Reading, depth: int = 0) -> Iterator[RawRow | Reject]:
    """Yield the rows of one file, whatever it is packed in."""
    if reading.marks is not None and is_zip(piece.path):
        reading = replace(reading, marks=None)  # what is in an archive is read from its beginning
    if depth > MAX_DEPTH:
        raise DataError(f"{piece.name}: archives in more than {MAX_DEPTH} archives. Unpack it yourself, and name its files.")
    if is_zip(piece.path):
        yield from _read_zip(piece, budget, notices, reading, depth)
        return
    with decompressed(piece, budget) as inner:
        if inner is not None:
            yield from _read_piece(inner, budget, notices, reading, depth + 1)
            return
    magic = magic_of(piece.path)
    if kind := next((kind for start, kind in COLUMNAR.items() if magic.startswith(start)), None):
        from whet.data.columnar import column_rows  # polars takes 25 MB and a tenth of a second, and few have such files

        yield from column_rows(piece, kind)
    elif magic.startswith(PDF):
        yield from pdf_rows(piece)
    else:
        yield from _read_text(piece, notices, reading)


def _read_zip(piece: Piece, budget: Budget, notices: list[str], reading: Reading, depth: int) -> Iterator[RawRow | Reject]:
    with opened_zip(piece) as archive:
        workbook, document = is_xlsx(archive), is_docx(archive)
        if not workbook and not document:
            found = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
            if reading.members:
                found = [info for info in found if re.fullmatch(reading.members, PurePosixPath(info.filename).name)]
            for info in belonging(found, piece.name, lambda info: info.filename):
                with member(archive, info, piece, budget) as inner:
                    yield from _read_piece(inner, budget, notices, reading, depth + 1)
            return
    yield from xlsx_rows(piece, notices, budget, reading.sheet) if workbook else docx_rows(piece, budget)


def _read_text(piece: Piece, notices: list[str], reading: Reading) -> Iterator[RawRow | Reject]:
    path, name, suffix = piece.path, piece.name, reading.suffix or piece.suffix
    decoding = detect(path, name)
    if decoding.notice:
        notices.append(decoding.notice)
    with opened(path, decoding) as stream:
        lines = physical_lines(stream, decoding.newline, reading.marks)
        first_lines = sample(lines)
        if not any(line.text is None or line.text.strip(" \t\ufeff\r\f") for line in first_lines):
            raise DataError(f"{name}: the file is empty but for white space. Give a file with at least one row.")
        if is_collected(first_lines[0]):
            yield from collected_rows(chain(first_lines, lines), name, reading.dates)
            return
        if reading.suffix == TEXT:
            yield from documents(first_lines, lines, name, notices)
            return
        if suffix in HTML or (suffix not in JSON_SUFFIXES and is_html("\n".join(line.text or "" for line in first_lines[:20]))):
            yield html_row(piece)
            return
        if suffix in MARKDOWN:
            yield from markdown_rows(chain(first_lines, lines), name)
            return
        if is_conll(first_lines, suffix):
            yield from conll_rows(chain(first_lines, lines), name)
            return
        kind = format_of(first_lines, suffix)
        if first_lines[0].text is None and _begins_with_json(path, decoding, suffix):
            kind = "JSON"  # all of it on one line
        _tell(kind, first_lines, name, suffix, notices)
        if kind == "lines of JSON":
            _can_go_on(path, decoding, reading, stream)
            yield from json_lines(chain(first_lines, lines), name)
            return
        if kind == "table or text":
            rows = table(first_lines, lines, name, suffix, notices, reading)
            if rows is not None:
                _can_go_on(path, decoding, reading, stream)
            passages = reading.alone and not reading.columns
            yield from documents(first_lines, lines, name, notices, passages=passages) if rows is None else rows
            return
    yield from json_document(partial(opened, path, decoding), decoding.newline, name, notices)


def _can_go_on(path: Path, decoding: Decoding, reading: Reading, stream: TextIO) -> None:
    """Say that the file can be read from any of its records on."""
    if reading.marks is not None:
        reading.marks.begun(path, decoding, os.fstat(stream.fileno()))


def format_of(lines: Sequence[Line], suffix: str) -> Format:
    """Return what the first lines of a file show that it holds."""
    texts = [text for line in lines if line.text is not None and (text := line.text.strip(" \t\ufeff"))][:20]
    told = suffix in JSON_SUFFIXES
    if not texts:
        return "lines of JSON" if told else "table or text"
    first, second = texts[0], texts[1] if len(texts) > 1 else ""
    if not (first[0] in "{[" if told else re.match(r'\[\s*(?:[\[{"\]]|-?\d|$)|\{\s*(?:"|\}|$)', first)):
        lines_of_json = told and (_parses(first) or any(text[0] == "{" for text in texts[1:]))
        return "lines of JSON" if lines_of_json else "table or text"
    if first[0] == "[":
        return "lines of JSON" if second.startswith("[") and _parses(first) else "JSON"
    if _parses(first):
        return "lines of JSON" if second else "JSON"
    if first[-1] in ("{[:" if second.startswith("{") else "{[:,"):
        return "JSON"  # written over several lines
    return "lines of JSON" if second.startswith("{") or suffix in {".jsonl", ".ndjson"} else "JSON"


def _begins_with_json(path: Path, decoding: Decoding, suffix: str) -> bool:
    """Whether a file whose first line is too long to hold is one JSON value: a list, or an object in a file that is called .json."""
    with opened(path, decoding) as stream:
        first = stream.read(1000).lstrip(" \t\r\n\ufeff")[:1]
    return first == "[" or (first == "{" and suffix == ".json")


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    except ValueError:
        return True  # but for a number that is too long
    return True


def _tell(kind: Format, lines: Sequence[Line], name: str, suffix: str, notices: list[str]) -> None:
    first = next((text for line in lines if line.text is not None and (text := line.text.strip(" \t\ufeff"))), "")
    if kind == "JSON" and suffix in {".jsonl", ".ndjson"} and first.startswith("["):
        notices.append(f"{name}: holds one JSON array, not one object on each line; it was read as an array.")
    elif kind != "table or text" and suffix not in JSON_SUFFIXES:
        notices.append(f"{name}: holds {kind}, whatever its name says; it was read as that.")
    elif kind == "table or text" and suffix in JSON_SUFFIXES:
        notices.append(f"{name}: holds no JSON, although its name ends in {suffix}; it was read as a table or text.")
