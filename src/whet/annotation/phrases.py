"""Spans foreseen from spans: what was labelled elsewhere, and labelled so more often than not, is suggested where it stands again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST = 8
"""Words of the longest phrase that is remembered."""
EDGES = ".,;:!?\"'()[]{}<>“”‘’«»…"


class Phrases:
    """Phrases with their labels, from rows that somebody has labelled."""

    def __init__(self, rows: Iterable[tuple[Sequence[str], Sequence[Mapping[str, Any]]]]) -> None:
        """`rows` are words with their spans."""
        labelled: dict[tuple[str, ...], Counter[str]] = {}
        kept = [(tuple(map(_plain, words)), spans) for words, spans in rows]
        for words, spans in kept:
            for span in spans:
                phrase = words[span["first"] : span["end"]]
                if len(phrase) <= LONGEST and any(phrase):
                    labelled.setdefault(phrase, Counter())[span["kind"]] += 1
        seen: Counter[tuple[str, ...]] = Counter()
        for words, _ in kept:
            for size in {len(phrase) for phrase in labelled}:
                seen.update(phrase for at in range(len(words) - size + 1) if (phrase := words[at : at + size]) in labelled)
        self._known: dict[tuple[str, ...], tuple[str, float]] = {}
        for phrase, kinds in labelled.items():
            kind, times = kinds.most_common(1)[0]
            if 2 * times > seen[phrase]:
                self._known[phrase] = (kind, times / seen[phrase])

    def spans(self, words: Sequence[str]) -> tuple[list[dict[str, Any]], float | None]:
        """Return the spans that stand here again, the longest first taken, and how sure the least sure one is; None where there is none."""
        plain, found, sure, place = tuple(map(_plain, words)), list[dict[str, Any]](), list[float](), 0
        while place < len(plain):
            sizes = (
                size for size in range(min(LONGEST, len(plain) - place), 0, -1) if plain[place : place + size] in self._known
            )
            size = next(sizes, 0)
            if size:
                kind, share = self._known[plain[place : place + size]]
                found.append({"kind": kind, "first": place, "end": place + size})
                sure.append(share)
            place += size or 1
        return found, min(sure, default=None)


def _plain(word: str) -> str:
    return word.strip(EDGES).casefold()
