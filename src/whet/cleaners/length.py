"""Texts too short or too long to learn from."""

from __future__ import annotations

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Unwanted


@plugin
class Length:
    """Drops rows with a text that is too short or too long. Nothing is cut."""

    min_characters: int = Field(1, ge=0)
    """Least characters of a text, without the spaces at its ends."""
    max_characters: int = Field(1_000_000, ge=1)
    """Most characters."""
    min_words: int = Field(0, ge=0)
    """Least words, divided by white space. Chinese, Japanese and Thai have none to count."""
    max_words: int = Field(1_000_000, ge=1)
    """Most words."""

    def clean(self, text: str) -> str:
        """Return the text as it is. Raises Unwanted."""
        for number, what, least, most in (
            (len(text.strip()), "characters", self.min_characters, self.max_characters),
            (len(text.split()), "words", self.min_words, self.max_words),
        ):
            if text.strip() and not least <= number <= most:
                raise Unwanted(f"a text of {number:,} {what}; allowed: {least:,} to {most:,}")
        return text
