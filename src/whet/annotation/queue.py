"""Whose turn which row is: what comes first, how many people a row needs, and how much is left."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from whet.annotation.answers import Answer, Guess
from whet.annotation.items import Item
from whet.annotation.kinds import Kind, comparable

Order = Literal["file", "uncertainty", "disagreement", "suspicion", "loss"]
ORDERS: tuple[Order, ...] = get_args(Order)
DONE = frozenset({"answer", "flag"})
"""Actions that count as somebody's opinion; a skipped row still waits for another person."""
LEASE_S = 600.0
"""How long a row that is on a screen is not given to another one."""
PACE = 30
"""Latest rows whose times tell how long one takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How many people a row is shown to."""

    fraction: float = 0.0
    """Share of the rows that several people answer, 0..1; which ones is decided by each row's own hash."""
    people: int = 2
    """How many people such a row needs."""

    def needed(self, key: str) -> int:
        """Return how many people a row needs."""
        return self.people if int(key[:8], 16) / 16**8 < self.fraction else 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an annotator is."""

    done: int
    left: int
    seconds_left: float | None
    """None before anything is known about the pace."""


class Queue:
    """The rows in their order, and what everybody has said of them. It is told of each change; callers hold a lock."""

    def __init__(self, items: Sequence[Item], kind: Kind, sharing: Sharing, order: Order, *, review: bool) -> None:
        self.items = {item.key: item for item in items}
        self.kind, self.sharing, self.order, self.review = kind, sharing, order, review
        self.said: dict[str, dict[str, Answer]] = {}
        self.settled: dict[str, Answer] = {}
        self.guesses: dict[str, dict[str, Guess]] = {}
        self.suspicion: Mapping[str, float] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._ordered = list(self.items)
        self._paces: dict[str, list[float]] = {}

    def tell(self, answers: Iterable[Answer], decisions: Iterable[Answer] = ()) -> None:
        """Take note of what was said and settled."""
        for answer in answers:
            self.said.setdefault(answer.key, {})[answer.annotator] = answer
            self._leases.pop(answer.key, None)  # it has left the screen; whoever else is to be asked need not wait
            if answer.seconds is not None and answer.action != "none":
                self._paces.setdefault(answer.annotator, []).append(answer.seconds)
        for decision in decisions:
            self.settled[decision.key] = decision

    def tell_guesses(self, guesses: Iterable[Guess]) -> None:
        """Take note of what models say."""
        for guess in guesses:
            self.guesses.setdefault(guess.key, {})[guess.source] = guess

    def arrange(self) -> None:
        """Put the rows into their order, by what is known by now."""
        ranks: dict[Order, Callable[[str], float]] = {
            "uncertainty": self._uncertainty,
            "disagreement": self._disagreement,
            "suspicion": lambda key: self.suspicion.get(key, -1.0),
            "loss": self._loss,
        }
        if self.order == "file":
            self._ordered = list(self.items)
            return
        rank = ranks[self.order]
        # of equal ones by the hash, which is no order at all: files are often sorted by label
        self._ordered = sorted(self.items, key=lambda key: (-rank(key), key))

    def next(self, annotator: str, screen: str, but: frozenset[str] = frozenset()) -> str | None:
        """Return the row for somebody's screen; None where nothing is left. It stays theirs for a while."""
        now, taken = time.monotonic(), None
        for key in self._ordered:
            if key in but or not self.is_open(key, annotator):
                continue
            holder, until = self._leases.get(key, (screen, now))
            if holder == screen or until <= now:
                self._leases[key] = (screen, now + LEASE_S)
                return key
            taken = taken or key
        return taken  # all that is left is on others' screens: better the same row than none

    def release(self, screen: str) -> None:
        """Give back what a screen holds."""
        for key in [key for key, (holder, _) in self._leases.items() if holder == screen]:
            del self._leases[key]

    def is_open(self, key: str, annotator: str) -> bool:
        """Whether an annotator is still to be asked about a row."""
        said = self.said.get(key, {})
        if annotator in said and said[annotator].action != "none":
            return False
        if self.settled.get(key) is not None and self.settled[key].action != "none":
            return False
        if not self.review and self.items[key].given is not None:
            return False
        others = [one for one in said.values() if one.action in DONE]
        wanted = self.sharing.needed(key)
        if self.order == "disagreement" and len({self._compared(one) for one in others}) > 1:
            wanted = max(wanted, len(others) + 1)  # another opinion on what people see differently
        return len(others) < wanted

    def progress(self, annotator: str) -> Progress:
        """Return how far somebody is, and how long the rest takes at their pace."""
        mine = [said[annotator] for key, said in self.said.items() if annotator in said and key in self.items]
        left = sum(self.is_open(key, annotator) for key in self.items)
        paces = self._paces.get(annotator, [])[-PACE:]
        return Progress(
            sum(one.action != "none" for one in mine), left, left * statistics.median(paces) if len(paces) >= 3 else None
        )

    def disputes(self) -> list[str]:
        """Return rows that people answered differently or flagged, and that nobody has settled."""
        found = []
        for key, said in self.said.items():
            if key not in self.items or (key in self.settled and self.settled[key].action != "none"):
                continue
            opinions = {self._compared(one) for one in said.values() if one.action == "answer"}
            if len(opinions) > 1 or any(one.action == "flag" for one in said.values()):
                found.append(key)
        return found

    def best_guess(self, key: str) -> Guess | None:
        """Return the surest thing that a model says of a row."""
        found = [guess for guess in self.guesses.get(key, {}).values() if guess.value is not None]
        return max(found, key=lambda guess: guess.confidence or 0.0, default=None)

    def _compared(self, answer: Answer) -> Any:
        return comparable(self.kind, answer.value) if answer.action == "answer" else answer.action

    def _uncertainty(self, key: str) -> float:
        sure = [guess.confidence for guess in self.guesses.get(key, {}).values() if guess.confidence is not None]
        return 1 - max(sure) if sure else -1.0

    def _disagreement(self, key: str) -> float:
        """Return the share of people and models that do not say what most say; of equal ones the least sure comes first."""
        said = [self._compared(one) for one in self.said.get(key, {}).values() if one.action == "answer"]
        said += [comparable(self.kind, guess.value) for guess in self.guesses.get(key, {}).values() if guess.value is not None]
        if not said:
            return -1.0
        return 1 - max(Counter(said).values()) / len(said) + max(0.0, self._uncertainty(key)) / 1000

    def _loss(self, key: str) -> float:
        """Return the least loss that any run has on what the file says: it stays high in all of them."""
        losses = [guess.loss for guess in self.guesses.get(key, {}).values() if guess.loss is not None]
        return min(losses, default=-1.0)
