"""How large a file is once it is unpacked, as far as that is told by its directory, its header, its end, or its first few megabytes."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from whet.data.unpack import BROKEN, COMPRESSED, is_zip, magic_of

PACKED = 4
"""How many times as large what is packed in a file is taken to be, where nothing tells."""
COLUMNAR = frozenset({".parquet", ".arrow", ".feather"})
"""Endings of files that are packed and say nothing that may be trusted without reading them."""
SAMPLE = 4 << 20
"""Bytes that are unpacked to look how large the whole is, at most."""
READ = 1 << 13
"""Bytes that are read at a time, so that how much was unpacked of them is known well enough."""
MOST = 1032
"""How many times as large as its file what deflate has packed can be."""


def unpacked_size(path: Path) -> int:
    """Return the bytes of a file as they are unpacked: never fewer than those of the file, and some factor of them where it is broken."""
    if not path.is_file():  # a pipe has no size, and must not be read for it
        return 0
    size = path.stat().st_size
    if path.suffix.lower() in COLUMNAR:
        return size * PACKED
    try:
        magic = magic_of(path)
        if magic.startswith(b"\x1f\x8b"):
            return max(size, _gzip_size(path, size))
        if magic.startswith(b"\x28\xb5\x2f\xfd"):
            return max(size, _zstd_size(path, size))
        return max(size, _zip_size(path)) if is_zip(path) else size
    except (*BROKEN, OSError):  # whoever reads it says what is wrong
        return size * PACKED


def _gzip_size(path: Path, size: int) -> int:
    """Return what the end says, which is right of one member below 4 GiB, or what the beginning lets expect: the larger of both."""
    with path.open("rb") as file:
        unpacked, packed = _begun(file)
        file.seek(-4, 2)
        last = int.from_bytes(file.read(4), "little")
    return max(round(size * unpacked / max(1, packed)), min(last, size * MOST))


def _begun(file: BinaryIO) -> tuple[int, int]:
    """Return how many bytes come out of the first ones of a gzip file, and how many these are."""
    unpacked, held = 0, b""
    member = zlib.decompressobj(wbits=31)
    while unpacked < SAMPLE and (chunk := held or file.read(READ)):
        unpacked += len(member.decompress(chunk, SAMPLE - unpacked))
        held = member.unused_data if member.eof else member.unconsumed_tail
        if member.eof:
            member = zlib.decompressobj(wbits=31)
    return unpacked, file.tell() - len(held)


def _zstd_size(path: Path, size: int) -> int:
    """Return what the first frame says, or what the beginning lets expect: the larger of both."""
    try:
        import zstandard
    except ImportError:
        return size * PACKED
    try:
        with path.open("rb") as file:
            said, unpacked = zstandard.frame_content_size(file.read(32)), 0
            file.seek(0)
            reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
                file, read_size=READ, read_across_frames=True
            )
            while unpacked < SAMPLE and (some := reader.read(SAMPLE - unpacked)):
                unpacked += len(some)
            return max(said, round(size * unpacked / max(1, file.tell())))
    except zstandard.ZstdError:
        return size * PACKED


def _zip_size(path: Path) -> int:
    """Return what the directory says; of what is packed once more, some factor of it."""
    with zipfile.ZipFile(path) as archive:
        return sum(one.file_size * (PACKED if _packed_again(one.filename) else 1) for one in archive.infolist())


def _packed_again(name: str) -> bool:
    return PurePosixPath(name.lower()).suffix in {".zip", *COMPRESSED, *COLUMNAR}
