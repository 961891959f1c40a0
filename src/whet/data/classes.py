"""Labels of gathered rows: their spellings made one, and the classes that they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from whet.data.dropping import label_counts
from whet.data.gathered import Gathered
from whet.data.labels import label_key, merged_labels, respelt, spellings
from whet.data.notices import counted
from whet.data.stored import Stored
from whet.errors import DataError
from whet.recipe_data import Data
from whet.types import Example


def name_labels(work: Gathered) -> None:
    """Give rows the label that theirs is another name of, in all sources."""
    names = spellings((), work.data.label_synonyms)
    for source, examples in work.examples.items() if names else ():
        if isinstance(examples, Stored):
            spelt = {label: names.get(label_key(label), label) for label in examples.shelf.words("label")}
            examples.shelf.respell(examples.rows, {label: other for label, other in spelt.items() if label != other})
        else:
            work.examples[source] = [respelt(example, names) for example in examples]


def merge_labels(work: Gathered, known: Sequence[str]) -> None:
    """Write labels that differ by case, spaces, - or _ as their most frequent spelling, in all sources; as a known one where there is one."""
    counts = label_counts([*work.examples.values()])
    total = sum(counts.values())
    merged = merged_labels(counts + Counter(dict.fromkeys(known, total)))
    merged = {spelling: best for spelling, best in merged.items() if spelling not in known}
    if not merged:
        return
    for source, examples in work.examples.items():
        if isinstance(examples, Stored):
            examples.shelf.respell(examples.rows, merged)
        else:
            work.examples[source] = [_relabelled(example, merged) for example in examples]
    shown = ", ".join(f"'{spelling}' is '{best}'" for spelling, best in list(merged.items())[:5])
    work.notices.append(
        f"{counted(len(merged), 'spelling')} of labels merged into the most frequent{' or known' * bool(known)} one: {shown}."
    )


def _relabelled(example: Example, merged: Mapping[str, str]) -> Example:
    if example.label is not None and example.label in merged:
        return replace(example, label=merged[example.label])
    if example.labels is not None and any(label in merged for label in example.labels):
        return replace(example, labels=tuple(dict.fromkeys(merged.get(label, label) for label in example.labels)))
    return example


def classes_of(work: Gathered, columns: Data, needs: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in order. Raises DataError where there is nothing to tell apart."""
    if not {"label", "labels"} & set(needs):
        return ()
    found, learnt = label_counts([*work.examples.values()]), label_counts([work.examples["path"]])
    if learnt and known:  # one new class beside those that are known is enough
        return in_order(found)
    if len(learnt) < 2 and "response" in needs:
        raise DataError(
            f"{', '.join(columns.path)}: the answers are all '{next(iter(learnt), 'unlabelled')}' by '{columns.label}'; what is learnt is to "
            "tell good ones from bad ones. Add rows of the other kind, or learn from good answers alone with objective 'sft'."
        )
    if len(learnt) < 2:
        name = (columns.labels if "labels" in needs else None) or columns.label
        what = "no class" if not learnt else "one class only"
        raise DataError(
            f"{', '.join(columns.path)}: the label column '{name}' has {what}; a classifier needs at least two classes. "
            "Name another column as data.label, or add rows of another class."
        )
    return in_order(found)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels in the order that people expect: numbers by their size, then words by the alphabet."""
    return tuple(sorted(labels, key=lambda one: (0, int(one), one) if one.isdecimal() and one.isascii() else (1, 0, one)))
