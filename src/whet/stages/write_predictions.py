"""Where predictions come from and go to: files and the standard streams."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whet.data.read import TEXT, spooled
from whet.data.write import Format, check_place, write_rows
from whet.errors import DataError
from whet.stages.predict import Answers

COUNTED = ("rows", "abstained", "errors")
SUFFIXES = {"csv": ".csv", "tsv": ".tsv", "json": ".json", "jsonl": ".jsonl", "text": TEXT}
"""Formats of the input, by the ending that a file of the format has."""
FORMATS: dict[str, Format] = {"csv": "csv", "jsonl": "jsonl"}


@contextmanager
def from_stdin(file: Path) -> Iterator[Path]:
    """Give the file, or for `-` a temporary one with what came on standard input."""
    if str(file) != "-":
        yield file
        return
    if sys.stdin is None:
        raise DataError("standard input is closed. Name a file to answer, or pipe rows in.")
    with spooled(sys.stdin.buffer, "standard input") as place:
        yield place


def choose_format(asked: str | None, out: Path | None, file: Path) -> Format:
    """Return csv or jsonl: as asked, as the output's ending says, or as the input's does. Raises DataError where `out` cannot be written."""
    if out is not None:
        check_place(out, {str(file): "the rows to answer"})
    if asked is not None:
        if asked not in FORMATS:
            raise DataError(f"--format is '{asked}'; allowed: csv, jsonl.")
        return FORMATS[asked]
    if out is not None and out.suffix not in {".csv", ".jsonl"}:
        raise DataError(f"{out}: its ending says no format. Name a .csv or .jsonl file, or add --format csv.")
    ending = (out or file).suffix
    return "jsonl" if ending in {".jsonl", ".json"} else "csv"


def write_predictions(out: Path | None, rows: Answers | Iterable[Mapping[str, Any]], form: Format) -> dict[str, int]:
    """Write the rows to a file or standard output, with the separator of the file that came in. Returns `count`'s counts.

    A .csv file with tabs would surprise, so it gets commas.
    """
    counts = dict.fromkeys(COUNTED, 0)
    counted = count(rows, counts)
    if isinstance(rows, Answers):
        separator = "," if rows.separator == "\t" and out is not None else rows.separator
        write_rows(out, counted, form, rows.columns, separator)
    else:
        write_rows(out, counted, form)
    return counts


def count(rows: Answers | Iterable[Mapping[str, Any]], counts: dict[str, int]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, and add to `counts` how many there are, were abstained from, and could not be asked, in any task."""
    names: Mapping[str, Sequence[str]] = rows.names if isinstance(rows, Answers) else {}
    for row in rows:
        counts["rows"] += 1
        counts["abstained"] += any(row.get(name) for name in names.get("abstained", ("abstained",)))
        counts["errors"] += any(row.get(name) for name in names.get("error", ("error",)))
        yield row
