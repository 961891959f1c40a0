"""Rows that were read, divided into parts as the recipe says, with a word where they cannot be divided well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from whet.data.apart_stored import StoredUnits, fold_stored, split_stored, stored_units
from whet.data.dropping import label_counts
from whet.data.frozen_stored import FREE, StoredFrozen
from whet.data.gathered import Gathered
from whet.data.keys import text_key, with_id
from whet.data.notices import SHOWN, counted
from whet.data.settled import settled_parts, settled_texts
from whet.data.split import PARTS, fold_of, split
from whet.data.stored import Rows, Stored, brief, ids_of
from whet.data.units import Unit, units_of
from whet.errors import DataError


def apart(work: Gathered, placed: Mapping[str, str]) -> dict[str, Rows]:
    """Return the examples of each part, ids numbered in reading order; those on the disk keep theirs. `placed` are texts whose part is decided already, by their keys.

    Raises DataError where a part is empty.
    """
    settings = work.data.split
    shares = {part: getattr(settings, part) for part in PARTS if part not in work.named}
    parts, num_units = (_parts_stored if isinstance(work.examples["path"], Stored) else _parts)(work, shares, placed)
    parts.update({part: work.examples[part] for part in work.named})
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        total = sum(map(len, parts.values()))
        raise DataError(
            f"{', '.join(work.data.path)}: {counted(total, 'usable row')} in {counted(num_units, 'group')} that stay together are too few: "
            f"none is left for {' and '.join(empty)}. Add rows, or name other columns."
        )
    work.notices += _unjudged(work, parts)
    if isinstance(work.examples["path"], Stored):
        return parts
    order = {id_: number for number, id_ in enumerate(sorted(example.id for examples in parts.values() for example in examples))}
    return {part: [with_id(example, order[example.id]) for example in examples] for part, examples in parts.items()}


def _parts(work: Gathered, shares: Mapping[str, float], placed: Mapping[str, str]) -> tuple[dict[str, Rows], int]:
    """Return the rows of each part, in memory, and how many units of them were divided."""
    placed, settings = {**placed, **settled_texts(work)}, work.data.split
    rows = work.examples["path"]
    near = _loosened(work, rows, shares)
    free = [one for one in rows if text_key(one) not in placed] if placed else rows
    units = units_of(free, near)
    _check_separable(work, rows, len(units), shares, placed=bool(placed))
    if settings.folds is not None:
        assert not placed, "folds are refused beside what places rows"
        fold = (settings.fold, settings.folds)
        return {**fold_of(rows, shares, settings.seed, fold, stratify=settings.stratify, near=near)}, len(units)
    times = work.times if work.data.time is not None else None
    divided = split(rows, shares, settings.seed, stratify=settings.stratify, placed=placed, near=near, times=times, units=units)
    work.notices += _large(units, free, shares, divided)
    return {**divided}, len(units)


def _parts_stored(work: Gathered, shares: Mapping[str, float], placed: Mapping[str, str]) -> tuple[dict[str, Rows], int]:
    """The same of rows on the disk."""
    assert not placed, "several tasks are prepared in memory"
    rows, settings = work.examples["path"], work.data.split
    assert isinstance(rows, Stored), "rows on the disk"
    part, rows = settled_parts(work, rows).astype(np.int16), work.examples["path"]
    assert isinstance(rows, Stored), "rows on the disk stay there"
    near = _loosened(work, rows, shares)
    free = rows.where(part == FREE)
    units = stored_units(free, near)
    _check_separable(work, rows, len(units), shares, placed=isinstance(work.frozen, StoredFrozen) and len(work.frozen.part) > 0)
    if settings.folds is not None:
        fold = (settings.fold, settings.folds)
        part = fold_stored(rows, units, shares, settings.seed, fold, stratify=settings.stratify, near=near)
        return {name: rows.where(part == number) for number, name in enumerate(PARTS)}, len(units)
    timed, filled = work.data.time is not None, [PARTS[one] for one in np.unique(part) if one != FREE]
    part[part == FREE] = split_stored(
        free, units, shares, settings.seed, stratify=settings.stratify, timed=timed, filled=filled
    )  # fmt: skip
    parts: dict[str, Rows] = {name: rows.where(part == number) for number, name in enumerate(PARTS)}
    work.notices += _large([_unit_of(units, one) for one in _larger(units, shares)], free, shares, parts)
    return parts, len(units)


def _check_separable(work: Gathered, rows: Rows, num_units: int, shares: Mapping[str, float], *, placed: bool) -> None:
    """Raise DataError where all rows belong together."""
    if num_units == 1 and len(rows) > len(PARTS) and len(shares) > 1 and not placed:
        raise DataError(_inseparable(work, rows))


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
    why = "with too few rows for every part" if work.data.time is None else "with no row among the newest, which are tested on"
    return [
        f"{counted(len(lacking), 'class').replace('classs', 'classes')} {why}: {shown}"
        f"{', ...' if len(lacking) > 5 else ''}. They are learnt from, and no test row judges them."
    ]


def _places(rows: Rows, places: Sequence[int]) -> str:
    shown = [brief(rows, place) for place in places[:SHOWN]]
    return ", ".join(f"{one.file}:{one.line}" for one in shown) + (", ..." if len(places) > SHOWN else "")
