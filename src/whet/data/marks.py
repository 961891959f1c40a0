"""Places in files from which reading can go on: what was read before them is proved by hashes, never by dates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import xxhash

from whet.data.encoding import Decoding

BLOCK = 1 << 22
Compared = Callable[[int, int], None]
"""Who is told how many of how many bytes that were read before are compared."""
PLAIN = 1 << 128
"""Places of a text from here on say more than a byte and a state: nobody can begin there at once."""


class Line(NamedTuple):
    """A line that a record begins on."""

    number: int
    place: int
    """What `TextIO.seek` takes."""

    @property
    def byte(self) -> int:
        return self.place & ((1 << 64) - 1)


class Stale(Exception):
    """What was read before was of other content."""


class Seen(Protocol):
    """What reading has said beside the rows."""

    def size(self) -> tuple[int, int]:
        """Return how many notices there are, and how many files had rows."""

    def restore(self) -> None:
        """Let it be what it was at the place where reading goes on."""


@dataclass(slots=True)
class Place:
    """How far reading came, at the end of a file or before a record of one."""

    num_rows: int = 0
    """Rows before it."""
    size: tuple[int, int] = (0, 0)
    """What was said before it (`Seen.size`)."""
    done: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Files that were read to their ends: the name, a hash, and dates of places that their rows are from."""
    first: Line | None = None
    """Of the file that follows: the first line that reading could go on from, to tell where to leap."""
    line: Line | None = None
    """And the last."""
    decoding: tuple[str, ...] = ()
    hash: str = ""
    """Of its bytes before that line."""

    def as_said(self, num_done: int) -> dict[str, Any]:
        """Return what JSON can hold, without so many of the files that were done."""
        said: dict[str, Any] = {"num_rows": self.num_rows, "size": self.size, "done": self.done[num_done:], "hash": self.hash}
        return said | {"first": self.first, "line": self.line, "decoding": self.decoding}

    def moved(self, said: Mapping[str, Any]) -> None:
        """Go on to a later place that was told by `as_said`."""
        self.num_rows, self.hash, self.decoding = said["num_rows"], said["hash"], tuple(said["decoding"])
        self.size = (said["size"][0], said["size"][1])
        self.done += [(name, digest, dates) for name, digest, dates in said["done"]]
        self.first, self.line = (said[name] and Line(*said[name]) for name in ("first", "line"))


class Marks:
    """Notes places while files are read, and leaps to the one that was noted last by a process that was killed."""

    def __init__(self, place: Place, seen: Seen, told: Compared = lambda done, total: None) -> None:
        """Begin at a place. Raises Stale where files before it are not what they were."""
        self.place, self._seen = place, seen
        self._told, self._num_compared = told, 0
        self.num_rows = place.num_rows
        """Rows that have come, with those before the place; whoever takes them counts."""
        self.noted: Line | None = None
        """The line that was met last; the next row says whether it is a place."""
        self._restores = bool(place.num_rows or place.done)
        self.due = False
        """Whether the reader of lines is to call `met` before the next one."""
        self.leaping = place.line is not None
        """Whether rows that come stand before the place."""
        self._hasher = xxhash.xxh3_128()
        self._hashed = 0
        self._path: Path | None = None
        self._version: tuple[int, ...] = ()
        self._decoding: tuple[str, ...] = ()
        self._known = len(place.done)
        self._num_before = sum(_size(Path(name)) for name, _, _ in place.done) + (place.line.byte if place.line else 0)
        for name, digest, _ in place.done:
            if not digest or _hash_of(Path(name), self._compared) != digest:
                raise Stale

    def is_done(self, number: int, file: Path) -> dict[str, str] | None:
        """Return the dates of places of the file of this number if it was read to its end before; else None."""
        if number >= self._known:
            return None
        if self.place.done[number][0] != str(file):
            raise Stale
        return self.place.done[number][2]

    def goes_on(self) -> None:
        """Note that what was read before lies behind: what was said of it is said again, once."""
        if self._restores and not self.leaping:
            self._restores = False
            self._seen.restore()

    def begun(self, path: Path, decoding: Decoding, found: os.stat_result) -> None:
        """Note that what comes next is a file, which was found open as this, that can be read from any record on."""
        self._version = version(found)
        self._path, self._decoding, self.noted = path, (decoding.encoding, decoding.errors, decoding.newline), None
        self._hasher, self._hashed = xxhash.xxh3_128(), 0
        line = self.place.line
        same = line is None or (self._decoding == self.place.decoding and self._hash_to(line.byte) == self.place.hash)
        if self.leaping and not same:
            raise Stale
        self.due = True

    def ended(self, file: Path, dates: dict[str, str]) -> None:
        """Note that a file was read to its end."""
        if self.leaping:
            raise Stale
        self._path, self.noted, self.due = None, None, False
        self.place.done.append((str(file), _hash_of(file), dates))
        self.place = Place(self.num_rows, self._seen.size(), self.place.done)

    def ask(self) -> None:
        """Ask for the place of the next record."""
        self.due = self.due or (self._path is not None and self.noted is None)

    def met(self, stream: TextIO, number: int) -> int:
        """Look at the stream before the line after this one is read; return the number of the line before the next."""
        if self.leaping:
            first, line = self.place.first, self.place.line
            assert first is not None and line is not None, "who leaps knows where"
            if number + 1 < first.number:
                return number
            if number + 1 > first.number or stream.tell() != first.place:
                raise Stale
            stream.seek(line.place)
            self.leaping = self.due = False
            self.goes_on()
            return line.number - 1
        self.noted, self.due = Line(number + 1, stream.tell()), False
        return number

    def took(self, line: int) -> None:
        """Look at the row that has come after a line was noted: whether reading could go on from there.

        A record begins on that line, and nothing waits before it, only where the row that comes next is of that line.
        """
        noted, self.noted = self.noted, None
        assert noted is not None, "a line was noted"
        if noted.number != line or noted.place >= PLAIN:
            self.due = noted.place < PLAIN
            return
        digest = self._hash_to(noted.byte)
        if not digest:
            return  # it has changed since its rows were read, which is refused at its end
        self.place = Place(
            self.num_rows,
            self._seen.size(),
            self.place.done,
            self.place.first or noted,
            noted,
            self._decoding,
            digest,
        )

    def _compared(self, num_bytes: int) -> None:
        self._num_compared += num_bytes
        self._told(self._num_compared, self._num_before)

    def _hash_to(self, end: int) -> str:
        """Return the hash of the file's bytes before this one; empty where it is not the file any more whose rows are read."""
        assert self._path is not None, "a file is being read"
        with self._path.open("rb") as file:
            file.seek(self._hashed)
            while self._hashed < end and (block := file.read(min(BLOCK, end - self._hashed))):
                self._hasher.update(block)
                self._hashed += len(block)
                if self.leaping:
                    self._compared(len(block))
            same = version(os.fstat(file.fileno())) == self._version
        return self._hasher.hexdigest() if same and self._hashed == end else ""


def version(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes with a file's content."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _hash_of(path: Path, told: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Return a hash of a file; empty where it cannot be read, or changes meanwhile."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            before = version(os.fstat(file.fileno()))
            while block := file.read(BLOCK):
                digest.update(block)
                told(len(block))
            if version(os.fstat(file.fileno())) != before:
                return ""
    except OSError:
        return ""
    return digest.hexdigest()
