"""The main text of a web page, without menus, adverts and scripts, by trafilatura."""

from __future__ import annotations

import re
from typing import NamedTuple

from whet.data.rows import MAX_ROW, RawRow, Reject, too_long
from whet.data.unpack import Piece
from whet.errors import DataError, installing

SUFFIXES = frozenset({".html", ".htm"})


class Page(NamedTuple):
    """What a page says, and what it says of itself."""

    text: str
    title: str
    date: str
    """By ISO 8601, where the page says one."""


def is_html(head: str) -> bool:
    """Whether a text begins as a web page does."""
    return bool(
        re.match(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head)\b", head, re.IGNORECASE | re.DOTALL)
    )


def main_text(content: bytes, name: str, url: str | None = None) -> Page | None:
    """Return the main text of a page; none where there is none. Raises DataError where trafilatura is not installed."""
    try:
        from trafilatura import bare_extraction
    except ImportError:
        raise DataError(f"{name}: a web page, whose main text is found by the extra 'collect': {installing('collect')}") from None
    found = bare_extraction(content, url=url, include_comments=False, with_metadata=True)
    if found is None or not (found.text or "").strip():
        return None
    return Page(str(found.text).strip(), str(found.title or ""), str(found.date or ""))


def html_row(piece: Piece) -> RawRow | Reject:
    """Return the row of a page: `text` and `title`."""
    if piece.path.stat().st_size > MAX_ROW:
        return too_long(piece.name, 1)
    page = main_text(piece.path.read_bytes(), piece.name)
    if page is None:
        return Reject(
            piece.name, 1, "a web page without a main text", "Open it: it may be a menu or need JavaScript. Leave the file out."
        )
    return RawRow(piece.name, 1, {"title": page.title, "text": page.text})
