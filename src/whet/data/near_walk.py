"""Rows walked in order: each is compared in full with the likeliest of those before it, and leaves, stays, or joins a group."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from whet.data.shingles import LONG, Grams, comparable, jaccard
from whet.data.spool import let_go

FIRST, LAST = 256, 64
"""Of a band that very many rows share: how many of its first rows of a tier, and of its last, a further row is compared with."""
CHECKS = 64
"""Texts that a row is compared with in full, the likeliest first, for each question about it."""
LIKELIEST = 256
"""Earlier rows that a row may be compared with in full, at most."""
CACHED = 2_000_000
"""Characters whose grams are kept for the next comparison."""
LET_GO = 1 << 14
"""Rows after which what was read of their numbers is let go."""
EXACT = 1e-12
Ints = NDArray[np.int64]


class Texts(Protocol):
    """Texts by number."""

    def __getitem__(self, number: int, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Like:
    """A row and an earlier one that it is near to."""

    row: int
    other: int
    similarity: float


class Grouped:
    """Rows in groups that grow together."""

    def __init__(self) -> None:
        self._group: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}

    def join(self, row: int, other: int) -> None:
        """Make one group of the two rows' groups: the smaller one's rows move."""
        for one in (row, other):
            if one not in self._group:
                self._group[one], self._members[one] = one, [one]
        small, large = sorted((self._group[row], self._group[other]), key=lambda group: (len(self._members[group]), group))
        if small != large:
            for one in self._members[small]:
                self._group[one] = large
            self._members[large] += self._members.pop(small)

    def together(self, row: int, other: int) -> bool:
        """Whether both are in one group."""
        return row in self._group and self._group.get(other) == self._group[row]

    def firsts(self) -> dict[int, int]:
        """Return the rows that are in a group, with the first row of it."""
        first = {group: min(rows) for group, rows in self._members.items()}
        return {row: first[self._group[row]] for row in sorted(self._group)}


class Walk:
    """One pass over rows that may be near to earlier ones."""

    def __init__(
        self,
        texts: Texts,
        short: NDArray[np.uint8],
        tier: NDArray[np.uint8],
        targets: Sequence[Hashable] | NDArray[np.uint64] | None,
        similarity: float,
        floor: float,
        drop: bool,
    ) -> None:
        self._texts, self._short, self._targets = texts, short, targets
        self._tier = tier.tobytes()
        self._top = self._tier[-1] if self._tier else 0
        self._similarity, self._floor, self._drop = similarity, floor, drop
        self._grams: dict[tuple[int, bool], Grams] = {}
        self._cached = 0
        self._grouped = Grouped()
        self._first: dict[tuple[int, int], list[int]] = {}
        self._last: dict[tuple[int, int], deque[int]] = {}
        self.copies: dict[int, Like] = {}
        self.leaks: dict[int, Like] = {}
        self.conflicts: list[Like] = []

    def run(self, pairs: Ints, crowds: Ints) -> None:
        """Decide about every row of these pairs and crowds, in order (see `near.candidates`)."""
        for number, (row, others, shared) in enumerate(_by_row(pairs, crowds)):
            if number % LET_GO == 0:
                let_go(self._short)
            self._decide(row, self._likeliest(row, others, shared))
            if row not in self.leaks and not (self._drop and row in self.copies):
                self._enter(row, shared)

    def groups(self) -> dict[int, int]:
        """Return the rows that are near to others that stay, with the first row of each one's group."""
        return self._grouped.firsts()

    def _likeliest(self, row: int, others: Sequence[int], shared: Sequence[int]) -> list[int]:
        """Return earlier rows that may be near, those that agree in most numbers first."""
        found = set(others)
        for crowd in shared:
            for tier in range(self._tier[row] + 1):
                found.update(self._first.get((crowd, tier), ()))
                found.update(self._last.get((crowd, tier), ()))
        if not found:
            return []
        rows = np.fromiter(found, np.int64, len(found))
        rows.sort()
        agree = (self._short[rows] == self._short[row]).mean(axis=1)
        kept = agree >= self._floor
        rows, agree = rows[kept], agree[kept]
        likeliest: list[int] = rows[np.argsort(-agree, kind="stable")[:LIKELIEST]].tolist()
        return likeliest

    def _decide(self, row: int, others: Sequence[int]) -> None:
        tier = self._tier[row]
        leak = self._first_near(row, (one for one in others if self._tier[one] < tier and one not in self.leaks))
        if leak is not None:
            self.leaks[row] = leak
        elif tier == self._top:
            self._among_equals(row, [one for one in others if self._tier[one] == tier and one not in self.leaks])

    def _among_equals(self, row: int, others: Sequence[int]) -> None:
        """Find what a row of the highest tier is a copy of, or in conflict with, and join the groups of those that it is near to."""
        copy = self._first_near(row, (one for one in others if one not in self.copies and self._same(row, one)))
        if copy is not None:
            self.copies[row] = copy
            if self._drop:
                return
            self._grouped.join(row, copy.other)
        staying = [one for one in others if not (self._drop and one in self.copies)]
        conflict = self._first_near(row, (one for one in staying if not self._same(row, one)))
        if conflict is not None:
            self.conflicts.append(conflict)
            self._grouped.join(row, conflict.other)
        left = CHECKS
        for one in staying:
            if left and not self._grouped.together(row, one):
                left -= 1
                if self._near(row, one) is not None:
                    self._grouped.join(row, one)

    def _first_near(self, row: int, others: Iterator[int]) -> Like | None:
        for _, other in zip(range(CHECKS), others, strict=False):
            similarity = self._near(row, other)
            if similarity is not None:
                return Like(row, other, similarity)
        return None

    def _near(self, row: int, other: int) -> float | None:
        """Return the similarity of two rows where it is as high as is asked for."""
        texts = self._texts[row], self._texts[other]
        as_numbers = max(map(len, texts)) >= LONG
        found = jaccard(self._grams_of(row, texts[0], as_numbers), self._grams_of(other, texts[1], as_numbers))
        return found if found >= self._similarity - EXACT else None

    def _grams_of(self, row: int, text: str, as_numbers: bool) -> Grams:
        kept = self._grams.get((row, as_numbers))
        if kept is None:
            kept = comparable(text, as_numbers)
            if self._cached > CACHED:
                self._grams, self._cached = {}, 0
            self._grams[row, as_numbers] = kept
            self._cached += len(text)
        return kept

    def _same(self, row: int, other: int) -> bool:
        return self._targets is None or bool(self._targets[row] == self._targets[other])

    def _enter(self, row: int, shared: Sequence[int]) -> None:
        """Let later rows of the same crowds be compared with this one."""
        for crowd in shared:
            place = crowd, self._tier[row]
            first = self._first.setdefault(place, [])
            if len(first) < FIRST and row not in self.copies:
                first.append(row)
            else:
                self._last.setdefault(place, deque(maxlen=LAST)).append(row)


def _by_row(pairs: Ints, crowds: Ints) -> Iterator[tuple[int, list[int], list[int]]]:
    """Yield each row that has earlier ones to be compared with, or that shares a crowd, in order, with both."""
    rows = np.union1d(pairs[:, 0], crowds[:, 0])
    at = np.searchsorted(pairs[:, 0], rows), np.searchsorted(crowds[:, 0], rows)
    to = np.searchsorted(pairs[:, 0], rows, side="right"), np.searchsorted(crowds[:, 0], rows, side="right")
    bounds = zip(rows.tolist(), at[0].tolist(), to[0].tolist(), at[1].tolist(), to[1].tolist(), strict=True)
    for row, begin, end, crowd_begin, crowd_end in bounds:
        yield row, pairs[begin:end, 1].tolist(), crowds[crowd_begin:crowd_end, 1].tolist()
