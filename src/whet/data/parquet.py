"""Rows of parquet files, a slice at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from whet.data.rows import RawRow
from whet.errors import DataError

SLICE = 4096  # rows held at once


def parquet_rows(path: Path, name: str) -> Iterator[RawRow]:
    """Yield the rows; `line` is the number of the record, from 1."""
    try:
        table = pl.scan_parquet(path)
        num_rows = int(table.select(pl.len()).collect().item())
        for start in range(0, num_rows, SLICE):
            for index, fields in enumerate(table.slice(start, SLICE).collect().iter_rows(named=True)):
                yield RawRow(name, start + index + 1, fields)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{name}: not a readable parquet file ({type(error).__name__}). Write it again, or export it as CSV."
        ) from None
    if num_rows == 0:
        raise DataError(f"{name}: the file is empty. Give a file with at least one row.")
