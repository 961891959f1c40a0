"""Sentences for people: numbers with their nouns, and one sentence where many files say the same."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 3  # files named before the others are counted


def counted(number: int, noun: str) -> str:
    """Return '1 row', '2 rows'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def grouped(notices: Sequence[str]) -> tuple[str, ...]:
    """Return the notices, each once; what more than three files share (`FILE: sentence`) is said once."""
    by_sentence: dict[str, list[str]] = {}
    for notice in dict.fromkeys(notices):
        file, colon, sentence = notice.partition(": ")
        by_sentence.setdefault(sentence if colon else notice, []).append(file)
    said: list[str] = []
    for notice in dict.fromkeys(notices):
        file, colon, sentence = notice.partition(": ")
        files = by_sentence[sentence if colon else notice]
        if not colon or len(files) <= SHOWN:
            said.append(notice)
        elif file == files[0]:
            said.append(f"{file} and {counted(len(files) - 1, 'other file')}: {sentence}")
    return tuple(said)
