"""Rows that must stand in one part together: the same text, near duplicates, one group, and a conversation with its continuation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import xxhash

from whet.data.keys import END, folded, text_key
from whet.types import Example


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are never parted."""

    key: str
    """The smallest of its rows' text keys: what its place is drawn by."""
    rows: tuple[int, ...]
    """Their places in the list, ascending."""


def units_of(examples: Sequence[Example], near: Mapping[int, int] = MappingProxyType({})) -> list[Unit]:
    """Return the rows as units, each row in one. `near` says the group of near duplicates of a row, by its id."""
    joined = _Joined(len(examples))
    keys = [text_key(example) for example in examples]
    first: dict[Hashable, int] = {}
    for place, example in enumerate(examples):
        same = first.setdefault(keys[place], place)
        if same != place:
            joined.join(place, same)
        if example.id in near:
            joined.join(place, first.setdefault(("near", near[example.id]), place))
        for group in example.group or ():
            joined.join(place, first.setdefault(("group", group), place))
    _join_continued(examples, joined)
    first_of = joined.firsts()
    several: dict[int, list[int]] = {}
    for place, begin in enumerate(first_of):
        if begin != place:
            several.setdefault(begin, [begin]).append(place)
    return [
        Unit(min(keys[one] for one in several[place]), tuple(several[place])) if place in several else Unit(keys[place], (place,))
        for place, begin in enumerate(first_of)
        if begin == place
    ]


def _join_continued(examples: Sequence[Example], joined: _Joined) -> None:
    """Join each conversation with those that begin with all of it."""
    whole: dict[str, int] = {}
    longer: list[tuple[int, list[str]]] = []
    for place, example in enumerate(examples):
        beginnings = beginnings_of(example)
        if beginnings:
            whole.setdefault(beginnings[-1], place)
            if len(beginnings) > 2:
                longer.append((place, beginnings[1:-1]))
    for place, beginnings in longer:
        for one in beginnings:
            if one in whole:
                joined.join(place, whole[one])


def beginnings_of(example: Example) -> list[str]:
    """Return a key of the conversation up to each of its turns, without what the system says; the last is that of all of it."""
    hashed, beginnings = xxhash.xxh3_128(), []
    for turn in example.messages or ():
        if turn.role != "system":
            hashed.update(f"{turn.role}{END}{folded(turn.content)}{END}".encode("utf-8", "surrogatepass"))
            beginnings.append(hashed.hexdigest())
    return beginnings


class _Joined:
    """Sets of places that grow together (union and find, with halved paths)."""

    def __init__(self, number: int) -> None:
        self._above = list(range(number))

    def find(self, place: int) -> int:
        above = self._above
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    def firsts(self) -> list[int]:
        """Return of each place the first of its set."""
        return [place if above == place else self.find(place) for place, above in enumerate(self._above)]

    def join(self, one: int, other: int) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        self._above[other] = one
