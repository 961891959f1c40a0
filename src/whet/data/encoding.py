"""How a file's bytes become text: the encoding is decided by content, and what is no text is refused by name."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import charset_normalizer

from whet.errors import DataError

SAMPLE = 1 << 18  # bytes looked at to decide what a file is
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FOREIGN = {
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save it as xlsx or docx",
    b"BZh": "compressed with bzip2; unpack it with bunzip2",
    b"\xfd7zXZ\x00": "compressed with xz; unpack it with unxz",
    b"Rar!": "a RAR archive; unpack it",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"SQLite format 3\x00": "an SQLite database, whose tables are read by a recipe: data.sources: {name: sql, connection: sqlite:///FILE, query: SELECT ...}",
    b"FEA1": "a Feather file of version 1; write it again with a newer version",
}
KINDS = "csv, tsv, xlsx, json, jsonl, parquet, arrow, txt, md, html, pdf or docx, also as gz, zst or zip"
ALLOWED_CONTROLS = frozenset(b"\t\n\r\x0b\x0c\x1b")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to open a file as text."""

    encoding: str
    errors: str
    newline: str
    """What ends a line; a carriage return before a line feed is taken off by the reader of lines."""
    notice: str | None = None


def western(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are not valid in the file's encoding as Windows-1252, or Latin-1 where that has no character."""
    assert isinstance(error, UnicodeDecodeError), error
    bad = error.object[error.start : error.end]
    return "".join(_western_character(byte) for byte in bad), error.end


def _western_character(byte: int) -> str:
    try:
        return bytes((byte,)).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


codecs.register_error("whet-western", western)


def detect(path: Path, name: str) -> Decoding:
    """Return how to read the file. Raises DataError for a file that is empty or not text."""
    with path.open("rb") as file:
        head = file.read(SAMPLE)
    if not head:
        raise DataError(f"{name}: the file is empty. Give a file with at least one row.")
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{name}: not text but {what}. Files may be {KINDS}.")
    marked = next((encoding for bom, encoding in BOMS if head.startswith(bom)), None) or _unmarked_utf16(head)
    if marked is not None and marked != "utf-8-sig":
        notice = f"{name}: read as {marked.upper()}; save it as UTF-8 to be safe with other tools."
        return Decoding(marked, "replace", _line_end(head.decode(marked, "ignore")), notice)
    controls = sum(head.count(bytes((byte,))) for byte in range(32) if byte not in ALLOWED_CONTROLS)
    if controls > 3 and controls > 0.02 * len(head):
        raise DataError(f"{name}: not text: it has {controls} control bytes in its first {len(head)}. "
                        f"Files may be {KINDS}; export yours as one of them.")  # fmt: skip
    newline = _line_end(head.decode("latin-1"))
    window, seen = _first_invalid(path)
    if window is None:
        return Decoding(marked or "utf-8", "strict", newline)
    return _not_utf8(name, window, seen, newline, marked or "utf-8")


@contextmanager
def opened(path: Path, decoding: Decoding) -> Iterator[TextIO]:
    """Open the file as text; lines end where `decoding.newline` says."""
    with path.open(encoding=decoding.encoding, errors=decoding.errors, newline=decoding.newline) as stream:
        yield stream


def _line_end(head: str) -> str:
    return "\r" if "\r" in head and "\n" not in head else "\n"


def _unmarked_utf16(head: bytes) -> str | None:
    pairs = len(head) // 2
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if pairs >= 4 and odd > 0.4 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if pairs >= 4 and even > 0.4 * pairs and odd < 0.05 * pairs else None


def _first_invalid(path: Path) -> tuple[bytes | None, bool]:
    """Return the bytes around the first place that is not UTF-8 (none: all is), and whether a letter beyond ASCII came before."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = False
    with path.open("rb") as file:
        while True:
            chunk = file.read(1 << 20)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                valid = error.object[: error.start]
                return error.object[max(0, error.start - 2000) : error.start + SAMPLE], seen or not valid.isascii()
            seen = seen or not text.isascii()
            if not chunk:
                return None, seen


def _not_utf8(name: str, window: bytes, seen: bool, newline: str, utf8: str) -> Decoding:
    text = window.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(1 for character in text if character > "\x7f") - bad
    if good > bad or (seen and bad <= 3):
        return Decoding(utf8, "whet-western", newline, f"{name}: some bytes are not UTF-8; those were read as Windows-1252.")
    foreign = sum(1 for byte in window if byte > 127)
    if foreign > 0.25 * len(window):
        best = charset_normalizer.from_bytes(window[: 1 << 16]).best()
        if best is not None:
            return Decoding(best.encoding, "replace", newline,
                            f"{name}: not UTF-8; read as {best.encoding}. Save it as UTF-8 if letters look wrong.")  # fmt: skip
    # A byte order mark of UTF-8 before text that is not, as when an export is appended to: read as UTF-8 first, so that the mark is none of it.
    return Decoding(utf8 if utf8 == "utf-8-sig" else "cp1252", "whet-western", newline,
                    f"{name}: not UTF-8; read as Latin-1 (Windows-1252). Save it as UTF-8 if letters look wrong.")  # fmt: skip
