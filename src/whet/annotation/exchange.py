"""What is shared by the formats of other tools: rows found by what they hold, words and characters, and answers that come in."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whet.annotation.answers import Action, Answer, Guess
from whet.annotation.items import Item, text_of
from whet.annotation.kinds import Job, Kind, NotAllowed, Value, checked, name_of
from whet.annotation.store import Store

LONGEST_WHO = 320
"""Characters of somebody's name in another tool, such as an address of mail."""
LONGEST_S = 1e9
WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Record:
    """A row with all that is known of it, as it goes out."""

    item: Item
    answers: tuple[Answer, ...]
    guesses: tuple[Guess, ...]

    @property
    def place(self) -> str:
        """The file and line that it came from."""
        return f"{self.item.places[0].file}:{self.item.places[0].line}" if self.item.places else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What somebody has said in another tool."""

    key: str
    annotator: str
    action: Action
    value: Value | None = None
    reason: str = ""
    time: float = 0.0
    seconds: float | None = None


@dataclass(slots=True)
class Taken:
    """What became of an import."""

    new: int = 0
    same: int = 0
    """Answers that were here already."""
    kept: int = 0
    """Answers that differ from those here, which stayed."""
    replaced: int = 0
    unknown: int = 0
    """Rows that are not in the file."""
    wrong: int = 0
    """Answers that this job does not allow."""
    first_wrong: str = ""


def records(store: Store) -> list[Record]:
    """Return every row that the files still have, in order."""
    answers: dict[str, list[Answer]] = {}
    for one in store.answers():
        if one.action != "none":
            answers.setdefault(one.key, []).append(one)
    guesses: dict[str, list[Guess]] = {}
    for guess in store.guesses():
        if guess.value is not None:
            guesses.setdefault(guess.key, []).append(guess)
    return [Record(item, tuple(answers.get(item.key, ())), tuple(guesses.get(item.key, ()))) for item in store.items()]


class Finder:
    """Rows by their key, or by a text that they hold."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = {item.key: item for item in items}
        self._texts: dict[str, str | None] = {}
        for item in self.items.values():
            text = _folded(text_of(item.content))
            self._texts[text] = None if text in self._texts else item.key  # two rows of one text: neither is meant for sure

    def find(self, key: object, values: Iterable[object]) -> Item | None:
        """Return the row with this key, or the only one whose text is one of the values, or all of them together."""
        if isinstance(key, str) and key in self.items:
            return self.items[key]
        texts = [value for value in values if isinstance(value, str)]
        for text in [*texts, "\n".join(texts)]:
            found = self._texts.get(_folded(text))
            if found is not None:
                return self.items[found]
        return None


def take(store: Store, job: Job, found: Iterable[Incoming], source: str, taken: Taken, *, replace: bool) -> Job:
    """Store what came in, and return the job with the labels that came with it. Nothing that is here is overwritten unless `replace`."""
    with store.change():  # all of it, or, where it ends half-way, nothing
        for one in found:
            try:
                _check_name(one.annotator)
                job = job.with_labels(_labels(job.kind, one.value) if one.action == "answer" else [])
                item = store.item(one.key)
                value = None if one.action != "answer" or item is None else checked(job, item.content, one.value)
            except NotAllowed as error:
                taken.wrong += 1
                taken.first_wrong = taken.first_wrong or str(error)
                continue
            before = store.answer(one.key, one.annotator)
            if before.action == one.action and before.value == value and before.reason == one.reason:
                taken.same += 1
                continue
            if before.action != "none" and not replace:
                taken.kept += 1
                continue
            new = Answer(
                key=one.key, annotator=one.annotator, revision=before.revision, action=one.action, value=value, reason=one.reason,
                time=one.time, seconds=one.seconds,
            )  # fmt: skip
            store.put(new, source=source)
            taken.new += before.action == "none"
            taken.replaced += before.action != "none"
        store.set_job(job)
    return job


def listed(value: object) -> list[Any]:
    """Return what should be a list; an empty one where it is none."""
    return value if isinstance(value, list) else []


def seconds_of(value: object) -> float | None:
    """Return how long something took; None where it is no number of seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < LONGEST_S else None  # type: ignore[operator, arg-type]


def _check_name(who: str) -> None:
    if not who.isprintable() or not 1 <= len(who) <= LONGEST_WHO:
        raise NotAllowed(f"an annotator's name has 1 to {LONGEST_WHO} characters, on one line.")


def characters(text: str, first: int, end: int) -> tuple[int, int]:
    """Return where a span of words begins and ends in the characters of a text."""
    places = [found.span() for found in WORD.finditer(text)]
    return places[first][0], places[end - 1][1]


def words(text: str, begin: int, end: int) -> tuple[int, int] | None:
    """Return the words that characters touch, as a span; None where they touch none."""
    touched = [place for place, found in enumerate(WORD.finditer(text)) if found.start() < end and begin < found.end()]
    return (touched[0], touched[-1] + 1) if touched else None


def when(moment: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: object) -> float:
    """Return an ISO time in seconds since 1970; 0 where it is none."""
    if not isinstance(text, str):
        return 0.0
    try:
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC).timestamp()
    except (ValueError, OverflowError):  # also one that another zone puts before the year 1 or after 9999
        return 0.0


def prompt_of(content: Mapping[str, Any]) -> str:
    """Return the turns before an answer as one text."""
    turns: Sequence[Mapping[str, str]] = content.get("turns", ())
    return turns[0]["content"] if len(turns) == 1 else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _labels(kind: Kind, value: Value) -> list[str]:
    """Return the labels that an answer names. Raises NotAllowed."""
    if kind == "label":
        return [name_of(value)]
    if kind == "labels" and isinstance(value, list):
        return [name_of(one) for one in value]
    if kind == "spans" and isinstance(value, list):
        return [name_of(one["kind"]) for one in value]
    return []


def _folded(text: str) -> str:
    return " ".join(text.split())
