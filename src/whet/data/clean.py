"""The cleaners of a recipe as one function: the same at training and at each prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whet.plugins import build
from whet.recipe import Data
from whet.types import Cleaner

FOR_LABELS = ("encoding", "markup", "controls", "spaces")
FOR_WRITING = ("encoding", "controls")
"""Where the text itself is learnt, tags and line breaks may be what is wanted (HTML, code), so that they stay."""


@dataclass(frozen=True, slots=True)
class Cleaners:
    """Cleaners in order. Calling it gives the repaired text."""

    chain: tuple[tuple[str, Cleaner], ...]

    def __call__(self, text: str) -> str:
        return self.changes(text)[0]

    def changes(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return the repaired text and the names of the cleaners that changed it."""
        changed = []
        for name, cleaner in self.chain:
            before, text = text, cleaner.clean(text)
            if text != before:
                changed.append(name)
        return text, tuple(changed)


def build_cleaners(columns: Data, folder: Path | None) -> Cleaners:
    """Return the cleaners of this mapping. `folder` is the recipe's, from where a cleaner of the user's own may come.

    `auto`: what labels are predicted from is repaired in full; what is learnt word by word (conversations, answers, plain text)
    keeps its markup and its spaces.
    """
    if columns.clean == "auto":
        writing = columns.messages or columns.prompt or columns.response or columns.chosen
        names = FOR_LABELS if (columns.label or columns.labels) and not writing else FOR_WRITING
        return Cleaners(tuple((name, build("cleaners", name, {}, folder)) for name in names))
    return Cleaners(tuple((choice.name, build("cleaners", choice.name, choice.settings, folder)) for choice in columns.clean))
