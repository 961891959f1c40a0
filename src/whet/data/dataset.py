"""The data of a run: from the recipe's `data` section to training, validation and test examples, every row accounted for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from whet.data.accounting import ACCOUNTING, Accounting, Count, check_rejects, count
from whet.data.alike import without_near
from whet.data.deduplicate import Conflict
from whet.data.divide import apart
from whet.data.dropping import conflicts, label_counts, without_conflicts, without_duplicates, without_leaks
from whet.data.frozen import Frozen, read_frozen
from whet.data.hidden import ENOUGH, REFUSED, hidden_targets
from whet.data.keys import text_key
from whet.data.labels import label_key, merged_labels, respelt, spellings
from whet.data.leaks import refuse_many, told
from whet.data.making import Making
from whet.data.mapping import check_columns, required, resolve
from whet.data.notices import counted, grouped
from whet.data.placing import by_own_part, timed
from whet.data.raw import RawRows
from whet.data.read import read_files
from whet.data.redact import Privacy, Private, build_privacy, secret_key, wanted
from whet.data.rows import Reject
from whet.data.shelf import Rows, Stored
from whet.data.split import PARTS
from whet.data.store import example_line, example_of, examples_hash
from whet.data.stream import Streamed, streamed_of
from whet.data.table import Reading
from whet.data.unswept import unswept
from whet.data.workers import making_rows, workers_for
from whet.errors import DataError, Refused
from whet.files import read_lines, write_json, write_lines, write_whole
from whet.recipe import SOURCES, Data
from whet.types import Example

if TYPE_CHECKING:
    from whet.data.large import Shelving


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one of several tasks' data."""

    columns: Data
    """The recipe's section with every guess filled in."""
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in three parts, and what was found and done on the way."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    columns: Data
    """The recipe's section with every guess filled in."""
    classes: tuple[str, ...]
    """Labels of all parts, in order; empty where nothing is classified."""
    accounting: Accounting
    rejects: tuple[Reject, ...]
    notices: tuple[str, ...]
    """What was assumed or repaired, one sentence each."""
    conflicts: tuple[Conflict, ...]
    cleaned: Mapping[str, int]
    """Cleaner and the number of texts that it changed."""
    dates: Mapping[str, str] = field(default_factory=dict)
    """Of each file, or place that rows were collected from: when it was written, by ISO 8601."""
    tasks: Mapping[str, Part] = field(default_factory=dict)
    """Of several tasks, what each one's data are, by its name; `columns` and `classes` are then of none of them."""
    hidden: tuple[str, ...] = ()
    """What stands in the texts and gives the target away, a sentence each."""
    private: tuple[Private, ...] = ()
    """Kinds of private data that the rows held, how often and where; never what it was."""
    keeps_near: bool = False
    """Near duplicates stay although the recipe leaves it to us."""
    stream: Streamed | None = None
    """What is read while it is learnt from; the rows here are then those of a sample."""

    @property
    def parts(self) -> dict[str, tuple[Example, ...]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def originals(self) -> tuple[Example, ...]:
        """The training rows of the data, without those that an augmenter made of them."""
        return tuple(example for example in self.train if example.made_by is None)

    @property
    def hash(self) -> str:
        """SHA-256 of the examples and how they are divided."""
        own = examples_hash(self.parts)
        if self.stream is None:
            return own
        return hashlib.sha256(f"{own} {json.dumps(self.stream.record(), sort_keys=True)}".encode()).hexdigest()

    def of_task(self, name: str) -> Dataset:
        """Return what one of several tasks learns from and is judged on; rows keep their ids."""
        part, prefix = self.tasks[name], f"{name}."

        def own(examples: Sequence[Example]) -> tuple[Example, ...]:
            return tuple(replace(example, task=None) for example in examples if example.task == name)

        sources = {
            source.removeprefix(prefix): one for source, one in self.accounting.sources.items() if source.startswith(prefix)
        }
        return replace(
            self,
            train=own(self.train),
            validation=own(self.validation),
            test=own(self.test),
            columns=part.columns,
            classes=part.classes,
            accounting=Accounting(sources),
            rejects=tuple(replace(reject, task="") for reject in self.rejects if reject.task == name),
            tasks={},
        )

    def write(self, folder: Path, known_hash: str | None = None) -> None:
        """Write data/PART.jsonl, data/accounting.json, rejects.jsonl and splits.json into a run's folder; `known_hash`: its `hash`."""
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for part, examples in self.parts.items():
            write_whole(folder / "data" / f"{part}.jsonl", "".join(f"{example_line(example)}\n" for example in examples))
        shares = self.columns.split.model_dump()
        ids = {part: [example.id for example in examples] for part, examples in self.parts.items()}
        texts = {part: sorted({text_key(example) for example in examples}) for part, examples in self.parts.items()}
        write_json(folder / "splits.json", {"settings": shares, "hash": known_hash or self.hash, **ids, "texts": texts})
        self.write_about(folder)

    def write_about(self, folder: Path) -> None:
        """Write what is known but the rows: data/accounting.json and rejects.jsonl."""
        write_lines(folder / "rejects.jsonl", map(_reject_record, self.rejects))
        write_json(
            folder / ACCOUNTING,
            {
                "columns": self.columns.model_dump(mode="json"),
                "classes": self.classes,
                "sources": {source: asdict(one) for source, one in self.accounting.sources.items()},
                "notices": self.notices,
                "conflicts": [asdict(one) for one in self.conflicts],
                "cleaned": dict(self.cleaned),
                "hidden": self.hidden,
                "dates": dict(self.dates),
                "private": [asdict(one) for one in self.private],
                **({"keeps_near": True} if self.keeps_near else {}),
                **({"stream": self.stream.record()} if self.stream else {}),
                **({"tasks": {name: _part_record(part) for name, part in self.tasks.items()}} if self.tasks else {}),
            },
        )


def read_dataset(folder: Path) -> Dataset:
    """Return the dataset that was written into a run's folder."""
    try:
        parts = {part: tuple(map(example_of, read_lines(folder / "data" / f"{part}.jsonl"))) for part in PARTS}
        said = json.loads((folder / ACCOUNTING).read_text(encoding="utf-8"))
        rejects = tuple(Reject(**record) for record in read_lines(folder / "rejects.jsonl"))
    except FileNotFoundError as error:
        raise DataError(f"{folder}: the run's data are incomplete ({error.filename} is missing). Prepare it again.") from None
    return Dataset(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        columns=Data.model_validate(said["columns"]),
        classes=tuple(said["classes"]),
        accounting=Accounting({source: Count(**one) for source, one in said["sources"].items()}),
        rejects=rejects,
        notices=tuple(said["notices"]),
        cleaned=said["cleaned"],
        dates=said.get("dates", {}),
        conflicts=tuple(
            Conflict(tuple(one["labels"]), tuple(one["places"]), one.get("similarity", 1.0)) for one in said["conflicts"]
        ),
        hidden=tuple(said.get("hidden", ())),
        private=tuple(Private(**{**one, "places": tuple(one["places"])}) for one in said.get("private", ())),
        keeps_near=said.get("keeps_near", False),
        stream=streamed_of(said["stream"]) if "stream" in said else None,
        tasks={
            name: Part(Data.model_validate(one["columns"]), tuple(one["classes"])) for name, one in said.get("tasks", {}).items()
        },
    )


def _part_record(part: Part) -> dict[str, Any]:
    return {"columns": part.columns.model_dump(mode="json"), "classes": part.classes}


def _reject_record(reject: Reject) -> dict[str, Any]:
    return {key: value for key, value in asdict(reject).items() if key not in {"task", "other", "similarity", "by"} or value}


@dataclass(slots=True)
class Gathered:
    """Rows that were read, cleaned and rid of duplicates, by source, before they are divided."""

    data: Data
    """The recipe's section."""
    columns: Data
    """The same with every guess filled in."""
    classes: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Rows] = field(default_factory=dict)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    cleaned: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """Cleaner and the number of rows that it dropped."""
    files: dict[str, None] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    """Parts whose rows the user has named, by a file or in a column."""
    times: dict[int, float] = field(default_factory=dict)
    """Seconds of each row, by its id, where rows are divided by time."""
    near: dict[int, int] = field(default_factory=dict)
    """Groups of near duplicates that stay, by the examples' ids."""
    keeps_near: bool = False
    frozen: Frozen | None = None
    hidden: tuple[str, ...] = ()
    dates: dict[str, str] = field(default_factory=dict)
    private: tuple[Private, ...] = ()


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
    work.frozen = read_frozen(data.split.frozen) if data.split.frozen is not None else None
    work.columns = _read(data, needs, folder, work, num_workers, shelving)
    by_own_part(work)
    timed(work)
    num_rows = sum(work.rows.values())
    check_rejects([*chain.from_iterable(work.rejects.values())], num_rows, data)
    _name_labels(work)
    if data.clean == "auto":
        _merge_labels(work, known)
    work.classes = _classes(work, work.columns, needs, known)
    _settle_conflicts(work)
    _drop(work)
    _tell_hidden(work)
    return work


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


