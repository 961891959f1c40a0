"""Rows whose part a former division decides, and those that it lets stand in none: they leave, each with its reason.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whet.data.frozen import PARTS, Frozen, placed_by
from whet.data.frozen_stored import FREE, Parts, StoredFrozen, placed_stored
from whet.data.gathered import Gathered
from whet.data.keys import text_key
from whet.data.notices import counted
from whet.data.rows import Reject
from whet.data.stored import Rows, Stored, brief


def settled_texts(work: Gathered) -> dict[str, str]:
    """Return the parts of texts, by their keys, that a former division decides; rows that may be in none leave. For rows in memory."""
    frozen, rows = work.frozen, work.examples["path"]
    if frozen is None:
        return {}
    assert isinstance(frozen, Frozen), "of rows in memory, a division is a mapping"
    placed, barred = placed_by(frozen, rows, work.data.duplicates)
    place_of = {id(one): place for place, one in enumerate(rows)}
    keys = [text_key(one) for one in rows]
    known = np.array([key in frozen.part_of for key in keys], bool)
    part = np.array([PARTS.index(placed[key]) if key in placed else FREE for key in keys], np.int8)
    _settle(work, known, part, [(place_of[id(one)], why) for one, why in barred])
    return placed


def settled_parts(work: Gathered, rows: Stored) -> Parts:
    """Return of each row that stays the number of its part, or FREE (see `settled_texts`). For rows on the disk. [N]"""
    frozen = work.frozen
    if frozen is None:
        return np.full(len(rows), FREE, np.int8)
    assert isinstance(frozen, StoredFrozen), "of rows on the disk, a division is numbers"
    known = frozen.parts_of(rows.column("text"))
    part, barred = placed_stored(frozen, rows, known, work.data.duplicates)
    return part[_settle(work, known != FREE, part, barred)]


def _settle(work: Gathered, known: NDArray[np.bool_], part: Parts, barred: Sequence[tuple[int, str]]) -> NDArray[np.bool_]:
    """Take out rows that no part may have, and those of a part that the recipe names other rows for; return which stay. [N]"""
    rows = work.examples["path"]
    stays = np.ones(len(rows), bool)
    stays[[place for place, _ in barred]] = False
    named = stays & np.isin(part, [PARTS.index(one) for one in work.named])
    stays &= ~named
    work.notices.append(
        f"data.split.frozen: {counted(int((known & stays).sum()), 'row')} stay in the part that they had; "
        f"{counted(int((stays & ~known).sum()), 'new row')} are divided, or join the part of the rows that they are near to."
    )
    for place, why in barred:
        one = brief(rows, place)
        reason = f"like rows of several frozen parts, such as {why}"
        work.rejects["path"].append(Reject(one.file, one.line, reason, "Nothing to do.", kind="near leak", other=why))
    if barred:
        work.notices.append(f"data.path: {counted(len(barred), 'new row')} taken out, like rows of several frozen parts.")
    for place in np.flatnonzero(named).tolist():
        one, name = brief(rows, place), PARTS[part[place]]
        reason = f"of the frozen {name} part, for which the recipe names other rows"
        work.rejects["path"].append(Reject(one.file, one.line, reason, "Nothing to do.", kind="leak"))
    if named.any():
        work.notices.append(
            f"data.path: {counted(int(named.sum()), 'row')} taken out, of a frozen part ({' or '.join(work.named)}) that the recipe names other rows for."
        )
    work.examples["path"] = _where(rows, stays)
    return stays


def _where(rows: Rows, stays: NDArray[np.bool_]) -> Rows:
    return (
        rows.where(stays) if isinstance(rows, Stored) else [one for one, kept in zip(rows, stays.tolist(), strict=True) if kept]
    )
