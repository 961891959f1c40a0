"""Near duplicates among the examples of a run: what leaves, what leaks, which labels are in conflict, and what must stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whet.data.compared import FEWEST_ALIKE, WHOLE, compared_text, shared_cut
from whet.data.deduplicate import Conflict, is_labelled, shown_label
from whet.data.keys import shown, target_key, text_key
from whet.data.near import Near, find_near
from whet.data.near_kept import find_near_stored
from whet.data.near_walk import Like
from whet.data.notices import counted
from whet.data.rows import Kind, Reject
from whet.data.stored import Rows, Stored, brief, joined, without
from whet.recipe_data import Duplicates
from whet.types import Example

MOST_COPIES = 0.5
"""Share of the rows above which copies are the nature of the data, and stay where nothing else is asked for."""
FAMILY = 10
"""Rows that are near to each other, by one or several steps, above which they are no leak but the nature of the files."""
LARGE = 0.1
"""Share of all rows above which a family is the nature of the files where rows of several runs or tasks meet."""
EXAMPLES = 3
"""Pairs that are named in a notice."""
TIERS = ("test", "validation", "path")


@dataclass(slots=True)
class Alike:
    """What was found, and what is left of each source."""

    examples: dict[str, Rows]
    rejects: dict[str, list[Reject]]
    conflicts: list[Conflict] = field(default_factory=list)
    near: dict[int, int] = field(default_factory=dict)
    """Groups of near duplicates that stay, by the examples' ids."""
    notices: list[str] = field(default_factory=list)
    keeps: bool = False
    """Near duplicates stay although the recipe leaves it to us: the rows are made of variations of a few texts."""
    leaks: dict[tuple[str, str], list[Reject]] = field(default_factory=dict)
    """Rejects for leaks, by the source that they leave and the one that has nearly the same text."""


def without_near(examples: Mapping[str, Rows], settings: Duplicates, limit: float) -> Alike:
    """Return what is left of the sources (path, validation, test) without near duplicates, as the recipe's section says.

    A row of a later source that is near to one of the test, or of the validation file leaves; nothing else leaves these two. With
    `near: auto`, where more than `limit` of the rows would leave, those of large families stay.
    """
    found = Alike(dict(examples), {source: [] for source in examples})
    if settings.near is not False:
        for semantic in (False, True) if settings.semantic is not False else (False,):
            _without_leaks(found, settings, limit, semantic=semantic)
            _without_copies(found, settings, semantic=semantic)
    return found


def _without_leaks(found: Alike, settings: Duplicates, limit: float, *, semantic: bool) -> None:
    """Take out what is near to a row of a held-out source."""
    rows = joined([found.examples[source] for source in TIERS])
    sizes_of = [len(found.examples[source]) for source in TIERS]
    tiers = np.repeat(np.arange(len(TIERS), dtype=np.uint8), sizes_of)
    path = len(TIERS) - 1
    if sizes_of[path] in {0, len(tiers)}:
        return
    leaks = _found(rows, tiers, settings, drop=True, semantic=semantic).leaks
    if settings.near == "auto" and sum(int(tiers[row]) == path for row in leaks) > limit * sizes_of[path]:
        families = groups_of(rows, settings)
        sizes = Counter(families.values())
        stay = [like for row, like in leaks.items() if sizes[families.get(row, row)] > FAMILY]
        if stay:
            found.notices.append(
                f"{counted(len(stay), 'row')} of what is learnt from or stopped by are near duplicates of held-out rows, such as "
                f"{_pair(rows, stay[0])}, in families of more than {FAMILY} rows: the files seem to be made of variations of a few texts. They "
                "stay, so scores speak of such variations, not of new texts. data.duplicates: {near: drop} takes them out."
            )
        leaks = {row: like for row, like in leaks.items() if sizes[families.get(row, row)] <= FAMILY}
    for row, like in leaks.items():
        source, against = TIERS[tiers[row]], TIERS[tiers[like.other]]
        reject = _reject(rows, like, "near leak", source=against)
        found.rejects[source].append(reject)
        found.leaks.setdefault((source, against), []).append(reject)
    leaving = {brief(rows, row).id for row in leaks}
    for source, some in found.examples.items():
        found.examples[source] = without(some, leaving)


def _without_copies(found: Alike, settings: Duplicates, *, semantic: bool) -> None:
    """Take near duplicates out of what is divided, or group them; find labels in conflict."""
    rows = found.examples["path"]
    tiers = np.zeros(len(rows), np.uint8)
    drop = settings.near != "keep"
    near = _found(rows, tiers, settings, drop=drop, semantic=semantic)
    if settings.near == "auto" and len(near.copies) > MOST_COPIES * len(rows):
        found.notices.append(
            f"data.path: {counted(len(near.copies), 'row')} are near duplicates of others with the same target, {_such_as(near, rows)}. That "
            "is more than half: the file seems to be made of variations of a few texts, so they all stay, each group in one part of the split. "
            "data.duplicates: {near: drop} keeps the first of each only."
        )
        found.keeps, drop, near = True, False, _found(rows, tiers, settings, drop=False, semantic=semantic)
    elif near.copies:
        done = "dropped; the first stays (data.duplicates: {near: keep} keeps all, in one part of the split)"
        done = done if drop else "kept, each group in one part of the split"
        found.notices.append(
            f"data.path: {counted(len(near.copies), 'near duplicate')} with the same target {done}, {_such_as(near, rows)}."
        )
    if drop:
        found.rejects["path"] += [_reject(rows, like, "near duplicate") for like in near.copies.values()]
        found.examples["path"] = without(rows, {brief(rows, row).id for row in near.copies})
    _tell_conflicts(found, near, rows)
    _join(found.near, {brief(rows, row).id: brief(rows, first).id for row, first in near.group.items()})


