"""Runs of white space."""

from __future__ import annotations

import re

from whet.plugins import plugin


@plugin
class Spaces:
    """Collapses runs of white space: to one line feed where there is a line end in it, else to one space. Trims both ends."""

    def clean(self, text: str) -> str:
        """Return the text with single spaces and single line ends."""
        if " ".join(text.split()) == text:
            return text
        return re.sub(r"\s+", lambda match: "\n" if "\n" in match[0] else " ", text).strip()
