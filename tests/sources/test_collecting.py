"""Collecting: once, resumable after any stop, hashed, dated; nothing half-written is ever read."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from whet.collect.journal import Journal, Writer
from whet.collect.page import Page
from whet.data.accounting import ACCOUNTING
from whet.data.rows import RawRow
from whet.errors import DataError, RecipeError
from whet.recipe_file import build_recipe
from whet.recipe_parts import Choice
from whet.stages.collect import collected
from whet.stages.narrate import Narrator
from whet.stages.prepare import prepare_run

RECIPE = "model: builtin:minilm\ndata: {sources: {name: sql, connection: tickets.sqlite, query: 'SELECT message, label FROM tickets'}}\nobjective: classify\n"


def sentence(number: int) -> str:
    """A text unlike any other."""
    draw = random.Random(number)
    return " ".join("".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(8))


class Told(Narrator):
    """What was said, for tests."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "tickets.sqlite") as database:
        database.execute("CREATE TABLE tickets (message TEXT, label TEXT)")
        database.executemany("INSERT INTO tickets VALUES (?, ?)", [(sentence(n), "ab"[n % 2]) for n in range(3000)])
    database.close()
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


CHOICE = Choice(name="sql", connection="tickets.sqlite", query="SELECT message, label FROM tickets")


def test_a_second_run_takes_what_was_collected_and_says_from_when(desk):
    first, told = collected(CHOICE, desk), Told()
    content = first.read_bytes()
    assert collected(CHOICE, desk, told) == first and first.read_bytes() == content
    assert "3,000 rows collected on 20" in told.lines[0] and "--fresh" in told.lines[0]
    assert first.parent.parent == desk / "collected"


def test_a_file_that_has_changed_is_collected_anew(desk):
    collected(CHOICE, desk)
    with sqlite3.connect(desk / "tickets.sqlite") as database:
        database.execute("DELETE FROM tickets WHERE rowid > 1000")
    database.close()
    told = Told()
    assert len(collected(CHOICE, desk, told).read_text().splitlines()) == 1001  # and the first line, which says what it is
    assert "has changed since" in told.lines[0]


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_a_stopped_collection_goes_on_to_the_same_bytes(desk, monkeypatch, stop_after):
    whole = collected(CHOICE, desk)
    wanted = whole.read_bytes().split(b"\n", 1)[1]
    collected(CHOICE, desk, fresh=True)
    real, pages = Writer.add, []

    def add(writer, page):
        if len(pages) == stop_after:
            raise KeyboardInterrupt
        pages.append(page)
        real(writer, page)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "add", add)
        with pytest.raises(KeyboardInterrupt):
            collected(CHOICE, desk, fresh=True)
    assert whole.parent.exists() == (stop_after > 0)
    if stop_after:
        with whole.open("ab") as file:
            file.write(b'{"file": "half a li')  # a page that was being written
    told = Told()
    assert collected(CHOICE, desk, told).read_bytes().split(b"\n", 1)[1] == wanted
    assert ("going on after" in told.lines[0]) == (stop_after > 0)


def test_a_full_disk_is_told_with_the_file_that_is_collected_into(tmp_path):
    rows = tmp_path / "rows.jsonl"
    writer = Writer(tmp_path, Journal("sql", {}, "", "2024"))
    rows.unlink()
    rows.symlink_to("/dev/full")
    for write in (
        lambda: writer.add(Page((RawRow("t", 1, {"text": "one"}),), None, "2024")),
        lambda: Writer(tmp_path, writer.journal),
    ):
        with pytest.raises(OSError, match="No space left") as full:
            write()
        assert full.value.filename == str(rows)


def test_what_was_collected_stays_where_the_new_does_not_begin(desk, monkeypatch):
    whole = collected(CHOICE, desk).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("whet.sources.sql.Sql.collect", lambda self, after: iter(()))
        with pytest.raises(DataError, match="no row was found there"):
            collected(CHOICE, desk, fresh=True)
    with monkeypatch.context() as patch:
        patch.setattr("whet.sources.sql.Sql.collect", stopped)
        with pytest.raises(KeyboardInterrupt):
            collected(CHOICE, desk, fresh=True)
    told = Told()
    assert collected(CHOICE, desk, told).read_bytes() == whole
    assert "taken as they are" in told.lines[0]


