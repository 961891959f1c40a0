"""Runs of white space."""

from __future__ import annotations

from whet.plugins import plugin


@plugin
class Spaces:
    """Collapses runs of white space: to one line feed where there is a line end in it, else to one space. Trims both ends."""

    def clean(self, text: str) -> str:
        """Return the text with single spaces and single line ends."""
        if "\n" not in text:
            return " ".join(text.split())
        return "\n".join(" ".join(line.split()) for line in text.split("\n") if not line.isspace() and line)
