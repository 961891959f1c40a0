"""Near duplicates among rows on the disk: what is known of their texts, and what was found, stays there, so that a kill loses little.

Shapes: N rows, K numbers of each, P pairs, C rows in crowds.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple
from threading import Lock

import numpy as np
import xxhash
from numpy.typing import NDArray

from whet import __version__
from whet.data.compared import FEWEST_ALIKE, WHOLE, Cut, compared_text, shared_cut
from whet.data.kept import read_kept, write_kept
from whet.data.minhash import Bands, bands_for, floor_for
from whet.data.near import Ints, Near, candidates
from whet.data.near_walk import Like, Walk
from whet.data.shelf import Shelf
from whet.data.shingles import Words
from whet.data.signed import FORM, Layout, packed_signed, signed_key
from whet.data.spool import Spool, Table
from whet.data.stored import Stored

CACHED = 1_000_000
"""Characters of texts that are held for the next comparison."""
Numbers = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.uint8]


def find_near_stored(
    rows: Stored, similarity: float, targets: NDArray[np.uint64], tiers: NDArray[np.uint8], *, drop: bool
) -> Near:
    """Return what `near.find_near` finds among the rows: their texts, compared as `alike.compared` says. What was found before stays found."""
    asked = _Asked(rows, similarity, tiers)
    key = asked.key(f"found {drop}", targets)
    kept = asked.read(key, "found")
    if kept is not None:
        return _near_of(kept)
    found = _found(asked, targets, drop)
    asked.write(key, "found", _packed(found))
    return found


class _Asked:
    """A question about rows, with the files that keep what is known of its answer. They are called by all that decides it."""

    def __init__(self, rows: Stored, similarity: float, tiers: NDArray[np.uint8]) -> None:
        self.rows, self.similarity, self.tiers = rows, similarity, tiers
        digest = hashlib.blake2b(f"{__version__} {FORM} {similarity}".encode(), digest_size=16)
        for one in rows.shelf.made_of:
            digest.update(one)
        for numbers in (rows.rows, tiers):
            digest.update(xxhash.xxh3_128_digest(np.ascontiguousarray(numbers).data))
        self._key = digest.digest()

    def key(self, what: str, *numbers: Numbers) -> bytes:
        """Return 16 bytes that say what is asked, and of what."""
        digest = hashlib.blake2b(what.encode(), key=self._key, digest_size=16)
        for one in numbers:
            digest.update(xxhash.xxh3_128_digest(np.ascontiguousarray(one).data))
        return digest.digest()

    def read(self, key: bytes, kind: str) -> list[Ints] | None:
        """Return the tables that were written; None where there are none."""
        content = read_kept(self.rows.shelf.folder / f"{key.hex()}.{kind}", key)
        return None if content is None else _unpacked_tables(content)

    def write(self, key: bytes, kind: str, tables: Sequence[Ints]) -> None:
        """Keep tables."""
        write_kept(self.rows.shelf.folder / f"{key.hex()}.{kind}", key, _packed_tables(tables))


def _found(asked: _Asked, targets: NDArray[np.uint64], drop: bool) -> Near:
    bands = bands_for(asked.similarity)
    floor = floor_for(asked.similarity, bands)
    key = asked.key("pairs")
    with Spool(0, asked.rows.shelf.folder) as spool:
        texts = _Texts(asked.rows, bands, _cut_of(asked), spool)
        kept = asked.read(key, "pairs")
        if kept is None:
            kept = [*candidates(texts.bands(), texts.short, asked.tiers, floor)]
            asked.write(key, "pairs", kept)
        walk = Walk(texts, texts.short, asked.tiers, targets, asked.similarity, floor, drop)
        walk.run(*kept)
        return Near(walk.copies, walk.leaks, walk.conflicts, walk.groups())


def _cut_of(asked: _Asked) -> Cut:
    """Return what is not compared of the rows' texts: of conversations, what all begin or end with."""
    rows = asked.rows
    if len(rows) < FEWEST_ALIKE or not rows.column("turns").all():
        return WHOLE
    key = asked.key("cut")
    kept = asked.read(key, "cut")
    if kept is None:
        kept = [np.array(shared_cut(_Read(rows)), np.int64)]
        asked.write(key, "cut", kept)
    return Cut(*kept[0].tolist())


class _Read:
    """Texts of rows on the disk, read each time that they are asked for."""

    def __init__(self, rows: Stored) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[str]:
        return (compared_text(row, WHOLE) for row in self._rows)


