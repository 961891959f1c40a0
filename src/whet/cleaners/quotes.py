"""Quotes, dashes and points of typographers."""

from __future__ import annotations

import re

from whet.plugins import plugin

_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u02bc\u2032\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\uff02\u301d\u301e\u301f", '"')
)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-") | {"\u2026": "..."})
_LONG = re.compile("(?<=\\w)[\u2014\u2015](?=\\w)")
_TYPED = re.compile(r"(?<![`'])(?:``|'')(?![`'])")


@plugin
class Quotes:
    """Writes curly and angled quotes, dashes and `…` as a keyboard has them: `„ja“ – it’s` becomes `"ja" - it's`.

    Not for texts that a model learns to write, unless it is to write so.
    """

    quotes: bool = True
    """Quotes and apostrophes; `` and '' too."""
    dashes: bool = True
    """Dashes, the minus sign and the three points. A long dash between two words gets a space at either side."""

    def clean(self, text: str) -> str:
        """Return the text with plain quotes and dashes."""
        if self.quotes:
            text = _TYPED.sub('"', text.translate(_QUOTES))
        if self.dashes and not text.isascii():
            text = _LONG.sub(" - ", text).translate(_DASHES)
        return text
