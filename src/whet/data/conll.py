"""Files in the manner of CoNLL: a word and its label on each line, further columns between them, and empty lines between texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from whet.data.lines import Line
from whet.data.rows import RawRow, Reject

SUFFIXES = frozenset({".conll", ".conll03", ".bio", ".iob", ".iob2"})
LABEL = re.compile(r"O|[BI]-\S+")
DOCUMENT = "-DOCSTART-"


def is_conll(lines: Sequence[Line], suffix: str) -> bool:
    """Whether these first lines are words with their labels: by the file's name, or since every line ends in O, B-KIND or I-KIND."""
    if suffix in SUFFIXES:
        return True
    fields = [line.text.split() for line in lines if line.text is not None and not _between(line.text)]
    entities = sum(parts[-1] != "O" for parts in fields)
    return bool(entities) and all(len(parts) > 1 and LABEL.fullmatch(parts[-1]) for parts in fields)


def conll_rows(lines: Iterable[Line], name: str) -> Iterator[RawRow | Reject]:
    """Yield each text as one row with `tokens` and `token_labels`; a text with a line that is not word and label is a Reject."""
    held: list[Line] = []
    for line in lines:
        if line.text is not None and _between(line.text):
            if held:
                yield _row(held, name)
            held = []
        else:
            held.append(line)
    if held:
        yield _row(held, name)


def _between(text: str) -> bool:
    """Whether a line divides texts or says something about them, and is no word."""
    parts = text.strip(" \t\ufeff\r").split()
    return not parts or parts[0] == DOCUMENT or (parts[0] == "#" and not LABEL.fullmatch(parts[-1]))


def _row(lines: Sequence[Line], name: str) -> RawRow | Reject:
    words, labels = [], []
    for line in lines:
        parts = (line.text or "").strip("\ufeff").split()
        if len(parts) < 2:
            return Reject(
                name,
                line.number,
                "a line of a text that is not a word and its label",
                "Write the word, a space or tab, and its label.",
            )
        words.append(parts[0])
        labels.append(parts[-1])
    return RawRow(name, lines[0].number, {"tokens": words, "token_labels": labels})
