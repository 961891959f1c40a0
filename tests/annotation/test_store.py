"""Answers are on the disk before they are confirmed, follow their rows, and nobody overwrites another's silently."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import COLUMNS, items_for

from whet.annotation.answers import Answer, Guess, Stale
from whet.annotation.items import items_of
from whet.annotation.store import Store
from whet.annotation.store_file import NotStored
from whet.data.rows import RawRow
from whet.errors import DataError

ITEMS = items_for("label")
KEYS = [item.key for item in ITEMS]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "a.sqlite") as opened:
        opened.load(ITEMS, {"rows.csv": "0"}, COLUMNS["label"])
        yield opened


def say(store, key, value, annotator="ada", revision=None):
    before = store.answer(key, annotator)
    new = Answer(
        key=key, annotator=annotator, revision=before.revision if revision is None else revision, action="answer", value=value
    )
    return store.put(new)


def test_what_was_said_is_there_when_the_file_is_opened_again(tmp_path):
    path = tmp_path / "a.sqlite"
    with Store(path) as store:
        store.load(ITEMS, {"rows.csv": "0"}, COLUMNS["label"])
        said = say(store, KEYS[0], "bug")
        store.put_guesses([Guess(KEYS[1], "m", "bug", 0.5, 0.1)])
        store.put_vectors("m", {KEYS[0]: b"1234"})
    with Store(path) as store:
        assert store.answers() == [said]
        assert store.items() == ITEMS
        assert store.guesses() == [Guess(KEYS[1], "m", "bug", 0.5, 0.1)]
        assert store.vectors("m") == {KEYS[0]: b"1234"}
        assert store.vectors("another") == {}


def test_an_answer_to_what_was_changed_meanwhile_is_refused_and_says_what_it_is_now(store):
    say(store, KEYS[0], "bug")
    with pytest.raises(Stale) as refused:
        say(store, KEYS[0], "billing", revision=0)
    assert (refused.value.now.value, refused.value.now.revision) == ("bug", 1)
    assert store.answer(KEYS[0], "ada").value == "bug"
    assert len(store.history()) == 1


def test_two_annotators_do_not_touch_each_other(store):
    say(store, KEYS[0], "bug", "ada")
    say(store, KEYS[0], "billing", "bob")
    assert {one.annotator: one.value for one in store.answers()} == {"ada": "bug", "bob": "billing"}


def test_history_has_every_change_with_who_and_before_and_after(store):
    say(store, KEYS[0], "bug")
    say(store, KEYS[0], "billing")
    store.undo("ada")
    first, second, third = store.history(KEYS[0])
    assert [one.before["value"] for one in (first, second, third)] == [None, "bug", "billing"]
    assert [one.after["value"] for one in (first, second, third)] == ["bug", "billing", "bug"]
    assert third.undoes == second.id
    assert {one.annotator for one in (first, second, third)} == {"ada"}
    assert [one.revision for one in (first, second, third)] == [1, 2, 3]


ACTIONS = st.lists(st.one_of(st.tuples(st.sampled_from(KEYS), st.sampled_from(["bug", "billing"])), st.just("undo")), max_size=25)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(ACTIONS)
def test_undo_takes_back_one_answer_after_another_like_a_stack(tmp_path, actions):
    path = tmp_path / "stack.sqlite"
    path.unlink(missing_ok=True)
    done: list[tuple[str, object]] = []  # what a stack would do
    now: dict[str, object] = {}
    with Store(path) as store:
        store.load(ITEMS, {}, COLUMNS["label"])
        for action in actions:
            if action == "undo":
                taken = store.undo("ada")
                assert (taken is None) == (not done)
                if done:
                    key, before = done.pop()
                    assert (taken.key, taken.value) == (key, before)
                    now[key] = before
            else:
                key, value = action
                done.append((key, now.get(key)))
                now[key] = value
                say(store, key, value)
        assert {one.key: one.value for one in store.answers()} == now


def test_labels_follow_their_rows_when_the_file_changes(store):
    say(store, KEYS[0], "bug")
    say(store, KEYS[1], "bug")
    # the second row is gone, a new one stands first, and the first has another label, channel and line
    fields = [{"text": "new here", "label": ""}, {"text": "I was charged twice", "label": "billing", "channel": "letter"}]
    items, _ = items_of([RawRow("rows.csv", 7 + place, row) for place, row in enumerate(fields)], COLUMNS["label"], "label")
    loaded = store.load(items, {"rows.csv": "1"}, COLUMNS["label"])
    assert (loaded.new, loaded.gone, loaded.altered) == (1, 3, ("rows.csv",))
    assert [item.key for item in store.items()] == [items[0].key, KEYS[0]]
    assert store.items()[1].places[0].line == 8
    assert store.items()[1].given == "billing"
    assert store.answer(KEYS[0], "ada").value == "bug"
    assert len(store.items(gone=True)) == 5
    again = store.load(ITEMS, {"rows.csv": "0"}, COLUMNS["label"])
    assert (again.new, again.gone) == (0, 1)
    assert store.answer(KEYS[1], "ada").value == "bug"


def test_rows_that_look_alike_are_one_item_with_both_places():
    fields = [{"text": "same", "label": "a", "channel": "x"}, {"text": "same", "label": "b", "channel": "y"}]
    items = items_for("label", fields)
    assert len(items) == 1
    assert [place.line for place in items[0].places] == [2, 3]


def test_a_row_with_half_a_character_is_kept(tmp_path):
    with Store(tmp_path / "half.sqlite") as store:
        items = items_for("label", [{"text": "half \ud83d", "label": ""}])
        store.load(items, {}, COLUMNS["label"])
        assert store.items() == items


def test_only_one_writes_and_the_other_is_told(tmp_path):
    with Store(tmp_path / "a.sqlite"), pytest.raises(DataError, match="another `whet annotate` is at work"):
        Store(tmp_path / "a.sqlite")
    Store(tmp_path / "a.sqlite").close()


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to look at\n" * 40])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(DataError):
        Store(path, writes=False)
    assert path.read_bytes() == content


def test_another_programs_database_is_not_written_to(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(DataError, match="another program's file"):
        Store(path)
    assert path.read_bytes() == before


def test_an_unknown_version_is_refused(tmp_path):
    path = tmp_path / "a.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="version 99"):
        Store(path)


WRITER = """
import sys
from pathlib import Path
from jobs import COLUMNS, items_for
from whet.annotation.answers import Answer
from whet.annotation.store import Store

