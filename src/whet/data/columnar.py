"""Rows of parquet and Arrow files (Feather too), a slice at a time, opened by a process that a broken file may end."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO

import polars as pl
from polars import selectors

from whet.data.columnar_worker import LENGTH
from whet.data.rows import RawRow, Reject
from whet.data.unpack import Piece
from whet.data.values import DEEPEST, row_of
from whet.errors import DataError

SLICE = 4096  # rows held at once
PATIENCE_S = 300.0
"""How long the process may be silent."""
FLOATS = selectors.float()
PER_DAY = {"d": 1, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
DAYS, LONGEST = (-719_162, 2_932_896), 999_999_998
"""The first and the last day that Python has, from 1970, and the longest span in whole days."""


def column_rows(piece: Piece, kind: str) -> Iterator[RawRow | Reject]:
    """Yield the rows; `line` is the number of the record, from 1. Raises DataError where the file is broken or empty."""
    found = piece.path.stat()
    asked = {"path": str(piece.path), "kind": kind, "file": f"{piece.path}:{found.st_mtime_ns}:{found.st_size}", "number": SLICE}
    number = 0
    while len(some := _slice(asked | {"start": number}, piece.name, kind)):
        plain = all(map(_is_plain, some.dtypes))
        for fields in some.to_dicts():
            number += 1
            yield RawRow(piece.name, number, fields) if plain else row_of(piece.name, number, fields)
        if len(some) < SLICE:
            break
    if number == 0:
        raise DataError(f"{piece.name}: the file is empty. Give a file with at least one row.")


def _is_plain(kind: pl.DataType) -> bool:
    """Whether values of a column, where they are finite, are what JSON holds as they come."""
    return kind.is_integer() or kind.is_float() or isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Boolean | pl.Null)


def _slice(asked: dict[str, object], name: str, kind: str) -> pl.DataFrame:
    try:
        some = pl.read_ipc_stream(BytesIO(WORKER.answer(asked)))
    except (_Broken, pl.exceptions.PolarsError) as error:
        reason = str(error) if isinstance(error, _Broken) else type(error).__name__
        raise DataError(f"{name}: not a readable {kind} file ({reason}). Write it again, or export it as CSV.") from None
    moments = [expression for column, kind in some.schema.items() if (expression := _sayable(pl.col(column), kind)) is not None]
    return some.with_columns(pl.when(FLOATS.is_finite()).then(FLOATS), *moments)


def _sayable(values: pl.Expr, kind: object, depth: int = 0) -> pl.Expr | None:
    """Return values without moments beyond the years 1 to 9999, such as a database's infinity, which Python has not.

    None where no such moment can be.
    """
    if depth > DEEPEST:
        return None  # the row is rejected
    if isinstance(kind, pl.List | pl.Array):
        inner = _sayable(pl.element(), kind.inner, depth + 1)
        lists = values.arr.to_list() if isinstance(kind, pl.Array) else values
        return None if inner is None else lists.list.eval(inner)
    if isinstance(kind, pl.Struct):
        found = {field.name: _sayable(values.struct.field(field.name), field.dtype, depth + 1) for field in kind.fields}
        changed = [expression.alias(name) for name, expression in found.items() if expression is not None]
        return pl.when(values.is_not_null()).then(values.struct.with_fields(*changed)) if changed else None
    if not isinstance(kind, pl.Date | pl.Datetime | pl.Duration):
        return None
    unit = PER_DAY[getattr(kind, "time_unit", "d")]
    if unit == PER_DAY["ns"]:
        return None  # 292 years at most
    first, last = (-LONGEST, LONGEST) if isinstance(kind, pl.Duration) else DAYS
    if getattr(kind, "time_zone", None):
        first, last = first + 1, last - 1  # in whatever zone
    return pl.when(values.to_physical().is_between(first * unit, (last + 1) * unit - 1)).then(values)


class _Broken(Exception):
    """The process could not read the file, in a word."""


class Worker:
    """The process, begun when it is first needed, and again where a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def answer(self, asked: dict[str, object]) -> bytes:
        """Return what the process says to a request. Raises _Broken where it cannot read the file, or has ended."""
        with self._lock:
            process = self._begun()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                process.stdin.flush()
                (length,) = LENGTH.unpack(_read(process.stdout.fileno(), LENGTH.size))
                content = _read(process.stdout.fileno(), abs(length))
            except BaseException as error:
                self.end()
                if isinstance(error, OSError | EOFError):
                    raise _Broken("it ended the program that reads it") from None
                raise
        if length < 0:
            raise _Broken(content.decode("ascii", "replace"))
        return content

    def end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:  # what was not yet written is of no use
                        continue

    def _begun(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "whet.data.columnar_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "RUST_BACKTRACE": "0"},
                start_new_session=True,
            )
        return self._process


def _read(handle: int, size: int) -> bytes:
    """Return so many bytes of a pipe. Raises EOFError where it ends before, or is silent for too long."""
    held, deadline = bytearray(), time.monotonic() + PATIENCE_S
    while len(held) < size:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        block = os.read(handle, min(size - len(held), 1 << 20)) if ready else b""
        if not block:
            raise EOFError
        held += block
    return bytes(held)


WORKER = Worker()
atexit.register(WORKER.end)
