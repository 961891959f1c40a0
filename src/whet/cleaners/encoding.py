"""Letters garbled by a wrong encoding."""

from __future__ import annotations

import ftfy
from ftfy.badness import is_bad

from whet.plugins import plugin


@plugin
class Encoding:
    """Repairs mojibake: text that was written in one encoding and read in another (`cafÃ©` for `café`). Uses ftfy."""

    def clean(self, text: str) -> str:
        """Return the text with its letters restored."""
        for _ in range(8):
            if text.isascii() or not is_bad(text):  # as ftfy asks itself, after work that most texts do not need
                break
            fixed = ftfy.fix_encoding(text)
            if fixed == text:
                break
            text = fixed
        return text
