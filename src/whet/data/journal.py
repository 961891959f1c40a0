"""Records that are appended to a file one after another. What a kill left half at its end is cut off when it is opened again."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from whet.files import naming

SIZES = 16
"""Bytes of a record that say how long its two parts are; a checksum follows."""


class Record(NamedTuple):
    """A record: what is said of it, and where its bytes lie in the file."""

    said: dict[str, Any]
    begin: int
    end: int


class Journal:
    """A file of records. One that was made of something else is begun anew."""

    def __init__(self, path: Path, made_of: bytes) -> None:
        """Open it. `made_of` are 16 bytes."""
        self._path = path
        self._file = path.open("a+b", buffering=0)
        weakref.finalize(self, self._file.close)
        self.records: list[Record] = []
        """Those that were there when it was opened."""
        self._file.seek(0)
        if self._file.read(16) == made_of:
            self._end = 16
            while self._next() is not None:
                continue
            self._file.truncate(self._end)
        else:
            self.clear(made_of)

    def clear(self, made_of: bytes) -> None:
        """Forget all records."""
        self.records = []
        self._file.truncate(0)
        self._write(made_of)
        self._end = 16

    def append(self, said: dict[str, Any], content: bytes) -> Record:
        """Write a record; it is there as a whole, or not at all."""
        head = json.dumps(said).encode()
        sizes = len(head).to_bytes(8, "little") + len(content).to_bytes(8, "little")
        digest = xxhash.xxh3_128(sizes)
        digest.update(head)
        digest.update(content)
        begin = self._end + len(sizes) + digest.digest_size + len(head)
        self._write(b"".join([sizes, digest.digest(), head, content]))
        self._end = begin + len(content)
        return Record(said, begin, self._end)

    def read(self, record: Record) -> bytes:
        """Return a record's bytes."""
        self._file.seek(record.begin)
        return self._read(record.end - record.begin)

    def close(self) -> None:
        self._file.close()

    def _write(self, content: bytes) -> None:
        with naming(self._path):
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]

    def _read(self, size: int) -> bytes:
        parts = []
        while size and (part := self._file.read(size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next(self) -> Record | None:
        """Note the record at the end of those that are known; None where none is whole."""
        self._file.seek(self._end)
        sizes, checksum = self._read(SIZES), self._read(16)
        head_size, size = int.from_bytes(sizes[:8], "little"), int.from_bytes(sizes[8:], "little")
        if len(checksum) < 16 or self._end + head_size + size > self._path.stat().st_size:
            return None
        head, content = self._read(head_size), self._read(size)
        digest = xxhash.xxh3_128(sizes)
        digest.update(head)
        digest.update(content)
        if digest.digest() != checksum:
            return None
        begin = self._end + SIZES + 16 + head_size
        try:
            record = Record(json.loads(head), begin, begin + size)
        except (ValueError, RecursionError):
            return None
        self.records.append(record)
        self._end = record.end
        return record
