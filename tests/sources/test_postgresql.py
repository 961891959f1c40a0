"""Rows of a real PostgreSQL: every type, read only, gone on with after a stop, and no secret or value in what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
from postgres_server import ADMIN, READER, Server

from whet import plugins
from whet.collect import postgresql
from whet.errors import DataError, RecipeError
from whet.recipe_file import build_recipe, load_recipe
from whet.stages.new import new
from whet.stages.prepare import prepare_run

pytestmark = pytest.mark.slow
NUM_ROWS = 2500


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server.running() as made:
        where = "(ARRAY['wallet is gone', 'box never came', 'money is not back'])[1 + i % 3]"
        made.run(
            "CREATE TABLE tickets (id bigint PRIMARY KEY, code uuid UNIQUE, made timestamptz, message text, intent text)",
            "INSERT INTO tickets SELECT i, md5(i::text)::uuid, '2026-01-01 00:00Z'::timestamptz + i * interval '1 s', "
            f"(ARRAY['so', 'now', 'well', 'oh'])[1 + i % 4] || ' my ' || {where} || ', 100% sure ' || md5(i::text), "
            f"(ARRAY['card', 'parcel', 'refund'])[1 + i % 3] FROM generate_series(1, {NUM_ROWS}) i",
            "CREATE TABLE hidden AS SELECT repeat('x', 100) FROM generate_series(1, 100000)",
            "GRANT SELECT ON tickets TO reader",
        )
        yield made


@pytest.fixture
def read(server, monkeypatch):
    """Return the source of a query, as the user who may only read."""
    monkeypatch.setenv("READER", READER)

    def source(query: str, **more: object):
        settings = {"connection": server.url(), "password": "env:READER", "query": query, **more}
        return plugins.build("sources", "sql", settings)

    return source


def rows_of(pages) -> list[dict[str, object]]:
    return [dict(row.fields) for page in pages for row in page.rows]


VALUES = (
    ("12.50::numeric(6, 2)", "12.50"), ("'NaN'::numeric", "NaN"), ("10::numeric ^ 30", "1" + "0" * 30 + ".0000000000000000"), ("7::smallint", 7),
    ("1.5::real", 1.5), ("'Infinity'::float8", None), ("true", True), ("NULL::int", None), ("'é 中 😀 \\0 \u2028'", "é 中 😀 \\0 \u2028"), ("'ab'::char(4)", "ab  "),
    ("'2026-02-03 04:05:06.5+02'::timestamptz AT TIME ZONE 'UTC'", "2026-02-03T02:05:06.500000"), ("'infinity'::timestamptz", "infinity"),
    ("'-infinity'::date", "-infinity"), ("'0044-03-15 BC'::date", "0044-03-15 BC"), ("'20000-01-01'::timestamp", "20000-01-01 00:00:00"),
    ("'2026-02-03'::date", "2026-02-03"), ("'24:00'::time", "24:00:00"), ("'90 minutes'::interval", "1:30:00"),
    ("""'{"a": [1, null, "ü"]}'::json""", {"a": [1, None, "ü"]}), ('''\'{"b": true}\'::jsonb''', {"b": True}),
    ("ARRAY['a,b', NULL, 'ü']", ["a,b", None, "ü"]), ("ARRAY[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    (r"'\xff00'::bytea", "/wA="), (r"'\x6869'::bytea", "hi"), ("'10.0.0.1'::inet", "10.0.0.1"), ("ROW(1, 'x')", ["1", "x"]),
    ("'8c8a9a0e-0f0b-4c3f-9d36-5b9284eb906e'::uuid", "8c8a9a0e-0f0b-4c3f-9d36-5b9284eb906e"), ("point(1, 2)", "(1,2)"),
)  # fmt: skip


def test_values_of_every_type(read):
    query = "SELECT " + ", ".join(f"{value} AS v{number}" for number, (value, _) in enumerate(VALUES))
    (row,) = rows_of(read(query).collect(None))
    assert list(row.values()) == [wanted for _, wanted in VALUES]


def test_json_that_python_cannot_read_comes_as_it_is_written(read):
    deep = "'" + "[" * 3000 + "]" * 3000 + "'::json"
    (row,) = rows_of(read(f"SELECT {deep} AS deep, ('1' || repeat('0', 5000))::jsonb AS long").collect(None))
    assert row == {"deep": "[" * 3000 + "]" * 3000, "long": "1" + "0" * 5000}


def test_text_in_another_encoding_than_the_database_says_is_refused_with_the_way_to_read_it(server, read):
    server.run("CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0", database="postgres")
    server.run(
        "CREATE TABLE t (a text)",
        r"SET client_encoding = 'SQL_ASCII'",
        r"INSERT INTO t VALUES (E'caf\xe9')",
        "GRANT SELECT ON t TO reader",
        database="raw",
    )
    there = server.url(database="raw")
    query = "SELECT a, json_build_object('a', a) AS b FROM t"
    with pytest.raises(DataError, match=r"not in the encoding.*\?client_encoding=LATIN1"):
        list(read(query, connection=there).collect(None))
    (row,) = rows_of(read(query, connection=there + "?client_encoding=LATIN1").collect(None))
    assert row == {"a": "caf\xe9", "b": {"a": "caf\xe9"}}


@pytest.mark.parametrize("key", ["id", "code", "made"])
def test_after_a_stop_at_any_page_the_rest_comes_and_nothing_twice(read, key):
    query = "SELECT id, code, made, message FROM tickets WHERE message LIKE '%100\\% sure%'"
    asked = read(query, key=key)
    whole = list(asked.collect(None))
    assert len(whole) > 3 and sorted(row["id"] for row in rows_of(whole)) == list(range(1, NUM_ROWS + 1))
    for number, page in enumerate(whole[:-1], 1):
        mark = json.loads(json.dumps(page.after))
        rest = list(asked.collect(mark))
        assert rows_of(rest) == rows_of(whole[number:])
        assert rest[0].rows[0].line == whole[number].rows[0].line


def test_large_rows_come_few_at_a_time(read, monkeypatch):
    monkeypatch.setattr(postgresql, "PAGE_BYTES", 10_000)
    sizes = [len(page.rows) for page in read("SELECT repeat('x', 3000) AS a FROM generate_series(1, 60)").collect(None)]
    assert sizes == [50, 3, 3, 3, 1]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tickets", "SELECT 1; DELETE FROM tickets", "SELECT 1; COMMIT; DELETE FROM tickets", "DROP TABLE tickets",
        "SELECT 1) AS x; COMMIT; DELETE FROM tickets; SELECT * FROM (SELECT 1", "WITH gone AS (DELETE FROM tickets RETURNING *) SELECT * FROM gone",
        "COPY tickets TO PROGRAM 'cat'", "SELECT * INTO copy FROM tickets", "SELECT nothing FROM tickets", "no sql",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", [None, "id"])
def test_what_does_more_than_read_is_refused_and_changes_nothing(server, read, monkeypatch, query, key):
    monkeypatch.setenv("READER", ADMIN)  # even who may
    asked = read(query, key=key, connection=server.url("owner"))
    with pytest.raises(DataError, match="may only read, and is one SELECT"):
        list(asked.collect(None))
    assert server.run("SELECT count(*) FROM tickets") == [(NUM_ROWS,)]
    assert server.run("SELECT count(*) FROM pg_tables WHERE tablename = 'copy'") == [(0,)]


def test_what_is_wrong_is_said_without_a_secret_or_a_value(server, read, monkeypatch):
    for query, said in (
        ("SELECT * FROM ticket", 'relation "ticket" does not exist'),
        ("SELECT * FROM hidden", "permission denied for table hidden"),
        ("SELECT message::int FROM tickets", "InvalidTextRepresentation"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            list(read(query).collect(None))
        assert "my box" not in str(caught.value) and "one SELECT" in str(caught.value)
    with pytest.raises(DataError, match='database "nothing" does not exist'):
        list(read("SELECT 1", connection=server.url(database="nothing")).collect(None))
    monkeypatch.setenv("READER", "hunter3")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        list(read("SELECT 1").collect(None))
    assert "hunter3" not in str(caught.value)
    monkeypatch.setenv("WHERE", server.url().replace("reader@", "reader:hunter4@"))
    with pytest.raises(DataError, match=r"env:WHERE: .*password authentication failed") as caught:
        list(plugins.build("sources", "sql", {"connection": "env:WHERE", "query": "SELECT 1"}).collect(None))
    assert "hunter4" not in str(caught.value)


def test_a_server_that_goes_in_the_middle_is_told_and_the_rest_comes_later(server, tmp_path, monkeypatch):
    monkeypatch.setenv("READER", READER)
    source = {"name": "sql", "connection": server.url(), "password": "env:READER", "query": "SELECT * FROM tickets", "key": "id"}
    data = {"sources": source, "text": "message", "label": "intent", "duplicates": {"near": False}}
    recipe = build_recipe({"model": "builtin:minilm", "data": data, "objective": "classify"}, "recipe")
    fetch, ended = postgresql.pages, []

    def ending(database, query, values):
        for number, page in enumerate(fetch(database, query, values)):
            yield page
            if number == 2 and not ended:
                ended.append(server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'whet'"))

    monkeypatch.setattr("whet.sources.sql.pages", ending)
    with pytest.raises(DataError, match=r"the connection broke .*goes on after the rows") as caught:
        prepare_run(recipe, folder=tmp_path, out=tmp_path / "run")
    assert READER not in str(caught.value) and not (tmp_path / "run").exists()
    run = prepare_run(recipe, folder=tmp_path, out=tmp_path / "run")
    (rows,) = tmp_path.glob("collected/*/rows.jsonl")
    fields = [json.loads(line)["fields"] for line in rows.read_text().splitlines()[1:]]
    assert [one["id"] for one in fields] == list(range(1, NUM_ROWS + 1))
    (counted,) = json.loads((run.path / "data" / "accounting.json").read_text())["sources"].values()
    assert counted["rows"] == NUM_ROWS
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and READER in file.read_text(errors="replace")]


def test_new_reads_the_largest_table_that_may_be_read(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", READER)
    written, seen = new([server.url()], out=tmp_path / "recipe.yaml")
    recipe = load_recipe(written)
    assert "The table public.tickets is read, the largest. Name another in data.sources.query." in seen.reasons
    ((choice,),) = [recipe.data.sources]
    assert choice.settings == {
        "connection": server.url(),
        "password": "env:PGPASSWORD",
        "query": "SELECT * FROM public.tickets",
        "key": "id",
    }
    assert (recipe.data.text, recipe.data.label) == ("message", "intent") and READER not in written.read_text()
    with pytest.raises(RecipeError, match="password") as caught:
        new([server.url().replace("reader@", "reader:hunter4@")], out=tmp_path / "other.yaml")
    assert "hunter4" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", ADMIN)
    with pytest.raises(DataError, match="no table there that this user may read"):
        new([server.url("owner", "postgres")], out=tmp_path / "other.yaml")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["recipe.yaml"]
