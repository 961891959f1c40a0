"""Rows of the user's files, whatever the format: decided by what is in the file, not only by how its name ends."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path, PosixPath
from typing import BinaryIO, Literal

from whet.data.conll import SUFFIXES as CONLL
from whet.data.conll import conll_rows, is_conll
from whet.data.encoding import detect, opened
from whet.data.json_rows import json_document, json_lines
from whet.data.lines import Line, physical_lines
from whet.data.parquet import parquet_rows
from whet.data.prose import documents
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading, sample, table
from whet.display import name_fault
from whet.errors import DataError

Format = Literal["lines of JSON", "JSON", "table or text"]
SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ""}) | CONLL
TEXT = ".txt"
"""The ending that a file is read as if it had where it is text, whatever it looks like."""
JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
SPLIT_STEM = re.compile(r"(?:^|[_\-.])(?:train|test|val|valid|validation|dev|eval)(?:[_\-.]|$|set)", re.IGNORECASE)


def read_files(
    paths: Sequence[Path], notices: list[str] | None = None, reading: Reading | None = None
) -> Iterator[RawRow | Reject]:
    """Yield every row of the files in order, and what cannot be read as a Reject. What was assumed goes to `notices`.

    `reading` says what is known of the files, and is told what was found.

    Raises DataError for a file that is missing, empty, not text, or broken so that nothing after the place can be trusted.
    """
    said, reading = notices if notices is not None else [], reading or Reading()
    files = [file for path in paths for file in _expanded(path, said)]
    for file in files:
        if file.is_fifo():
            with file.open("rb") as pipe, spooled(pipe, str(file)) as copy:
                yield from _read_file(copy, said, reading)
        else:
            yield from _read_file(file, said, reading)


class Spooled(PosixPath):
    """A copy of what can be read only once: a pipe, standard input."""

    shown: str
    """What it is called in messages."""


@contextmanager
def spooled(source: BinaryIO, shown: str) -> Iterator[Spooled]:
    """Give a file with all that comes from `source`; it is gone at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Spooled(folder, "copy")
        copy.shown = shown
        with copy.open("wb") as file:
            shutil.copyfileobj(source, file)
        yield copy


def _expanded(path: Path, notices: list[str]) -> list[Path]:
    """Return the file, or the files of a folder. Raises DataError where there is nothing to read."""
    fault = name_fault(path)
    if fault:
        raise DataError(f"{str(path)!r}: {fault} Rename the file.")
    if path.is_file() or path.is_fifo():
        return [path]
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: a device or a socket, which has no rows. Give a file, a folder, or a pipe.")
    if not path.is_dir():
        near = sorted(other.name for other in path.parent.glob("*") if other.is_file()) if path.parent.is_dir() else []
        hint = f" Files there: {', '.join(near[:8])}{', ...' if len(near) > 8 else ''}." if near else ""
        raise DataError(f"{path}: there is no such file.{hint} Give the path from the folder that you are in.")
    files = sorted(
        file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES and file.name[0] not in "._"
    )
    if not files:
        raise DataError(
            f"{path}: a folder without data files. Give a file, or a folder of csv, tsv, json, jsonl, parquet or txt files."
        )
    suffixes = {file.suffix.lower() for file in files}
    if len(suffixes) > 1 or (len(files) > 1 and any(SPLIT_STEM.search(file.stem) for file in files)):
        names = ", ".join(file.name for file in files[:8])
        raise DataError(
            f"{path}: a folder whose files may not belong together ({names}). Name the ones to learn from in data.path, "
            "and those to test on in data.test."
        )
    notices.append(f"{path}: a folder; its {len(files)} files were read.")
    return files


def _read_file(path: Path, notices: list[str], reading: Reading) -> Iterator[RawRow | Reject]:
    name = path.shown if isinstance(path, Spooled) else str(path)
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                yield from parquet_rows(path, name)
                return
        yield from _read_text(path, name, notices, reading)
    except PermissionError:
        raise DataError(f"{name}: you are not allowed to read this file. Change its permissions, or copy it.") from None


def _read_text(path: Path, name: str, notices: list[str], reading: Reading) -> Iterator[RawRow | Reject]:
    decoding, suffix = detect(path, name), reading.suffix or Path(name).suffix.lower()
    if decoding.notice:
        notices.append(decoding.notice)
    with opened(path, decoding) as stream:
        lines = physical_lines(stream, decoding.newline)
        first_lines = sample(lines)
        if not any(line.text is None or line.text.strip(" \t\ufeff\r\f") for line in first_lines):
            raise DataError(f"{name}: the file is empty but for white space. Give a file with at least one row.")
        if reading.suffix == TEXT:
            yield from documents(first_lines, lines, name, notices)
            return
        if is_conll(first_lines, suffix):
            yield from conll_rows(chain(first_lines, lines), name)
            return
        kind = _format(first_lines, suffix)
        _tell(kind, first_lines, name, suffix, notices)
        if kind == "lines of JSON":
            yield from json_lines(chain(first_lines, lines), name)
            return
        if kind == "table or text":
            rows = table(first_lines, lines, name, suffix, notices, reading)
            yield from documents(first_lines, lines, name, notices) if rows is None else rows
            return
    yield from json_document(partial(opened, path, decoding), decoding.newline, name, notices)


def _format(lines: Sequence[Line], suffix: str) -> Format:
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


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _tell(kind: Format, lines: Sequence[Line], name: str, suffix: str, notices: list[str]) -> None:
    first = next((text for line in lines if line.text is not None and (text := line.text.strip(" \t\ufeff"))), "")
    if kind == "JSON" and suffix in {".jsonl", ".ndjson"} and first.startswith("["):
        notices.append(f"{name}: holds one JSON array, not one object on each line; it was read as an array.")
    elif kind != "table or text" and suffix not in JSON_SUFFIXES:
        notices.append(f"{name}: holds {kind}, whatever its name says; it was read as that.")
    elif kind == "table or text" and suffix in JSON_SUFFIXES:
        notices.append(f"{name}: holds no JSON, although its name ends in {suffix}; it was read as a table or text.")
