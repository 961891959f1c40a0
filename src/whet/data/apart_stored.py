"""Rows on the disk divided into parts, by numbers alone: as `split` and `units` divide rows in memory.

Shapes: N rows, U units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import xxhash
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from whet.data.by_time import by_time
from whet.data.shelf import Ints, first_places
from whet.data.split import PARTS, RARE, Shares, exact_shares, place, sizes_of, too_few_for_folds
from whet.data.stored import Stored
from whet.data.stratify import Labelled, placed_by_labels

MANY = 1 << 16
"""Units whose draw is made at a time."""


@dataclass(frozen=True, slots=True)
class StoredUnits:
    """Rows that are never parted. Each unit is known by its first row's place."""

    first: Ints
    """The first row of each row's unit. [N]"""
    starts: Ints
    """Units, in the order of their first rows. [U]"""
    sizes: Ints
    """Their rows. [U]"""
    keys: NDArray[np.uint64]
    """The smallest of their rows' text keys. [U, 2]"""

    def __len__(self) -> int:
        return len(self.starts)

    def number(self) -> Ints:
        """Return the number of each row's unit. [N]"""
        return np.searchsorted(self.starts, self.first)


def stored_units(rows: Stored, near: Mapping[int, int]) -> StoredUnits:
    """Return the rows as units (see `units.units_of`). `near` says the group of near duplicates of a row, by its id."""
    keys = rows.column("text")
    first = _components(len(rows), [_same_text(keys), _same_near(rows, near), _same_group(rows), _continued(rows)])
    starts = np.flatnonzero(first == np.arange(len(first)))
    unit = np.searchsorted(starts, first)
    sizes = np.bincount(unit, minlength=len(starts))
    smallest = keys[starts]
    several = np.flatnonzero(sizes[unit] > 1)
    order = several[np.lexsort((keys[several, 1], keys[several, 0], unit[several]))]
    begins = np.flatnonzero(np.diff(unit[order], prepend=-1))
    smallest[unit[order[begins]]] = keys[order[begins]]
    return StoredUnits(first, starts, sizes, smallest)


def split_stored(
    rows: Stored,
    units: StoredUnits,
    shares: Mapping[str, float],
    seed: int,
    *,
    stratify: bool,
    timed: bool = False,
    filled: Iterable[str] = (),
) -> NDArray[np.int16]:
    """Return the part of each row, by its number in PARTS (see `split.split`). `filled` are parts that have rows already. [N]"""
    exact = exact_shares(shares, PARTS)
    if timed:
        newest = np.full(len(units), -np.inf)
        np.maximum.at(newest, units.number(), rows.column("time"))
        wanted = [part for part in PARTS if exact[part]]
        numbers = np.array([PARTS.index(part) for part in wanted], np.int16)
        part: NDArray[np.int16] = numbers[by_time(newest, units.sizes, [exact[one] for one in wanted])]
    else:
        part = _placed(rows, units, exact, seed, stratify, rare="train" if exact["train"] else None)
        _fill_empty(units, part, exact, frozenset(filled))
    return part[units.number()]


def fold_stored(
    rows: Stored,
    units: StoredUnits,
    shares: Mapping[str, float],
    seed: int,
    fold: tuple[int, int],
    *,
    stratify: bool,
    near: Mapping[int, int],
) -> NDArray[np.int16]:
    """Return the part of each row of one fold, (which, of how many), by its number in PARTS (see `split.fold_of`). [N]"""
    which, number = fold
    names = tuple(map(str, range(number)))
    placed = _placed(rows, units, exact_shares(dict.fromkeys(names, 1.0), names), seed, stratify, rare=None)
    if len(np.unique(placed)) < number:
        raise too_few_for_folds(len(rows), len(units), number)
    tested = placed[units.number()] == which
    rest = rows.where(~tested)
    part = np.full(len(rows), PARTS.index("test"), np.int16)
    learnt = {name: shares[name] for name in ("train", "validation")}
    part[~tested] = split_stored(rest, stored_units(rest, near), learnt, seed, stratify=stratify)
    return part


def _placed(rows: Stored, units: StoredUnits, exact: Shares, seed: int, stratify: bool, rare: str | None) -> NDArray[np.int16]:
    """Return the part of each unit, by its number among `exact`. `rare` is where all rows of a class go that has no more than two. [U]"""
    numbers = {name: number for number, name in enumerate(exact)}
    part = np.full(len(units), -1, np.int16)
    drawn = _drawn(units, seed)
    if stratify and rows.column("several_counts").any():
        part[drawn] = placed_by_labels(_labelled(rows, units, drawn), units.sizes[drawn], list(exact.values()))
        return part
    stratum, names = _strata(rows, units, stratify)
    carried = dict.fromkeys(exact, Fraction(0))
    for code in sorted(range(len(names)), key=lambda one: names[one]):
        some = drawn[stratum[drawn] == code]
        if not len(some):
            continue
        size = int(units.sizes[some].sum())
        if rare is not None and names[code] and size <= RARE:
            part[some] = numbers[rare]
        else:
            placed = place(units.sizes[some].tolist(), sizes_of(size, exact, carried), carried)
            part[some] = np.fromiter(map(numbers.__getitem__, placed), np.int16, len(placed))
    return part


