"""What a stretch of rows is on the disk: its rows as lines of JSON, the few numbers that rows are compared by, and what was rejected.

Shapes: N rows of the stretch, G groups of them all, T turns of conversations of them all, L labels of rows of several.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from whet.data.deduplicate import is_labelled
from whet.data.kept import HEAD
from whet.data.keys import content_key, target_key, text_key
from whet.data.making import Made
from whet.data.rows import Reject
from whet.data.store import hashed_parts, line_tail
from whet.data.times import ORDERS, Order, evidence, seconds
from whet.data.units import beginnings_of
from whet.types import Example

Array = NDArray[Any]
FORM = 5
"""Another number for each change of what a stretch holds."""
WORDS = ("file", "label", "kind", "part")
"""What columns number: files, labels, kinds of groups and what rows say of their part."""
SPARSE: Mapping[str, float] = {
    "group_counts": 0, "turn_counts": 0, "several_counts": 0, "part": -1, "time_told": 0, "time_day": math.nan, "time_month": math.nan,
}  # fmt: skip
"""Columns of those stretches alone that have something in them, with what it is in others."""
TIMED = 32
"""Bit of `time_told` of a row that says a time, beside the bits of `times.evidence`."""
SECTIONS = ("tail", "before", "after")
"""A row's line without its beginning and id, and what is hashed of it before and after its id."""


class Numbers(NamedTuple):
    """What is known of the rows of a stretch without reading them."""

    columns: dict[str, Array]
    words: dict[str, list[str]]
    """See WORDS."""
    changed: dict[str, int]
    private: dict[int, list[str]]
    """Of rows with private data, the kinds that were found."""
    rejects: list[Reject]


def packed_stretch(made: Made) -> bytes:
    """Return what became of some rows, as it is kept."""
    rows = [item for item in made.items if isinstance(item, Example)]
    words: dict[str, dict[str, int]] = {kind: {} for kind in WORDS}
    columns = _columns(rows, words)
    blobs = dict(zip(SECTIONS, _blobs(rows), strict=True))
    for name, (ends, _) in blobs.items():
        columns[f"{name}_ends"] = ends
    place_of = {
        place: number for number, place in enumerate(place for place, item in enumerate(made.items) if isinstance(item, Example))
    }
    head = {
        "columns": [[name, column.dtype.str, column.shape] for name, column in columns.items()],
        "sections": {name: len(blob) for name, (_, blob) in blobs.items()},
        "words": {name: list(some) for name, some in words.items()},
        "changed": dict(made.changed),
        "private": {place_of[place]: kinds for place, kinds in made.private.items()},
        "rejects": [asdict(item) for item in made.items if isinstance(item, Reject)],
    }
    first = json.dumps(head).encode()
    body = [len(first).to_bytes(8, "little"), first, *(column.tobytes() for column in columns.values())]
    return b"".join([*body, *(blob for _, blob in blobs.values())])


def _columns(rows: Sequence[Example], words: Mapping[str, dict[str, int]]) -> dict[str, Array]:
    def number(kind: str, word: str) -> int:
        return words[kind].setdefault(word, len(words[kind]))

    columns: dict[str, Array] = {
        "text": keys_of_hex([text_key(row) for row in rows]),
        "content": keys_of_hex([content_key(row) for row in rows]),
        "target": keys_of_hex([target_key(row) for row in rows])[:, 0].copy(),
        "line": np.array([row.line for row in rows], np.int64),
        "file": np.array([number("file", row.file) for row in rows], np.int32),
        "label": np.array([-1 if row.label is None else number("label", row.label) for row in rows], np.int32),
        "labelled": np.array([is_labelled(row) for row in rows], bool),
        "turns": np.array([row.messages is not None for row in rows], bool),
    }
    if any(row.labels for row in rows):
        columns["several_counts"] = np.array([len(row.labels or ()) for row in rows], np.int32)
        columns["several"] = np.array([number("label", label) for row in rows for label in row.labels or ()], np.int32)  # [L]
    if any(row.group for row in rows):
        groups = [group for row in rows for group in row.group or ()]
        columns["group_counts"] = np.array([len(row.group or ()) for row in rows], np.int32)
        columns["group"] = np.array([xxhash.xxh3_64_intdigest(_encoded(group)) for group in groups], np.uint64)  # [G]
        columns["group_kind"] = np.array([number("kind", group.partition("=")[0]) for group in groups], np.int32)
    if columns["turns"].any():
        beginnings = [beginnings_of(row) for row in rows]
        columns["turn_counts"] = np.array([len(some) for some in beginnings], np.int32)
        columns["turn"] = keys_of_hex([one for some in beginnings for one in some])  # [T, 2]
    if any(row.part is not None for row in rows):
        columns["part"] = np.array([-1 if row.part is None else number("part", row.part) for row in rows], np.int32)
    if any(row.time is not None for row in rows):
        columns["time_told"] = np.array([0 if row.time is None else TIMED | evidence(row.time) for row in rows], np.uint8)
        for order in ORDERS:
            columns[f"time_{order}"] = np.array([_seconds(row.time, order) for row in rows], np.float64)
    return columns


def _seconds(text: str | None, order: Order) -> float:
    found = None if text is None else seconds(text, order)
    return math.nan if found is None else found


def _blobs(rows: Sequence[Example]) -> list[tuple[Array, bytes]]:
    hashed = [hashed_parts(row) for row in rows]
    texts = ([line_tail(row) for row in rows], [before for before, _ in hashed], [after for _, after in hashed])
    return [_joined([_encoded(one) for one in some]) for some in texts]


def _joined(parts: Sequence[bytes]) -> tuple[Array, bytes]:
    return np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), dtype=np.int64), b"".join(parts)


def keys_of_hex(keys: Sequence[str]) -> Array:
    """Return 128-bit keys as two numbers each, which are in the order of the keys. [N, 2]"""
    return np.frombuffer(bytes.fromhex("".join(keys)), ">u8").reshape(-1, 2).astype(np.uint64)


def numbers_of(content: bytes) -> Numbers:
    """Return what is known of the rows of a stretch."""
    head, at = _head(content)
    columns = {}
    for name, dtype, shape in head["columns"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not name.endswith("_ends"):
            columns[name] = np.frombuffer(content, dtype, int(np.prod(shape)), at).reshape(shape)
        at += size
    private = {int(row): kinds for row, kinds in head["private"].items()}
    return Numbers(columns, head["words"], head["changed"], private, [Reject(**one) for one in head["rejects"]])


class Opened:
    """A stretch in a file whose rows are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            file.seek(HEAD)
            (length,) = np.frombuffer(file.read(8), "<i8").tolist()
            head = json.loads(file.read(length))
            at = HEAD + 8 + length
            self._ends: dict[str, list[int]] = {}
            for name, dtype, shape in head["columns"]:
                size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                if name.endswith("_ends"):
                    file.seek(at)
                    self._ends[name.removesuffix("_ends")] = [0, *np.frombuffer(file.read(size), dtype).tolist()]
                at += size
        self._begins: dict[str, tuple[int, int]] = {}
        for name, size in head["sections"].items():
            self._begins[name] = (at, size)
            at += size

    def parts(self, section: str, rows: Sequence[int]) -> list[bytes]:
        """Return what the section holds of these rows."""
        begin, size = self._begins[section]
        with self._path.open("rb") as file:
            file.seek(begin)
            blob = file.read(size)
        ends = self._ends[section]
        return [blob[ends[row] : ends[row + 1]] for row in rows]


def _head(content: bytes) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), 8 + length


_encoded = partial(str.encode, encoding="utf-8", errors="surrogatepass")
