"""The cleaners of a recipe as one function: the same at training and at each prediction."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from whet.data.conversation import Unwelcome
from whet.data.redact import build_redactor, redact_row, secret_key, wanted
from whet.data.rows import RawRow, Reject
from whet.plugins import build
from whet.private.redact import Redactor
from whet.protocols import Cleaner, Unwanted
from whet.recipe_data import Data
from whet.types import Example

FOR_LABELS = ("encoding", "markup", "unicode", "controls", "spaces")
FOR_WRITING = ("encoding", "unicode", "controls")
"""Where the text itself is learnt, tags and line breaks may be what is wanted (HTML, code), so that they stay."""


@dataclass(frozen=True, slots=True)
class Cleaners:
    """Cleaners in order. Calling it gives the repaired text."""

    chain: tuple[tuple[str, Cleaner], ...]
    redactor: Redactor | None = None
    """What takes private data out; none where it is not asked for."""

    def __call__(self, text: str) -> str:
        text = self.changes(text)[0]
        return text if self.redactor is None else self.redactor(text)

    def redacted(self, example: Example) -> Example:
        """Return a row with private data taken out of all that calling this has not reached: tags, groups, words with labels."""
        return example if self.redactor is None else redact_row(example, self.redactor)[0]

    def changes(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return the repaired text and the names of the cleaners that changed it.

        What a cleaner would drop stays as it is: it is to be answered, or to be judged on.
        """
        changed: tuple[str, ...] = ()
        for name, cleaner in self.chain:
            before = text
            with suppress(Unwanted):
                text = cleaner.clean(text)
            if text != before:
                changed += (name,)
        return text, changed

    def learnt(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return the same of a text to learn from. Raises Unwelcome where a cleaner drops it."""
        changed: tuple[str, ...] = ()
        for name, cleaner in self.chain:
            before = text
            try:
                text = cleaner.clean(text)
            except Unwanted as error:
                raise Unwelcome(str(error), f"Nothing to do: data.clean names '{name}'.", name) from None
            if text != before:
                changed += (name,)
        return text, changed


def build_cleaners(
    columns: Data, folder: Path | None, rows: Iterable[RawRow | Reject] = (), key: bytes | None = None
) -> Cleaners:
    """Return the cleaners of this mapping. `folder` is the recipe's, from where a cleaner of the user's own may come.
    `rows` are the data to be redacted, of which the key of stand-ins is made; or that `key` itself.

    `auto`: what labels are predicted from is repaired in full; what is learnt word by word (conversations, answers, plain text)
    keeps its markup and its spaces.
    """
    asked = wanted(columns)
    redactor = (
        None
        if asked is None or not asked.changes
        else build_redactor(asked, secret_key(asked, rows, folder) if key is None else key)
    )
    if columns.clean == "auto":
        writing = columns.messages or columns.prompt or columns.response or columns.chosen
        names = FOR_LABELS if (columns.label or columns.labels) and not writing else FOR_WRITING
        return Cleaners(tuple((name, build("cleaners", name, {}, folder)) for name in names), redactor)
    return Cleaners(
        tuple((choice.name, build("cleaners", choice.name, choice.settings, folder)) for choice in columns.clean), redactor
    )
