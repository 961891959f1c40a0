"""A text without its private data: found, and replaced until nothing more is found."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from whet.private.find import Finder
from whet.private.kinds import KINDS, Found
from whet.private.phones import REGIONS
from whet.private.stand_in import Mode, StandIns

ROUNDS = 12


class Redactor:
    """Redacts texts: the same kinds, in the same way, whatever the texts are of."""

    def __init__(
        self,
        kinds: Collection[str] = KINDS,
        mode: Mode = "mask",
        key: bytes = b"",
        regions: Iterable[str] = REGIONS,
        eager: bool = False,
    ) -> None:
        self._finder = Finder(kinds, regions, eager)
        self._stand_ins = StandIns(mode, key)
        self._codes = StandIns("hash", key)

    def may_find(self, text: str) -> bool:
        """Whether `find` has to look closer: where not, it finds nothing."""
        return self._finder.may_find(text)

    def find(self, text: str) -> list[Found]:
        """Return what is private in the text, in order, without overlaps."""
        return [one for one in self._finder.find(text) if not self._stand_ins.is_one(text[one.start : one.end])]

    def redact(self, text: str) -> tuple[str, list[str]]:
        """Return the text with a stand-in for each private stretch, and the kinds found, one for each stretch."""
        kinds: list[str] = []
        for _ in range(ROUNDS):  # a stretch may be seen only once its neighbour is gone
            found = self.find(text)
            if not found:
                break
            kinds += [one.kind for one in found]
            text = self._replaced(text, found, self._stand_ins)
        return text, kinds

    def __call__(self, text: str) -> str:
        return self.redact(text)[0]

    def stand_in(self, text: str, found: Found) -> str:
        """Return what is put in the place of a stretch that was found."""
        return self._stand_ins.of(found.kind, text[found.start : found.end])

    def coded(self, text: str) -> str:
        """Return the text with codes in place of what is private, whatever the mode: what differs goes on to differ."""
        return self._replaced(text, self.find(text), self._codes)

    def _replaced(self, text: str, found: Sequence[Found], stand_ins: StandIns) -> str:
        parts, last = [], 0
        for one in found:
            parts += [text[last : one.start], stand_ins.of(one.kind, text[one.start : one.end])]
            last = one.end
        return "".join([*parts, text[last:]])