class _Texts:
    """What rows are compared by, from the files beside their stretches. What is missing there is made."""

    def __init__(self, rows: Stored, bands: Bands, cut: Cut, spool: Spool) -> None:
        self._rows, self._shelf, self._bands, self._cut = rows, rows.shelf, bands, cut
        self._runs = list(rows.shelf.runs(rows.rows))
        self._locks = {number: Lock() for number, _, _ in self._runs}  # a stretch comes twice where rows are in another order
        self._ends: dict[int, NDArray[np.uint32]] = {}
        self._cache: dict[int, str] = {}
        self._cached = 0
        short = Table(spool, np.uint8, bands.num_hashes)
        for (number, begin, end), content in zip(self._runs, self._contents(), strict=True):
            layout = _layout(self._shelf, number, bands)
            short.append(layout.short(content)[rows.rows[begin:end] - self._shelf.bounds(number)[0]])
            self._ends[number] = layout.ends(content).copy()
        self.short: NDArray[np.uint8] = short.array()  # [N, K]

    def bands(self) -> Iterator[Words]:
        """Yield each band's number of every row. Each [N]"""
        for number in range(self._bands.num_bands):
            yield self._band(number)

    def _band(self, number: int) -> Words:
        keys = np.empty(len(self._rows), np.uint64)
        for stretch, begin, end in self._runs:
            column = _layout(self._shelf, stretch, self._bands).band(self._shelf.path(stretch, "signed"), number)
            keys[begin:end] = column[self._rows.rows[begin:end] - self._shelf.bounds(stretch)[0]]
        return keys

    def __getitem__(self, place: int) -> str:
        """Return a row's text as it is compared."""
        row = int(self._rows.rows[place])
        text = self._cache.get(row)
        if text is None:
            number, within = self._shelf.place(row)
            ends = self._ends[number]
            begin, end = int(ends[within - 1]) if within else 0, int(ends[within])
            with self._shelf.path(number, "signed").open("rb", buffering=0) as file:
                file.seek(_layout(self._shelf, number, self._bands).texts + begin)
                text = file.read(end - begin).decode("utf-8", "surrogatepass")
            if self._cached > CACHED:
                self._cache, self._cached = {}, 0
            self._cache[row] = text
            self._cached += len(text)
        return text

    def _contents(self) -> Iterator[bytes]:
        """Yield what is kept of each stretch, in order; a few are made at a time where they are missing."""
        num_workers = os.cpu_count() or 1
        with ThreadPoolExecutor(num_workers) as pool:
            pending: deque[Future[bytes]] = deque()
            for number, _, _ in self._runs:
                pending.append(pool.submit(self._content, number))
                if len(pending) > num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _content(self, number: int) -> bytes:
        path, key = self._shelf.path(number, "signed"), signed_key(self._shelf.made_of[number], self._bands, self._cut)
        with self._locks[number]:
            content = read_kept(path, key)
            if content is None:
                content = packed_signed([compared_text(row, self._cut) for row in self._shelf.whole(number)], self._bands)
                write_kept(path, key, content)
        return content


def _layout(shelf: Shelf, number: int, bands: Bands) -> Layout:
    first, last = shelf.bounds(number)
    return Layout(last - first, bands)


def _packed(found: Near) -> list[Ints]:
    """Return what was found as tables; similarities as the bits of their numbers."""
    tables = [_likes(found.copies.values()), _likes(found.leaks.values()), _likes(found.conflicts)]
    return [*tables, np.array(list(found.group.items()), np.int64).reshape(-1, 2)]


def _likes(some: Iterable[Like]) -> Ints:
    rows = [astuple(like) for like in some]
    places = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    return np.column_stack([places, np.array([row[2] for row in rows], np.float64).view(np.int64)])


def _near_of(tables: Sequence[Ints]) -> Near:
    copies, leaks, conflicts = map(_likes_of, tables[:3])
    group = dict(zip(tables[3][:, 0].tolist(), tables[3][:, 1].tolist(), strict=True))
    return Near({like.row: like for like in copies}, {like.row: like for like in leaks}, conflicts, group)


def _likes_of(table: Ints) -> list[Like]:
    similarities = table[:, 2].copy().view(np.float64)
    return [Like(row, other, one) for (row, other), one in zip(table[:, :2].tolist(), similarities.tolist(), strict=True)]


def _packed_tables(tables: Sequence[Ints]) -> bytes:
    written = io.BytesIO()
    for table in tables:
        np.save(written, table, allow_pickle=False)
    return written.getvalue()


def _unpacked_tables(content: bytes) -> list[Ints]:
    read, tables = io.BytesIO(content), []
    while read.tell() < len(content):
        tables.append(np.load(read, allow_pickle=False))
    return tables
