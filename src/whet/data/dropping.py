"""Duplicates, conflicts and leaks among rows in memory or on the disk: of the latter by their numbers alone, with the same result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from whet.data import deduplicate, leaks
from whet.data.deduplicate import Conflict, shown_label
from whet.data.rows import Reject
from whet.data.shelf import Ints, first_places
from whet.data.stored import Rows, Stored, joined
from whet.types import Example


def without_duplicates(rows: Rows) -> tuple[Rows, list[Reject]]:
    """Return the first of each set of equal rows, and a Reject for every other."""
    if not isinstance(rows, Stored):
        return deduplicate.without_duplicates(rows)
    keys = rows.column("content")
    first = first_places(keys[:, 0], keys[:, 1])
    stays = first == np.arange(len(rows))
    dropped = []
    for place in np.flatnonzero(~stays).tolist():
        row, kept = rows.brief(place), _place(rows, int(first[place]))
        dropped.append(Reject(row.file, row.line, f"duplicate of {kept}", "Nothing to do.", kind="duplicate", other=kept))
    return rows.where(stays), dropped


def conflicts(some: Sequence[Rows]) -> list[Conflict]:
    """Return the texts whose rows disagree about the label."""
    rows = joined(some)
    if not isinstance(rows, Stored):
        return deduplicate.conflicts(rows)
    found = []
    for places in _disagreeing(rows):
        group = [rows.brief(place) for place in places]
        found.append(Conflict(tuple(map(shown_label, group)), tuple(f"{one.file}:{one.line}" for one in group)))
    return found


def without_conflicts(rows: Rows, majority: bool) -> tuple[Rows, list[Reject]]:
    """Return the rows without those whose text stands there with another label too (see `deduplicate.without_conflicts`)."""
    if not isinstance(rows, Stored):
        return deduplicate.without_conflicts(rows, majority)
    leaving: dict[int, str] = {}
    for places in _disagreeing(rows):
        labels = [shown_label(rows.brief(place)) for place in places]
        votes = Counter(labels)
        (best, most), (_, second) = votes.most_common(2)
        for place, label in zip(places, labels, strict=True):
            if not (majority and most > second and label == best):
                leaving[place] = f"the same text has {len(votes)} different labels"
    stays = np.ones(len(rows), bool)
    stays[list(leaving)] = False
    dropped = []
    for place in sorted(leaving):
        row = rows.brief(place)
        dropped.append(Reject(row.file, row.line, leaving[place], "Nothing to do; data.conflicts.", kind="conflict"))
    return rows.where(stays), dropped


def without_leaks(rows: Rows, held: Rows, what: str) -> tuple[Rows, list[Reject]]:
    """Return the rows whose text, and whose groups, are not in `held`, and a Reject for each other (see `leaks.without_leaks`)."""
    if not isinstance(rows, Stored) or not isinstance(held, Stored):
        return leaks.without_leaks(rows, held, what)
    if not len(held):
        return rows, []
    both = Stored(rows.shelf, np.concatenate([held.rows, rows.rows]))
    keys = both.column("text")
    known = first_places(keys[:, 0], keys[:, 1])[len(held) :]
    shared = _groups_shared(both, len(held))
    stays, dropped = np.ones(len(rows), bool), []
    for place in np.flatnonzero((known < len(held)) | np.isin(np.arange(len(rows)), list(shared))).tolist():
        row = rows.brief(place)
        stays[place] = False
        if known[place] < len(held):
            other = _place(held, int(known[place]))
            reason = f"also stands in the {what} file {other}"
            dropped.append(Reject(row.file, row.line, reason, "Nothing to do.", kind="leak", other=other))
        else:
            kind, first = shared[place]
            other = _place(held, first)
            reason = f"is of the same {kind} as {other} of the {what} file"
            dropped.append(Reject(row.file, row.line, reason, "Nothing to do.", kind="group leak", other=other))
    return rows.where(stays), dropped


def label_counts(some: Sequence[Rows]) -> Counter[str]:
    """Return how many rows have each label; a row of several counts for each."""
    counts: Counter[str] = Counter()
    for rows in some:
        if isinstance(rows, Stored):
            counts.update(rows.label_counts())
        else:
            counts.update(label for one in rows for label in ((one.label,) if one.label is not None else one.labels or ()))
    return counts


def _disagreeing(rows: Stored) -> list[list[int]]:
    """Return the places of labelled rows with the same text, of each text whose labels differ, in the order of the first of each."""
    labelled = np.flatnonzero(rows.column("labelled"))
    keys, label = rows.column("text")[labelled], rows.column("label")[labelled]
    first = first_places(keys[:, 0], keys[:, 1])
    if rows.column("several_counts").any():
        label = _shown_numbers(rows, labelled, first)
    firsts = np.unique(first[label != label[first]])
    at = np.flatnonzero(np.isin(first, firsts))
    at = at[np.argsort(first[at], kind="stable")]
    cuts = np.flatnonzero(np.diff(first[at])) + 1
    return [labelled[some].tolist() for some in np.split(at, cuts)] if len(at) else []


def _shown_numbers(rows: Stored, labelled: Ints, first: Ints) -> Ints:
    """Return a number for each row's labels as they are shown, the same for the same, of rows whose text comes again; 0 for the others. [N]"""
    again = np.flatnonzero(first != np.arange(len(first)))
    found, known = np.zeros(len(labelled), np.int64), dict[str, int]()
    for place in np.union1d(again, first[again]).tolist():
        found[place] = known.setdefault(shown_label(rows.brief(int(labelled[place]))), len(known))
    return found


def _groups_shared(both: Stored, num_held: int) -> dict[int, tuple[str, int]]:
    """Return of each row behind the first `num_held`, by its place there, the kind of its first group that one of those has, and which."""
    owner, at = both.shelf.spans("group", both.rows)
    if not len(owner):
        return {}
    first = owner[first_places(both.shelf.column("group")[at])]
    shared = np.flatnonzero((owner >= num_held) & (first < num_held))
    _, once = np.unique(owner[shared], return_index=True)
    kinds: Ints = both.shelf.column("group_kind")[at]
    return {
        int(owner[one]) - num_held: (both.shelf.word("kind", int(kinds[one])), int(first[one])) for one in shared[once].tolist()
    }


def _place(rows: Stored, place: int) -> str:
    row: Example = rows.brief(place)
    return f"{row.file}:{row.line}"
