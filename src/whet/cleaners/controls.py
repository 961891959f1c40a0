"""Characters that nobody sees."""

from __future__ import annotations

import re

from whet.plugins import plugin

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_JOINERS = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")


@plugin
class Controls:
    """Removes control and zero-width characters, and writes every line end as one line feed.

    The joiners U+200C and U+200D stay between letters beyond ASCII, where Persian, Indic scripts and emoji need them.
    """

    def clean(self, text: str) -> str:
        """Return the text without what cannot be seen."""
        if text.isascii() and text.isprintable():
            return text
        text = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text))
        return _JOINERS.sub("", text) if "\u200c" in text or "\u200d" in text else text