def stopped(source, after):
    raise KeyboardInterrupt
    yield


def test_an_altered_collection_is_refused(desk):
    file = collected(CHOICE, desk)
    file.write_bytes(file.read_bytes().replace(b"a", b"b"))
    with pytest.raises(DataError, match=r"altered since.*collected anew"):
        collected(CHOICE, desk)
    (file.parent / "journal.json").write_text("{")
    with pytest.raises(DataError, match=r"journal\.json: damaged"):
        collected(CHOICE, desk)


def test_two_at_once_are_told_apart(desk):
    place = collected(CHOICE, desk).parent
    script = f"import fcntl, sys; f = open({str(place / '.lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match="another whet is collecting"):
            collected(CHOICE, desk)
        assert other.stdin is not None
        other.stdin.close()


def test_every_row_of_a_source_is_accounted_for_with_its_place_and_date(desk):
    recipe = build_recipe(
        {"model": "builtin:minilm", "data": {"sources": [{**CHOICE.settings, "name": "sql"}]}, "objective": "classify"}, "r"
    )
    run = prepare_run(recipe, folder=desk, out=desk / "run")
    said = json.loads((run.path / ACCOUNTING).read_text())
    assert said["sources"]["path"]["rows"] == 3000 == sum(said["sources"]["path"]["used"].values())
    rows = [
        json.loads(line)
        for part in ("train", "validation", "test")
        for line in (run.path / "data" / f"{part}.jsonl").read_text().splitlines()
    ]
    place = str(desk / "tickets.sqlite")
    assert {row["file"] for row in rows} == {place} and sorted(row["line"] for row in rows) == list(range(1, 3001))
    assert said["dates"][place][:2] == "20"


def test_rows_of_files_and_of_sources_come_together_and_a_test_part_has_sources_too(desk):
    (desk / "more.csv").write_text("message,label\n" + "".join(f"{sentence(n + 5000)},{'ab'[n % 2]}\n" for n in range(100)))
    data = {
        "path": str(desk / "more.csv"),
        "sources": {"name": "sql", **CHOICE.settings},
        "test_sources": {
            "name": "sql",
            **CHOICE.settings,
            "query": "SELECT upper(hex(message)) AS message, label FROM tickets LIMIT 50",
        },
    }
    run = prepare_run(
        build_recipe({"model": "builtin:minilm", "data": data, "objective": "classify"}, "r"), folder=desk, out=desk / "run"
    )
    sources = json.loads((run.path / ACCOUNTING).read_text())["sources"]
    assert sources["path"]["rows"] == 3100 and sources["test"] == {"rows": 50, "used": {"test": 50}, "dropped": {}}


def test_a_recipe_needs_rows_from_somewhere():
    with pytest.raises(RecipeError, match=r"'data\.path' is missing"):
        build_recipe({"model": "builtin:minilm", "data": {"text": "x"}, "objective": "classify"}, "r")


def test_a_source_without_rows_is_named(desk):
    with pytest.raises(DataError, match="no row was found"):
        collected(Choice(name="sql", connection="tickets.sqlite", query="SELECT * FROM tickets WHERE label = 'z'"), desk)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"query": "SELECT * FROM nowhere"}, "no such table"),
        ({"connection": "nothing.sqlite"}, "no such database"),
        (
            {"connection": "text.csv", "query": "SELECT * FROM t"},
            "text.csv: is no SQLite database. Name one: data.sources connection.",
        ),
    ],
)
def test_a_source_that_is_refused_leaves_nothing(tmp_path, monkeypatch, settings, said):
    monkeypatch.chdir(tmp_path)
    sqlite3.connect(tmp_path / "tickets.sqlite").close()
    (tmp_path / "text.csv").write_text("a,b\n" * 999)
    with pytest.raises(DataError, match=said):
        collected(Choice(name="sql", **{"connection": "tickets.sqlite", "query": "SELECT 1 AS text", **settings}), tmp_path)
    assert not (tmp_path / "collected").exists()
