"""Sentences for people: numbers with their nouns, and one sentence where several files say the same."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

SHOWN = 3  # files named before they are counted
PLACE = re.compile(r"(:\d+)?: ")
"""Between a file, or a line of it, and what is said of it."""


def counted(number: int, noun: str) -> str:
    """Return '1 row', '2 rows'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def grouped(notices: Sequence[str], files: Collection[str]) -> tuple[str, ...]:
    """Return the notices, each once, its file without folders; what several of `files` share (`FILE: sentence`) is said once."""
    by_sentence: dict[str, list[tuple[str, str]]] = {}
    for notice in dict.fromkeys(notices):
        file = next((file for file in files if notice.startswith(file) and PLACE.match(notice, len(file))), "")
        line, _, sentence = notice[len(file) :].partition(": ") if file else ("", "", notice)
        by_sentence.setdefault(sentence, []).append((file, line))
    return tuple(_said(places, sentence, len(files)) for sentence, places in by_sentence.items())


def _said(places: Sequence[tuple[str, str]], sentence: str, num_files: int) -> str:
    named = {file for file, _ in places}
    if named == {""}:
        return sentence
    if len(named) > SHOWN or len(named) == num_files > 1:
        return f"{counted(len(named), 'sheet' if all(name.endswith(']') for name in named) else 'file')}: {sentence}"
    return f"{', '.join(Path(file).name + line for file, line in places)}: {sentence}"
