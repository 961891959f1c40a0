"""Rows that were read, divided into parts as the recipe says, with a word where they cannot be divided well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from whet.data.apart_stored import StoredUnits, fold_stored, split_stored, stored_units
from whet.data.dropping import label_counts
from whet.data.frozen import placed_by
from whet.data.gathered import Gathered
from whet.data.keys import text_key, with_id
from whet.data.notices import SHOWN, counted
from whet.data.rows import Reject
from whet.data.shelf import Rows, Stored, brief, ids_of
from whet.data.split import PARTS, fold_of, split
from whet.data.units import Unit, units_of
from whet.errors import DataError


def apart(work: Gathered, placed: Mapping[str, str]) -> dict[str, Rows]:
    """Return the examples of each part, ids numbered in reading order; those on the disk keep theirs. `placed` are texts whose part is decided already, by their keys.

    Raises DataError where a part is empty.
    """
    placed = {**placed, **_frozen(work)}
    rows, settings = work.examples["path"], work.data.split
    shares = {part: getattr(settings, part) for part in PARTS if part not in work.named}
    near = _loosened(work, rows, shares)
    free = rows if isinstance(rows, Stored) or not placed else [one for one in rows if text_key(one) not in placed]
    units = stored_units(rows, near) if isinstance(rows, Stored) else units_of(free, near)
    if len(units) == 1 and len(rows) > len(PARTS) and len(shares) > 1 and not placed:
        raise DataError(_inseparable(work, rows))
    parts: dict[str, Rows] = {}
    fold = None if settings.folds is None else (settings.fold, settings.folds)
    if isinstance(rows, Stored) and isinstance(units, StoredUnits):
        if fold is not None:
            part = fold_stored(rows, units, shares, settings.seed, fold, stratify=settings.stratify, near=near)
        else:
            timed = work.data.time is not None
            part = split_stored(rows, units, shares, settings.seed, stratify=settings.stratify, timed=timed)
        parts.update({name: rows.where(part == number) for number, name in enumerate(PARTS)})
        if fold is None:
            work.notices += _large([_unit_of(units, one) for one in _larger(units, shares)], free, shares, parts)
    elif fold is not None:
        assert not placed, "folds are refused beside what places rows"
        parts.update(fold_of(rows, shares, settings.seed, fold, stratify=settings.stratify, near=near))
    else:
        times = work.times if work.data.time is not None else None
        assert not isinstance(units, StoredUnits), "rows in memory have units in memory"
        divided = split(
            rows, shares, settings.seed, stratify=settings.stratify, placed=placed, near=near, times=times, units=units
        )
        parts.update(divided)
        work.notices += _large(units, free, shares, parts)
    parts.update({part: work.examples[part] for part in work.named})
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        total = sum(map(len, parts.values()))
        raise DataError(
            f"{', '.join(work.data.path)}: {counted(total, 'usable row')} in {counted(len(units), 'group')} that stay together are too few: "
            f"none is left for {' and '.join(empty)}. Add rows, or name other columns."
        )
    work.notices += _unjudged(work, parts)
    if isinstance(rows, Stored):
        return parts
    order = {id_: number for number, id_ in enumerate(sorted(example.id for examples in parts.values() for example in examples))}
    return {part: [with_id(example, order[example.id]) for example in examples] for part, examples in parts.items()}


def _frozen(work: Gathered) -> dict[str, str]:
    """Return the parts of texts that a former division decides; rows that may be in none of its parts leave."""
    if work.frozen is None:
        return {}
    rows = work.examples["path"]
    placed, barred = placed_by(work.frozen, rows, work.data.duplicates)
    known = sum(text_key(one) in work.frozen.part_of for one in rows)
    work.notices.append(
        f"data.split.frozen: {counted(known, 'row')} stay in the part that they had; {counted(len(rows) - known - len(barred), 'new row')} "
        f"are divided, or join the part of the rows that they are near to."
    )
    leaving = {one.id for one, _ in barred}
    work.examples["path"] = [one for one in rows if one.id not in leaving]
    work.rejects["path"] += [
        Reject(
            one.file, one.line, f"like rows of several frozen parts, such as {place}", "Nothing to do.", kind="near leak", other=place
        )
        for one, place in barred
    ]  # fmt: skip
    if barred:
        work.notices.append(f"data.path: {counted(len(barred), 'new row')} taken out, like rows of several frozen parts.")
    return placed


def _larger(units: StoredUnits, shares: Mapping[str, float]) -> list[int]:
    """Return the units that are larger than the smallest part should be, in their order."""
    return np.flatnonzero(units.sizes > max(_least(shares, int(units.sizes.sum())), 1)).tolist()


def _unit_of(units: StoredUnits, number: int) -> Unit:
    return Unit("", tuple(np.flatnonzero(units.first == units.starts[number]).tolist()))


def _least(shares: Mapping[str, float], num_rows: int) -> float:
    return min(share for share in shares.values() if share) / sum(shares.values()) * num_rows


def _loosened(work: Gathered, rows: Rows, shares: Mapping[str, float]) -> dict[int, int]:
    """Return the groups of near duplicates that are held together: all, or with `near: auto` all that leave room for other parts."""
    near = work.near
    if work.data.duplicates.near != "auto" or not near:
        return near
    most = shares.get("train", 0) / sum(shares.values()) * len(rows)
    sizes = Counter(near[id_] for id_ in ids_of(rows) if id_ in near)
    loose = {group for group, size in sizes.items() if size > most}
    if not loose:
        return near
    some = [place for place, id_ in enumerate(ids_of(rows)) if near.get(id_) in loose]
    work.notices.append(
        f"data.path: {len(some):,} of {counted(len(rows), 'row')} are near duplicates of each other, by one or several steps "
        f"({_places(rows, some)}): too many for one part. They are divided like other rows, so scores speak of variations of texts that were "
        "learnt from, not of new ones. A higher data.duplicates.similarity, or data.group, divides them better."
    )
    return {row: group for row, group in near.items() if group not in loose}


def _inseparable(work: Gathered, rows: Rows) -> str:
    why = f"share a value of {' or '.join(work.data.group)}" if work.data.group else "are the same or nearly the same text"
    remedy = "name another column as data.group, or take it out" if work.data.group else "add rows with other texts"
    return (
        f"{', '.join(work.data.path)}: all {len(rows):,} rows {why}, directly or through others, and such rows are never parted, so that "
        f"none is left to be judged on. Allowed are at least three groups: {remedy}."
    )


def _large(units: Sequence[Unit], rows: Rows, shares: Mapping[str, float], parts: Mapping[str, Rows]) -> list[str]:
    """Return what to say of rows that belong together and are more than the smallest part should have."""
    least = _least(shares, len(rows))
    large = [unit for unit in units if len(unit.rows) > max(least, 1)]
    if not large:
        return []
    firsts = {brief(rows, unit.rows[0]).id for unit in large[:SHOWN]}
    where = {id_: part for part, some in parts.items() for id_ in ids_of(some) if id_ in firsts}
    return [
        f"{counted(len(unit.rows), 'row')} belong together ({_places(rows, unit.rows)}), more than the smallest part should "
        f"have ({least:.0f}): all are in the {where[brief(rows, unit.rows[0]).id]} part, so the parts' sizes differ from data.split."
        for unit in large[:SHOWN]
    ]


def _unjudged(work: Gathered, parts: Mapping[str, Rows]) -> list[str]:
    """Return what to say of classes that stand in training only."""
    if not work.classes or "test" in work.named or work.data.split.folds is not None:
        return []
    counts, judged = label_counts([parts["train"]]), label_counts([parts["test"]])
    lacking = [label for label in work.classes if label not in judged and counts[label]]
    if not lacking:
        return []
    shown = ", ".join(f"'{label}' ({counted(counts[label], 'row')})" for label in lacking[:5])
    return [
        f"{counted(len(lacking), 'class').replace('classs', 'classes')} with too few rows for every part: {shown}"
        f"{', ...' if len(lacking) > 5 else ''}. They are learnt from, and no test row judges them."
    ]


def _places(rows: Rows, places: Sequence[int]) -> str:
    shown = [brief(rows, place) for place in places[:SHOWN]]
    return ", ".join(f"{one.file}:{one.line}" for one in shown) + (", ..." if len(places) > SHOWN else "")