def _read(
    data: Data,
    needs: tuple[str, ...],
    folder: Path | None,
    work: Gathered,
    num_workers: int | None,
    shelving: Shelving | None = None,
) -> Data:
    """Fill in rows, examples and rejects of each source; return the final mapping."""
    at = None if shelving is None else shelving.folder
    raw = {source: _rows([Path(name) for name in getattr(data, source)], data, work, at) for source in SOURCES}
    columns = resolve(data, needs, raw["path"], work.notices)
    asked = wanted(columns)
    redacts = asked is not None and asked.mode != "count"
    key = secret_key(asked, chain.from_iterable(raw.values()), folder) if asked is not None and redacts else b""
    privacy = build_privacy(columns, None)
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


def _rows(paths: Sequence[Path], data: Data, work: Gathered, folder: Path | None) -> RawRows:
    rows = RawRows(folder)
    for row in read_files(paths, work.notices, Reading(dates=work.dates)):
        if isinstance(row, Reject):
            _stop_if_strict(row, data)
        work.files.setdefault(row.file)
        rows.add(row)
    return rows


def _stop_if_strict(reject: Reject, data: Data) -> None:
    if data.strict and reject.unusable:
        raise DataError(f"{reject.sentence()} The run stops at the first such row because data.strict is true.")


