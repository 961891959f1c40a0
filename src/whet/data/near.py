"""Near duplicates: which texts are alike by the Jaccard similarity of their 5-grams, found by MinHash and then verified.

Time and memory grow with the number of rows, never with its square: rows that share a band are compared; those of a band that very many
share, with a bounded number of them. Beyond a bound of memory the tables lie in files, and the result is the same.

Shapes: N texts, K numbers of each, B bands, P pairs.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whet.data.minhash import bands_for, floor_for
from whet.data.near_walk import Like, Walk
from whet.data.shingles import Words
from whet.data.signing import signed
from whet.data.spool import Spool, Table, Texts, let_go

SMALL = 16
"""Rows that share a band up to which each is compared with each."""
MEMORY = 1 << 30
"""Bytes that tables take before they go to files."""
LOOKED_AT = 1 << 18
"""Pairs whose numbers are compared at a time."""
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Near:
    """What was found among rows that are numbered from 0, as they were given."""

    copies: dict[int, Like] = field(default_factory=dict)
    """Rows near to an earlier one of the same target, with that one, which is no copy itself."""
    leaks: dict[int, Like] = field(default_factory=dict)
    """Rows near to one of a lower tier."""
    conflicts: list[Like] = field(default_factory=list)
    """Rows near to an earlier one with another target: one pair for each row."""
    group: dict[int, int] = field(default_factory=dict)
    """Of rows that stay and are near to others that stay, the first row of their group."""


def find_near(
    texts: Iterable[str],
    similarity: float,
    targets: Sequence[Hashable] | NDArray[np.uint64] | None = None,
    tiers: Sequence[int] | NDArray[np.uint8] | None = None,
    *,
    drop: bool = True,
    max_bytes: int = MEMORY,
    folder: Path | None = None,
    num_workers: int | None = None,
) -> Near:
    """Return which rows are near to which: those whose 5-grams have at least this Jaccard similarity.

    `targets` say what is learnt of each row (None: the same of all). `tiers` never fall from row to row: a row that is near to one of a
    lower tier is a leak, and copies, conflicts and groups are those among the rows of the highest tier. With `drop` a copy leaves, and is
    not compared with later rows; without, it stays and is grouped. `texts` are read once. Beyond `max_bytes` tables lie below `folder`. The
    result depends neither on these nor on `num_workers`.
    """
    bands = bands_for(similarity)
    with Spool(max_bytes, folder) as spool:
        kept, short = Texts(spool), Table(spool, np.uint8, bands.num_hashes)
        keys = [Table(spool, np.uint64) for _ in range(bands.num_bands)]
        for some in signed(texts, bands, num_workers or os.cpu_count() or 1):
            kept.append(some.texts)
            short.append(some.short)
            for table, column in zip(keys, some.keys, strict=True):
                table.append(column)
        floor = floor_for(similarity, bands)
        tier = np.zeros(len(kept), np.uint8) if tiers is None else np.asarray(tiers, np.uint8)
        pairs, crowds = candidates((table.array() for table in keys), short.array(), tier, floor)
        walk = Walk(kept, short.array(), tier, targets, similarity, floor, drop)
        walk.run(pairs, crowds)
        return Near(walk.copies, walk.leaks, walk.conflicts, walk.groups())


def candidates(bands: Iterable[Words], short: NDArray[np.uint8], tier: NDArray[np.uint8], floor: float) -> tuple[Ints, Ints]:
    """Return pairs (later, earlier) [P, 2] that share a band and agree in enough numbers, and crowds: (row, number of a band that more
    than SMALL rows share) [., 2]; both in order of rows."""
    packed: list[Words] = []
    crowded: list[Ints] = []
    num_crowds = 0
    for band in bands:
        order = np.argsort(band, kind="stable")
        band = band[order]
        again = band[1:] == band[:-1]
        shared = np.flatnonzero(np.append(again, False) | np.append(False, again))
        band, order = band[shared], order[shared]  # most rows share no band
        first = np.flatnonzero(np.concatenate([[True], band[1:] != band[:-1]])) if len(band) else np.empty(0, np.int64)
        sizes = np.diff(np.append(first, len(band)))
        size = np.repeat(sizes, sizes)
        few = (size > 1) & (size <= SMALL)
        for apart in range(1, SMALL):
            at = np.flatnonzero(few[:-apart] & (band[apart:] == band[:-apart])) if len(band) > apart else np.empty(0, np.int64)
            if not len(at):
                break
            packed.append(_alike(order[at + apart], order[at], short, tier, floor))
        many = size > SMALL
        number = np.repeat(np.cumsum(sizes > SMALL), sizes)[many] + num_crowds
        crowded.append(np.stack([order[many], number], axis=1))
        num_crowds += int((sizes > SMALL).sum())
    pairs = np.unique(np.concatenate(packed)) if packed else np.empty(0, np.uint64)
    crowds = np.concatenate(crowded) if crowded else np.empty((0, 2), np.int64)
    crowds = crowds[np.lexsort((crowds[:, 1], crowds[:, 0]))]
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64), crowds


def _alike(later: Ints, earlier: Ints, short: NDArray[np.uint8], tier: NDArray[np.uint8], floor: float) -> Words:
    """Return the pairs that say something and agree in enough numbers, each as one number."""
    told = (tier[later] == tier[-1]) | (tier[earlier] < tier[later])
    later, earlier = later[told], earlier[told]
    packed = np.unique(later.astype(np.uint64) << np.uint64(32) | earlier.astype(np.uint64))
    kept = []
    for begin in range(0, len(packed), LOOKED_AT):
        some = packed[begin : begin + LOOKED_AT]
        agree = (short[some >> np.uint64(32)] == short[some & np.uint64(0xFFFFFFFF)]).mean(axis=1)
        kept.append(some[agree >= floor])
        let_go(short)
    return np.concatenate(kept) if kept else packed
