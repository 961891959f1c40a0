"""Two tiny runs, and a real server for them on a free port, in a thread."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

import whet
from whet.recipe_file import build_recipe
from whet.stages.serve import Options, Serving, prepare
from whet.testing import write_tiny
from whet.testing.tiny import ANSWERS, LABELS, OPENINGS, THINGS

KEY = "a-key-for-tests-only-0123"


def rows():
    return [
        {"text": opening.format(f"{colour} {thing}"), "label": label, "channel": "mail" if colour == "red" else "chat"}
        for colour in ("red", "blue", "green", "old", "new", "big", "small")
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]


def write_rows(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def train(folder, model, data, objective, name, steps=4):
    recipe = {
        "model": str(model),
        "data": data,
        "objective": objective,
        "train": {"max_steps": steps, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01},
        "evaluate": {"resamples": 100, "max_generated": 2, "max_new_tokens": 4},
    }
    return whet.train(build_recipe(recipe, "test"), out=folder / name).path


@dataclass(frozen=True)
class Runs:
    labels: Path
    chat: Path
    labels_again: Path
    """Trained longer."""
    asked: Path
    """The rows that chat learnt from."""


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("served")
    encoder, decoder = write_tiny(folder / "bert", "bert"), write_tiny(folder / "llama", "llama")
    labelled = write_rows(folder / "labels.jsonl", rows())
    asked = write_rows(
        folder / "chat.jsonl",
        [{"prompt": row["text"], "response": ANSWERS[n % 4].format("card")} for n, row in enumerate(rows()[:40])],
    )
    classify = {"path": labelled, "text": "text", "label": "label", "slices": ["channel"]}
    chat = {"path": asked, "prompt": "prompt", "response": "response"}
    return Runs(
        labels=train(folder, encoder, classify, "classify", "labels"),
        chat=train(folder, decoder, chat, "sft", "chat"),
        labels_again=train(folder, encoder, classify, "classify", "labels-again", steps=12),
        asked=Path(asked),
    )


@pytest.fixture(scope="session")
def shorten(runs, tmp_path_factory) -> Path:
    """A run of an encoder-decoder, whose sources have a prefix."""
    folder = tmp_path_factory.mktemp("two-sided")
    data = {"path": str(runs.asked), "prompt": "prompt", "response": "response"}
    return train(folder, write_tiny(folder / "t5", "t5"), data, {"name": "seq2seq", "prefix": "say: "}, "shorten", steps=40)


@pytest.fixture
def pair_run(tmp_path) -> Path:
    """A run that classifies pairs of texts."""
    pairs = [{"a": f"my card {n}", "b": f"the parcel {n}", "label": "xy"[n % 2]} for n in range(40)]
    data = {"path": write_rows(tmp_path / "pairs.jsonl", pairs), "text": "a", "text_pair": "b", "label": "label"}
    return train(tmp_path, write_tiny(tmp_path / "bert", "bert"), data, "classify", "pairs", steps=1)


@dataclass
class Live:
    """A server that listens."""

    serving: Serving
    said: list[str]
    stop: threading.Event
    thread: threading.Thread
    http: httpx.Client
    """One for all requests: making one takes longer than most answers."""

    @property
    def url(self):
        return self.serving.url

    def client(self, key="none", **options):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **options)

    def post(self, path, body, **options):
        return self.http.post(f"{self.url}{path}", json=body, **options)

    def get(self, path, **options):
        return self.http.get(f"{self.url}{path}", **options)

    def metric(self, name):
        """Sum of a metric's values over its labels."""
        page = self.get("/metrics").text
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


@contextlib.contextmanager
def live(references, *, names=(), engine=None, environment=None, **options) -> Iterator[Live]:
    """Serve runs in a thread until the block ends. `engine` takes the place of the built-in one."""
    said: list[str] = []
    given = {"port": 0, "log": None, "grace_s": 5.0} | options
    serving = prepare(references, names=names, options=Options(**given), say=said.append, environment=environment or {})
    if engine is not None:
        serving.service.worker._engine = engine
    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=serving.listen, args=(ready.set, stop), daemon=True)
    thread.start()
    assert ready.wait(30), "the server does not listen"
    http = httpx.Client(timeout=60, trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
    try:
        yield Live(serving, said, stop, thread, http)
    finally:
        http.close()
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


@pytest.fixture(scope="session")
def start():
    """`live`, for tests that need a server of their own."""
    return live


@pytest.fixture(scope="session")
def server(runs, tmp_path_factory) -> Iterator[Live]:
    """A server of both runs, with a log that keeps texts."""
    log = tmp_path_factory.mktemp("log") / "requests.sqlite"
    with live([runs.labels, runs.chat], log=log, log_text=True) as found:
        yield found
