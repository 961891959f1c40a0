"""Rows to predict on, and predictions written out: csv or jsonl, to a file or to the screen."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TextIO

from whet.data.mapping import check_columns
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.shapes import Clean, question, unchanged
from whet.recipe import Data
from whet.types import Example

Format = Literal["csv", "jsonl"]


def read_prediction_rows(
    path: Path, columns: Data, clean: Clean = unchanged, notices: list[str] | None = None
) -> Iterator[tuple[RawRow, Example | Reject]]:
    """Yield each row of a file with the example to predict on, or why it cannot be asked; labels and answers are not needed.

    `columns` is the model's mapping. Where its column is not in the file, the only one, or one called `text`, stands for it.
    """
    rows = list(read_files([path], notices))
    asked = _asked(rows, columns)
    for number, row in enumerate(rows):
        made = row if isinstance(row, Reject) else question(row, asked, clean, number)
        yield (RawRow(row.file, row.line, {}) if isinstance(row, Reject) else row), made


def _asked(rows: Sequence[RawRow | Reject], columns: Data) -> Data:
    """Return the mapping for this file, where the one text may have another name than in training."""
    found: dict[str, None] = {}
    for row in rows:
        found.update(dict.fromkeys(row.fields) if isinstance(row, RawRow) else {})
    keys = [key for key in ("messages", "prompt", "text", "text_pair") if getattr(columns, key) is not None]
    missing = [key for key in keys if getattr(columns, key) not in found]
    only = "text" if "text" in found else next(iter(found)) if len(found) == 1 else None
    if len(keys) == 1 and missing and only is not None:
        key = "prompt" if keys == ["messages"] else keys[0]  # a plain text asks a model of conversations too
        return columns.model_copy(update={"messages": None, key: only})
    check_columns({key: getattr(columns, key) for key in missing}, rows)
    return columns


def write_rows(path: Path | None, rows: Iterable[Mapping[str, object]], format: Format) -> int:
    """Write rows to a file, or to the screen where `path` is None; return how many. In csv, lists and objects are JSON."""
    if path is None:
        return _write(sys.stdout, rows, format)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            number = _write(stream, rows, format)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return number


def _write(stream: TextIO, rows: Iterable[Mapping[str, object]], format: Format) -> int:
    number = 0
    if format == "jsonl":
        for row in rows:
            stream.write(json.dumps(dict(row), ensure_ascii=False, default=str) + "\n")
            number += 1
        return number
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n", restval="", extrasaction="ignore")
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in row.items()})
        number += 1
    return number


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | tuple | dict) else value
