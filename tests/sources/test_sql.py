"""SQL: read only, streamed, credentials named and never shown."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from whet import plugins
from whet.errors import DataError, RecipeError
from whet.stages import new_source
from whet.stages.new import new


def source(folder: Path, **settings):
    with closing(sqlite3.connect(folder / "t.sqlite")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER, text TEXT, more BLOB)")
        database.execute("DELETE FROM t")
        database.executemany(
            "INSERT INTO t VALUES (?, ?, ?)", [(1, "one", b"\xff\x00"), (2, b"bytes that are text", None), (3, None, 2.5)]
        )
    return plugins.build("sources", "sql", {"connection": str(folder / "t.sqlite"), "query": "SELECT * FROM t", **settings})


def test_values_of_every_type(tmp_path):
    (page,) = source(tmp_path).collect(None)
    assert [(row.line, dict(row.fields)) for row in page.rows] == [
        (1, {"id": 1, "text": "one", "more": "/wA="}),  # 11111111 00000000 in six bits each: 63, 48, 0
        (2, {"id": 2, "text": "bytes that are text", "more": None}),
        (3, {"id": 3, "text": None, "more": 2.5}),
    ]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM t",
        "DROP TABLE t",
        "ATTACH DATABASE 'other.sqlite' AS other",
        "PRAGMA writable_schema = 1",
        "CREATE TABLE x (y)",
        "SELECT * FROM t; DELETE FROM t",
        "INSERT INTO t VALUES (1, 'x', NULL) RETURNING *",
        "SELECT load_extension('x')",
        "VACUUM INTO 'copy.sqlite'",
        "SELECT nothing FROM t",
        "no sql",
    ],
)
def test_a_query_that_does_more_than_read_is_refused_and_changes_nothing(tmp_path, query, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = source(tmp_path, query=query)
    before = (tmp_path / "t.sqlite").read_bytes()
    with pytest.raises(DataError, match=r"t\.sqlite: .*one SELECT"):
        list(asked.collect(None))
    assert (tmp_path / "t.sqlite").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.sqlite"]


def test_no_database_and_none_is_made(tmp_path):
    asked = plugins.build("sources", "sql", {"connection": str(tmp_path / "no.sqlite"), "query": "SELECT * FROM t"})
    with pytest.raises(DataError, match="there is no such database"):
        list(asked.collect(None))
    assert not list(tmp_path.iterdir())
    (tmp_path / "no.sqlite").write_text("text,label\n" * 100)
    with pytest.raises(DataError, match="is no SQLite database"):
        list(asked.collect(None))


@pytest.mark.parametrize(
    "settings",
    [
        {"connection": "postgresql://me:hunter2@host/db"},
        {"connection": "postgresql://me@host/db?password=hunter2"},
        {"connection": "postgresql://me@host/db", "password": "hunter2"},
        {"connection": "postgresql://me:hunter2#1@host/db"},
        {"connection": "postgresql://me:hunter2?1@host:5432/db"},
        {"connection": "postgresql://me:hunter2/1@host/db"},
        {"connection": "postgresql://me:a:hunter2@host/db"},
        {
            "connection": "postgresql://me:5432?user=hunter2@host"
        },  # no port: without a / before it, libpq takes what stands before the @ for it
        {"connection": "host=host user=me password=hunter2"},
    ],
)
def test_a_password_in_a_recipe_is_refused_and_not_repeated(settings):
    with pytest.raises(RecipeError) as caught:
        plugins.build("sources", "sql", {"query": "SELECT 1", **settings})
    assert "hunter2" not in str(caught.value) and "env:NAME" in str(caught.value)


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://me@host:5432/db",
        "postgresql://me@one:5432,two:5433/db",
        "postgresql://host:5432/db?user=me@corp",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://host:5432?user=me%40corp",
        "postgresql://host:5432/?user=me@corp",
    ],
)
def test_a_connection_without_a_password_is_taken(connection):
    assert plugins.build("sources", "sql", {"query": "SELECT 1", "connection": connection}).origin == connection


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql+psycopg://me:hunter2@host/db",
        "mysql://me:hunter2@host/db",
        "host=host user=me password=hunter2",
        "hunter2" * 100,
        "sqlite:///hunter2/tickets.sqlite",
    ],
)
def test_a_connection_that_is_kept_in_a_place_is_never_shown(connection, monkeypatch):
    monkeypatch.setenv("TICKETS", connection)
    asked = plugins.build("sources", "sql", {"connection": "env:TICKETS", "query": "SELECT 1"})
    with pytest.raises(DataError, match=r"env:TICKETS: .*Allowed: .*postgresql://") as caught:
        list(asked.collect(None))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("password", ["hunter2/1", "hunter2#1", "%zzhunter2", "1@hunter2", "hunter2 1"])
def test_no_part_of_a_password_that_breaks_an_address_is_shown(password, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("TICKETS", f"postgresql://me:{password}@127.0.0.1:1/db")
    settings = {"connection": "env:TICKETS", "query": "SELECT 1", "timeout_s": 2}
    with pytest.raises(DataError, match="env:TICKETS") as caught:
        list(plugins.build("sources", "sql", settings).collect(None))
    assert "hunter2" not in str(caught.value)


def test_credentials_come_from_the_environment_or_a_file(tmp_path, monkeypatch):
    path = source(tmp_path).connection
    monkeypatch.setenv("TICKETS", f"sqlite:///{path}")
    asked = plugins.build("sources", "sql", {"connection": "env:TICKETS", "query": "SELECT id FROM t"})
    assert len(next(iter(asked.collect(None))).rows) == 3 and asked.origin == "database of env:TICKETS"
    monkeypatch.delenv("TICKETS")
    with pytest.raises(DataError, match="no variable TICKETS"):
        list(asked.collect(None))
    (tmp_path / "secret").write_text(f"{path}\n")
    asked = plugins.build("sources", "sql", {"connection": f"file:{tmp_path / 'secret'}", "query": "SELECT id FROM t"})
    assert len(next(iter(asked.collect(None))).rows) == 3
    (tmp_path / "secret").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(asked.collect(None))


def test_a_server_that_is_not_there_is_said_without_the_password(monkeypatch):
    monkeypatch.setenv("HUSH", "hunter2")
    settings = {"connection": "postgresql://me@127.0.0.1:1/db", "password": "env:HUSH", "query": "SELECT 1", "timeout_s": 2}
    with pytest.raises(DataError, match=r"127\.0\.0\.1") as caught:
        list(plugins.build("sources", "sql", settings).collect(None))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DataError, match=r"pip install 'whet\[postgres\]'"):
        list(plugins.build("sources", "sql", settings).collect(None))


def test_a_key_that_is_no_column(tmp_path):
    with pytest.raises(DataError, match=r"no column|no such column"):
        list(source(tmp_path, key="nothing").collect(None))
    with pytest.raises(RecipeError, match="plain name"):
        source(tmp_path, key='x" OR 1=1 --')


@pytest.fixture
def endless(tmp_path):
    """A database with a view that never ends."""
    with closing(sqlite3.connect(tmp_path / "endless.db")) as database:
        database.execute("CREATE TABLE t (text, label)")
        database.execute("INSERT INTO t VALUES ('hello', 'a')")
        database.execute(
            "CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS text FROM c WHERE x < 0"
        )
        database.commit()
    return tmp_path / "endless.db"


def test_a_view_that_never_ends_is_not_counted_for_ever(endless, monkeypatch):
    monkeypatch.setattr(new_source, "COUNTED_S", 0.3)
    with pytest.raises(DataError, match="takes longer"):
        new_source.source_of(str(endless), [])


def test_the_tables_that_are_left_out_are_named(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        for name, rows in (("reviews", 3), ("log", 5), ("users", 1)):
            database.execute(f"CREATE TABLE {name} (text, label)")
            made = [(f"the text of row {number}", "ab"[number % 2]) for number in range(rows)]
            database.executemany(f"INSERT INTO {name} VALUES (?, ?)", made)
        database.commit()
    said = []
    assert new_source.source_of(str(tmp_path / "shop.db"), said)["query"] == 'SELECT * FROM "log"'
    _, seen = new([tmp_path / "shop.db"], out=tmp_path / "recipe.yaml")
    assert said[0] in seen.reasons
    assert said == [
        "The table 'log' (5 rows) is read, the largest; 'reviews' (3 rows), 'users' (1 row) left out. Name another in data.sources.query."
    ]


def made(file, *statements):
    with closing(sqlite3.connect(file)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return str(file)


def test_new_leaves_out_what_cannot_be_read_and_says_so(tmp_path):
    file = made(
        tmp_path / "shop.db", "CREATE TABLE t (text)", "INSERT INTO t VALUES ('one')", "CREATE TABLE gone (a)",
        "CREATE VIEW broken AS SELECT a FROM gone", "DROP TABLE gone", "CREATE VIRTUAL TABLE words USING fts5(body)",
        "INSERT INTO words VALUES ('two'), ('three')",
    )  # fmt: skip
    said = []
    assert new_source.source_of(file, said)["query"] == 'SELECT * FROM "t"'
    assert said == ["Cannot be read, and left out: 'words', 'broken'."]
    made(file, "DELETE FROM t")
    with pytest.raises(DataError, match=r"without a row in any table\. Cannot be read, and left out: 'words', 'broken'"):
        new_source.source_of(file, [])


def test_a_name_of_a_table_that_is_no_text_is_no_fault_of_whets(tmp_path):
    file = made(
        tmp_path / "odd.db", "CREATE TABLE t (text)", "INSERT INTO t VALUES ('one')", "PRAGMA writable_schema=1",
        "INSERT INTO sqlite_master VALUES ('table', CAST(x'ff41' AS TEXT), 'x', 0, 'CREATE TABLE x(a)')",
    )  # fmt: skip
    with pytest.raises(DataError, match="cannot be read as a database"):
        new_source.source_of(file, [])
    with pytest.raises(DataError, match=r"odd\.db: "):
        list(plugins.build("sources", "sql", {"connection": file, "query": "SELECT * FROM t"}).collect(None))


def test_new_takes_no_key_that_is_empty_in_a_row(tmp_path):
    file = made(tmp_path / "t.db", "CREATE TABLE t (name TEXT PRIMARY KEY, text)", "INSERT INTO t VALUES ('a', 'one')")
    assert new_source.source_of(file, [])["key"] == "name"
    made(file, "INSERT INTO t VALUES (NULL, 'two')")  # SQLite lets it in
    assert "key" not in new_source.source_of(file, [])


def test_of_a_database_with_one_table_nothing_is_said_to_be_left_out(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE reviews (text)")
        database.execute("INSERT INTO reviews VALUES ('a text')")
        database.commit()
    said = []
    assert new_source.source_of(str(tmp_path / "shop.db"), said)["query"] == 'SELECT * FROM "reviews"'
    assert said == []


def test_a_query_that_never_ends_is_ended_by_an_interrupt(endless):
    source = plugins.build("sources", "sql", {"connection": str(endless), "query": "SELECT * FROM v"})
    interrupt = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            list(source.collect(None))
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, before)


def test_a_value_larger_than_any_row_is_refused_before_it_is_made(endless):
    source = plugins.build("sources", "sql", {"connection": str(endless), "query": "SELECT hex(zeroblob(400000000)) AS text"})
    with pytest.raises(DataError, match="too big"):
        list(source.collect(None))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT id / 2 AS id, text FROM t", "row 3 of the query, in the order of its key: 'id' is that of the row before, too"),
        ("SELECT nullif(id, 1) AS id, text FROM t", "row 1 of the query, in the order of its key: 'id' is empty"),
    ],
)
def test_a_key_that_is_not_different_in_each_row_is_refused_since_rows_would_be_lost_after_a_stop(tmp_path, query, told):
    asked = source(tmp_path, query=query, key="id")
    with pytest.raises(DataError, match=r"Name such a column as data\.sources key, or none") as refused:
        list(asked.collect(None))
    assert told in str(refused.value)
