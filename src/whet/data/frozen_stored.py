"""A division that was made before, for rows on the disk: its texts as numbers, its rows read from their files each time they are asked for.

Shapes: M texts of the division, R rows of it, N rows that are divided now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from whet.data.compared import FEWEST_ALIKE, WHOLE, compared_text, shared_cut
from whet.data.frozen import PARTS, division_file, no_division, not_readable, rows_damaged
from whet.data.json_stream import BrokenJson, JsonStream
from whet.data.near import find_near
from whet.data.shelf import Ints, first_places
from whet.data.store import example_of_line
from whet.data.stored import Stored
from whet.data.stretch import keys_of_hex
from whet.recipe_data import Duplicates
from whet.types import Example

MANY = 1 << 16
"""Keys that are read at a time."""
KEY = re.compile("[0-9a-f]{32}")
"""A text's key."""
FREE = -1
"""In place of a part's number, for a row whose part is not decided."""
Parts = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class StoredFrozen:
    """What `frozen.Frozen` is, of which some 20 bytes of each text are in memory."""

    keys: NDArray[np.uint64]
    """Of texts that have a part; where several parts have one, the last that does comes first. [M, 2]"""
    part: Parts
    """By its number in PARTS. [M]"""
    old: OldRows

    def parts_of(self, keys: NDArray[np.uint64]) -> Parts:
        """Return the part that each text had, or FREE. [N, 2] -> [N]"""
        first = first_places(*np.concatenate([self.keys, keys]).T)[len(self.keys) :]
        known = first < len(self.keys)
        found = np.full(len(keys), FREE, np.int8)
        found[known] = self.part[first[known]]
        return found


class OldRows:
    """The rows of a division, in the order of its parts, where they lie beside splits.json."""

    def __init__(self, folder: Path) -> None:
        """Look at all of them once. Raises DataError where they are damaged."""
        self._folder = folder
        self.part: Parts = np.empty(0, np.int8)  # [R]
        self.owner: Ints = np.empty(0, np.int64)
        """Of each row's each group, which row has it."""
        self.group: NDArray[np.uint64] = np.empty(0, np.uint64)
        """And its number, as `stretch` numbers groups."""
        self.turns = True
        """Whether all are conversations."""
        if not (folder / "data" / "train.jsonl").is_file():
            return
        part, owner, group = bytearray(), list[Ints](), list[NDArray[np.uint64]]()
        for number, row in self._rows():
            if row.group:
                owner.append(np.full(len(row.group), len(part)))
                group.append(np.array([_group_number(one) for one in row.group], np.uint64))
            part.append(number)
            self.turns = self.turns and row.messages is not None
        self.part = np.frombuffer(bytes(part), np.int8)
        if owner:
            self.owner, self.group = np.concatenate(owner), np.concatenate(group)

    def __len__(self) -> int:
        return len(self.part)

    def texts(self) -> Iterator[str]:
        """Yield the texts as they are compared."""
        return (compared_text(row, WHOLE) for _, row in self._rows()) if len(self) else iter(())

    def places(self, wanted: Iterable[int]) -> dict[int, str]:
        """Return where these rows stood, as FILE:LINE."""
        some = frozenset(wanted)
        rows = enumerate(self._rows()) if some else ()
        return {place: f"{row.file}:{row.line}" for place, (_, row) in rows if place in some}

    def _rows(self) -> Iterator[tuple[int, Example]]:
        try:
            for number, part in enumerate(PARTS):
                with (self._folder / "data" / f"{part}.jsonl").open(encoding="utf-8") as file:
                    yield from ((number, example_of_line(line)) for line in file if line.strip())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise rows_damaged(self._folder, error) from None


def _group_number(group: str) -> int:
    return xxhash.xxh3_64_intdigest(group.encode("utf-8", "surrogatepass"))


def read_stored_frozen(name: str) -> StoredFrozen:
    """Return the division of a run, or of its splits.json. Raises DataError."""
    file = division_file(name)
    try:
        with file.open(encoding="utf-8") as stream:
            keys = _texts(JsonStream(stream))
    except (OSError, RecursionError) as error:
        raise not_readable(name, error) from None
    except (ValueError, BrokenJson):
        raise no_division(name) from None
    missing = [part for part in PARTS if part not in keys]
    if missing:
        raise no_division(name)
    part = np.repeat(np.arange(len(PARTS), dtype=np.int8)[::-1], [len(keys[one]) for one in PARTS[::-1]])
    return StoredFrozen(np.concatenate([keys[one] for one in PARTS[::-1]]), part, OldRows(file.parent))


def _texts(stream: JsonStream) -> dict[str, NDArray[np.uint64]]:
    """Return the keys of each part's texts. Raises BrokenJson."""
    found: dict[str, NDArray[np.uint64]] = {}
    for name in _names(stream):
        if name != "texts" or stream.peek() != "{":
            _skip(stream)
            continue
        for part in _names(stream):
            if part in PARTS and stream.peek() == "[":
                found[part] = _keys(stream)
            else:
                _skip(stream)
    if stream.peek():
        raise BrokenJson(stream.line, "more than one value")
    return found


def _keys(stream: JsonStream) -> NDArray[np.uint64]:
    blocks, waiting = [np.empty((0, 2), np.uint64)], list[str]()
    for value in _values(stream):
        if isinstance(value, str) and KEY.fullmatch(value):  # what is none is that of no text
            waiting.append(value)
        if len(waiting) == MANY:
            blocks.append(keys_of_hex(waiting))
            waiting = []
    return np.concatenate([*blocks, keys_of_hex(waiting)])


