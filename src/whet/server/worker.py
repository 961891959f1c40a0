"""The one thread that computes: it writes a token of every text at work, then answers some of the other questions, and so on.

The event loop hands jobs over and hears of them through `tell`; nothing that takes long happens in the loop itself.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from whet.engine.continuous import Request, Written
from whet.engine.machine import computing
from whet.errors import ModelError
from whet.protocols import Engine, Generation
from whet.server.refusals import Refusal
from whet.server.served import Served
from whet.server.text import TextStream
from whet.types import Example

TURN_TOKENS = 4096
"""Tokens of questions that are answered between two tokens of the texts at work."""
COME_BACK = 2
"""Refused requests that are asked to come back for each place that will be free, so that no place stays empty."""
LONGEST_WAIT_S = 60
"""However many are refused: OpenAI's client does not wait longer, and whoever floods the server must not send the others far away."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a text has become longer by."""

    text: str
    written: Written | None
    """None where only held text comes."""
    num_tokens: int
    """Of the text so far."""
    finish: Literal["stop", "length"] | None = None


@dataclass(slots=True, eq=False)
class Text:
    """A text to be written; `tell` hears each Piece, or the Refusal that ends it."""

    served: Served
    request: Request
    stream: TextStream
    tell: Callable[[Piece | Refusal], None]
    cancelled: bool = False
    num_tokens: int = 0


@dataclass(slots=True, eq=False)
class Question:
    """Inputs that are answered by one pass each; `tell` hears the answers, in order, or the Refusal."""

    served: Served
    kind: Literal["classify", "embed"]
    inputs: Sequence[Any]
    """Examples to classify, or rows of tokens to embed."""
    lengths: Sequence[int]
    """Tokens of each."""
    tell: Callable[[list[Any] | Refusal], None]
    cancelled: bool = False
    answers: list[Any] = field(default_factory=list)


