"""Letters that can be written in several ways."""

from __future__ import annotations

import unicodedata
from typing import Literal

from whet.plugins import plugin


@plugin
class Unicode:
    """Writes every character in one form of Unicode's: `é` as one character, not as e and an accent. Unicode Standard Annex 15."""

    form: Literal["nfc", "nfkc"] = "nfc"
    """nfc changes how a text is written and nothing of what it says. nfkc also writes ﬁ as fi, ２ as 2 and ² as 2, which can say something else."""

    def clean(self, text: str) -> str:
        """Return the text in this form."""
        if text.isascii():
            return text
        return unicodedata.normalize("NFC" if self.form == "nfc" else "NFKC", text)
