"""Processes that make examples of rows: the same bytes whatever their number, and a worker that ends loses nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import raw, workers
from whet.data.making import Maker, Making, packed_made, packed_rows, unpacked_made, unpacked_rows
from whet.data.preparing import prepare
from whet.data.rows import RawRow, Reject
from whet.data.workers import making_rows, workers_for
from whet.errors import DataError
from whet.recipe_data import Data
from whet.types import Example, Message

CLASSIFY = ("text", "label")


def messy(folder: Path, number: int = 1500) -> str:
    """Rows of every kind of trouble: broken, empty, equal, nearly equal, in conflict, garbled, with markup and with private data."""
    drawn = random.Random(7)
    words = ["".join(drawn.choices("abcdefghiklmnoprstuvwä", k=drawn.randint(2, 8))) for _ in range(400)]
    texts: list[str] = []
    lines = ["text,label,customer,channel"]
    for place in range(number):
        text = " ".join(drawn.choices(words, k=drawn.randint(4, 18)))
        chance = drawn.random()
        if texts and chance < 0.08:
            text = drawn.choice(texts)
        elif texts and chance < 0.2:
            some = drawn.choice(texts).split()
            some[drawn.randrange(len(some))] = drawn.choice(words)
            text = " ".join(some)
        texts.append(text)
        text += drawn.choice(
            ["", "", "", f" write to {words[place % 9]}@example.org", " call 0171 3920012", " <b>caf\u00c3\u00a9</b>", "  \u200b"]
        )
        label = drawn.choice(["a", "b", "B ", ""]) if drawn.random() < 0.1 else "ab"[place % 2]
        lines.append(f'"{text}",{label},c{drawn.randrange(300)},{drawn.choice(["web", "me@example.org"])}')
        if drawn.random() < 0.02:
            lines.append("one field")
    (folder / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "a.csv")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("redact", ["auto", pytest.param(True, marks=pytest.mark.slow)])
def test_the_bytes_are_the_same_by_any_number_of_workers(tmp_path, redact, monkeypatch):
    monkeypatch.setattr(raw, "STRETCH", 90)
    data = Data(
        path=messy(tmp_path), text="text", label="label", group=("customer",), slices=("channel",), redact=redact, max_reject_fraction=1
    )  # fmt: skip
    for number in (1, 2, 3):
        prepare(data, CLASSIFY, None, num_workers=number).write(tmp_path / f"by{number}")
    alone = files_of(tmp_path / "by1")
    said = json.loads(alone["data/accounting.json"])
    assert said["private"] and said["cleaned"] and said["conflicts"] and alone["rejects.jsonl"].count(b"near duplicate") > 20
    assert files_of(tmp_path / "by2") == alone and files_of(tmp_path / "by3") == alone


def test_a_stop_at_the_first_unusable_row_names_the_same_row(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "STRETCH", 90)
    data = Data(path=messy(tmp_path), text="text", label="label", strict=True)
    said = []
    for number in (1, 2):
        with pytest.raises(DataError) as caught:
            prepare(data, CLASSIFY, None, num_workers=number)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_worker_that_is_killed_loses_no_row(monkeypatch):
    rows = [RawRow("a.csv", place, {"text": f"text {place}", "label": "a"}) for place in range(200)]
    making = Making(Data(path="a.csv", text="text", label="label"), CLASSIFY, None, b"")
    begun: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def noted(*arguments, **settings):
        begun.append(real(*arguments, **settings))
        return begun[-1]

    monkeypatch.setattr(workers.subprocess, "Popen", noted)
    items = []
    with making_rows(making, 2) as make:
        for made in make([packed_rows(rows[begin : begin + 10]) for begin in range(0, 200, 10)], False, 0):
            items += made.items
            if len(items) == 50:
                os.kill(begun[0].pid, signal.SIGKILL)
    assert items == Maker(making)(rows, False).items and [item.id for item in items] == list(range(200))
    assert all(process.poll() is not None for process in begun)


def test_a_worker_that_is_stopped_and_goes_on_answers_in_full(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    rows = [RawRow("a.csv", place, {"text": f"text {place} " * 600, "label": "a"}) for place in range(600)]
    making = Making(Data(path="a.csv", text="text", label="label", clean=(), redact=False), CLASSIFY, None, b"")
    begun: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", lambda *some, **named: (begun.append(real(*some, **named)), begun[-1])[1])
    over = threading.Event()

    def stopping() -> None:
        while not over.wait(0.0005):
            for process in begun:
                process.send_signal(signal.SIGSTOP)
                process.send_signal(signal.SIGCONT)

    stopper = threading.Thread(target=stopping)
    stopper.start()
    slow = threading.Timer(120, lambda: [process.kill() for process in begun])  # a worker that waits for ever answers nothing
    slow.start()
    try:
        with making_rows(making, 2) as make:
            packed = [packed_rows(rows[begin : begin + 20]) for begin in range(0, 600, 20)]
            items = [item for made in make(packed, False, 0) for item in made.items]
            lived = all(process.poll() is None for process in begun)
    finally:
        over.set()
        slow.cancel()
        stopper.join()
    assert items == Maker(making)(rows, False).items and lived


def test_what_is_made_comes_through_a_pipe_unchanged():
    turns = (Message("system", "be kind"), Message("user", "hello \ud800"), Message("assistant", "yes"))
    examples = [
        Example(id=4, file="a", line=1, text="one", label="x", tags={"channel": "web"}, group=("customer=1",)),
        Example(id=5, file="a", line=0, messages=turns, chosen="yes", rejected="", value=0.0, labels=(), token_labels=("O",)),
        Example(id=6, text="", time="2024", part="test"),
    ]
    reject = Reject("a", 3, "empty", "Fill it in.", kind="unwanted", by="length")
    made = Maker(Making(Data(path="a"), ("text",), None, b""))([], False)._replace(items=[examples[0], reject, *examples[1:]])
    back = unpacked_made(packed_made(made), 4)
    assert back == made
    assert back.items[0] is not examples[0] and back.items[3].tags is not back.items[2].tags


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(categories=["L", "N", "P", "Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            RawRow,
            st.sampled_from(["a", "b \ud800"]),
            st.integers(0, 2**40),
            st.dictionaries(st.text(max_size=2), JSON_VALUES, max_size=3),
        )
        | st.builds(
            Reject, st.just("a"), st.integers(0, 9), st.text(max_size=5), st.text(max_size=5), similarity=st.floats(0, 1)
        ),
        max_size=6,
    )
)
def test_rows_come_through_a_pipe_or_from_the_disk_unchanged(rows):
    back = unpacked_rows(packed_rows(rows))
    assert repr(back) == repr(rows), "types too, and the order of columns"
    assert packed_rows(back) == packed_rows(rows), "the same rows are the same bytes, by which stretches are known again"


def test_workers_load_no_torch():
    code = "import sys, whet.data.row_worker, whet.data.workers; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_few_rows_and_cleaners_of_the_users_own_stay_in_this_process(tmp_path):
    usual = Making(Data(path="a.csv"), CLASSIFY, tmp_path, b"")
    own = Making(Data(path="a.csv", clean=("spaces", "./mine.py")), CLASSIFY, tmp_path, b"")
    assert workers_for(1000, usual) == 1 and workers_for(10**6, own) == 1
    assert workers_for(10**6, usual) == min(len(os.sched_getaffinity(0)), workers.MOST_WORKERS)
