"""Every source keeps the laws of its kind, and the battery notices one that does not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported import argilla_records, chatgpt, label_studio_tasks

from whet import plugins
from whet.collect.page import Mark, Page
from whet.data.rows import RawRow
from whet.protocols import Source
from whet.testing.sources import check_source


def table(folder: Path, rows: int = 2500) -> Path:
    path = folder / "tickets.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE tickets (id INTEGER PRIMARY KEY, message TEXT, label TEXT, at DATE)")
        database.executemany(
            "INSERT INTO tickets VALUES (?, ?, ?, ?)",
            [(3 * n, f"my card number {n} is lost", "ab"[n % 2], "2024-05-01") for n in range(rows)],
        )
    database.close()
    return path


def settings_of(name: str, folder: Path) -> dict[str, object]:
    """How each source is tried; a new one says here what it is asked for."""
    if name == "sql":
        return {"connection": str(table(folder)), "query": "SELECT message, label FROM tickets"}
    if name == "files":
        for number in range(3):
            lines = "".join(f"text {number}-{line},{'ab'[line % 2]}\n" for line in range(1500))
            (folder / f"part{number}.csv").write_text("text,label\n" + lines)
        return {"path": str(folder / "part*.csv")}
    made = {"label_studio": label_studio_tasks, "argilla": argilla_records, "chatgpt": chatgpt}.get(name)
    if made is not None:
        (folder / "export.json").write_text(json.dumps(made(1500)))
        return {"path": str(folder / "export.json")}
    raise AssertionError(f"say here how the source '{name}' is tried")


IN_TEST_WEB = {"web", "json_api", "hub"}
"""Sources that are tried there, against a server or a folder."""


@pytest.mark.parametrize("name", sorted({*plugins.names("sources")} - IN_TEST_WEB))
def test_a_source_keeps_the_laws(name, tmp_path):
    check_source(plugins.build("sources", name, settings_of(name, tmp_path)))


def test_a_query_in_the_order_of_a_key_keeps_the_laws(tmp_path):
    settings = {**settings_of("sql", tmp_path), "query": "SELECT * FROM tickets", "key": "id"}
    check_source(plugins.build("sources", "sql", settings))


class Faulty(Source):
    """A source of four pages that breaks one law."""

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, 0
        self.origin = "https://example.org/?token=hush" if fault == "secret" else "somewhere"

    origin = ""

    def collect(self, after: Mark | None) -> Iterator[Page]:
        self.asked += 1
        begin = 0 if after is None or self.fault == "repeats" else int(str(after["page"]))
        for number in range(begin, 4):
            text = f"{number} {self.asked if self.fault == 'varies' else ''}"
            row = RawRow("" if self.fault == "nowhere" else "somewhere", number + 1, {"text": text})
            yield Page((row,), {"page": number + 1}, "yesterday" if self.fault == "undated" else "2024-01-01")


@pytest.mark.parametrize("fault", ["secret", "repeats", "varies", "nowhere", "undated"])
def test_the_battery_notices_a_source_that_breaks_a_law(fault):
    check_source(Faulty(""), secrets=("hush",))
    with pytest.raises(AssertionError):
        check_source(Faulty(fault), secrets=("hush",))
