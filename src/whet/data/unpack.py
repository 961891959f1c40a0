"""Compressed files and archives, unpacked one file at a time into a file without a name, never under one that they bring along."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from whet.display import brief
from whet.errors import DataError, installing
from whet.files import unnamed_file

MAX_MEMBERS = 10_000
"""Files of one archive."""
MAX_DEPTH = 3
"""Archives in one another, such as a gzip file in a zip archive."""
MAX_RATIO = 250
"""How many times larger than the archive may be what is in it; texts are some 3 to 50 times larger."""
RATIO_FROM = 64 * 2**20
"""Unpacked bytes up to which the ratio is not looked at."""
MAX_BYTES = 256 * 2**30
"""Unpacked bytes of one archive."""
COMPRESSED = (".gz", ".zst")
_CHUNK = 1 << 20
_ZSTD_CHUNK = 512  # bytes handed over at once, of which 4 may stand for 128 KiB
BROKEN = (
    zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeError, ValueError, RuntimeError,
)  # fmt: skip
"""What unpacking raises: a ValueError of numbers that cannot be, a RuntimeError of a member with a password, a NotImplementedError
of a method of compression that Python has not."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to be read: where its bytes lie, what the user calls it, and how its name ends without what it was packed with."""

    path: Path
    name: str
    suffix: str

    @classmethod
    def of(cls, path: Path, name: str) -> Piece:
        return cls(path, name, suffix_of(name))


class Budget:
    """What may still come out of one file, however its archives lie in one another."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size, self._bytes = name, size, 0

    def spend(self, num_bytes: int) -> None:
        """Count bytes that were unpacked. Raises DataError where they are more than any honest file holds."""
        self._bytes += num_bytes
        if self._bytes > MAX_BYTES:
            raise DataError(
                f"{self._name}: unpacked, it is larger than {MAX_BYTES // 2**30} GiB. Unpack it yourself, and name its files."
            )
        if self._bytes > max(RATIO_FROM, MAX_RATIO * self._size):
            raise DataError(
                f"{self._name}: what is packed in it is more than {MAX_RATIO} times as large as the file, as in an archive that is made to "
                "fill a disk. It was not unpacked further. If you know it, unpack it yourself, and name its files."
            )


def suffix_of(name: str) -> str:
    """Return how a name ends, in lower case, without .gz and .zst."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def magic_of(path: Path) -> bytes:
    """Return a file's first bytes."""
    with path.open("rb") as file:
        return file.read(8)


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive; Word's and Excel's files are such."""
    return magic_of(path).startswith((b"PK\x03\x04", b"PK\x05\x06"))


@contextmanager
def decompressed(piece: Piece, budget: Budget) -> Iterator[Piece | None]:
    """Give what a gzip or zstd file holds, until the end of the block; none where it is neither. Raises DataError where it is broken."""
    magic = magic_of(piece.path)
    kind = "gzip" if magic.startswith(b"\x1f\x8b") else "zstd" if magic.startswith(b"\x28\xb5\x2f\xfd") else ""
    if not kind:
        yield None
        return
    with unnamed_file() as copy:
        try:
            with piece.path.open("rb") as source, copy.open("wb") as file:
                for block in _gzip_blocks(source) if kind == "gzip" else _zstd_blocks(source, piece.name):
                    budget.spend(len(block))
                    file.write(block)
        except BROKEN as error:
            raise DataError(
                f"{piece.name}: compressed with {kind}, and broken or cut short ({type(error).__name__}). Fetch the file again, or look at it "
                f"with: {'gunzip' if kind == 'gzip' else 'unzstd'} --test"
            ) from None
        except OSError as error:
            raise _no_room(piece.name, error) from None
        yield Piece(copy, piece.name, piece.suffix)


def _gzip_blocks(source: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=source) as stream:
        while block := stream.read(_CHUNK):
            yield block


def _zstd_blocks(source: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise DataError(
            f"{name}: compressed with zstd, which needs the extra 'collect': {installing('collect')}. Or unpack it with unzstd."
        ) from None
    held, frame = b"", None
    while chunk := held or source.read(_ZSTD_CHUNK):
        try:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            yield frame.decompress(chunk)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
        held = frame.unused_data if frame.eof else b""
        frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError


@contextmanager
def opened_zip(piece: Piece) -> Iterator[zipfile.ZipFile]:
    """Give a zip archive whose number of members and whose names are sound. Raises DataError where it is broken or they are not."""
    try:
        archive = zipfile.ZipFile(piece.path)
    except (*BROKEN, OSError) as error:
        raise DataError(
            f"{piece.name}: begins as a zip archive or an Excel workbook, and is broken or cut short ({type(error).__name__}). "
            "Fetch the file again, or look at it with: unzip -t"
        ) from None
    with archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise DataError(
                f"{piece.name}: an archive of {len(members):,} files; at most {MAX_MEMBERS:,} are read. Unpack it, and name its folder."
            )
        for member in members:
            if not member.filename:
                raise DataError(f"{piece.name}: one of its members has no name, so the archive is broken. Pack the files again.")
            parts = PurePosixPath(member.filename.replace("\\", "/")).parts
            if ".." in parts or member.filename.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
                raise DataError(
                    f"{piece.name}: its member {brief(member.filename)!r} leads outside the archive, as in one that is made to overwrite files. "
                    "It was not read. Pack the files again by their plain names."
                )
        yield archive


@contextmanager
def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, piece: Piece, budget: Budget) -> Iterator[Piece]:
    """Give one file of an archive, until the end of the block. Raises DataError where it cannot be unpacked."""
    shown = f"{piece.name}/{info.filename}"
    with unnamed_file() as copy:
        try:
            with opened_member(archive, info, shown) as source, copy.open("wb") as file:
                while block := source.read(_CHUNK):
                    budget.spend(len(block))
                    file.write(block)
        except OSError as error:
            raise _no_room(shown, error) from None
        yield Piece.of(copy, shown)


class Member:
    """An open file of an archive. Whatever its compression raises is a DataError; bz2's is an OSError, as that of a full disk."""

    def __init__(self, stream: IO[bytes], shown: str) -> None:
        self._stream, self._shown = stream, shown

    def read(self, size: int) -> bytes:
        """Return the next bytes, so many at most. Raises DataError where they cannot be unpacked."""
        try:
            return self._stream.read(size)
        except (*BROKEN, OSError) as error:
            raise broken_member(self._shown, error) from None

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def opened_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, shown: str) -> Member:
    """Return an open file of an archive. Raises DataError where it has a password or cannot be unpacked."""
    if info.flag_bits & 1:
        raise DataError(f"{shown}: locked with a password. Unpack the archive, and name its files.")
    try:
        return Member(archive.open(info), shown)
    except (*BROKEN, OSError) as error:
        raise broken_member(shown, error) from None


def broken_member(shown: str, error: Exception) -> DataError:
    """Return what to say of a file that an archive does not give."""
    return DataError(
        f"{shown}: cannot be unpacked ({type(error).__name__}). Fetch the archive again, or look at it with: unzip -t"
    )


def _no_room(name: str, error: OSError) -> DataError:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return DataError(
        f"{name}: could not be unpacked: {error.strerror or error}. {free // 2**20:,} MiB are free in {tempfile.gettempdir()}; name a folder "
        "with more room in the environment variable TMPDIR."
    )
