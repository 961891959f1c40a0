"""Files of a working folder that outlive a kill: each says what it was made of, and is taken for good only where that is the same and it is whole."""

from __future__ import annotations

from pathlib import Path

import xxhash

from whet.files import naming

HEAD = 32
"""Bytes before a file's own: what it was made of, and a checksum."""


def write_kept(path: Path, made_of: bytes, content: bytes) -> None:
    """Write a file whole. `made_of` are 16 bytes that say what it was made of."""
    partial = path.with_name(f"{path.name}.partial")
    with naming(path), partial.open("wb") as file:
        file.write(made_of + xxhash.xxh3_128_digest(content) + content)
    partial.replace(path)


def read_kept(path: Path, made_of: bytes) -> bytes | None:
    """Return what is in a file; None where there is none, or it was made of something else, or is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = content[:16] == made_of and content[16:HEAD] == xxhash.xxh3_128_digest(content[HEAD:])
    return content[HEAD:] if whole else None
