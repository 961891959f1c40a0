"""What is said of a row: answers, decisions, the history of their changes, and what models guess; and how the file holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from whet.annotation.kinds import Value

Action = Literal["answer", "skip", "flag", "none"]
Subject = Literal["answer", "decision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one annotator has said of one row, or an adjudicator has settled."""

    key: str
    annotator: str
    revision: int = 0
    """How often it was changed; 0: never said."""
    action: Action = "none"
    value: Value | None = None
    reason: str = ""
    """Why it was skipped or flagged, or settled so."""
    time: float = 0.0
    seconds: float | None = None
    """How long it took."""


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the history."""

    id: int
    key: str
    subject: Subject
    annotator: str
    time: float
    revision: int
    before: Mapping[str, Any]
    """`action`, `value`, `reason` until then."""
    after: Mapping[str, Any]
    seconds: float | None
    source: str
    """`page`, or the file that it was imported from."""
    undoes: int | None


@dataclass(frozen=True, slots=True)
class Guess:
    """What a model says of a row."""

    key: str
    source: str
    value: Value | None
    confidence: float | None
    loss: float | None = None
    """Of what the file says, in nats."""


class Stale(Exception):
    """Somebody has changed the answer since it was shown; `now` is what it is."""

    def __init__(self, now: Answer) -> None:
        super().__init__("the answer was changed elsewhere")
        self.now = now


def as_json(value: object) -> str:
    """Return a value as the file holds it."""
    return json.dumps(value, default=str)  # escaped, so that a lone surrogate is no fault


def said(answer: Answer) -> str:
    """Return what the history keeps of an answer."""
    values = asdict(answer)
    return as_json({name: values[name] for name in ("action", "value", "reason")})


def answer_of(row: tuple[Any, ...]) -> Answer:
    """Return what a row of `answers` or `decisions` says."""
    key, annotator, revision, action, value, reason, when, seconds = row
    return Answer(
        key=key, annotator=annotator, revision=revision, action=action, value=json.loads(value), reason=reason, time=when,
        seconds=seconds,
    )  # fmt: skip


def change_of(row: tuple[Any, ...]) -> Change:
    """Return what a row of `history` says."""
    number, key, subject, annotator, when, revision, before, after, seconds, source, undoes = row
    return Change(
        number, key, subject, annotator, when, revision, json.loads(before), json.loads(after), seconds, source, undoes
    )  # fmt: skip