class Worker(threading.Thread):
    """Computes until it is closed. At most `max_open` jobs are taken at a time; more are refused at once."""

    def __init__(self, engine: Engine, max_open: int) -> None:
        super().__init__(name="whet worker", daemon=True)
        self._engine = engine
        self._max_open = max_open
        self._changed = threading.Condition()
        self._inbox: list[Text | Question] = []
        self._generations: dict[Served, Generation] = {}
        self._texts: dict[str, Text] = {}
        self._questions: list[Question] = []
        self._open = 0
        self._closing = False
        self._abandoned: Refusal | None = None
        self._seconds_each = 1.0
        self._last_back = 0.0
        self._last_end = time.monotonic()

    @property
    def num_open(self) -> int:
        """Jobs that are taken and not ended."""
        return self._open

    @property
    def num_running(self) -> int:
        """Texts that have a row in their engine."""
        return sum(generation.num_running for generation in list(self._generations.values()))

    def check_room(self, count: int = 1) -> None:
        """Raise Refusal where so many more jobs would be too many.

        Those that are refused are told to come back one after the other, at the pace at which jobs end: refusing costs little, and a
        crowd that came back every second would still take what it costs from the texts at work.
        """
        if self._open and self._open + count > self._max_open:
            now, soonest_s = time.monotonic(), max(1.0, self._seconds_each * count)
            self._last_back = min(
                max(now + soonest_s, self._last_back + self._seconds_each * count / COME_BACK), now + LONGEST_WAIT_S
            )
            wait_s = math.ceil(round(self._last_back - now, 3))
            raise Refusal(
                429,
                f"{self._open} requests are at work or waiting, and at most {self._max_open} are taken. Ask again in {wait_s} s.",
                code="queue_full",
                retry_after_s=wait_s,
            )

    def submit(self, jobs: Sequence[Text | Question]) -> None:
        """Take the jobs of one request. Raises Refusal where that would be too many."""
        with self._changed:
            if self._abandoned is not None:
                raise self._abandoned
            self.check_room(len(jobs))
            if not self._open:
                self._last_end = time.monotonic()
            self._open += len(jobs)
            self._inbox += jobs
            self._changed.notify()

    def cancel(self, jobs: Sequence[Text | Question]) -> None:
        """Forget jobs whose client went away; a text's row is free before the next token."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
            self._changed.notify()

    def abandon(self, refusal: Refusal) -> None:
        """End everything that is open, and all that comes, with a refusal."""
        with self._changed:
            self._abandoned = refusal
            self._changed.notify()

    def close(self) -> None:
        """Stop once nothing is open."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join(timeout=10)

    def run(self) -> None:
        while True:
            with self._changed:
                while not (self._inbox or self._texts or self._questions or self._closing):
                    self._changed.wait()
                inbox, self._inbox = self._inbox, []
                if self._closing and not (inbox or self._texts or self._questions):
                    return
            for job in inbox:
                self._begin(job)
            self._forget()
            for served in list(self._generations):
                self._go_on(served)
            if self._questions:
                self._answer()

    def _begin(self, job: Text | Question) -> None:
        if isinstance(job, Question):
            self._questions.append(job)
            return
        try:
            if job.served not in self._generations:
                self._generations[job.served] = self._engine.start(job.served.policy)
            self._generations[job.served].add(job.request)
        except Exception as error:  # an engine of the user's own may raise anything, and without this thread nobody is answered
            self._end(job, _cannot(error))
        else:
            self._texts[job.request.id] = job

    def _forget(self) -> None:
        """End what was cancelled, or everything where the server gives up."""
        jobs: list[Text | Question] = [*self._texts.values(), *self._questions]
        for job in jobs:
            if job.cancelled or self._abandoned is not None:
                if isinstance(job, Text):
                    self._generations[job.served].drop(job.request.id)
                self._end(job, self._abandoned)

    def _go_on(self, served: Served) -> None:
        """Write one token of each of a run's texts."""
        generation = self._generations[served]
        try:
            with computing(served.precision, served.policy.device):
                written = generation.step()
        except Exception as error:  # whatever it is, the server lives on; only these texts are lost
            refusal = _cannot(error)
            for job in [job for job in self._texts.values() if job.served is served]:
                self._end(job, refusal)
            del self._generations[served]
            return
        for one in written:
            if one.id not in self._texts:
                continue  # it has ended by an earlier token of this step
            job = self._texts[one.id]
            try:
                piece = _piece(job, one)
            except Exception as error:  # turning tokens into text is the tokenizer's, which may be anybody's
                generation.drop(one.id)
                self._end(job, _failed(error))
                continue
            job.tell(piece)
            if piece.finish is not None:
                if one.finish is None:
                    generation.drop(one.id)
                self._end(job)
        if not generation.num_running + generation.num_waiting:
            del self._generations[served]  # and with it what holds on to a run that is no longer served

    def _answer(self) -> None:
        """Answer some inputs of the first question, and with them those of others of its kind."""
        first = self._questions[0]
        chosen: list[tuple[Question, Any]] = []
        room = TURN_TOKENS
        for job in self._questions:
            if job.served is not first.served or job.kind != first.kind:
                continue
            begun = len(job.answers)
            for place, length in zip(range(begun, len(job.inputs)), job.lengths[begun:], strict=True):
                if chosen and length > room:
                    break
                room -= length
                chosen.append((job, job.inputs[place]))
            if room <= 0:
                break
        try:
            inputs = [one for _, one in chosen]
            found = first.served.embed(inputs) if first.kind == "embed" else first.served.classify(_numbered(inputs))
        except Exception as error:  # as above
            refusal = _failed(error)
            for job in dict.fromkeys(job for job, _ in chosen):
                self._end(job, refusal)
            return
        for (job, _), answer in zip(chosen, found, strict=True):
            job.answers.append(answer)
        for job in dict.fromkeys(job for job, _ in chosen):
            if len(job.answers) == len(job.inputs):
                job.tell(job.answers)
                self._end(job)

    def _end(self, job: Text | Question, refusal: Refusal | None = None) -> None:
        if isinstance(job, Text):
            self._texts.pop(job.request.id, None)
        else:
            self._questions.remove(job)
        if refusal is not None and not job.cancelled:
            job.tell(refusal)
        now = time.monotonic()
        with self._changed:
            self._open -= 1
            self._seconds_each += 0.2 * (now - self._last_end - self._seconds_each)
            self._last_end = now


def _piece(job: Text, written: Written) -> Piece:
    if written.finish == "stop":
        return Piece(job.stream.close(), None, job.num_tokens, "stop")
    job.num_tokens += 1
    text = job.stream.feed(written.token)
    if job.stream.stopped:
        return Piece(text, written, job.num_tokens, "stop")
    if written.finish == "length":
        text += job.stream.close()
    return Piece(text, written, job.num_tokens, written.finish)


def _numbered(examples: Sequence[Example]) -> list[Example]:
    return [replace(example, id=number) for number, example in enumerate(examples)]


def _cannot(error: Exception) -> Refusal:
    """Return the answer where a text could not be begun or gone on with."""
    if isinstance(error, ModelError):
        return Refusal(400, str(error), param="model", code="model_cannot_write")
    return _failed(error)


def _failed(error: Exception) -> Refusal:
    """Say on standard error where it went wrong, without the message, which may hold what a user wrote."""
    print(f"whet: {type(error).__name__} while computing; its requests are answered with 500.", file=sys.stderr)
    traceback.print_tb(error.__traceback__)
    return Refusal(500, f"the model failed on this request ({type(error).__name__}).", code="model_failed")
