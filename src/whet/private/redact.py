"""A text without its private data: found, and replaced until nothing more is found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from whet.private.find import Finder
from whet.private.kinds import BY_PATTERN, Found
from whet.private.phones import REGIONS
from whet.private.stand_in import Mode, StandIns

FindMore = Callable[[str], Sequence[Found]]
"""What a model finds in a text: names and places."""
ROUNDS = 12


class Redactor:
    """Redacts texts. `find_more` adds what no pattern finds; without `mode` nothing is changed, and everything still found."""

    def __init__(
        self,
        kinds: Collection[str] = BY_PATTERN,
        mode: Mode = "mask",
        key: bytes = b"",
        regions: Iterable[str] = REGIONS,
        eager: bool = False,
        find_more: FindMore | None = None,
    ) -> None:
        self._finder = Finder(kinds, regions, eager)
        self._stand_ins = StandIns(mode, key)
        self._find_more = find_more

    def find(self, text: str) -> list[Found]:
        """Return what is private in the text, in order, without overlaps."""
        found = [one for one in self._finder.find(text) if not self._stand_ins.is_one(text[one.start : one.end])]
        if self._find_more is None:
            return found
        free = [
            one for one in self._find_more(text) if not any(one.start < other.end and other.start < one.end for other in found)
        ]
        return sorted([*found, *free], key=lambda one: one.start)

    def redact(self, text: str) -> tuple[str, list[str]]:
        """Return the text with a stand-in for each private stretch, and the kinds found, one for each stretch."""
        kinds: list[str] = []
        for _ in range(ROUNDS):  # a stretch may be seen only once its neighbour is gone
            found = self.find(text)
            if not found:
                break
            kinds += [one.kind for one in found]
            text = self._replaced(text, found)
        return text, kinds

    def __call__(self, text: str) -> str:
        return self.redact(text)[0]

    def _replaced(self, text: str, found: Sequence[Found]) -> str:
        parts, last = [], 0
        for one in found:
            parts += [text[last : one.start], self._stand_ins.of(one.kind, text[one.start : one.end])]
            last = one.end
        return "".join([*parts, text[last:]])