def _components(number: int, edges: Sequence[tuple[Ints, Ints]]) -> Ints:
    """Return of each place the first of those that it is joined with, directly or through others. [N]"""
    first = np.arange(number)
    one, other = (np.concatenate([edge[side] for edge in edges]) for side in (0, 1))
    if not len(one):
        return first
    ends, at = np.unique(np.concatenate([one, other]), return_inverse=True)
    graph = coo_array((np.ones(len(one), bool), (at[: len(one)], at[len(one) :])), shape=(len(ends), len(ends)))
    _, component = connected_components(graph, directed=False)
    first[ends] = ends[first_places(component)]
    return first


def _same_text(keys: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    first = first_places(keys[:, 0], keys[:, 1])
    again = np.flatnonzero(first != np.arange(len(first)))
    return again, first[again]


def _same_near(rows: Stored, near: Mapping[int, int]) -> tuple[Ints, Ints]:
    ids = np.fromiter(near.keys(), np.int64, len(near))
    groups = np.fromiter(near.values(), np.int64, len(near))
    order = np.argsort(ids, kind="stable")
    ids, groups = ids[order], groups[order]
    here = np.isin(ids, rows.rows)
    at = np.searchsorted(rows.rows, ids[here])
    return at, at[first_places(groups[here])]


def _same_group(rows: Stored) -> tuple[Ints, Ints]:
    owner, at = rows.shelf.spans("group", rows.rows)
    return (owner, owner[first_places(rows.shelf.column("group")[at])]) if len(owner) else (owner, owner)


def _continued(rows: Stored) -> tuple[Ints, Ints]:
    """Join each conversation with those that begin with all of it."""
    owner, at = rows.shelf.spans("turn", rows.rows)
    if not len(owner):
        return owner, owner
    keys = rows.shelf.column("turn")[at]
    is_first, is_last = np.diff(owner, prepend=-1) != 0, np.diff(owner, append=-1) != 0
    order = np.concatenate([np.flatnonzero(is_last), np.flatnonzero(~is_first & ~is_last)])
    first = first_places(keys[order, 0], keys[order, 1])
    num_whole = int(is_last.sum())
    known = np.flatnonzero(first[num_whole:] < num_whole) + num_whole
    return owner[order[known]], owner[order[first[known]]]


def _drawn(units: StoredUnits, seed: int) -> Ints:
    """Return the units in the order of their draw. [U]"""
    draw = np.empty(len(units), np.uint64)
    for begin in range(0, len(units), MANY):
        some = units.keys[begin : begin + MANY].tolist()
        draw[begin : begin + MANY] = [xxhash.xxh3_64_intdigest(b"%d:%016x%016x" % (seed, high, low)) for high, low in some]
    return np.lexsort((units.keys[:, 1], units.keys[:, 0], draw))


def _labelled(rows: Stored, units: StoredUnits, drawn: Ints) -> Labelled:
    """Return the labels of the units, which are numbered in the order of their draw."""
    words = rows.shelf.words("label")
    rank = np.empty(len(words), np.int64)
    rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    number = np.empty(len(units), np.int64)
    number[drawn] = np.arange(len(units))
    owner, at = rows.shelf.spans("several", rows.rows)
    both = number[units.number()[owner]] * len(words) + rank[rows.shelf.column("several")[at]]
    both.sort()
    return Labelled.of_sorted(both, len(units), len(words))


def _strata(rows: Stored, units: StoredUnits, stratify: bool) -> tuple[NDArray[np.int32], list[str]]:
    """Return of each unit the number of its rows' commonest label, and these labels; the last is that of none. [U]"""
    names = [*rows.shelf.words("label"), ""]
    none = len(names) - 1
    if not stratify:
        return np.full(len(units), none, np.int32), names
    label = rows.column("label")
    label[label < 0] = none
    stratum = label[units.starts]
    unit = units.number()
    several = np.flatnonzero(units.sizes[unit] > 1)
    order = several[np.argsort(unit[several], kind="stable")]
    cuts = np.flatnonzero(np.diff(unit[order])) + 1
    for some in np.split(order, cuts) if len(order) else ():
        counts = Counter(code for code in label[some].tolist() if code != none)
        best = min(counts, key=lambda one: (-counts[one], names[one])) if counts else none
        stratum[unit[some[0]]] = best
    return stratum, names


def _fill_empty(units: StoredUnits, part: NDArray[np.int16], exact: Mapping[str, Fraction], filled: Collection[str]) -> None:
    """Move one unit, a small one, from training into a part that got none and is not `filled`, as long as training keeps one."""
    for name in ("validation", "test"):
        number = PARTS.index(name)
        if exact[name] and name not in filled and not (part == number).any():
            trained = np.flatnonzero(part == PARTS.index("train"))
            if len(trained) > 1:
                small = trained[units.sizes[trained] == units.sizes[trained].min()]
                part[small[np.lexsort((units.keys[small, 1], units.keys[small, 0]))[-1]]] = number