def compared(rows: Sequence[Example]) -> list[str]:
    """Return the text of each row that is compared: what the model is shown; of conversations, without what all of them begin or end with."""
    texts = [compared_text(row, WHOLE) for row in rows]
    if len(rows) < FEWEST_ALIKE or any(row.messages is None for row in rows):
        return texts
    begin, end = shared_cut(texts)
    return [text[begin : len(text) - end] for text in texts]


def groups_of(rows: Rows, settings: Duplicates) -> dict[int, int]:
    """Return the groups of near duplicates among all rows, whatever their targets, by place: each with the first of its group."""
    if settings.near is False:
        return {}
    if isinstance(rows, Stored):
        apart = np.arange(len(rows), dtype=np.uint64)
        return find_near_stored(rows, settings.similarity, apart, np.zeros(len(rows), np.uint8), drop=False).group
    return find_near(compared(rows), settings.similarity, range(len(rows)), drop=False).group


def near_to(rows: Sequence[Example], others: Iterable[Example], settings: Duplicates) -> dict[int, tuple[Example, float]]:
    """Return the rows, by place, that are near to one of the others, with it and their similarity."""
    held = list(others)
    if settings.near is False or not held or not rows:
        return {}
    tiers = [0] * len(held) + [1] * len(rows)
    leaks = find_near(compared([*held, *rows]), settings.similarity, tiers=tiers).leaks
    return {row - len(held): (held[like.other], like.similarity) for row, like in leaks.items()}


class Families:
    """Texts that are nearly the same, by one or several steps, among rows from anywhere: one key for all of a family."""

    def __init__(self, rows: Iterable[Example], settings: Duplicates) -> None:
        """Compare the rows. With `near: auto`, families of over ten rows and a tenth of all are variations of a few texts, and left out."""
        distinct = {text_key(one): one for one in rows}
        groups = groups_of(list(distinct.values()), settings)
        sizes = Counter(groups.values())
        most = max(FAMILY, LARGE * len(distinct)) if settings.near == "auto" else len(distinct)
        keys = list(distinct)
        self._of = {keys[place]: keys[first] for place, first in groups.items() if sizes[first] <= most}

    def key(self, example: Example) -> str:
        """Return what all texts of the example's family have in common, and no other text has."""
        own = text_key(example)
        return self._of.get(own, own)


def _found(rows: Rows, tiers: NDArray[np.uint8], settings: Duplicates, *, drop: bool, semantic: bool) -> Near:
    if isinstance(rows, Stored) and not semantic:
        return find_near_stored(rows, settings.similarity, rows.column("target"), tiers, drop=drop)
    targets = rows.column("target") if isinstance(rows, Stored) else [target_key(row) for row in rows]
    if semantic:
        from whet.data.semantic import find_semantic  # loads torch

        texts, least = (shown(row) for row in rows), float(settings.semantic)
        folder = rows.shelf.folder if isinstance(rows, Stored) else None
        return find_semantic(texts, len(rows), least, targets, tiers.tolist(), drop=drop, folder=folder)
    assert not isinstance(rows, Stored), "rows on the disk are compared there"
    return find_near(compared(rows), settings.similarity, targets, tiers, drop=drop)


def _reject(rows: Rows, like: Like, kind: Kind, source: str = "") -> Reject:
    row, other = brief(rows, like.row), brief(rows, like.other)
    place = f"{other.file}:{other.line}"
    reason = f"near duplicate ({like.similarity:.2f}) of {place}" + (f" of the {source} file" if source else "")
    return Reject(row.file, row.line, reason, "Nothing to do.", kind=kind, other=place, similarity=round(like.similarity, 4))


def _such_as(near: Near, rows: Rows) -> str:
    shown_pairs = list(near.copies.values())[:EXAMPLES]
    return "such as " + ", ".join(_pair(rows, like) for like in shown_pairs)


def _pair(rows: Rows, like: Like) -> str:
    row, other = brief(rows, like.row), brief(rows, like.other)
    return f"{row.file}:{row.line} of {other.file}:{other.line} ({like.similarity:.2f})"


def _tell_conflicts(found: Alike, near: Near, rows: Rows) -> None:
    disagreeing = []
    for like in near.conflicts:
        row, other = brief(rows, like.row), brief(rows, like.other)
        if is_labelled(row) and like.similarity < 1:
            labels, places = (shown_label(other), shown_label(row)), (f"{other.file}:{other.line}", f"{row.file}:{row.line}")
            disagreeing.append(Conflict(labels, places, round(like.similarity, 4)))
    found.conflicts += disagreeing
    if disagreeing:
        found.notices.append(
            f"{counted(len(disagreeing), 'row')} nearly the same as an earlier one, with another label; all stay. {disagreeing[0].sentence()}"
        )


def _join(groups: dict[int, int], more: Mapping[int, int]) -> None:
    """Add groups to groups: what shares a row becomes one."""
    above = dict(groups)

    def first(row: int) -> int:
        while above.setdefault(row, row) != row:
            row = above[row]
        return row

    for row, other in more.items():
        low, high = sorted((first(row), first(other)))
        above[high] = low
    groups.update({row: first(row) for row in sorted(above)})
