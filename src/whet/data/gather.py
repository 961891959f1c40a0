"""From the recipe's `data` section to rows that are read, cleaned and rid of duplicates, none lost without a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from whet.data.accounting import check_rejects
from whet.data.classes import classes_of, merge_labels, name_labels
from whet.data.frozen import read_frozen
from whet.data.frozen_stored import read_stored_frozen
from whet.data.gathered import Gathered
from whet.data.making import Making
from whet.data.mapping import check_columns, required, resolve
from whet.data.notices import counted
from whet.data.placing import by_own_part, timed
from whet.data.raw import RawRows
from whet.data.read import read_files
from whet.data.redact import Privacy, secret_key, wanted
from whet.data.rows import RawRow, Reject
from whet.data.screen import drop, settle_conflicts, tell_hidden
from whet.data.shelves import Shelving
from whet.data.stored import Stored
from whet.data.table import Reading
from whet.data.taken_up import Said, read_on
from whet.data.workers import making_rows, workers_for
from whet.errors import DataError
from whet.recipe_data import SOURCES, Data
from whet.types import Example


def gather(
    data: Data,
    needs: tuple[str, ...],
    folder: Path | None,
    known: Sequence[str] = (),
    *,
    num_workers: int | None = None,
    shelving: Shelving | None = None,
) -> Gathered:
    """Return the rows of a recipe's section, as `prepare` reads them; with `shelving` they lie on the disk. Raises DataError, Refused."""
    work = Gathered(data, data)
    if data.split.frozen is not None:
        work.frozen = (read_frozen if shelving is None else read_stored_frozen)(data.split.frozen)
    work.columns = _read(data, needs, folder, work, num_workers, shelving)
    by_own_part(work)
    timed(work)
    num_rows = sum(work.rows.values())
    check_rejects([*chain.from_iterable(work.rejects.values())], num_rows, data)
    name_labels(work)
    if data.clean == "auto":
        merge_labels(work, known)
    work.classes = classes_of(work, work.columns, needs, known)
    settle_conflicts(work)
    drop(work)
    tell_hidden(work)
    return work


def _read(
    data: Data,
    needs: tuple[str, ...],
    folder: Path | None,
    work: Gathered,
    num_workers: int | None,
    shelving: Shelving | None = None,
) -> Data:
    """Fill in rows, examples and rejects of each source; return the final mapping."""
    raw = {source: _rows(source, data, work, shelving) for source in SOURCES}
    columns = resolve(data, needs, raw["path"], work.notices)
    asked = wanted(columns)
    key = secret_key(asked, chain.from_iterable(raw.values()), folder) if asked is not None and asked.changes else b""
    privacy = None if asked is None else Privacy(asked)
    making = Making(columns, needs, folder, key)
    for source, rows in raw.items():
        check_columns(required(columns), rows)
        work.rows[source], work.rejects[source] = len(rows), []
    num_workers = num_workers or workers_for(sum(work.rows.values()), making)
    if shelving is None:
        _make(making, raw, num_workers, work, privacy)
    else:
        _make_stored(making, raw, num_workers, work, privacy, shelving)
    work.named = tuple(part for part in ("validation", "test") if getattr(data, part))
    for name, times in work.cleaned.items():
        work.notices.append(f"Cleaner '{name}' changed {counted(times, 'text')}.")
    for name, times in work.dropped.items():
        work.notices.append(f"Cleaner '{name}' dropped {counted(times, 'row')}; rejects.jsonl says which, and why.")
    if privacy is not None:
        work.private = privacy.report()
        work.notices += privacy.notices()
    return columns


def _make(making: Making, raw: Mapping[str, RawRows], num_workers: int, work: Gathered, privacy: Privacy | None) -> None:
    """Make the rows, in memory."""
    first = 0
    with making_rows(making, num_workers) as make:
        for source, rows in raw.items():
            examples: list[Example] = []
            for made in make(rows.stretches(), source == "test", first + len(examples)):
                work.cleaned.update(made.changed)
                _take_rejects([item for item in made.items if isinstance(item, Reject)], source, work)
                examples += [item for item in made.items if isinstance(item, Example)]
                for place, kinds in made.private.items():
                    item = made.items[place]
                    if privacy is not None and isinstance(item, Example):
                        privacy.note(item, kinds)
            work.examples[source] = examples
            first += len(examples)
            rows.close()


def _make_stored(
    making: Making, raw: Mapping[str, RawRows], num_workers: int, work: Gathered, privacy: Privacy | None, shelving: Shelving
) -> None:
    """Make the rows, on the disk."""
    shelf, sizes = shelving.shelf, dict.fromkeys(raw, 0)
    for source, numbers in shelving.rows(making, raw, num_workers):
        work.cleaned.update(numbers.changed)
        _take_rejects(numbers.rejects, source, work)
        for row, kinds in numbers.private.items():
            if privacy is not None:
                file = numbers.words["file"][int(numbers.columns["file"][row])]
                privacy.note(Example(id=0, file=file, line=int(numbers.columns["line"][row])), kinds)
        sizes[source] += len(numbers.columns["line"])
    first = 0
    for source, size in sizes.items():
        work.examples[source] = Stored(shelf, np.arange(first, first + size))
        first += size
        raw[source].close()


def _take_rejects(rejects: Sequence[Reject], source: str, work: Gathered) -> None:
    """Add what cannot be used, or was dropped, of the next rows of a source."""
    for reject in rejects:
        _stop_if_strict(reject, work.data)
        work.rejects[source].append(reject)
        if reject.by:
            work.dropped[reject.by] += 1


def _rows(source: str, data: Data, work: Gathered, shelving: Shelving | None) -> RawRows:
    """Read the files of a source; with `shelving`, what was read before a kill is not read again.

    Where private data are to leave the rows, these are not kept as they were read.
    """
    paths = [Path(name) for name in getattr(data, source)]
    asked = wanted(data)
    if shelving is not None and paths and (asked is None or not asked.changes):
        said = Said(work.notices, work.dates, work.files)
        at = shelving.folder / f"{source}.rows"
        known = read_on(paths, at, said, lambda row: _stop_if_strict(row, data), shelving.compared)
        if known is not None:
            return known
    rows = RawRows(None if shelving is None else shelving.folder)
    for row in read_files(paths, work.notices, Reading(dates=work.dates)):
        _stop_if_strict(row, data)
        work.files.setdefault(row.file)
        rows.add(row)
    return rows


def _stop_if_strict(reject: RawRow | Reject, data: Data) -> None:
    if data.strict and isinstance(reject, Reject) and reject.unusable:
        raise DataError(f"{reject.sentence()} The run stops at the first such row because data.strict is true.")
