"""The rows of a source as they were read, packed stretch by stretch: a fifth of the memory of rows, and none beyond a bound."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from whet.data.making import packed_rows, unpacked_rows
from whet.data.rows import RawRow, Reject

STRETCH = 2_000
"""Rows that are packed, and worked on, at a time, at most."""
STRETCH_CHARACTERS = 1 << 23
HELD = 1 << 28
"""Bytes of packed rows that are held in memory; beyond, they lie in a temporary file."""


class RawRows:
    """Rows in the order in which they were added. Iterating gives them again, any number of times."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin with none. They lie in a file of the folder; without one in memory, and beyond the bound in the system's temporary folder."""
        self._folder, self._held = folder, HELD if folder is None else 0
        self._packed: list[bytes] = []
        self._size = 0
        self._file: BinaryIO | None = None
        self._ends: list[int] = []
        self._waiting: list[RawRow | Reject] = []
        self._characters = 0
        self._num_rows = 0
        self.columns: dict[str, dict[str, None]] = {}
        """Of each file with rows, the columns that any of them has, in the order in which they come."""

    def __len__(self) -> int:
        return self._num_rows

    def add(self, row: RawRow | Reject) -> None:
        """Add a row."""
        self._num_rows += 1
        self._waiting.append(row)
        if isinstance(row, RawRow):
            known = self.columns.get(row.file)
            if known is None or known.keys() != row.fields.keys():
                self.columns.setdefault(row.file, {}).update(dict.fromkeys(row.fields))
            for value in row.fields.values():
                if type(value) is str:
                    self._characters += len(value)
        if len(self._waiting) >= STRETCH or self._characters >= STRETCH_CHARACTERS:
            self._pack()

    def stretches(self) -> Iterator[bytes]:
        """Yield the rows stretch by stretch, packed (`making.packed_rows`)."""
        self._pack()
        yield from self._packed
        begin = 0
        for end in self._ends:
            assert self._file is not None, "what has an end has a file"
            self._file.seek(begin)
            yield self._file.read(end - begin)
            begin = end

    def __iter__(self) -> Iterator[RawRow | Reject]:
        for packed in self.stretches():
            yield from unpacked_rows(packed)

    def close(self) -> None:
        """Forget the rows."""
        self._packed, self._ends = [], []
        if self._file is not None:
            self._file.close()

    def _pack(self) -> None:
        if not self._waiting:
            return
        packed = packed_rows(self._waiting)
        self._waiting, self._characters = [], 0
        self._size += len(packed)
        if self._size <= self._held:
            self._packed.append(packed)
            return
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - closed with this object
            weakref.finalize(self, _forgotten, self._file)
        self._file.seek(0, 2)
        self._file.write(packed)
        self._ends.append(self._file.tell())


def _forgotten(file: BinaryIO) -> None:
    """Close a file that nobody reads any more; what a full disk keeps from being written to it is of no use."""
    with suppress(OSError):
        file.close()
