"""Rows in an order, in memory or of a shelf: what of both is asked alike, and of the latter without reading a row.

Shapes: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from whet.data.shelf import Ints, Shelf
from whet.data.stretch import Array
from whet.types import Example


class Stored(Sequence[Example]):
    """Rows of a shelf in an order; iterating reads them from the disk one after another."""

    def __init__(self, shelf: Shelf, rows: Ints) -> None:
        self.shelf, self.rows = shelf, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Example]:
        return self.shelf.examples(self.rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Stored: ...
    def __getitem__(self, place: int | slice) -> Example | Stored:
        if isinstance(place, slice):
            return Stored(self.shelf, self.rows[place])
        return next(self.shelf.examples(self.rows[place : place + 1] if place >= 0 else self.rows[place:][:1]))

    def where(self, kept: NDArray[np.bool_]) -> Stored:
        """Return those of the rows. [N]"""
        return Stored(self.shelf, self.rows[kept])

    def column(self, name: str) -> Array:
        """Return a column of the rows. [N, ...]"""
        column: Array = self.shelf.column(name)[self.rows]
        return column

    def brief(self, place: int) -> Example:
        """Return where a row stands, and its label or labels where it is labelled; nothing is read."""
        row = int(self.rows[place])
        labelled = bool(self.shelf.column("labelled")[row])
        label = int(self.shelf.column("label")[row]) if labelled else -1
        return Example(
            id=row,
            file=self.shelf.word("file", int(self.shelf.column("file")[row])),
            line=int(self.shelf.column("line")[row]),
            label=self.shelf.word("label", label) if label >= 0 else None,
            labels=self.shelf.labels(row) if labelled and label < 0 else None,
        )

    def label_counts(self) -> Counter[str]:
        """Return how many rows have each label, in the order of the first row of each; a row of several counts for each."""
        label = self.column("label")
        owner, at = self.shelf.spans("several", self.rows)
        if len(owner):
            others = label[owner] < 0
            owner = np.concatenate([np.flatnonzero(label >= 0), owner[others]])
            label = np.concatenate([label[label >= 0], self.shelf.column("several")[at[others]]])
            label = label[np.argsort(owner, kind="stable")]
        label = label[label >= 0]
        codes, first, counts = np.unique(label, return_index=True, return_counts=True)
        order = np.argsort(first)
        return Counter({self.shelf.word("label", int(codes[one])): int(counts[one]) for one in order})


Rows = Sequence[Example]
"""Examples in memory, or rows of a shelf."""


def brief(rows: Rows, place: int) -> Example:
    """Return a row's place and label, without reading it where it lies on the disk."""
    return rows.brief(place) if isinstance(rows, Stored) else rows[place]


def ids_of(rows: Rows) -> Iterable[int]:
    """Return the rows' ids."""
    return rows.rows.tolist() if isinstance(rows, Stored) else [one.id for one in rows]


def without(rows: Rows, leaving: Any) -> Rows:
    """Return the rows but those of these ids."""
    if isinstance(rows, Stored):
        return rows.where(~np.isin(rows.rows, np.fromiter(leaving, np.int64, len(leaving))))
    return [one for one in rows if one.id not in leaving]


def joined(some: Sequence[Rows]) -> Rows:
    """Return the rows one after another."""
    stored = [one for one in some if isinstance(one, Stored)]
    if stored:
        return Stored(stored[0].shelf, np.concatenate([one.rows for one in stored]))
    return [one for rows in some for one in rows]