def _name_labels(work: Gathered) -> None:
    """Give rows the label that theirs is another name of, in all sources."""
    names = spellings((), work.data.label_synonyms)
    for source, examples in work.examples.items() if names else ():
        if isinstance(examples, Stored):
            spelt = {label: names.get(label_key(label), label) for label in examples.shelf.labels}
            examples.shelf.respell(examples.rows, {label: other for label, other in spelt.items() if label != other})
        else:
            work.examples[source] = [respelt(example, names) for example in examples]


def _merge_labels(work: Gathered, known: Sequence[str]) -> None:
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


def _classes(work: Gathered, columns: Data, needs: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
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


def _settle_conflicts(work: Gathered) -> None:
    """Tell which texts have different labels, and take such rows out where the recipe says so. The user's test file stays as it is."""
    disagreeing = conflicts([work.examples["path"], work.examples["validation"]])
    work.conflicts = tuple(disagreeing)
    if not disagreeing:
        return
    done = "all stay"
    if work.data.conflicts != "keep":
        for source in ("path", "validation"):
            majority = work.data.conflicts == "majority"
            work.examples[source], dropped = without_conflicts(work.examples[source], majority)
            work.rejects[source] += dropped
        done = "the commonest label's stay" if work.data.conflicts == "majority" else "none stays"
    work.notices.append(
        f"{counted(len(disagreeing), 'text')} with different labels in different rows; {done} (data.conflicts). {disagreeing[0].sentence()}"
    )


def _drop(work: Gathered) -> None:
    """Take duplicates, near duplicates and leaks out of what is learnt from; the user's test file stays as it is."""
    for source in ("path", "validation"):
        work.examples[source], dropped = without_duplicates(work.examples[source])
        work.rejects[source] += dropped
        if dropped:
            work.notices.append(f"data.{source}: {counted(len(dropped), 'exact duplicate')} dropped; the first copy stays.")
    num_rows = len(work.examples["path"])
    leaks: dict[tuple[str, str], list[Reject]] = {}
    for source, against in (("path", "test"), ("validation", "test"), ("path", "validation")):
        work.examples[source], leaks[source, against] = without_leaks(work.examples[source], work.examples[against], against)
        work.rejects[source] += leaks[source, against]
    frozen = work.frozen
    if frozen is not None:  # of near duplicates, a row that has its part already is the one that stays
        work.examples["path"] = sorted(work.examples["path"], key=lambda example: text_key(example) not in frozen.part_of)
    alike = without_near(work.examples, work.data.duplicates, work.data.max_leak_fraction)
    if frozen is not None:
        alike.examples["path"] = sorted(alike.examples["path"], key=lambda example: example.id)
    work.examples, work.near, work.keeps_near = alike.examples, alike.near, alike.keeps
    for source, rejects in alike.rejects.items():
        work.rejects[source] += rejects
    for (source, against), dropped in alike.leaks.items():
        leaks[source, against] += dropped
    for (source, against), dropped in leaks.items():
        if dropped:
            refuse_many(dropped, num_rows, against, work.data.max_leak_fraction) if source == "path" else None
            work.notices.append(f"data.{source}: {told(dropped, against)}")
    work.notices += alike.notices
    work.conflicts += tuple(alike.conflicts)


def _tell_hidden(work: Gathered) -> None:
    """Say which targets stand in the texts. Raises Refused where nearly every text has its own."""
    found = hidden_targets(work.examples["path"])
    fatal = next((one for one in found if one.certain and one.share >= REFUSED), None)
    if fatal is not None and len(work.examples["path"]) >= ENOUGH and work.data.max_leak_fraction < 1:
        raise Refused(f"{', '.join(work.data.path)}: {fatal.sentence} If it is meant so, say so: --set data.max_leak_fraction=1.")
    work.hidden = tuple(one.sentence for one in found)
    work.notices += work.hidden


def _count(source: str, work: Gathered, parts: Mapping[str, Rows], named: Sequence[str]) -> Count:
    own = [source] if source != "path" else [part for part in PARTS if part not in named]
    return count(work.rows[source], {part: len(parts[part]) for part in own}, work.rejects[source])


def _in_order(rejects: Sequence[Reject]) -> list[Reject]:
    files = {file: index for index, file in enumerate(dict.fromkeys(reject.file for reject in rejects))}
    return sorted(rejects, key=lambda reject: (files[reject.file], reject.line))
