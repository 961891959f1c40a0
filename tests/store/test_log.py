"""The request log: what is written is read, nothing that goes wrong with the disk reaches a request, and it does not grow for ever."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time

import pytest

from whet.errors import ServerError
from whet.store import log as module
from whet.store.log import Feedback, Item, Logged, RequestLog, read_requests


def record(number, **changes):
    values = dict(id=f"{number:032x}", time=1000.0 + number, endpoint="classify", name="intent", run="run", fingerprint="f")  # noqa: C408
    return Logged(**{**values, "items": [Item(5, 2, label="a", confidence=0.5, tags={"channel": "mail"})]} | changes)


class Desk:
    """A log with what it said and lost."""

    def __init__(self, path, **changes):
        self.said, self.lost = [], []
        settings = {"keep_text": False, "max_bytes": 2**30, "max_days": 1e6} | changes
        self.log = RequestLog(path, say=self.said.append, on_drop=self.lost.append, **settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "log.sqlite"


def test_what_is_written_is_read(path):
    desk = Desk(path, keep_text=True)
    one = record(
        1,
        endpoint="chat",
        status=200,
        prompt_tokens=3,
        completion_tokens=4,
        latency_s=0.5,
        first_token_s=0.1,
        items=[Item(7, 3, 9, None, None, False, "stop", {"channel": "mail"}, "my card", "we’re sorry")],
    )
    several = record(2, items=[Item(1, 1, label=["a", "b"], confidence=0.7), Item(1, 1, label=2.5), Item(1, 1, abstained=True)])
    failed = record(3, status=500, error="model_failed", items=[])
    for each in (several, one, failed):
        desk.log.write(each)
    desk.log.close()
    assert list(read_requests(path)) == [one, several, failed]
    assert list(read_requests(path, since=1002, until=1003)) == [several]
    assert list(read_requests(path, name="other")) == []
    assert not desk.said and not desk.lost


def test_feedback_is_joined_and_the_latest_counts(path):
    desk = Desk(path)
    desk.log.write(record(1))
    assert desk.log.judge(Feedback(record(1).id, 0, "label", "b")).result(5)
    assert desk.log.judge(Feedback(record(1).id, 0, "labels", ["b", "c"])).result(5)
    assert not desk.log.judge(Feedback(record(1).id, 1, "label", "b")).result(5)
    assert not desk.log.judge(Feedback("nosuch", 0, "label", "b")).result(5)
    desk.log.close()
    ((item,),) = [one.items for one in read_requests(path)]
    assert (item.truth_kind, item.truth, item.label) == ("labels", ["b", "c"], "a")


def test_a_log_is_gone_on_with(path):
    for number in (1, 2):
        desk = Desk(path)
        desk.log.write(record(number))
        desk.log.close()
    assert [one.id for one in read_requests(path)] == [record(1).id, record(2).id]


def test_a_reader_sees_what_is_written_while_it_is_written(path):
    desk = Desk(path)
    desk.log.write(record(1))
    assert desk.log.judge(Feedback(record(1).id, 0, "right", True)).result(5)  # it is behind the record in the queue
    assert len(list(read_requests(path))) == 1
    desk.log.close()


def test_a_locked_file_fails_no_request_is_said_once_and_counted(path, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, "connect", lambda *args, **options: real(*args, **options | {"timeout": 0.05}))
    desk = Desk(path)
    desk.log.write(record(0))
    assert desk.log.judge(Feedback(record(0).id, 0, "right", True)).result(5)
    other = real(path)
    other.execute("BEGIN IMMEDIATE")
    for number in range(1, 4):
        desk.log.write(record(number))
        time.sleep(0.15)
    with pytest.raises(sqlite3.OperationalError):
        desk.log.judge(Feedback(record(0).id, 0, "label", "b")).result(5)
    other.rollback()
    other.close()
    desk.log.write(record(9))
    desk.log.close()
    assert sum(desk.lost) == 3 and len(desk.said) == 1 and "locked" in desk.said[0]
    assert [one.id for one in read_requests(path)] == [record(0).id, record(9).id], "it goes on when the disk does"


def test_a_full_disk_fails_no_request_is_said_once_and_counted(path):
    desk = Desk(path)
    desk.log.write(record(0))
    assert desk.log.judge(Feedback(record(0).id, 0, "right", True)).result(5)
    pages = desk.log._file.execute("PRAGMA page_count").fetchone()[0]
    desk.log._file.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to say that the disk is full
    for number in range(1, 4):
        desk.log.write(record(number, items=[Item(1, 1, tags={"channel": "x" * 50_000})]))
        time.sleep(0.05)
    desk.log.close()
    assert sum(desk.lost) == 3 and len(desk.said) == 1 and "full" in desk.said[0]
    assert [one.id for one in read_requests(path)] == [record(0).id]


def test_a_slow_disk_never_makes_a_request_wait(path, monkeypatch):
    monkeypatch.setattr(module, "WAITING", 5)
    held = threading.Event()
    store = RequestLog._store
    monkeypatch.setattr(RequestLog, "_store", lambda self, records: (held.wait(10), store(self, records))[1])
    desk = Desk(path)
    begun = time.monotonic()
    for number in range(100):
        desk.log.write(record(number))
    assert time.monotonic() - begun < 1
    assert sum(desk.lost) >= 90 and len(desk.said) == 1
    with pytest.raises(queue.Full):
        desk.log.judge(Feedback("x", 0, "label", "b")).result(1)
    held.set()
    desk.log.close()
    assert len(list(read_requests(path))) == 100 - sum(desk.lost)


def test_old_requests_go(path):
    desk = Desk(path)
    desk.log.write(record(1, time=time.time() - 10 * 86_400))
    desk.log.write(record(2, time=time.time()))
    assert desk.log.judge(Feedback(record(1).id, 0, "label", "b")).result(5)
    desk.log.close()
    desk = Desk(path, max_days=9)
    desk.log.write(record(3, time=time.time()))
    desk.log.close()
    assert [one.id for one in read_requests(path)] == [record(2).id, record(3).id]
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM feedback").fetchone() == (0,)
        assert file.execute("SELECT count(*) FROM items").fetchone() == (2,)
    file.close()


def test_the_file_stays_below_its_size(path):
    desk = Desk(path)
    for number in range(600):
        desk.log.write(record(number, items=[Item(1, 1, tags={"channel": "x" * 500})]))
    desk.log.close()
    before = path.stat().st_size
    desk = Desk(path, max_bytes=before // 2)
    desk.log.write(record(5000))
    desk.log.close()
    kept = [one.id for one in read_requests(path)]
    assert path.stat().st_size <= before // 2 and len(kept) > 150
    assert kept[-1] == record(5000).id and record(0).id not in kept, "the oldest go first"


@pytest.mark.parametrize("content", [None, b"no database" * 100, b""])
def test_what_is_no_log_is_refused_with_its_name(path, content):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServerError, match=r"log\.sqlite"):
        list(read_requests(path))


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE feedback SET truth = '{broken'",
        f"UPDATE feedback SET truth = '{'[' * 100_000}'",
        "UPDATE items SET label = '{\"a\": 1}'",
        "UPDATE items SET label = 'NaN'",
        "UPDATE items SET tags = '[1]'",
        "UPDATE items SET tags = '{\"channel\": {}}'",
        "UPDATE items SET confidence = 'high'",
        "UPDATE items SET confidence = 1e999",
        "UPDATE items SET num_characters = 'many'",
        "UPDATE items SET input = x'ff00'",
        "UPDATE requests SET latency_s = 'long'",
        "UPDATE requests SET latency_s = 1e999",
        "ALTER TABLE items ADD COLUMN more",
        "ALTER TABLE requests RENAME COLUMN time TO at",
    ],
)
def test_what_a_damaged_row_holds_is_named_and_not_computed_with(path, harm):
    desk = Desk(path)
    desk.log.write(record(1))
    assert desk.log.judge(Feedback(record(1).id, 0, "label", "b")).result(5)
    desk.log.close()
    with sqlite3.connect(path) as file:
        file.execute(harm)
    file.close()
    with pytest.raises(ServerError, match=r"log\.sqlite: is no request log, or damaged"):
        list(read_requests(path))


def test_a_log_of_another_version_is_refused(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(ServerError, match="version 99"):
        list(read_requests(path))
    with pytest.raises(ServerError, match="version 99"):
        Desk(path)


def test_two_servers_do_not_write_one_log(path):
    desk = Desk(path)
    with pytest.raises(ServerError, match="another server"):
        Desk(path)
    desk.log.close()
    Desk(path).log.close()


def test_the_documented_columns_are_the_tables(path):
    Desk(path).log.close()
    with sqlite3.connect(path) as file:
        for table in ("requests", "items", "feedback"):
            for column in file.execute(f"PRAGMA table_info({table})").fetchall():
                assert f"`{column[1]}`" in (module.__doc__ or ""), f"{table}.{column[1]} is not in the docstring"
    file.close()
