"""New training rows of training rows: which row is asked of which augmenter, and which of the new texts may enter training."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import xxhash

from whet.data.accounting import MADE, Accounting, Count
from whet.data.alike import near_to
from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.errors import DataError
from whet.recipe_data import Augment, Duplicates
from whet.types import Example, Message, Original

REPEATED = "repeat"
"""What made a row that is another one once more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One new row that is asked for."""

    row: Example
    augmenter: int
    """Which of the recipe's."""
    copy: int
    """How many times before this augmenter was asked about this row."""

    def draw(self, seed: int) -> str:
        """Return what the new text's draws are seeded by: the row's text, so that it stays the same wherever the row lies."""
        return f"{seed}:{self.augmenter}:{self.copy}:{text_key(self.row)}"


@dataclass(slots=True)
class Sieve:
    """What new rows are held against, and what became of them."""

    keys: set[str]
    """Of texts that are learnt from already."""
    held: Sequence[Example]
    """Rows that are judged on, or stopped by, which nothing that is made may come near to."""
    duplicates: Duplicates
    dropped: Counter[str] = field(default_factory=Counter)

    def passed(self, made: Sequence[tuple[Wanted, Example]]) -> list[tuple[Wanted, Example]]:
        """Return the new rows that are new and near to no held-out row, and remember their texts."""
        fresh = []
        for wanted, example in made:
            key = text_key(example)
            if key == text_key(wanted.row) or not text_of(example).strip():
                self.dropped["unchanged"] += 1
            elif key in self.keys:
                self.dropped["there already"] += 1
            else:
                self.keys.add(key)
                fresh.append((wanted, example))
        near = near_held([example for _, example in fresh], self.held, self.duplicates)
        self.dropped["near leak"] += len(near)
        return [one for place, one in enumerate(fresh) if place not in near]


def near_held(rows: Sequence[Example], held: Sequence[Example], duplicates: Duplicates) -> set[int]:
    """Return the places of rows that are a held-out row's text, or near to it, whatever the recipe does with near duplicates of its own."""
    keys = {text_key(one) for one in held}
    found = {place for place, one in enumerate(rows) if text_key(one) in keys}
    found |= near_to(rows, held, duplicates.model_copy(update={"near": "drop"})).keys()
    if duplicates.semantic is not False and rows and held:
        from whet.data.keys import shown
        from whet.data.semantic import find_semantic  # loads torch

        both, tiers = [*held, *rows], [0] * len(held) + [1] * len(rows)
        texts, least = (shown(one) for one in both), float(duplicates.semantic)
        alike = find_semantic(texts, len(both), least, [""] * len(both), tiers, drop=True)
        found |= {place - len(held) for place in alike.leaks}
    return found


def text_of(example: Example) -> str:
    """Return what is changed of an example: its text, or the last question of a conversation."""
    if example.messages is None:
        return example.text or ""
    place = _asked(example)
    return "" if place is None else example.messages[place].content


def with_text(example: Example, text: str, made_by: str) -> Example:
    """Return a new row that differs from an example in what is changed of it alone."""
    if example.messages is None:
        return replace(example, text=text, made_by=made_by)
    place = _asked(example)
    turns = tuple(Message(turn.role, text) if at == place else turn for at, turn in enumerate(example.messages))
    return replace(example, messages=turns, made_by=made_by)


def _asked(example: Example) -> int | None:
    turns = example.messages or ()
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    end = answers[-1] if answers else len(turns)
    return next((place for place in reversed(range(end)) if turns[place].role == "user"), None)


def target_of(example: Example) -> str:
    """Return the class of an example in words, or its classes; empty where it has none."""
    return example.label or ", ".join(example.labels or ())


def check_fit(rows: Sequence[Example], settings: Augment) -> None:
    """Raise DataError where new texts would not have what is learnt of these rows."""
    first = rows[0]
    tell = "data.augment: "
    if settings.by and first.token_labels is not None:
        raise DataError(
            f"{tell}a changed text would no longer fit the labels of its words. Take it out, or use balance: repeat with other rows."
        )
    learnt = (first.label, first.labels, first.value, first.text_pair)
    if settings.by and first.messages is None and all(one is None for one in learnt):
        raise DataError(
            f"{tell}these rows are texts that are learnt as they are, word by word, so changed ones would be learnt as well. Take it out; it is "
            "for rows with a label, a number, a second text or an answer."
        )
    if settings.balance and first.label is None:
        raise DataError(f"{tell}balance evens out classes, and these rows have no single label. Take `balance` out.")
    if settings.check and first.label is None:
        raise DataError(f"{tell}check asks whether a row's one label survived, and these rows have none. Take `check` out.")


