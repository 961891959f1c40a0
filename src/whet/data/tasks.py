"""The data of several tasks: each task's own, divided so that no text is learnt from in one task and judged on in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

from whet.data.accounting import Accounting
from whet.data.alike import Families
from whet.data.dataset import Dataset, Part
from whet.data.gather import gather
from whet.data.gathered import Gathered
from whet.data.keys import text_key
from whet.data.notices import counted
from whet.data.preparing import divide
from whet.data.redact import together
from whet.data.split import PARTS
from whet.errors import DataError, Refused
from whet.recipe_data import SOURCES, Data
from whet.types import Example


def prepare_tasks(tasks: Mapping[str, tuple[Data, tuple[str, ...]]], folder: Path | None) -> Dataset:
    """Return the data of all tasks together, each example with its task. Of each task: its section and its objective's needs.

    A text that stands in several tasks, or nearly, is in the same part of all of them: in that of the file that a task names for it, or
    else where the first of these tasks has drawn it. Raises DataError and Refused that name the task.
    """
    gathered: dict[str, Gathered] = {}
    for name, (data, needs) in tasks.items():
        with _naming(name):
            _check_alone(data)
            gathered[name] = gather(data, needs, folder)
    everything = [one for work in gathered.values() for some in work.examples.values() for one in some]
    families = Families(everything, next(iter(gathered.values())).data.duplicates)
    _hold_together(gathered, families)
    placed: dict[str, str] = {}
    taken: dict[str, str] = {}

    def place(example: Example, part: str) -> None:
        placed.setdefault(text_key(example), part)
        taken.setdefault(families.key(example), part)

    for part in ("test", "validation"):  # a text that one task is judged on is not stopped by in another
        for work in gathered.values():
            for example in work.examples[part]:
                place(example, part)
    made: dict[str, Dataset] = {}
    for name, work in gathered.items():
        for example in work.examples["path"]:
            if (taken_by := taken.get(families.key(example))) is not None:
                placed.setdefault(text_key(example), taken_by)
        with _naming(name):
            made[name] = divide(work, placed)
        for part, examples in made[name].parts.items():
            for example in examples:
                place(example, part)
    return _together(made)


def _hold_together(gathered: Mapping[str, Gathered], families: Families) -> None:
    """Let each task's rows of a family that another task has rows of too be in one part."""
    tasks_of: dict[str, set[str]] = {}
    for name, work in gathered.items():
        for example in work.examples["path"]:
            tasks_of.setdefault(families.key(example), set()).add(name)
    number = {key: -1 - place for place, key in enumerate(sorted(key for key, names in tasks_of.items() if len(names) > 1))}
    for work in gathered.values():
        own = ((example, families.key(example)) for example in work.examples["path"])
        work.near = work.near | {example.id: number[key] for example, key in own if key in number}


def _check_alone(data: Data) -> None:
    for key in ("folds", "frozen"):
        if getattr(data.split, key) is not None:
            raise DataError(
                f"data.split.{key} is for recipes of one task: of several, texts that they share could not stay in one part. Take it out, or "
                "train the tasks one by one."
            )


def _together(made: Mapping[str, Dataset]) -> Dataset:
    """Return the tasks' data as one, ids numbered through."""
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    first = 0
    for name, one in made.items():
        for part, examples in one.parts.items():
            parts[part] += [replace(example, task=name, id=first + example.id) for example in examples]
        first += sum(map(len, one.parts.values()))
    files = {
        key: tuple(dict.fromkeys(chain.from_iterable(getattr(one.columns, key) for one in made.values()))) for key in SOURCES
    }
    cleaned: Counter[str] = Counter()
    for one in made.values():
        cleaned.update(one.cleaned)
    return Dataset(
        train=tuple(parts["train"]),
        validation=tuple(parts["validation"]),
        test=tuple(parts["test"]),
        columns=Data(**files),
        classes=(),
        accounting=Accounting(
            {f"{name}.{source}": count for name, one in made.items() for source, count in one.accounting.sources.items()}
        ),
        rejects=tuple(replace(reject, task=name) for name, one in made.items() for reject in one.rejects),
        notices=_notices(made),
        conflicts=tuple(chain.from_iterable(one.conflicts for one in made.values())),
        cleaned=dict(cleaned),
        dates={place: date for one in made.values() for place, date in one.dates.items()},
        private=together([one.private for one in made.values()]),
        finders={name: known for one in made.values() for name, known in one.finders.items()},
        tasks={name: Part(one.columns, one.classes) for name, one in made.items()},
    )


def _notices(made: Mapping[str, Dataset]) -> tuple[str, ...]:
    """Return what was noticed, each with its task; once, where it is the same for all of them."""
    said = list(dict.fromkeys(chain.from_iterable(one.notices for one in made.values())))
    found = []
    for notice in said:
        of = [name for name, one in made.items() if notice in one.notices]
        found.append(notice if len(of) == len(made) else f"{', '.join(of)}: {notice}")
    texts = Counter(
        chain.from_iterable(
            {text_key(example) for examples in one.parts.values() for example in examples} for one in made.values()
        )
    )
    shared = sum(number > 1 for number in texts.values())
    if shared:
        found.append(
            f"{counted(shared, 'text')} in more than one task: each is in the same part of all of them, so that none is learnt from in "
            "one and judged on in another."
        )
    return tuple(found)


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """Within this, what is wrong with the data is said of the task."""
    try:
        yield
    except (DataError, Refused) as error:
        raise type(error)(f"task '{task}': {error}") from None
