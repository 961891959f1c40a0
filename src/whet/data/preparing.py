"""From the recipe's `data` section to training, validation and test examples, every row accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from whet.data.accounting import Accounting, Count, count
from whet.data.dataset import Dataset
from whet.data.divide import apart
from whet.data.gather import gather
from whet.data.gathered import Gathered
from whet.data.keys import text_key
from whet.data.notices import counted, grouped
from whet.data.redact import finders_of
from whet.data.rows import Reject
from whet.data.split import PARTS
from whet.data.stored import Rows
from whet.data.unswept import unswept
from whet.recipe_data import Data


def prepare(
    data: Data, needs: tuple[str, ...], folder: Path | None, known: Sequence[str] = (), *, num_workers: int | None = None
) -> Dataset:
    """Return the data of a run. `needs` are the objective's; `folder` is the recipe's, for cleaners of the user's own; `known` are the
    classes of the runs that it goes on from, whose spelling stays.

    Paths are relative to the current directory. Many rows are made into examples by `num_workers` processes (none named: one for each
    processor); the result is the same for any number. Raises DataError for data that cannot be used, Refused where too many training
    rows also stand in a held-out file.
    """
    with unswept():
        return divide(gather(data, needs, folder, known, num_workers=num_workers))


def divide(work: Gathered, placed: Mapping[str, str] = MappingProxyType({})) -> Dataset:
    """Return the data of a run, divided. `placed` are texts, by their keys, whose part another task's rows have decided.

    Where this task has a file of its own for that part, such rows are left out. Raises DataError where a part is empty.
    """
    about, parts = divided(work, placed)
    return replace(about, train=tuple(parts["train"]), validation=tuple(parts["validation"]), test=tuple(parts["test"]))


def divided(work: Gathered, placed: Mapping[str, str] = MappingProxyType({})) -> tuple[Dataset, dict[str, Rows]]:
    """Return the data set without its rows, and the rows of each part (see `divide`)."""
    _leave_out(work, placed)
    parts = apart(work, placed)
    accounting = Accounting({source: _count(source, work, parts, work.named) for source in ("path", *work.named)})
    about = Dataset(
        train=(),
        validation=(),
        test=(),
        columns=work.columns,
        classes=work.classes,
        accounting=accounting,
        rejects=tuple(chain.from_iterable(_in_order(rejects) for rejects in work.rejects.values())),
        notices=grouped(work.notices, work.files),
        conflicts=work.conflicts,
        cleaned=dict(work.cleaned),
        hidden=work.hidden,
        dates=work.dates,
        private=work.private,
        finders=finders_of(work.columns),
        keeps_near=work.keeps_near,
    )
    return about, parts


def _leave_out(work: Gathered, placed: Mapping[str, str]) -> None:
    """Take out rows whose text another task is judged on, or stops by, in a part that has a file of its own here."""
    if not placed:
        return
    named = set(work.named)
    for source, parts in (("path", named), ("validation", {"test"})):
        kept = [example for example in work.examples[source] if placed.get(text_key(example)) not in parts]
        dropped = [example for example in work.examples[source] if placed.get(text_key(example)) in parts]
        work.examples[source] = kept
        work.rejects[source] += [
            Reject(one.file, one.line, "also stands in a held-out part of another task", "Nothing to do.", kind="leak")
            for one in dropped
        ]
        if dropped:
            work.notices.append(
                f"data.{source}: {counted(len(dropped), 'row')} taken out, since the same text stands in a held-out part of another task."
            )


def _count(source: str, work: Gathered, parts: Mapping[str, Rows], named: Sequence[str]) -> Count:
    own = [source] if source != "path" else [part for part in PARTS if part not in named]
    return count(work.rows[source], {part: len(parts[part]) for part in own}, work.rejects[source])


def _in_order(rejects: Sequence[Reject]) -> list[Reject]:
    files = {file: index for index, file in enumerate(dict.fromkeys(reject.file for reject in rejects))}
    return sorted(rejects, key=lambda reject: (files[reject.file], reject.line))
