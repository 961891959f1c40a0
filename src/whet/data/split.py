"""Training, validation and test parts: stratified or by time, seeded, and the same whatever the order of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import xxhash

from whet.data.by_time import by_time
from whet.data.keys import text_key
from whet.data.stratify import by_labels
from whet.data.units import Unit, units_of
from whet.errors import DataError
from whet.types import Example

PARTS = ("train", "validation", "test")
RARE = 2  # rows of a class up to which all of them are learnt from
Shares = Mapping[str, Fraction]


def split(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    seed: int,
    *,
    stratify: bool = True,
    placed: Mapping[str, str] = MappingProxyType({}),
    near: Mapping[int, int] = MappingProxyType({}),
    times: Mapping[int, float] | None = None,
    units: Sequence[Unit] | None = None,
) -> dict[str, list[Example]]:
    """Return the examples of each part, in their own order. `shares` are renormalised over the parts that have one.

    `placed` are texts whose part is decided already, by their keys; the shares are those of the others. `near` are groups of near
    duplicates and `times` the seconds of each row, by the examples' ids. With `times`, the oldest rows are learnt from and the newest
    tested on. `units` are those of the rows whose part is not decided, where they are known already.

    What belongs together (`units_of`) is in one part; its place is drawn from (seed, text) alone. Class sizes follow the largest
    remainder, with what rounding left over carried to the next class, so that parts are exact as a whole too, wherever nothing belongs
    together. Rows of several labels are divided by iterative stratification. Raises DataError where times cannot be divided.
    """
    exact = exact_shares(shares, PARTS)
    wanted = {part: share for part, share in exact.items() if share}
    free = [example for example in examples if text_key(example) not in placed] if placed else examples
    units = units_of(free, near) if units is None else units
    if times is not None:
        part_of = _by_time(units, [times[example.id] for example in free], wanted)
    else:
        part_of = _drawn(units, free, wanted, seed, stratify, rare="train" if exact["train"] else None)
        _fill_empty(
            units, part_of, exact, {placed[key] for one in examples if (key := text_key(one)) in placed} if placed else set()
        )
    at = {free[row].id: part_of[unit.key] for unit in units for row in unit.rows}
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for example in examples:
        parts[at[example.id] if example.id in at else placed[text_key(example)]].append(example)
    return parts


def fold_of(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    seed: int,
    fold: tuple[int, int],
    *,
    stratify: bool = True,
    near: Mapping[int, int] = MappingProxyType({}),
) -> dict[str, list[Example]]:
    """Return the parts of one fold: (which, of how many). The folds' test parts are equally large, and have each row once together.

    What is left is divided between training and validation by their shares. Raises DataError where a fold is empty.
    """
    which, number = fold
    names = tuple(map(str, range(number)))
    units = units_of(examples, near)
    part_of = _drawn(units, examples, exact_shares(dict.fromkeys(names, 1.0), names), seed, stratify, rare=None)
    empty = number - len(set(part_of.values()))
    if empty:
        raise too_few_for_folds(len(examples), len(units), number)
    tested = {row for unit in units if part_of[unit.key] == names[which] for row in unit.rows}
    rest = [example for place, example in enumerate(examples) if place not in tested]
    parts = split(rest, {part: shares[part] for part in ("train", "validation")}, seed, stratify=stratify, near=near)
    return {**parts, "test": [example for place, example in enumerate(examples) if place in tested]}


def too_few_for_folds(num_rows: int, num_units: int, number: int) -> DataError:
    return DataError(
        f"data.split.folds: {num_rows:,} rows stand in {num_units:,} groups that belong together, too few for {number} folds. "
        "Take fewer folds, or add rows."
    )


def exact_shares(shares: Mapping[str, float], names: Sequence[str]) -> dict[str, Fraction]:
    total = sum(Fraction(share).limit_denominator(10**6) for share in shares.values())
    return {name: Fraction(shares.get(name, 0)).limit_denominator(10**6) / total for name in names}


def _drawn(
    units: Sequence[Unit], examples: Sequence[Example], exact: Shares, seed: int, stratify: bool, rare: str | None
) -> dict[str, str]:
    """Return the part of each unit, by its key. `rare` is where all rows of a class go that has no more than two."""
    drawn = sorted(units, key=lambda unit: (xxhash.xxh3_64_intdigest(f"{seed}:{unit.key}".encode()), unit.key))
    if stratify and any(example.labels for example in examples):
        counts = [Counter(label for row in unit.rows for label in examples[row].labels or ()) for unit in drawn]
        parts = by_labels(counts, [len(unit.rows) for unit in drawn], exact)
        return {unit.key: part for unit, part in zip(drawn, parts, strict=True)}
    part_of: dict[str, str] = {}
    carried = dict.fromkeys(exact, Fraction(0))
    for label, some in sorted(_strata(drawn, examples, stratify).items(), key=lambda one: one[0]):
        size = sum(len(unit.rows) for unit in some)
        if rare is not None and label and size <= RARE:
            part_of.update(dict.fromkeys((unit.key for unit in some), rare))
        else:
            placed = place([len(unit.rows) for unit in some], sizes_of(size, exact, carried), carried)
            part_of.update(zip((unit.key for unit in some), placed, strict=True))
    return part_of


def _strata(drawn: Sequence[Unit], examples: Sequence[Example], stratify: bool) -> dict[str, list[Unit]]:
    """Return the units by the commonest label of their rows."""
    strata: dict[str, list[Unit]] = {}
    for unit in drawn:
        if len(unit.rows) == 1:
            strata.setdefault((examples[unit.rows[0]].label or "") if stratify else "", []).append(unit)
            continue
        counts = Counter(label for row in unit.rows if (label := examples[row].label) is not None)
        label = min(counts, key=lambda one: (-counts[one], one)) if counts and stratify else ""
        strata.setdefault(label, []).append(unit)
    return strata


def sizes_of(size: int, exact: Shares, carried: dict[str, Fraction]) -> dict[str, int]:
    """Return the rows of each part for a class; `carried` keeps what each part is still owed."""
    ideal = {part: size * share for part, share in exact.items()}
    sizes = {part: int(share) for part, share in ideal.items()}
    owed = {part: ideal[part] - sizes[part] + carried[part] for part in exact}
    wanting = [part for part in exact if ideal[part] > sizes[part]]
    names = list(exact)
    for part in sorted(wanting, key=lambda part: (-owed[part], names.index(part)))[: size - sum(sizes.values())]:
        sizes[part] += 1
        owed[part] -= 1
    carried.update(owed)
    return sizes


def place(numbers: Sequence[int], sizes: Mapping[str, int], carried: dict[str, Fraction]) -> list[str]:
    """Return the part of each unit, by the numbers of their rows: one that has room for all of them, in the order of the parts; else the one
    with the most room.

    Units that fill a part come first, so that the others can make up for them.
    """
    names, wanted = list(sizes), list(sizes.values())
    room = wanted.copy()
    least = min((size for size in wanted if size), default=1)
    large = sorted((at for at, number in enumerate(numbers) if 1 < number >= least), key=lambda at: -numbers[at])
    found = [""] * len(numbers)
    first = 0  # parts before this one are full, so that many folds of very many rows are not looked through for each

    def give(at: int) -> None:
        nonlocal first
        number = numbers[at]
        while first < len(room) and room[first] < 1:
            first += 1
        part = first
        while part < len(room) and room[part] < number:
            part += 1
        if part == len(room):
            part = max(range(len(room)), key=lambda one: (room[one], wanted[one]))
        found[at] = names[part]
        room[part] -= number

    for at in large:
        give(at)
    for at in range(len(numbers)):
        if not found[at]:
            give(at)
    for name, left in zip(names, room, strict=True):
        carried[name] += left
    return found


def _fill_empty(units: Sequence[Unit], part_of: dict[str, str], exact: Shares, filled: set[str]) -> None:
    """Move one unit, a small one, from training into a part that got none and is not `filled`, as long as training keeps one."""
    sizes = {unit.key: len(unit.rows) for unit in units}
    for part in ("validation", "test"):
        if exact[part] and part not in filled and part not in part_of.values():
            trained = [key for key, one in part_of.items() if one == "train"]
            if len(trained) > 1:
                part_of[max(trained, key=lambda key: (-sizes[key], key))] = part


def _by_time(units: Sequence[Unit], times: Sequence[float], exact: Shares) -> dict[str, str]:
    """Return the part of each unit, by its key (see `by_time`)."""
    newest = np.array([max(times[row] for row in unit.rows) for unit in units], np.float64)
    sizes = np.array([len(unit.rows) for unit in units], np.int64)
    wanted = list(exact)
    found = by_time(newest, sizes, list(exact.values()))
    return {unit.key: wanted[part] for unit, part in zip(units, found.tolist(), strict=True)}
