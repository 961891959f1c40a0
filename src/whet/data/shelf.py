"""Rows that lie in stretches on the disk: in memory are some tens of bytes a row, by which rows are compared, divided and named.

Shapes: N rows of all stretches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whet.data.keys import content_key, target_key
from whet.data.store import example_of_line, hashed_parts, line_tail
from whet.data.stretch import SPARSE, WORDS, Array, Numbers, Opened, keys_of_hex
from whet.types import Example

Ints = NDArray[np.int64]
NUMBERED = (("file", "file"), ("label", "label"), ("several", "label"), ("group_kind", "kind"), ("part", "part"))
"""Columns that number words, and which."""


class Shelf:
    """All stretches of a data set, in order. A row is its number among all rows."""

    def __init__(self, folder: Path) -> None:
        """Begin with none. Stretches are files of the folder, called by their numbers."""
        self.folder = folder
        self._starts: list[int] = [0]
        self.made_of: list[bytes] = []
        """What says what each stretch was made of."""
        self._waiting: dict[str, list[Array]] = {}
        self._words: dict[str, dict[str, int]] = {kind: {} for kind in WORDS}
        self._known: dict[str, Array] = {}
        self._last: tuple[int, Opened] | None = None

    def path(self, number: int, kind: str = "stretch") -> Path:
        """Return where a stretch lies, or what is kept beside it."""
        return self.folder / f"{number:06}.{kind}"

    def __len__(self) -> int:
        """Number of stretches."""
        return len(self._starts) - 1

    @property
    def num_rows(self) -> int:
        return self._starts[-1]

    def add(self, numbers: Numbers, made_of: bytes) -> None:
        """Add the next stretch, which lies in its file already."""
        self.made_of.append(made_of)
        columns = dict(numbers.columns)
        size = len(columns["line"])
        codes = {kind: self._codes(kind, words) for kind, words in numbers.words.items()}
        for name, kind in NUMBERED:
            if name in columns:
                column = columns[name]
                columns[name] = np.where(column < 0, column, codes[kind][column]) if len(codes[kind]) else column
        for name, nothing in SPARSE.items():
            if name in columns and name not in self._waiting:
                self._waiting[name] = [np.full(self.num_rows, nothing, columns[name].dtype)]
            elif name in self._waiting:
                columns.setdefault(name, np.full(size, nothing, self._waiting[name][0].dtype))
        for name, column in columns.items():
            self._waiting.setdefault(name, []).append(column.copy())
        self._starts.append(self.num_rows + size)

    def _codes(self, kind: str, words: Sequence[str]) -> Array:
        known = self._words[kind]
        return np.array([known.setdefault(word, len(known)) for word in words], np.int32)

    def column(self, name: str) -> Array:
        """Return a column of all rows; once asked for, no stretch is added. [N, ...]"""
        if name in self._waiting:
            self._known[name] = np.concatenate(self._waiting.pop(name))
        if name not in self._known:
            return np.full(self.num_rows, SPARSE[name]) if name in SPARSE else np.empty(0, np.int32)
        return self._known[name]

    def put(self, name: str, column: Array) -> None:
        """Add a column of all rows. [N]"""
        self._known[name] = column

    def forget_kept(self) -> None:
        """Delete what is kept to find near duplicates by, once all are found; what was found stays."""
        for pattern in ("*.signed", "*.pairs"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def forget(self, *names: str) -> None:
        """Let columns go that nobody asks for any more."""
        for name in names:
            self._waiting.pop(name, None)
            self._known.pop(name, None)

    def word(self, kind: str, code: int) -> str:
        """Return a word by its number."""
        return self._lists[kind][code]

    @cached_property
    def _lists(self) -> dict[str, list[str]]:
        return {kind: list(words) for kind, words in self._words.items()}

    def words(self, kind: str) -> list[str]:
        """Return all words of a kind, by number; some may be of no row."""
        return list(self._words[kind])

    def spans(self, name: str, rows: Ints) -> tuple[Ints, Ints]:
        """Return of each of these rows' groups or turns which place in `rows` it is of, and its number among all. `name`: group, turn, several."""
        counts = self.column(f"{name}_counts")
        if not counts.any():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        ends = np.cumsum(counts, dtype=np.int64)
        some = counts[rows].astype(np.int64)
        owner = np.repeat(np.arange(len(rows)), some)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(some) - some, some)
        return owner, np.repeat(ends[rows] - some, some) + within

    def respell(self, rows: Ints, spelling: Mapping[str, str]) -> None:
        """Write labels of these rows otherwise; what they are compared by follows."""
        changing = np.union1d(self._reword("label", rows, spelling), self._reword_several(rows, spelling))
        if not len(changing):
            return
        contents, targets = [], []
        for example in self.examples(changing):
            contents.append(content_key(example))
            targets.append(target_key(example))
        self.column("content")[changing] = keys_of_hex(contents)
        self.column("target")[changing] = keys_of_hex(targets)[:, 0]

    def say_part(self, rows: Ints, words: Mapping[str, str]) -> None:
        """Write otherwise what these rows say of their part."""
        self._reword("part", rows, words)

    def _reword(self, kind: str, rows: Ints, words: Mapping[str, str]) -> Ints:
        """Put other words into the column of these rows; return those that had one of the words."""
        codes = self._codes(kind, list(words.values()))
        self.__dict__.pop("_lists", None)
        new = dict(zip((self._words[kind][word] for word in words), codes.tolist(), strict=True))
        column = self.column(kind)
        changing = rows[np.isin(column[rows], list(new))]
        self.altered[changing] = True
        column[changing] = [new[code] for code in column[changing].tolist()]
        return changing

    def _reword_several(self, rows: Ints, words: Mapping[str, str]) -> Ints:
        """The same of rows of several labels; one that is there twice then is there once, where it first was."""
        owner, at = self.spans("several", rows)
        if not len(owner):
            return np.empty(0, np.int64)
        new = np.arange(len(self._words["label"]) + len(words), dtype=np.int32)
        codes = self._codes("label", list(words.values()))
        new[[self._words["label"][word] for word in words]] = codes
        column = self.column("several")
        other = (new[column[at]] != column[at]) & (self.column("label")[rows[owner]] < 0)
        column[at[other]] = new[column[at[other]]]
        changing = np.unique(rows[owner[other]])
        self.altered[changing] = True
        owner, at = self.spans("several", changing)
        again = first_places(owner, column[at]) != np.arange(len(owner))
        self.column("several_counts")[changing] -= np.bincount(owner[again], minlength=len(changing)).astype(np.int32)
        self.put("several", np.delete(column, at[again]))
        for name in ("_lists", "_label_ends"):
            self.__dict__.pop(name, None)
        return changing

    def labels(self, row: int) -> tuple[str, ...]:
        """Return the labels of a row of several."""
        end = int(self._label_ends[row])
        codes = self.column("several")[end - int(self.column("several_counts")[row]) : end]
        return tuple(self.word("label", code) for code in codes.tolist())

    @cached_property
    def _label_ends(self) -> Ints:
        return np.cumsum(self.column("several_counts"), dtype=np.int64)

    @cached_property
    def altered(self) -> NDArray[np.bool_]:
        """Rows that are not as their stretch has them."""
        return np.zeros(self.num_rows, bool)

    def examples(self, rows: Ints) -> Iterator[Example]:
        """Yield these rows."""
        for some, (tails,) in self._sections(rows, "tail"):
            for row, tail in zip(some.tolist(), tails, strict=True):
                example = example_of_line(f'{{"id": {row}{tail.decode("utf-8", "surrogatepass")}')
                if self.altered[row]:
                    labels = self.labels(row) if example.labels else example.labels
                    example = replace(example, label=self._said("label", row), labels=labels, part=self._said("part", row))
                yield example

    def _said(self, kind: str, row: int) -> str | None:
        code = int(self.column(kind)[row])
        return self.word(kind, code) if code >= 0 else None

    def lines(self, rows: Ints, ids: Ints) -> Iterator[bytes]:
        """Yield the rows' lines of JSON as `store.example_line` writes them, stretch by stretch, with these ids."""
        done = 0
        for some, (tails,) in self._sections(rows, "tail"):
            tails = self._altered(some, tails, lambda example: line_tail(example).encode("utf-8"))
            own = ids[done : done + len(some)].tolist()
            yield b"".join([b'{"id": %d%b\n' % pair for pair in zip(own, tails, strict=True)])
            done += len(some)

    def hashed(self, rows: Ints, ids: Ints) -> Iterator[bytes]:
        """Yield what `store.examples_hash` hashes of the rows."""
        done = 0
        for some, (befores, afters) in self._sections(rows, "before", "after"):
            befores = self._altered(some, befores, lambda example: hashed_parts(example)[0].encode())
            afters = self._altered(some, afters, lambda example: hashed_parts(example)[1].encode())
            own = ids[done : done + len(some)].tolist()
            yield b"".join([b'%b"id": %d%b\n' % three for three in zip(befores, own, afters, strict=True)])
            done += len(some)

    def _altered(self, rows: Ints, parts: list[bytes], part: Callable[[Example], bytes]) -> list[bytes]:
        at = np.flatnonzero(self.altered[rows])
        for place, example in zip(at.tolist(), self.examples(rows[at]) if len(at) else (), strict=True):
            parts[place] = part(example)
        return parts

    def _sections(self, rows: Ints, *names: str) -> Iterator[tuple[Ints, list[list[bytes]]]]:
        """Yield the rows in order, those of one stretch at a time, with what its sections hold of them."""
        for number, begin, end in self.runs(rows):
            some = rows[begin:end]
            opened = self._opened(number)
            within = (some - self._starts[number]).tolist()
            yield some, [opened.parts(name, within) for name in names]

    def runs(self, rows: Ints) -> Iterator[tuple[int, int, int]]:
        """Yield the numbers of the stretches that the rows lie in, as they come, each with the places of its first row and after its last."""
        stretch = np.searchsorted(np.array(self._starts), rows, side="right") - 1
        cuts = [0, *(np.flatnonzero(np.diff(stretch)) + 1).tolist(), len(rows)]
        for begin, end in pairwise(cuts):
            if begin != end:
                yield int(stretch[begin]), begin, end

    def bounds(self, number: int) -> tuple[int, int]:
        """Return a stretch's first row, and the one after its last."""
        return self._starts[number], self._starts[number + 1]

    def place(self, row: int) -> tuple[int, int]:
        """Return the stretch that a row lies in, and its number there."""
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]

    def whole(self, number: int) -> list[Example]:
        """Return all rows of a stretch as they were made. May be called by several threads at a time."""
        first, last = self.bounds(number)
        tails = Opened(self.path(number)).parts("tail", range(last - first))
        return [example_of_line(f'{{"id": {first + at}{tail.decode("utf-8", "surrogatepass")}') for at, tail in enumerate(tails)]

    def _opened(self, number: int) -> Opened:
        if self._last is None or self._last[0] != number:
            self._last = number, Opened(self.path(number))
        return self._last[1]


def first_places(*numbers: Array) -> Ints:
    """Return for each row the place of the first row with the same numbers. Each [N] -> [N]"""
    size = len(numbers[0])
    if not size:
        return np.empty(0, np.int64)
    order = np.lexsort(numbers[::-1])
    new = np.zeros(size, bool)
    new[0] = True
    for one in numbers:
        in_order = one[order]
        new[1:] |= in_order[1:] != in_order[:-1]
    starts = np.flatnonzero(new)
    found = np.empty(size, np.int64)
    found[order] = np.repeat(order[starts], np.diff(np.append(starts, size)))
    return found
