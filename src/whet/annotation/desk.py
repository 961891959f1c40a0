"""What the page can do: show the next row, take an answer, take it back, settle a dispute. One lock, so that every step is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from whet.annotation.answers import Action, Answer, Guess
from whet.annotation.consensus import judge
from whet.annotation.items import Item
from whet.annotation.kinds import Job, NotAllowed, checked
from whet.annotation.queue import Queue
from whet.annotation.store import Store
from whet.display import brief

LONGEST_REASON = 2_000
IDLE_S = 300.0
"""A row that was on screen for longer counts as this long: somebody fetched a coffee."""
ACTIONS: tuple[Action, ...] = ("answer", "skip", "flag")


class Unknown(KeyError):
    """There is no such row."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of a row from elsewhere than people."""

    guess: Guess | None = None
    likely: tuple[str, ...] = ()
    """Labels, the likeliest first."""


@dataclass(slots=True)
class Desk:
    """One job, its rows, and all that is known of them."""

    store: Store
    queue: Queue
    job: Job
    title: str
    guidelines: str = ""
    """As safe HTML."""
    notices: list[str] = field(default_factory=list)
    """What annotators should know, such as that the file has changed."""
    learning: str = ""
    """What the suggestions rest on just now; empty where there are none."""
    likely: Callable[[str], Sequence[str]] = lambda key: ()
    """Labels of a row, the likeliest first."""
    on_answer: Callable[[], None] = lambda: None
    """Who is told that something was answered."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def state(self, annotator: str) -> dict[str, Any]:
        """Return what the page begins with."""
        with self.lock:
            return {
                "title": self.title,
                "annotator": annotator,
                "job": self.job.record(),
                "order": self.queue.order,
                "review": self.queue.review,
                "guidelines": self.guidelines,
                "notices": list(self.notices),
                **self._standing(annotator),
            }

    def next(self, annotator: str, screen: str, but: Sequence[str] = ()) -> dict[str, Any]:
        """Return the next row for a screen, or none, and how far its annotator is."""
        with self.lock:
            key = self.queue.next(annotator, screen, frozenset(but))
            return {"row": None if key is None else self._row(key, annotator), **self._standing(annotator)}

    def row(self, key: str, annotator: str) -> dict[str, Any]:
        """Return one row as an annotator sees it. Raises Unknown."""
        with self.lock:
            return {"row": self._row(self._known(key), annotator), **self._standing(annotator)}

    def save(self, new: Answer) -> dict[str, Any]:
        """Store what an annotator says of a row. Raises Unknown, NotAllowed, and Stale where another window was first."""
        with self.lock:
            stored = self.store.put(self._checked(new))
            self.queue.tell([stored])
            standing = self._standing(new.annotator)
        self.on_answer()
        return {"answer": _said(stored), **standing}

    def undo(self, annotator: str, screen: str) -> dict[str, Any]:
        """Take back what an annotator did last. Returns that row, or none where nothing is left to take back."""
        with self.lock:
            stored = self.store.undo(annotator)
            if stored is None:
                return {"row": None, **self._standing(annotator)}
            self.queue.tell([stored])
            found = {"row": self._row(stored.key, annotator), **self._standing(annotator)}
        self.on_answer()
        return found

    def disputes(self, annotator: str) -> dict[str, Any]:
        """Return the rows to be settled, with what each person said."""
        with self.lock:
            found = []
            for key in self.queue.disputes():
                said = [
                    {"annotator": name, **_said(one)}
                    for name, one in sorted(self.queue.said[key].items())
                    if one.action in {"answer", "flag"}
                ]
                found.append({**self._row(key, annotator), "said": said, "answer": _said(self.store.decision(key))})
            return {"rows": found, **self._standing(annotator)}

    def decide(self, new: Answer) -> dict[str, Any]:
        """Store what was settled. Raises Unknown, NotAllowed, Stale."""
        with self.lock:
            stored = self.store.put(self._checked(new), subject="decision")
            self.queue.tell([], [stored])
            standing = self._standing(new.annotator)
        self.on_answer()
        return {"answer": _said(stored), **standing}

    def add_label(self, name: str) -> dict[str, Any]:
        """Add a label to choose from. Raises NotAllowed."""
        with self.lock:
            if self.job.kind not in {"label", "labels", "spans"}:
                raise NotAllowed("this job has no labels.")
            self.job = self.job.with_labels([name])
            self.store.set_job(self.job)
            return {"job": self.job.record()}

    def agreement(self) -> dict[str, Any]:
        """Return how far annotators agree, and the share of the rows that several are asked about."""
        with self.lock:
            found = judge(self.job, self.queue.items, self.store.answers())
            return {**found, "overlap": self.queue.sharing.fraction}

    def history(self, key: str) -> dict[str, Any]:
        """Return every change of a row. Raises Unknown."""
        with self.lock:
            changes = self.store.history(self._known(key))
        return {
            "changes": [
                {
                    "who": one.annotator, "when": one.time, "subject": one.subject, "before": one.before, "after": one.after,
                    "source": one.source, "undo": one.undoes is not None,
                }
                for one in changes
            ]
        }  # fmt: skip

    def _standing(self, annotator: str) -> dict[str, Any]:
        progress = self.queue.progress(annotator)
        return {
            "progress": {"done": progress.done, "left": progress.left, "seconds_left": progress.seconds_left},
            "disputes": len(self.queue.disputes()),
            "learning": self.learning,
        }

    def _known(self, key: str) -> str:
        if key not in self.queue.items:
            raise Unknown(key)
        return key

    def _checked(self, new: Answer) -> Answer:
        item = self.queue.items[self._known(new.key)]
        if new.action not in ACTIONS:
            raise NotAllowed(f"an action is one of {', '.join(ACTIONS)}.")
        if len(new.reason) > LONGEST_REASON:
            raise NotAllowed(f"a reason has up to {LONGEST_REASON:,} characters.")
        if new.action == "flag" and not new.reason.strip():
            raise NotAllowed("a flagged row needs a reason, so that others know what to look at.")
        value = checked(self.job, item.content, new.value) if new.action == "answer" else None
        seconds = None if new.seconds is None else min(max(new.seconds, 0.0), IDLE_S)
        return replace(new, value=value, reason=new.reason.strip(), seconds=seconds)

    def _row(self, key: str, annotator: str) -> dict[str, Any]:
        item = self.queue.items[key]
        mine = self.queue.said.get(key, {}).get(annotator) or Answer(key=key, annotator=annotator)
        guess = self.queue.best_guess(key)
        place = item.places[0] if item.places else None
        return {
            "key": key,
            "content": self._content(item),
            "place": "" if place is None else f"{brief(place.file)}:{place.line}",
            "copies": len(item.places),
            "given": None if self.job.kind == "preference" else item.given,
            "suspicion": self.queue.suspicion.get(key),
            "guess": None if guess is None else {"value": guess.value, "confidence": guess.confidence, "source": guess.source},
            "likely": list(self.likely(key)),
            "answer": _said(mine),
        }

    def _content(self, item: Item) -> Mapping[str, Any]:
        """Return what is shown; of two answers, which comes first is decided by the row's hash, so that nobody learns a side."""
        if self.job.kind != "preference":
            return item.content
        sides = ["first", "second"] if int(item.key[-1], 16) % 2 else ["second", "first"]
        return {"turns": item.content["turns"], "answers": [{"side": side, "text": item.content[side]} for side in sides]}


def _said(answer: Answer) -> dict[str, Any]:
    return {"action": answer.action, "value": answer.value, "reason": answer.reason, "revision": answer.revision}
