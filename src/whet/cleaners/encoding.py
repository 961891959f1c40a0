"""Letters garbled by a wrong encoding."""

from __future__ import annotations

import ftfy

from whet.plugins import plugin


@plugin
class Encoding:
    """Repairs mojibake: text that was written in one encoding and read in another (`cafÃ©` for `café`). Uses ftfy."""

    def clean(self, text: str) -> str:
        """Return the text with its letters restored."""
        if text.isascii():
            return text
        for _ in range(8):
            fixed = ftfy.fix_encoding(text)
            if fixed == text:
                break
            text = fixed
        return text
