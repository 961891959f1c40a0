"""Rows of parquet and Arrow files (Feather too), a slice at a time."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from whet.data.rows import RawRow
from whet.data.unpack import Piece
from whet.errors import DataError

SLICE = 4096  # rows held at once
MAGICS = {b"PAR1": "parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow"}
"""How a file begins; the last is Arrow's streaming format, in which `datasets` keeps its files."""
BROKEN = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, MemoryError)


def column_format(magic: bytes) -> str | None:
    """Return the format of columns that a file begins as; none where it is another."""
    return next((kind for start, kind in MAGICS.items() if magic.startswith(start)), None)


def column_rows(piece: Piece, kind: str) -> Iterator[RawRow]:
    """Yield the rows; `line` is the number of the record, from 1. Raises DataError where the file is broken or empty."""
    num_rows = 0
    try:
        table = _table(piece, kind)
        total = int(table.select(pl.len()).collect().item())
        for start in range(0, total, SLICE):
            for fields in table.slice(start, SLICE).collect().iter_rows(named=True):
                num_rows += 1
                yield RawRow(piece.name, num_rows, fields)
    except BROKEN as error:
        raise DataError(
            f"{piece.name}: not a readable {kind} file ({type(error).__name__}). Write it again, or export it as CSV."
        ) from None
    if num_rows == 0:
        raise DataError(f"{piece.name}: the file is empty. Give a file with at least one row.")


def _table(piece: Piece, kind: str) -> pl.LazyFrame:
    if kind == "parquet":
        return pl.scan_parquet(piece.path, glob=False)
    with piece.path.open("rb") as file:
        streamed = file.read(6) != b"ARROW1"
    return pl.read_ipc_stream(piece.path).lazy() if streamed else pl.scan_ipc(piece.path, glob=False)
