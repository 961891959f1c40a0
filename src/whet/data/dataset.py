"""The data of a run: training, validation and test examples with what was found and done; written into its folder and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from whet.data.accounting import ACCOUNTING, Accounting, Count
from whet.data.deduplicate import Conflict
from whet.data.keys import text_key
from whet.data.redact import Private
from whet.data.rows import Reject
from whet.data.split import PARTS
from whet.data.store import example_line, example_of, examples_hash
from whet.data.stream import Streamed, streamed_of
from whet.errors import DataError
from whet.files import read_lines, write_json, write_lines, write_whole
from whet.recipe_data import Data
from whet.types import Example


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
    finders: Mapping[str, str] = field(default_factory=dict)
    """Models that found names in the rows, with the hash of each."""
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
                **({"finders": dict(self.finders)} if self.finders else {}),
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
        finders=said.get("finders", {}),
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
