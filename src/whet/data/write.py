"""Rows to predict on, and predictions written out: csv or jsonl, to a file or to the screen."""

from __future__ import annotations

import csv
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TextIO

from whet.data.mapping import check_columns
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.shapes import Clean, question, unchanged
from whet.data.table import Reading
from whet.display import finite, name_fault, plain
from whet.errors import DataError
from whet.recipe_data import Data
from whet.types import Example

Format = Literal["csv", "jsonl"]
ASKED = ("messages", "prompt", "text", "text_pair")


def check_place(out: Path, kept: Mapping[str, str]) -> None:
    """Raise DataError where a file cannot be written there, or would be written over one of `kept`: files, and what they hold."""
    if fault := name_fault(out):
        raise DataError(f"{str(out)!r}: {fault} Name another file with --out.")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"cannot be made: there is no folder {out.parent}"
        raise DataError(f"{out}: {what}. Name a file in a folder that exists.")
    for file, what in kept.items():
        if out.exists() and Path(file).exists() and out.samefile(file):
            raise DataError(f"{out}: holds {what}, which are not written over. Name another file with --out.")


class Writable(Protocol):
    """What rows are written to."""

    def write(self, text: str, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Questions:
    """The rows of a file to predict on."""

    columns: tuple[str, ...]
    """Every column that any row has, in the order in which they come."""
    rows: Iterator[tuple[RawRow, Example | Reject]]
    """Each row with the example to predict on, or why it cannot be asked; of an unreadable one no column is there."""
    separator: str = ","
    """Between the fields of the file; a comma where it has none."""

    def __iter__(self) -> Iterator[tuple[RawRow, Example | Reject]]:
        return self.rows


def read_prediction_rows(
    path: Path, columns: Data, clean: Clean = unchanged, notices: list[str] | None = None, suffix: str | None = None
) -> Questions:
    """Return each row of a file with the example to predict on, or why it cannot be asked; labels and answers are not needed.

    `columns` is the model's mapping. Where its column is not in the file, the only one, or one called `text`, stands for it. The file is read as if its
    name ended in `suffix`, where one is given.
    """
    said = notices if notices is not None else []
    reading = Reading([name for key in ASKED if (name := getattr(columns, key)) is not None], suffix)
    rows = _headed(list(read_files([path], said, reading)), columns, said)
    asked = _asked(rows, columns)
    separator = next(iter(reading.separators.values()), "") or ","
    return Questions(tuple(_found(rows)), _questions(rows, asked, clean), separator)


def _questions(rows: Sequence[RawRow | Reject], asked: Data, clean: Clean) -> Iterator[tuple[RawRow, Example | Reject]]:
    for number, row in enumerate(rows):
        made = row if isinstance(row, Reject) else question(row, asked, clean, number)
        yield (RawRow(row.file, row.line, {}) if isinstance(row, Reject) else row), made


def _headed(rows: list[RawRow | Reject], columns: Data, notices: list[str]) -> list[RawRow | Reject]:
    """Return the rows by the names in the first one, where that is a header line which only the model's own mapping tells."""
    first = rows[0] if rows else None
    wanted = {name for key in ASKED if (name := getattr(columns, key)) is not None}
    unnamed = [notice for notice in notices if "no header line was found" in notice or "one row for each line" in notice]
    if not isinstance(first, RawRow) or not unnamed or len(rows) < 2:
        return rows
    names = [str(value).strip() for value in first.fields.values()]
    if not wanted <= set(names) or len(set(names)) < len(names) or not all(map(_is_made_up, first.fields)):
        return rows
    notices[:] = [notice for notice in notices if notice not in unnamed]
    return [
        RawRow(row.file, row.line, dict(zip(names, row.fields.values(), strict=True))) if isinstance(row, RawRow) else row
        for row in rows[1:]
    ]


def _is_made_up(name: str) -> bool:
    return name == "text" or name.removeprefix("column_").isdigit()


def _found(rows: Sequence[RawRow | Reject]) -> dict[str, None]:
    """Return the columns of all rows, in the order in which they come."""
    found: dict[str, None] = {}
    for row in rows:
        if isinstance(row, RawRow):
            found.update(dict.fromkeys(row.fields))
    return found


def _asked(rows: Sequence[RawRow | Reject], columns: Data) -> Data:
    """Return the mapping for this file, where the one text may have another name than in training."""
    found = _found(rows)
    keys = [key for key in ASKED if getattr(columns, key) is not None]
    missing = [key for key in keys if getattr(columns, key) not in found]
    only = "text" if "text" in found else next(iter(found)) if len(found) == 1 else None
    if len(keys) == 1 and missing and only is not None:
        key = "prompt" if keys == ["messages"] else keys[0]  # a plain text asks a model of conversations too
        return columns.model_copy(update={"messages": None, key: only})
    check_columns({key: getattr(columns, key) for key in missing}, rows)
    return columns


def write_rows(
    path: Path | None,
    rows: Iterable[Mapping[str, object]],
    format: Format,
    columns: Sequence[str] = (),
    separator: str = ",",
) -> int:
    """Write rows to a file, or to the screen where `path` is None; return how many. In csv, lists and objects are JSON.

    `columns` are those of a csv file, where not every row has them all; else they are the first row's; `separator` stands between its fields. A file is whole or absent;
    a link is followed, and what is no regular file, such as a pipe, is written to as it is. Numbers that are not finite are null.
    """
    if path is None:
        if sys.stdout is None:
            raise DataError("standard output is closed, so the answers cannot be written. Name a file with --out.")
        return _write(_Plain(sys.stdout) if sys.stdout.isatty() else sys.stdout, rows, format, columns, separator)
    place = path.resolve()
    if place.exists() and not place.is_file():
        with place.open("w", encoding="utf-8", newline="") as stream:
            return _write(stream, rows, format, columns, separator)
    _sweep(place)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            number = _write(stream, rows, format, columns, separator)
        partial.replace(place)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)
    return number


def as_json(value: object) -> str:
    """Return a value as JSON that every reader takes: numbers that are not finite, which JSON has not, are null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), ensure_ascii=False, default=str, allow_nan=False)


class _Plain:
    """A terminal that is shown data: what it would act on is written out."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(plain(text))


def _sweep(place: Path) -> None:
    """Delete what a killed process left of an earlier try at this file."""
    for leftover in place.parent.glob(f".{glob.escape(place.name)}.*.partial"):
        process = leftover.name.removesuffix(".partial").rpartition(".")[2]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            leftover.unlink(missing_ok=True)


def _write(stream: Writable, rows: Iterable[Mapping[str, object]], format: Format, columns: Sequence[str], separator: str) -> int:
    number = 0
    if format == "jsonl":
        for row in rows:
            stream.write(as_json(dict(row)) + "\n")
            number += 1
        return number
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(stream, list(columns) or list(row), delimiter=separator, lineterminator="\n", restval="")
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in row.items()})
        number += 1
    return number


def _cell(value: object) -> object:
    return as_json(value) if isinstance(value, list | tuple | dict) else value
