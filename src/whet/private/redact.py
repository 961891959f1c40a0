"""A text without its private data: found, and replaced until nothing more is found."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from whet.private.find import Finder
from whet.private.kinds import KINDS, Found
from whet.private.names import Names, whole_name
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
        names: Names | None = None,
    ) -> None:
        """`names` finds persons and places too; none: what patterns find alone."""
        self._names = names
        self._finder = Finder(kinds, regions, eager)
        self._stand_ins = StandIns(mode, key)
        self._codes = StandIns("hash", key)

    def may_find(self, text: str) -> bool:
        """Whether `find` has to look closer: where not, it finds nothing."""
        return self._names is not None or self._finder.may_find(text)

    def ahead(self, texts: Collection[str]) -> None:
        """Look for names in texts that come next, all together. Nothing to do where no model looks."""
        if self._names is not None:
            self._names.ahead(texts)

    def people(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Return the persons that texts of one row name, whose short forms are to get the same stand-in."""
        if self._names is None:
            return ()
        found = {text[one.start : one.end]: None for text in texts for one in self._named(text, ()) if one.kind == "person"}
        return tuple(found)

    def find(self, text: str) -> list[Found]:
        """Return what is private in the text, in order, without overlaps."""
        by_pattern = self._finder.find(text)
        found = [one for one in by_pattern if not self._stand_ins.is_one(text[one.start : one.end])]
        if self._names is not None:
            found = sorted([*found, *self._named(text, by_pattern)], key=lambda one: one.start)
        return found

    def _named(self, text: str, taken: Sequence[Found]) -> list[Found]:
        """Return the names in a text, as far as nothing else is there."""
        assert self._names is not None
        if not (names := self._names.find(text)):
            return []
        free = bytearray(b"\x01" * len(text))
        for start, end in [*((one.start, one.end) for one in taken), *self._stand_ins.kept(text)]:
            free[start:end] = bytes(end - start)
        found = []
        for one in names:
            for run in re.finditer(b"\x01+", bytes(free[one.start : one.end])):
                start, end = one.start + run.start(), one.start + run.end()
                written = text[start:end]
                start += len(written) - len(written.lstrip(" ,.;:\n\t"))
                end = start + len(written.strip(" ,.;:\n\t"))
                if any(map(str.isalnum, text[start:end])):
                    found.append(Found(start, end, one.kind))
        return found

    def redact(self, text: str, people: Collection[str] = ()) -> tuple[str, list[str]]:
        """Return the text with a stand-in for each private stretch, and the kinds found, one for each stretch.

        `people` are the persons that the row names, this text's own by default.
        """
        found, kinds = self.find(text), list[str]()
        people = people or self.people((text,))
        for _ in range(ROUNDS):  # a stretch may be seen only once its neighbour is gone
            if not found:
                break
            kinds += [one.kind for one in found]
            text = self._replaced(text, found, self._stand_ins, people)
            if self._names is not None:
                self._names.clear_of(text)
            found = [one for one in self._finder.find(text) if not self._stand_ins.is_one(text[one.start : one.end])]
        return text, kinds

    def __call__(self, text: str) -> str:
        return self.redact(text)[0]

    def stand_in(self, text: str, found: Found, people: Collection[str] = ()) -> str:
        """Return what is put in the place of a stretch that was found."""
        return _stand_in(text, found, self._stand_ins, people)

    def coded(self, text: str) -> str:
        """Return the text with codes in place of what is private, whatever the mode: what differs goes on to differ."""
        return self._replaced(text, self.find(text), self._codes)

    def _replaced(self, text: str, found: Sequence[Found], stand_ins: StandIns, people: Collection[str] = ()) -> str:
        parts, last = [], 0
        for one in found:
            parts += [text[last : one.start], _stand_in(text, one, stand_ins, people)]
            last = one.end
        return "".join([*parts, text[last:]])


def _stand_in(text: str, found: Found, stand_ins: StandIns, people: Collection[str]) -> str:
    written = text[found.start : found.end]
    return stand_ins.of(found.kind, whole_name(written, people) if found.kind == "person" else written)
