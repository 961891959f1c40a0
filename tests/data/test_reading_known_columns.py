"""A file whose first line names a column of the run is a table, whatever it is called; and answers keep its separator."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from whet.data.read import TEXT, read_files
from whet.data.rows import RawRow
from whet.data.table import Reading
from whet.data.write import read_prediction_rows, write_rows
from whet.recipe_data import Data

COLUMNS = Data(path=("x",), text="message", label="intent")


def fields(path: Path, reading: Reading | None = None) -> list[dict[str, object]]:
    return [dict(row.fields) for row in read_files([path], [], reading) if isinstance(row, RawRow)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_small_table_without_an_ending_is_known_by_its_column(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "standard-input"
    file.write_text(f"id{separator}message\n1{separator}my hub is offline\n2{separator}\n3{separator}help\n")
    reading = Reading(["message"])
    assert fields(file, reading) == [
        {"id": "1", "message": "my hub is offline"}, {"id": "2", "message": ""}, {"id": "3", "message": "help"}
    ]  # fmt: skip
    assert reading.separators == {str(file): separator}
    found = read_prediction_rows(file, COLUMNS)
    assert found.separator == separator and found.columns == ("id", "message") and len(list(found.rows)) == 3


def test_prose_stays_prose(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("a message, and more\nanother one\n")
    assert fields(file, Reading(["message"])) == [{"text": "a message, and more"}, {"text": "another one"}]


def test_a_format_that_is_named_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_text("a,b\n1,2\n")
    assert fields(file, Reading(suffix=TEXT)) == [{"text": "a,b"}, {"text": "1,2"}]
    assert fields(file, Reading(suffix=".csv")) == [{"a": "1", "b": "2"}]


def test_answers_are_written_with_the_separator_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(None, [{"a": "x;y", "b": 1}], "csv", (), ";")
    assert list(io.StringIO(capsys.readouterr().out)) == ["a;b\n", '"x;y";1\n']