def by_shares(rows: Sequence[Example], settings: Augment) -> list[Wanted]:
    """Return what is asked for where each augmenter makes its share: whole copies of all rows, and one of a seeded draw of them."""
    found = []
    for number, choice in enumerate(settings.by):
        whole = int(choice.share)
        some = set(_in_turn(rows, f"{settings.seed}:{number}")[: round((choice.share - whole) * len(rows))])
        for place, row in enumerate(rows):
            found += [Wanted(row, number, copy) for copy in range(whole + (place in some))]
    return found


def _in_turn(rows: Sequence[Example], draw: str) -> list[int]:
    """Return the places of rows in a drawn order that does not depend on how they lie."""
    return sorted(
        range(len(rows)), key=lambda place: (xxhash.xxh3_64_intdigest(f"{draw}:{text_key(rows[place])}".encode()), place)
    )


class Balance:
    """Classes that are filled up to the largest one, some rounds at a time, since not every new row is kept."""

    def __init__(self, rows: Sequence[Example], settings: Augment) -> None:
        self._settings = settings
        members: dict[str, list[Example]] = defaultdict(list)
        for place in _in_turn(rows, str(settings.seed)):
            members[rows[place].label or ""].append(rows[place])
        self._members = dict(sorted(members.items()))
        self._most = max(map(len, members.values()))
        self._asked: Counter[str] = Counter()

    def lacking(self, kept: Counter[str]) -> list[Wanted]:
        """Return what is asked for next; `kept` are the new rows of each class until now. Nothing, where there is no more to be had."""
        found = []
        for label, rows in self._members.items():
            left = self._settings.most_copies * len(rows) - self._asked[label]
            for _ in range(min(left, self._most - len(rows) - kept[label])):
                number = self._asked[label]
                turn, place = divmod(number, len(rows))
                found.append(Wanted(rows[place], (turn + place) % max(1, len(self._settings.by)), turn))
                self._asked[label] += 1
        return found


def repeated(rows: Sequence[Example], settings: Augment) -> list[Example]:
    """Return rows of the smaller classes once more, in turn, as many as the largest class has more, ten times each at most by default."""
    return [replace(one.row, made_by=REPEATED) for one in Balance(rows, settings).lacking(Counter())]


def originals_of(wanted: Sequence[Wanted], rows: Sequence[Example], seed: int, company: int) -> list[Original]:
    """Return what an augmenter sees of the rows that it is asked about, with so many texts of other rows of the same class."""
    of_target: dict[str, list[str]] = defaultdict(list)
    for row in rows if company else ():
        of_target[target_of(row)].append(text_of(row))
    found = []
    for one in wanted:
        text, draw = text_of(one.row), one.draw(seed)
        others = [other for other in of_target[target_of(one.row)] if other != text] if company else []
        alike = random.Random(f"alike:{draw}").sample(others, min(company, len(others)))
        found.append(Original(text, target_of(one.row), draw, tuple(alike)))
    return found


def with_made(
    dataset: Dataset, made: Sequence[Example], num_asked: int, dropped: Counter[str], source: str, notice: str
) -> Dataset:
    """Return the data set with new rows behind its training rows, all accounted for."""
    first = max((one.id for some in dataset.parts.values() for one in some), default=-1) + 1
    rows = tuple(replace(one, id=first + place) for place, one in enumerate(made))
    count = Count(num_asked, {"train": len(rows)}, dict((+dropped).most_common()))
    return replace(
        dataset,
        train=(*dataset.train, *rows),
        accounting=Accounting({**dataset.accounting.sources, source: count}),
        notices=(*dataset.notices, notice),
    )


def without_made(dataset: Dataset) -> Dataset:
    """Return the data set with the rows of the data alone."""
    sources = {name: one for name, one in dataset.accounting.sources.items() if name.rpartition(".")[2] != MADE}
    return replace(dataset, train=dataset.originals, accounting=Accounting(sources))
