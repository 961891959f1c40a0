"""The thread that computes lives on, whatever an engine or a tokenizer raises; only the text at which it happens is lost."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from whet.engine.continuous import Request, Written
from whet.errors import ModelError
from whet.server.refusals import Refusal
from whet.server.text import TextStream
from whet.server.worker import Text, Worker

SECRET = "a text of a user"
LETTERS = dict(enumerate("abcdef"))


class Alphabet:
    """An engine that writes a, b, c of every request, three letters a step; `start` and `add` raise what they are told to."""

    def __init__(self, at_start=None, at_add=None):
        self.at_start, self.at_add = at_start, at_add

    def start(self, policy):
        error, self.at_start = self.at_start, None
        if error is not None:
            raise error
        return Writing(self)

    def score(self, policy, prompt, answer):
        return [0.0] * len(answer)


class Writing:
    def __init__(self, engine):
        self.engine, self.requests = engine, {}

    num_waiting = 0

    @property
    def num_running(self):
        return len(self.requests)

    def add(self, request):
        error, self.engine.at_add = self.engine.at_add, None
        if error is not None:
            raise error
        self.requests[request.id] = request

    def drop(self, request_id):
        self.requests.pop(request_id, None)

    def step(self):
        written = [
            Written(one, token, -0.1, finish="length" if token == 2 else None) for one in self.requests for token in (0, 1, 2)
        ]
        self.requests.clear()
        return written


@contextmanager
def at_work(engine):
    worker = Worker(engine, 8)
    worker.start()
    yield worker
    worker.close()
    assert not worker.is_alive()


SERVED = type("Stand", (), {"precision": "fp32", "policy": SimpleNamespace(device="cpu")})()


def asked(name, decode=lambda ids: "".join(LETTERS[one] for one in ids), stops=()):
    told = queue.Queue()
    return Text(SERVED, Request(name, [1], 3), TextStream(decode, stops), told.put), told


def answer(told):
    text = ""
    while True:
        piece = told.get(timeout=10)
        if isinstance(piece, Refusal):
            return piece
        text += piece.text
        if piece.finish is not None:
            return text


@pytest.mark.parametrize("where", ["at_start", "at_add"])
@pytest.mark.parametrize(("error", "status"), [(ValueError(SECRET), 500), (ModelError("it cannot write."), 400)])
def test_an_engine_that_cannot_begin_a_text_loses_that_text_alone(where, error, status, capfd):
    with at_work(Alphabet(**{where: error})) as worker:
        first, told_first = asked("first")
        worker.submit([first])
        refusal = answer(told_first)
        assert isinstance(refusal, Refusal) and refusal.status == status
        second, told_second = asked("second")
        worker.submit([second])
        assert answer(told_second) == "abc" and worker.is_alive() and worker.num_open == 0
    assert SECRET not in str(refusal.body()) + capfd.readouterr().err


def test_tokens_that_are_no_text_lose_their_text_alone(capfd):
    def broken(ids):
        raise KeyError(SECRET)

    with at_work(Alphabet()) as worker:
        (bad, told_bad), (good, told_good) = asked("bad", broken), asked("good")
        worker.submit([bad, good])
        refusal = answer(told_bad)
        assert isinstance(refusal, Refusal) and refusal.status == 500
        assert answer(told_good) == "abc" and worker.is_alive()
        assert told_bad.empty(), "the rest of its tokens is of no use"
    assert worker.num_open == 0 and SECRET not in str(refusal.body()) + capfd.readouterr().err


def test_a_text_that_ends_at_a_stop_string_hears_nothing_of_what_was_written_behind_it():
    with at_work(Alphabet()) as worker:
        job, told = asked("one", stops=["b"])
        worker.submit([job])
        assert answer(told) == "a" and told.empty() and worker.is_alive()
    assert worker.num_open == 0
