"""Large text files in pieces of a quarter of a mebibyte, each with the rows that begin in it, so that no file is ever held, or read to its end first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import BinaryIO, Literal

from whet.data.encoding import BOMS, FOREIGN
from whet.data.find import find_files
from whet.data.json_rows import json_lines
from whet.data.lines import Line, physical_lines
from whet.data.prose import MARK, divided, layout
from whet.data.read import Format, format_of
from whet.data.rows import MAX_ROW, RawRow, Reject, too_long
from whet.data.table import Reading, sample, table
from whet.errors import DataError

PIECE = 1 << 18
"""Bytes of a piece, but for the row that goes over its end."""
PROBES = 64
"""Places of a file that are looked at to see whether it is the same."""
Kind = Literal["json", "marks", "lines", "blocks", "wrapped"]
SAID: dict[Kind, str] = {
    "json": "a row for each line of JSON",
    "marks": f"a row for each document between {MARK} marks",
    "lines": "a row for each line",
    "blocks": "a row for each block between blank lines",
    "wrapped": "a row for each paragraph between blank lines, its lines joined",
}


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A file that is read in pieces."""

    name: str
    size: int
    kind: Kind
    separator: str
    """What stands between rows, as far as pieces are concerned."""
    probe: str
    """SHA-256 of its size and of places all over it, by which a changed file is noticed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file, from the first row that begins at or after `begin` up to the first at or after `end`."""

    file: LargeFile
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Content:
    """What stands in a piece."""

    piece: Piece
    first: int
    """The byte at which it begins."""
    held: bytes
    cut: bool
    """Whether its last row is too long to hold, and not in it."""

    def rows(self) -> Iterator[RawRow | Reject]:
        """Yield its rows; the file of a row is `NAME@BYTE`, and its line is counted from there."""
        file = self.piece.file
        name = f"{file.name}@{self.first}" if self.first else file.name
        text = self.held.decode("utf-8-sig" if not self.first else "utf-8", errors="whet-western")
        lines = physical_lines(StringIO(text, newline="\n"))
        yield from json_lines(lines, name) if file.kind == "json" else divided(lines, file.kind, name)
        if self.cut:
            yield too_long(name, text.count("\n") + 1)


def large_files(paths: Sequence[str], notices: list[str]) -> list[LargeFile]:
    """Return the files of these paths. Raises DataError for one that cannot be read in pieces, and says what to do."""
    return [_large(path) for name in paths for path in find_files(Path(name), notices)]


def pieces_of(files: Sequence[LargeFile], size: int = PIECE) -> list[Piece]:
    """Return all pieces of these files, of so many bytes each, in order."""
    return [Piece(file, begin, min(begin + size, file.size)) for file in files for begin in range(0, file.size, size)]


def read_piece(piece: Piece) -> Content:
    """Return what stands in a piece. Raises DataError where the file is gone."""
    separator = piece.file.separator.encode()
    try:
        with Path(piece.file.name).open("rb") as file:
            first = _row_from(file, piece.begin, separator, piece.file.size)
            last = _row_from(file, piece.end, separator, piece.file.size)
            cut = first < piece.end and last > piece.end + MAX_ROW
            file.seek(first)
            held = file.read(max(0, min(last, piece.end + len(separator)) - first) if cut else max(0, last - first))
    except OSError as error:
        raise DataError(
            f"{piece.file.name}: {error.strerror}. It is read while it is learnt from: bring it back, and go on."
        ) from None
    if cut:
        held = held[: held.rfind(separator) + len(separator)] if separator in held else b""
    return Content(piece, first, held, cut)


def probe(path: Path) -> str:
    """Return the SHA-256 of a file's size and of places all over it."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in range(0, max(size, 1), max(1, size // PROBES)):
            file.seek(place)
            digest.update(file.read(4096))
    return digest.hexdigest()


def _row_from(file: BinaryIO, place: int, separator: bytes, size: int) -> int:
    """Return where the first row begins at or after a place: behind a separator that ends there or later."""
    if place == 0 or place >= size:
        return min(place, size)
    at, held = max(0, place - len(separator)), b""
    file.seek(at)
    while chunk := file.read(1 << 16):
        held += chunk
        found = held.find(separator)
        if found >= 0:
            return min(at + found + len(separator), size)
        kept = len(separator) - 1
        at, held = at + len(held) - kept, held[len(held) - kept :]
    return size


def _large(path: Path) -> LargeFile:
    if not path.is_file():
        raise DataError(f"{path}: a pipe can be read only once, and streaming comes back to a file. Write it to a disk.")
    with path.open("rb") as file:
        head = file.read(1 << 20)
    known = (*FOREIGN, b"\x1f\x8b", b"(\xb5/\xfd", b"PK\x03\x04", b"PAR1", b"ARROW1", b"%PDF")
    if not head or head.startswith(known) or b"\x00" in head[:4096] or head.startswith(tuple(bom for bom, _ in BOMS[1:])):
        what = "empty" if not head else "not plain text in UTF-8"
        raise DataError(f"{path}: {what}. With data.streaming a file is text or lines of JSON in UTF-8: unpack or convert it.")
    text = head.decode("utf-8-sig", errors="whet-western")
    lines = physical_lines(StringIO(text[: text.rfind("\n") + 1] or text, newline="\n"))
    kind = _kind(path, sample(lines), path.suffix.lower())
    crlf = "\r" if "\r\n" in text else ""
    separator = {"marks": MARK, "blocks": f"{crlf}\n{crlf}\n", "wrapped": f"{crlf}\n{crlf}\n"}.get(kind, "\n")
    return LargeFile(str(path), path.stat().st_size, kind, separator, probe(path))


def _kind(path: Path, first: Sequence[Line], suffix: str) -> Kind:
    found: Format = format_of(first, suffix)
    begins = (first[0].text or "").lstrip(" \t\ufeff") if first else ""
    if found == "lines of JSON" or (suffix in {".jsonl", ".ndjson"} and begins.startswith("{") and begins.rstrip().endswith("}")):
        return "json"
    if found == "JSON" or table(first, iter(()), str(path), suffix, [], Reading()) is not None:
        what = "one JSON value" if found == "JSON" else "a table"
        raise DataError(
            f"{path}: {what}, which is read whole. With data.streaming a file is text or lines of JSON (jsonl): convert it, or leave "
            "data.streaming out."
        )
    return layout(first)
