"""Where predictions come from and go to: files and the standard streams."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whet.data.write import Format, write_rows
from whet.errors import DataError

FORMATS: dict[str, Format] = {"csv": "csv", "jsonl": "jsonl"}


@contextmanager
def from_stdin(file: Path) -> Iterator[Path]:
    """Give the file, or for `-` a temporary one with what came on standard input."""
    if str(file) != "-":
        yield file
        return
    if sys.stdin is None:
        raise DataError("standard input is closed. Name a file to answer, or pipe rows in.")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "standard-input"
        place.write_bytes(sys.stdin.buffer.read())
        yield place


def choose_format(asked: str | None, out: Path | None, file: Path) -> Format:
    """Return csv or jsonl: as asked, as the output's ending says, or as the input's does. Raises DataError where `out` cannot be written."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = "is a folder" if out.is_dir() else f"cannot be made: there is no folder {out.parent}"
        raise DataError(f"{out}: {what}. Name a file in a folder that exists.")
    if out is not None and out.exists() and file.exists() and out.samefile(file):
        raise DataError(f"{out}: holds the rows to answer, which are not written over. Name another file with --out.")
    if asked is not None:
        if asked not in FORMATS:
            raise DataError(f"--format is '{asked}'; allowed: csv, jsonl.")
        return FORMATS[asked]
    if out is not None and out.suffix not in {".csv", ".jsonl"}:
        raise DataError(f"{out}: its ending says no format. Name a .csv or .jsonl file, or add --format csv.")
    ending = (out or file).suffix
    return "jsonl" if ending in {".jsonl", ".json"} else "csv"


def write_predictions(out: Path | None, rows: Iterable[Mapping[str, Any]], form: Format) -> dict[str, int]:
    """Write the rows to a file or standard output. Returns how many were written, abstained, and could not be asked."""
    counts = {"rows": 0, "abstained": 0, "errors": 0}

    def counted() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            counts["rows"] += 1
            counts["abstained"] += bool(row.get("abstained"))
            counts["errors"] += bool(row.get("error"))
            yield row

    write_rows(out, counted(), form)
    return counts
