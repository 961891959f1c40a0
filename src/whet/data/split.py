"""Training, validation and test parts: stratified, seeded, and the same whatever the order of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

import xxhash

from whet.data.keys import text_key
from whet.types import Example

PARTS = ("train", "validation", "test")
RARE = 2  # rows of a class up to which all of them are learnt from


def split(
    examples: Sequence[Example],
    shares: Mapping[str, float],
    seed: int,
    *,
    stratify: bool = True,
    placed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, list[Example]]:
    """Return the examples of each part, in their own order. `shares` are renormalised over the parts that have one.

    `placed` are texts whose part is decided already, by their keys; the shares are those of the others.

    Examples with the same text stay together, so that no text is in two parts; its place is drawn from (seed, text) alone.
    Class sizes follow the largest remainder, with what rounding left over carried to the next class, so that parts are exact
    as a whole too, wherever no text stands there twice.
    """
    total = sum(Fraction(share).limit_denominator(10**6) for share in shares.values())
    exact = {part: Fraction(shares.get(part, 0)).limit_denominator(10**6) / total for part in PARTS}
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(text_key(example), []).append(example)
    decided = {key: placed[key] for key in groups if key in placed}
    groups = {key: group for key, group in groups.items() if key not in decided}
    part_of: dict[str, str] = {}
    carried = dict.fromkeys(PARTS, Fraction(0))
    for _, keys in sorted(_strata(groups, stratify).items()):
        keys.sort(key=lambda key: (xxhash.xxh3_64_intdigest(f"{seed}:{key}".encode()), key))
        size = sum(len(groups[key]) for key in keys)
        if stratify and size <= RARE and exact["train"] and any(groups[key][0].label is not None for key in keys):
            part_of.update(dict.fromkeys(keys, "train"))
        else:
            _place(keys, {key: len(groups[key]) for key in keys}, _sizes(size, exact, carried), part_of)
    _fill_empty(part_of, exact, set(decided.values()))
    part_of |= decided
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for example in examples:
        parts[part_of[text_key(example)]].append(example)
    return parts


def _strata(groups: Mapping[str, list[Example]], stratify: bool) -> dict[str, list[str]]:
    strata: dict[str, list[str]] = {}
    for key, group in groups.items():
        counts = Counter(example.label for example in group if example.label is not None)
        label = min(counts, key=lambda one: (-counts[one], one)) if counts and stratify else ""
        strata.setdefault(label, []).append(key)
    return strata


def _sizes(size: int, exact: Mapping[str, Fraction], carried: dict[str, Fraction]) -> dict[str, int]:
    """Return the rows of each part for a class; `carried` keeps what each part is still owed."""
    ideal = {part: size * share for part, share in exact.items()}
    sizes = {part: int(share) for part, share in ideal.items()}
    owed = {part: ideal[part] - sizes[part] + carried[part] for part in PARTS}
    wanting = [part for part in PARTS if exact[part] and ideal[part] > sizes[part]]
    for part in sorted(wanting, key=lambda part: (-owed[part], PARTS.index(part)))[: size - sum(sizes.values())]:
        sizes[part] += 1
        owed[part] -= 1
    carried.update(owed)
    return sizes


def _place(keys: Sequence[str], lengths: Mapping[str, int], sizes: Mapping[str, int], part_of: dict[str, str]) -> None:
    """Give each text to a part that has room for all its rows, in the order of PARTS; else to the one with the most room."""
    room = dict(sizes)
    for key in keys:
        fitting = [part for part in PARTS if room[part] >= lengths[key]]
        part = fitting[0] if fitting else max(PARTS, key=lambda one: (room[one], sizes[one]))
        part_of[key] = part
        room[part] -= lengths[key]


def _fill_empty(part_of: dict[str, str], exact: Mapping[str, Fraction], filled: set[str]) -> None:
    """Move one text from training into a part that got none and is not `filled`, as long as training keeps more than one."""
    for part in ("validation", "test"):
        trained = sorted(key for key, one in part_of.items() if one == "train")
        if exact[part] and part not in filled and part not in part_of.values() and len(trained) > 1:
            part_of[trained[-1]] = part
