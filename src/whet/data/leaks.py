"""Rows of the user's test or validation file that also stand in what is learnt from: found, and taken out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whet.data.keys import text_key
from whet.data.notices import SHOWN, counted
from whet.data.rows import Kind, Reject
from whet.errors import Refused
from whet.types import Example

LIMIT = 0.2  # share of the training rows above which the files are not what the user thinks they are


def without_leaks(examples: Sequence[Example], held_out: Iterable[Example], what: str) -> tuple[list[Example], list[Reject]]:
    """Return the examples whose text, and whose groups, are not in `held_out`, and a Reject for each other.

    `what` is the part that is held out: 'test' or 'validation'.
    """
    places: dict[str, str] = {}
    groups: dict[str, str] = {}
    for one in held_out:
        place = f"{one.file}:{one.line}"
        places.setdefault(text_key(one), place)
        for group in one.group or ():
            groups.setdefault(group, place)
    if not places:
        return list(examples), []
    kept: list[Example] = []
    dropped: list[Reject] = []
    for example in examples:
        known = places.get(text_key(example))
        shared = next((group for group in example.group or () if group in groups), None)
        if known is not None:
            reason = f"also stands in the {what} file {known}"
            dropped.append(Reject(example.file, example.line, reason, "Nothing to do.", kind="leak", other=known))
        elif shared is not None:
            reason = f"is of the same {shared.partition('=')[0]} as {groups[shared]} of the {what} file"
            dropped.append(Reject(example.file, example.line, reason, "Nothing to do.", kind="group leak", other=groups[shared]))
        else:
            kept.append(example)
    return kept, dropped


def told(dropped: Sequence[Reject], what: str) -> str:
    """Return what became of rows that also stand in a held-out part, by kind, with some of them by place."""
    ways: dict[Kind, str] = {
        "leak": f"the same text stands in data.{what}",
        "near leak": f"nearly the same text stands in data.{what}",
        "group leak": f"their group has a row in data.{what}",
    }
    some = {kind: [one for one in dropped if one.kind == kind] for kind in ways}
    return " ".join(
        f"{counted(len(found), 'row')} taken out, since {ways[kind]}: {named(found)}." for kind, found in some.items() if found
    )


def named(dropped: Sequence[Reject]) -> str:
    """Return the first of these rows by place, each with the one that it is like."""
    pairs = [
        f"{one.file}:{one.line} like {one.other}" + (f" ({one.similarity:.2f})" if one.similarity else "") for one in dropped
    ]
    return ", ".join(pairs[:SHOWN]) + (", ..." if len(pairs) > SHOWN else "")


def refuse_many(dropped: Sequence[Reject], num_rows: int, what: str, limit: float = LIMIT) -> None:
    """Raise Refused where more of the training rows than the limit also stand in a held-out file, nearly or by their group too."""
    if len(dropped) <= limit * num_rows:
        return
    near, grouped = (sum(one.kind == kind for one in dropped) for kind in ("near leak", "group leak"))
    parts = [f"{near} of them nearly"] * bool(near) + [f"{grouped} by another row of their group"] * bool(grouped)
    kinds = f" ({', '.join(parts)})" if parts else ""
    remedy = f"Check that data.path and data.{what} are different files"
    if near:
        remedy += (
            "; if they are, their rows are variations of the same texts, and a test file drawn by whole groups of them would tell more: leave "
            f"data.{what} out and name the rows in data.path, or do not look for near duplicates (data.duplicates.near: false)"
        )
    raise Refused(
        f"{len(dropped)} of {num_rows} training rows ({len(dropped) / num_rows:.1%}) also stand in the {what} file{kinds}, such as "
        f"{named(dropped)}; at most {limit:.0%} are taken out without asking (data.max_leak_fraction). {remedy}."
    )
