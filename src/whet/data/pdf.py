"""Rows of PDF files: one for each page, by pypdf."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from whet.data.rows import MAX_ROW, RawRow, Reject, too_long
from whet.data.unpack import Piece
from whet.errors import DataError, installing

MAGIC = b"%PDF"


def pdf_rows(piece: Piece) -> Iterator[RawRow | Reject]:
    """Yield the pages with their numbers as lines; a page without text is a Reject. Raises DataError where the file cannot be read."""
    try:
        import pypdf
    except ImportError:
        raise DataError(f"{piece.name}: a PDF, which is read by the extra 'collect': {installing('collect')}") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every flaw of the file
    with piece.path.open("rb") as file:
        try:
            reader = pypdf.PdfReader(file)
            locked = reader.is_encrypted and not reader.decrypt("")
            num_pages = 0 if locked else len(reader.pages)
        except _BROKEN as error:
            raise DataError(
                f"{piece.name}: not a readable PDF ({type(error).__name__}). Open it in a viewer, and save it again."
            ) from None
        if locked:
            raise DataError(f"{piece.name}: locked with a password. Save it without one.")
        for number in range(1, num_pages + 1):
            yield _page(reader, number, piece.name)
    if not num_pages:
        raise DataError(f"{piece.name}: a PDF without pages. Give a file with at least one row.")


_BROKEN = (Exception, RecursionError)
"""A PDF is a program, and pypdf meets a broken one with any error of Python's: each is said of its page."""


def _page(reader: Any, number: int, name: str) -> RawRow | Reject:
    try:
        page = reader.pages[number - 1]
        text = page.extract_text()
        pictured = "/XObject" in (page.get("/Resources") or {})
    except _BROKEN as error:
        return Reject(
            name, number, f"a page that is broken ({type(error).__name__})", "Open the PDF in a viewer, and save it again."
        )
    if len(text) > MAX_ROW:
        return too_long(name, number)
    if not text.strip():
        if pictured:
            return Reject(
                name,
                number,
                "a page without text, and with a picture: a scan",
                "Recognise its text first, for example with ocrmypdf.",
            )
        return Reject(name, number, "an empty page", "Nothing to do.", kind="unwanted")
    return RawRow(name, number, {"text": text.encode("utf-8", "replace").decode().strip()})
