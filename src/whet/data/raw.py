"""The rows of a source as they were read, packed stretch by stretch: a fifth of the memory of rows, and none beyond a bound."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from whet.data.journal import Journal, Record
from whet.data.making import packed_rows, unpacked_rows
from whet.data.rows import RawRow, Reject

STRETCH = 2_000
"""Rows that are packed, and worked on, at a time, at most."""
STRETCH_CHARACTERS = 1 << 23
HELD = 1 << 28
"""Bytes of packed rows that are held in memory; beyond, they lie in a temporary file."""


class RawRows:
    """Rows in the order in which they were added. Iterating gives them again, any number of times."""

    def __init__(self, folder: Path | None = None, journal: Journal | None = None) -> None:
        """Begin with none. They lie in the journal, which outlives a kill, or in a file of the folder; without either in memory, and beyond
        the bound in the system's temporary folder."""
        self._folder, self._held = folder, HELD if folder is None else 0
        self._journal, self._records = journal, list[Record]()
        self._widths: dict[str, int] = {}
        self.beside: Callable[[], dict[str, Any]] = dict
        """What else is said beside the rows in the journal."""
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

    def add(self, row: RawRow | Reject) -> bool:
        """Add a row; return whether it was the last of a stretch."""
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
            return True
        return False

    def finish(self) -> None:
        """Write what is not yet written of the last rows, and of what is said beside them."""
        self._pack()
        if self._journal is not None and (said := self.beside()):
            self._journal.append({"rows": 0, "columns": {}, **said}, b"")

    def restore(self, record: Record) -> None:
        """Add a stretch that stands in the journal already."""
        for file, columns in record.said["columns"].items():
            self.columns.setdefault(file, {}).update(dict.fromkeys(columns))
            self._widths[file] = len(self.columns[file])
        self._num_rows += record.said["rows"]
        if record.said["rows"]:
            self._records.append(record)

    def restored(self, number: int) -> Iterator[RawRow | Reject]:
        """Yield the rows that stand in the journal behind the first so many."""
        for record in self._records:
            size = record.said["rows"]
            if number < size:
                assert self._journal is not None, "who has records has a journal"
                yield from unpacked_rows(self._journal.read(record))[number:]
            number = max(0, number - size)

    def stretches(self) -> Iterator[bytes]:
        """Yield the rows stretch by stretch, packed (`making.packed_rows`)."""
        self._pack()
        if self._journal is not None:
            yield from map(self._journal.read, self._records)
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
        self._packed, self._ends, self._records = [], [], []
        if self._journal is not None:
            self._journal.close()
        if self._file is not None:
            self._file.close()

    def _pack(self) -> None:
        if not self._waiting:
            return
        packed, number = packed_rows(self._waiting), len(self._waiting)
        self._waiting, self._characters = [], 0
        if self._journal is not None:
            said = {"rows": number, "columns": self._new_columns(), **self.beside()}
            self._records.append(self._journal.append(said, packed))
            return
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

    def _new_columns(self) -> dict[str, list[str]]:
        """Return the columns of the files that have more of them than when they were last asked for."""
        new = {file: list(columns) for file, columns in self.columns.items() if len(columns) != self._widths.get(file)}
        self._widths.update({file: len(columns) for file, columns in new.items()})
        return new


def _forgotten(file: BinaryIO) -> None:
    """Close a file that nobody reads any more; what a full disk keeps from being written to it is of no use."""
    with suppress(OSError):
        file.close()
