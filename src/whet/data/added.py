"""New rows beside a data set whose rows stay where they are: the old parts are frozen, and no text comes to stand in two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from whet.data.accounting import OF_BEFORE, Accounting, Count, check_rejects, count
from whet.data.alike import Families
from whet.data.classes import in_order
from whet.data.clean import Cleaners
from whet.data.dataset import Dataset
from whet.data.deduplicate import conflicts, without_duplicates
from whet.data.keys import content_key, text_key
from whet.data.labels import labels_of, merged_labels, respelt, spellings
from whet.data.mapping import check_columns, required
from whet.data.notices import counted
from whet.data.replay import Past, old_rows, stratified
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.data.split import PARTS, split
from whet.display import places
from whet.errors import DataError
from whet.recipe_data import Split
from whet.types import Example

NEW = "new"
"""What the accounting calls the new rows."""


@dataclass(frozen=True, slots=True)
class Added:
    """A data set with new rows in it."""

    dataset: Dataset
    """The old parts, each with its share of the new rows behind."""
    first_id: int
    """The new rows have ids from here on."""
    used: dict[str, int]
    """New rows of each part."""
    notices: tuple[str, ...]
    new_classes: tuple[str, ...]
    """Labels that no old row has."""


def add_rows(
    old: Dataset,
    rows: Sequence[RawRow | Reject],
    needs: tuple[str, ...],
    shares: Split,
    cleaners: Cleaners,
    files: Sequence[str],
    before: Sequence[Dataset] = (),
) -> Added:
    """Divide new rows by `shares`, as if they had been alone, and put each part behind the old one. Old rows stay where they are.

    A new row whose text stands in an old test or validation part, also nearly, is dropped: it must never be learnt from. One whose text
    was learnt from is learnt from too, unless it is the same row. `files` are what the rows come from, for messages; `before` the data of
    the runs that the old one went on from, whose texts are held apart in the same way. Raises DataError.
    """
    wanted = required(old.columns)
    check_columns(wanted, list(rows))
    made = list(to_examples(rows, old.columns, needs, cleaners))
    rejects = [one for one in made if isinstance(one, Reject)]
    strict = next((one for one in rejects if one.unusable), None)
    if old.columns.strict and strict is not None:
        raise DataError(f"{strict.sentence()} The run stops at the first such row because data.strict is true.")
    check_rejects(rejects, len(rows), old.columns, files)
    notices: list[str] = []
    examples = _spelt_alike(old, [cleaners.redacted(one) for one in made if isinstance(one, Example)], notices)
    everything = chain(examples, *(chain(*one.parts.values()) for one in (*before, old)))
    families = Families(everything, old.columns.duplicates)
    examples, known, dropped = _beside(old, before, examples, families, notices)
    rejects += dropped
    if not examples:
        raise DataError(
            f"{places(files)}: none of {counted(len(rows), 'row')} is new and usable, so there is nothing to learn. "
            "Every one stands in the run's data already, or lacks a text or a label."
        )
    first = max((one.id for one in chain(*old.parts.values())), default=-1) + 1
    new = _divided(examples, families, known, shares, first)
    classes = in_order({*old.classes, *(label for one in examples for label in labels_of(one))}) if old.classes else ()
    fresh = tuple(label for label in classes if label not in old.classes)
    if fresh:
        notices.append(f"{counted(len(fresh), 'label')} that no row had until now: {', '.join(fresh[:10])}.")
    disagreeing = conflicts([*old.train, *old.validation, *new["train"], *new["validation"]])
    used = {part: len(new[part]) for part in PARTS}
    number = sum(source.startswith(NEW) for source in old.accounting.sources)
    sources = {**old.accounting.sources, NEW if not number else f"{NEW} {number + 1}": count(len(rows), used, rejects)}
    dataset = replace(
        old,
        train=(*old.train, *new["train"]),
        validation=(*old.validation, *new["validation"]),
        test=(*old.test, *new["test"]),
        classes=classes,
        accounting=Accounting(sources),
        rejects=(*old.rejects, *rejects),
        notices=(*old.notices, *notices),
        conflicts=tuple(disagreeing),
    )
    return Added(dataset, first, used, tuple(notices), fresh)


def _divided(
    examples: Sequence[Example], families: Families, known: Container[str], shares: Split, first: int
) -> dict[str, tuple[Example, ...]]:
    """Return the parts of the new rows, numbered from `first` on; near duplicates stay together, those of `known` families are learnt from."""
    near, numbers = {}, dict[str, int]()
    for one in examples:
        near[one.id] = numbers.setdefault(families.key(one), one.id)
    parts = split(
        [one for one in examples if families.key(one) not in known], shares.model_dump(include=set(PARTS)), shares.seed,
        stratify=shares.stratify, near=near,
    )  # fmt: skip
    parts["train"] += [one for one in examples if families.key(one) in known]
    order = {one.id: first + place for place, one in enumerate(sorted(chain(*parts.values()), key=lambda one: one.id))}
    return {part: tuple(replace(one, id=order[one.id]) for one in sorted(parts[part], key=lambda one: one.id)) for part in PARTS}


def _spelt_alike(old: Dataset, examples: list[Example], notices: list[str]) -> list[Example]:
    """Return the examples with labels spelt as the old rows have them, and new labels as most new rows do."""
    known = spellings(old.classes, old.columns.label_synonyms)
    examples = [respelt(one, known) for one in examples]
    if old.columns.clean != "auto":
        return examples
    merged = merged_labels(Counter(label for one in examples for label in labels_of(one) if label not in old.classes))
    if merged:
        notices.append(f"{counted(len(merged), 'spelling')} of new labels merged into the most frequent one.")
    new = spellings([*old.classes, *{label for one in examples for label in labels_of(one)} - {*merged}])
    return [respelt(one, new) for one in examples]


def with_replay(added: Added, old: Dataset, before: Sequence[Dataset], share: float, seed: int) -> Added:
    """Return the data of a model that learns the new rows only, and of the old ones a draw: `share` times as many as are new.

    The old test and validation rows stay. `before` are the data of the runs that the old one went on from, oldest first.
    """
    parts = added.dataset.parts
    fresh = {part: [one for one in parts[part] if one.id >= added.first_id] for part in PARTS}
    pasts = [Past("", one) for one in (*before, old)]
    everything = chain(*fresh.values(), *(chain(*past.dataset.parts.values()) for past in pasts))
    pool, barred = old_rows(pasts, list(chain(*fresh.values())), Families(everything, old.columns.duplicates))
    drawn = stratified(pool, round(share * len(fresh["train"])), seed)
    first = len(drawn) + len(old.validation) + len(old.test)
    number = iter(range(first))
    kept = {part: [replace(one, id=next(number)) for one in some] for part, some in (
        ("train", drawn), ("validation", old.validation), ("test", old.test))}  # fmt: skip
    order = {one.id: first + place for place, one in enumerate(sorted(chain(*fresh.values()), key=lambda one: one.id))}
    new = {part: [replace(one, id=order[one.id]) for one in fresh[part]] for part in PARTS}
    used = {"train": len(drawn), "validation": len(old.validation), "test": len(old.test)}
    dropped = {"not drawn": len(pool) - len(drawn), "same text elsewhere": barred}
    again = Count(sum(used.values()) + sum(dropped.values()), used, {why: count for why, count in dropped.items() if count})
    name, newest = next(
        (name, one) for name, one in reversed(list(added.dataset.accounting.sources.items())) if name.startswith(NEW)
    )
    dataset = replace(
        added.dataset,
        train=(*kept["train"], *new["train"]),
        validation=(*kept["validation"], *new["validation"]),
        test=(*kept["test"], *new["test"]),
        accounting=Accounting({OF_BEFORE: again, name: newest}),
    )
    return replace(added, dataset=dataset, first_id=first)


def _beside(
    old: Dataset, before: Sequence[Dataset], examples: list[Example], families: Families, notices: list[str]
) -> tuple[list[Example], set[str], list[Reject]]:
    """Return the examples that are new, the families of those whose text was learnt from before, and a Reject for every other."""
    examples, dropped = without_duplicates(examples)
    if dropped:
        notices.append(f"{counted(len(dropped), 'new row')} dropped, the same as another new one.")
    held = {
        families.key(one): (part, one) for part in ("validation", "test") for data in (*before, old) for one in data.parts[part]
    }
    learnt = {content_key(one): one for one in old.train}
    kept: list[Example] = []
    leaks: list[Reject] = []
    again: list[Reject] = []
    for one in examples:
        part, known_as = held.get(families.key(one)) or ("train", learnt.get(content_key(one)))
        if known_as is None:
            kept.append(one)
        elif part == "train":
            again.append(
                Reject(one.file, one.line, f"duplicate of {known_as.file}:{known_as.line}", "Nothing to do.", kind="duplicate")
            )
        else:
            place = f"{known_as.file}:{known_as.line}"
            leaks.append(_leak(one, part, place, text_key(one) == text_key(known_as)))
    if again:
        notices.append(f"{counted(len(again), 'new row')} dropped, already learnt from.")
    if leaks:
        notices.append(
            f"{counted(len(leaks), 'new row')} taken out: the same text, or nearly the same, is judged on, or stopped by."
        )
    trained = {families.key(one) for data in (*before, old) for one in data.train}
    known = {key for one in kept if (key := families.key(one)) in trained}
    if known:
        notices.append(
            f"{counted(len(known), 'text')} stood in the training rows, nearly or with another label; both rows are learnt from."
        )
    return kept, known, [*dropped, *again, *leaks]


def _leak(one: Example, part: str, place: str, same: bool) -> Reject:
    reason = f"{'also' if same else 'nearly the same text'} stands in the {part} part, {place}"
    return Reject(one.file, one.line, reason, "Nothing to do.", kind="leak" if same else "near leak", other=place)