items = items_for("label", [{"text": f"row {number}", "label": ""} for number in range(5000)])
with Store(Path(sys.argv[1])) as store:
    store.load(items, {}, COLUMNS["label"])
    for item in items:
        store.put(Answer(key=item.key, annotator="ada", action="answer", value="bug"))
        print(item.key, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("confirmed", [1, 7, 40])
def test_killed_in_the_middle_nothing_confirmed_is_lost(tmp_path, confirmed):
    path = tmp_path / "a.sqlite"
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": here}
    ) as writer:
        told = [writer.stdout.readline().strip() for _ in range(confirmed)]
        writer.send_signal(signal.SIGKILL)
        told += [line.strip() for line in writer.stdout if line.endswith("\n")]
    with Store(path) as store:
        kept = {one.key for one in store.answers()}
        assert set(told) <= kept
        assert len(kept) <= len(told) + 1  # at most the one that was being written besides
        assert {one.key for one in store.history()} == kept
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_failed_change_leaves_nothing(store, monkeypatch):
    class Full(sqlite3.OperationalError):
        pass

    real = store._file

    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def execute(self, text, *values):
            if text.startswith("INSERT INTO history"):
                raise Full("database or disk is full")
            return real.execute(text, *values)

    monkeypatch.setattr(store, "_file", Failing())
    with pytest.raises(NotStored):
        say(store, KEYS[0], "bug")
    monkeypatch.undo()
    assert store.answers() == []
    say(store, KEYS[0], "bug")
    assert json.dumps([one.after for one in store.history()]) == json.dumps([{"action": "answer", "value": "bug", "reason": ""}])
    assert replace(store.answers()[0], time=0).revision == 1


def test_a_full_disk_confirms_nothing_and_loses_nothing(store):
    most = store._file.execute("PRAGMA page_count").fetchone()[0] + 2
    store._file.execute(f"PRAGMA max_page_count = {most}")  # SQLite says then what it says of a full disk
    confirmed = 0
    with pytest.raises(NotStored, match="full"):
        for number in range(1000):
            say(store, KEYS[0], f"{number} {'x' * 300}")
            confirmed += 1
    assert confirmed > 0 and store.answer(KEYS[0], "ada").revision == len(store.history()) == confirmed
    store._file.execute("PRAGMA max_page_count = 100000")
    assert say(store, KEYS[0], "again").revision == confirmed + 1
    with Store(store.path, writes=False) as other:  # what is confirmed is there for others, too
        assert other.answer(KEYS[0], "ada").value == "again"


def test_what_a_link_in_the_place_of_the_lock_leads_to_stays(tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / "a.sqlite.lock").symlink_to(tmp_path / "precious.txt")
    Store(tmp_path / "a.sqlite").close()
    assert (tmp_path / "precious.txt").read_text() == "precious"
