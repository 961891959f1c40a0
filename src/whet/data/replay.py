"""Rows of the runs that a run goes on from: learnt again where the recipe says so, and never across the line to what is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from whet.data.accounting import OF_BEFORE, Accounting, Count
from whet.data.alike import Families
from whet.data.classes import in_order
from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.data.labels import labels_of
from whet.data.leaks import LIMIT
from whet.data.notices import counted
from whet.data.rows import Reject
from whet.errors import DataError, Refused
from whet.types import Example


@dataclass(frozen=True, slots=True)
class Past:
    """The data of a run that came before."""

    name: str
    """The run, as it is spoken of."""
    dataset: Dataset


def with_past(dataset: Dataset, pasts: Sequence[Past], share: float, seed: int) -> Dataset:
    """Return new data beside those of the runs before it, oldest first: leaks taken out both ways, and so many old rows learnt again.

    What a run before is judged or stopped by, also nearly, leaves the new training rows (and what it is judged by the new validation rows); what it
    has learnt leaves the new test rows. Raises Refused where that is too much, DataError where nothing is left.
    """
    everything = chain(*(chain(*one.parts.values()) for one in (dataset, *(past.dataset for past in pasts))))
    families = Families(everything, dataset.columns.duplicates)
    judged, stopped, learnt = (_places(pasts, parts, families) for parts in (["test"], ["validation"], ["train", "validation"]))
    parts = {
        "train": _without(dataset.train, stopped | judged, "what was judged or stopped by in", families),
        "validation": _without(dataset.validation, judged, "what was judged by in", families),
        "test": _without(dataset.test, learnt, "what was learnt in", families),
    }
    leaks = {part: dropped for part, (_, dropped) in parts.items()}
    _refuse(dataset, {part: kept for part, (kept, _) in parts.items()}, leaks, pasts)
    new = list(chain.from_iterable(kept for kept, _ in parts.values()))
    order = {id_: number for number, id_ in enumerate(sorted(example.id for example in new))}
    train, validation, test = (tuple(replace(one, id=order[one.id]) for one in kept) for kept, _ in parts.values())
    pool, barred = old_rows(pasts, new, families)
    drawn = stratified(pool, round(share * len(train)), seed)
    again = tuple(replace(one, id=len(new) + number) for number, one in enumerate(drawn))
    used = in_order({label for one in (*train, *validation, *test, *again) for label in labels_of(one)})
    notices = [
        f"data: {counted(len(dropped), f'{part} row')} taken out, since the same text, or nearly the same, stands in the data of a parent run."
        for part, dropped in leaks.items()
        if dropped
    ]
    if round(share * len(train)) > len(again):
        notices.append(
            f"The parents have {counted(len(pool), 'row')} to learn again, fewer than continual.replay asks for; all are taken."
        )
    return replace(
        dataset,
        train=(*train, *again),
        validation=validation,
        test=test,
        classes=used if dataset.classes else (),
        accounting=_accounting(dataset.accounting, leaks, len(again), len(pool), barred),
        rejects=(*dataset.rejects, *chain.from_iterable(leaks.values())),
        notices=(*dataset.notices, *notices),
    )


def old_rows(pasts: Sequence[Past], new: Iterable[Example], families: Families) -> tuple[list[Example], int]:
    """Return what the runs before have learnt from and may be learnt again, and how many rows may not.

    A text that stands among the new rows, or in what any run is judged or stopped by, also nearly, is barred. Where several runs have a text, the
    last one's row counts: what was said of it last.
    """
    closed = {families.key(one) for one in new} | set(_places(pasts, ["test", "validation"], families))
    found: dict[str, list[Example]] = {}
    for past in pasts:
        own: dict[str, list[Example]] = {}
        for example in past.dataset.originals:
            own.setdefault(text_key(example), []).append(example)
        found |= own
    pool = [example for rows in found.values() if families.key(rows[0]) not in closed for example in rows]
    return pool, sum(map(len, found.values())) - len(pool)


def stratified(examples: Sequence[Example], number: int, seed: int) -> list[Example]:
    """Return a seeded draw, in the order of `examples`: every class once before any comes twice, then by the classes' sizes."""
    generator = np.random.default_rng(seed)
    classes: dict[tuple[str, ...], list[int]] = {}
    for place, example in enumerate(examples):
        classes.setdefault(labels_of(example), []).append(place)
    ranked: list[tuple[float, int, int]] = []
    for turn, name in enumerate(generator.permutation(len(classes)).tolist()):
        places = list(classes.values())[name]
        shuffled = generator.permutation(len(places)).tolist()
        ranked += [(rank / len(places), turn, places[index]) for rank, index in enumerate(shuffled)]
    return [examples[place] for place in sorted(place for _, _, place in sorted(ranked)[:number])]


def _places(pasts: Sequence[Past], parts: Sequence[str], families: Families) -> dict[str, str]:
    """Return the texts of these parts by their families' keys, with where each stands."""
    return {
        families.key(one): f"{past.name}, {part} rows ({one.file}:{one.line})"
        for past in pasts
        for part in parts
        for one in past.dataset.parts[part]
    }


def _without(
    examples: Sequence[Example], places: Mapping[str, str], what: str, families: Families
) -> tuple[list[Example], list[Reject]]:
    kept, dropped = [], []
    for example in examples:
        place = places.get(families.key(example))
        if place is None:
            kept.append(example)
        else:
            reason = f"also stands, as it is or nearly, in {what} a parent run: {place}"
            dropped.append(Reject(example.file, example.line, reason, "Nothing to do.", kind="leak"))
    return kept, dropped


def _refuse(
    before: Dataset, kept: Mapping[str, Sequence[Example]], leaks: Mapping[str, Sequence[Reject]], pasts: Sequence[Past]
) -> None:
    """Raise Refused where more than a fifth of the new training rows are judged by in a parent, DataError where a part is empty now."""
    names, num_leaks, num_rows = ", ".join(past.name for past in pasts), len(leaks["train"]), len(before.train)
    remedy = "Name a file with the new rows only as data.path; rows of before come back by continual.replay."
    if num_leaks > LIMIT * num_rows:
        raise Refused(
            f"{num_leaks} of {num_rows} new training rows ({num_leaks / num_rows:.1%}) also stand in what {names} is judged or stopped "
            f"by; at most {LIMIT:.0%} are taken out without asking. {remedy}"
        )
    empty = [part for part, rows in kept.items() if not rows]
    if empty:
        raise DataError(
            f"{', '.join(before.columns.path)}: no row is left for {' and '.join(empty)}, since all of them stand in the data of {names}. "
            f"{remedy}"
        )


def _accounting(
    before: Accounting, leaks: Mapping[str, Sequence[Reject]], num_again: int, num_pool: int, barred: int
) -> Accounting:
    sources = dict(before.sources)
    for part, dropped in leaks.items():
        if dropped:
            source = part if part in sources else "path"
            one = sources[source]
            used = dict(one.used) | {part: one.used[part] - len(dropped)}
            sources[source] = Count(one.rows, used, dict(Counter(one.dropped) + Counter(leak=len(dropped))))
    not_used = Counter({"not drawn": num_pool - num_again, "same text elsewhere": barred})
    sources[OF_BEFORE] = Count(num_pool + barred, {"train": num_again}, dict(+not_used))
    return Accounting(sources)