def _names(stream: JsonStream) -> Iterator[str]:
    """Yield the names of an object; whoever asks for the next one has read this one's value."""
    stream.take("{")
    if stream.peek() == "}":
        stream.take("}")
        return
    while True:
        name, line = stream.value()
        if not isinstance(name, str):
            raise BrokenJson(line, "a name that is no text")
        stream.take(":")
        yield name
        if stream.take(",}") == "}":
            return


def _values(stream: JsonStream) -> Iterator[object]:
    """Yield the values of a list."""
    stream.take("[")
    if stream.peek() == "]":
        stream.take("]")
        return
    while True:
        yield stream.value()[0]
        if stream.take(",]") == "]":
            return


def _skip(stream: JsonStream) -> None:
    """Pass a value; of a list, which may be long, value by value."""
    if stream.peek() != "[":
        stream.value()
        return
    for _ in _values(stream):
        pass


def placed_stored(frozen: StoredFrozen, rows: Stored, known: Parts, settings: Duplicates) -> tuple[Parts, list[tuple[int, str]]]:
    """Return the part of each row, or FREE, and which rows no part may have, by place, each with why (see `frozen.placed_by`). [N]

    `known` is the part that each row's text had, or FREE.
    """
    found = known.copy()
    old, at = frozen.old, np.flatnonzero(known == FREE)
    if not len(old) or not len(at):
        return found, []
    fresh = rows.where(known == FREE)
    signs = _Signs(old, fresh, near_groups_of(old, fresh, settings))
    several = signs.parts.sum(axis=1)
    joining = np.flatnonzero(several == 1)[::-1]  # of rows with one text, the last that joins a part decides
    joined = signs.parts[joining].argmax(axis=1)
    keys = fresh.column("text")
    first = first_places(*np.concatenate([keys[joining], keys]).T)[len(joining) :]
    decided = first < len(joining)
    found[at[decided]] = joined[first[decided]]
    held = {int(place): signs.of_held(int(place)) for place in np.flatnonzero(several > 1)}
    places = old.places(held.values())
    return found, [(int(at[place]), places[other]) for place, other in held.items()]


def near_groups_of(old: OldRows, fresh: Stored, settings: Duplicates) -> dict[int, int]:
    """Return the groups of near duplicates among the rows of a division and new ones, which are numbered after them."""
    if settings.near is False:
        return {}
    texts, number = _Chained(old, fresh), len(old) + len(fresh)
    turns = old.turns and bool(fresh.column("turns").all())
    cut = shared_cut(texts) if turns and number >= FEWEST_ALIKE else WHOLE
    compared = (text[cut.begin : len(text) - cut.end] for text in texts)
    return find_near(
        compared, settings.similarity, range(number), drop=False, max_bytes=0, folder=fresh.shelf.folder
    ).group  # fmt: skip


class _Chained:
    """Texts of old rows and of new ones behind them, read each time that they are asked for."""

    def __init__(self, old: OldRows, fresh: Stored) -> None:
        self._old, self._fresh = old, fresh

    def __iter__(self) -> Iterator[str]:
        return chain(self._old.texts(), (compared_text(row, WHOLE) for row in self._fresh))


class _Signs:
    """What new rows share with old ones: a group of near duplicates, or a group of the data."""

    def __init__(self, old: OldRows, fresh: Stored, near: Mapping[int, int]) -> None:
        self.parts = np.zeros((len(fresh), len(PARTS)), bool)
        """Which parts have an old row that shares something with a new one. [N, 3]"""
        self._near = {place - len(old): group for place, group in near.items() if place >= len(old)}
        self._first_near: dict[tuple[int, int], int] = {}
        wanted = set(self._near.values())
        for place, group in sorted(near.items()):
            if place < len(old) and group in wanted:
                self._first_near.setdefault((group, int(old.part[place])), place)
        for place, group in self._near.items():
            for part in range(len(PARTS)):
                self.parts[place, part] |= (group, part) in self._first_near
        self._owner, at = fresh.shelf.spans("group", fresh.rows)
        shared_by = fresh.shelf.column("group")[at] if len(self._owner) else np.empty(0, np.uint64)
        self._first = np.full((len(PARTS), len(shared_by)), -1)
        """Of each group of a new row, the first old row of each part that has it; -1: none. [3, G]"""
        for part in range(len(PARTS)):
            of_part = old.part[old.owner] == part
            numbers, first = np.unique(old.group[of_part], return_index=True)
            if len(numbers) and len(shared_by):
                where = np.minimum(np.searchsorted(numbers, shared_by), len(numbers) - 1)
                shared = numbers[where] == shared_by
                self._first[part, shared] = old.owner[of_part][first[where[shared]]]
                self.parts[self._owner[shared], part] = True

    def of_held(self, place: int) -> int:
        """Return the old row for whose sake a new one can be in no other part than its: of test, or else of validation."""
        held = PARTS.index("test" if self.parts[place, PARTS.index("test")] else "validation")
        begin, end = np.searchsorted(self._owner, [place, place + 1])
        shared = self._first[held, begin:end]
        if (shared >= 0).any():
            return int(shared[shared >= 0][-1])
        return self._first_near[self._near[place], held]
