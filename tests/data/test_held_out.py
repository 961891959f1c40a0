"""A further file to judge on: what was learnt from leaves the score, and whoever reads it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from whet.data.dataset import Dataset
from whet.data.held_out import read_held_out
from whet.data.preparing import prepare
from whet.errors import DataError, Refused
from whet.recipe_data import Data

NEEDS = ("text", "label")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rows = "".join(f"text number {number},{'ab'[number % 2]}\n" for number in range(100))
    (tmp_path / "a.csv").write_text("text,label\n" + rows)
    return prepare(Data(path=(str(tmp_path / "a.csv"),)), NEEDS, None)


def write(folder: Path, texts: list[str]) -> Path:
    file = folder / "again.csv"
    file.write_text("text,label\n" + "".join(f"{text},a\n" for text in texts))
    return file


def test_rows_that_were_learnt_from_are_left_out_and_told(dataset: Dataset, tmp_path: Path) -> None:
    learnt = [str(dataset.train[0].text).upper(), str(dataset.validation[0].text)]  # whatever their case
    file = write(tmp_path, [*learnt, str(dataset.test[0].text), "quite new", "new as well"])
    found = read_held_out([file], dataset, NEEDS, None)
    assert [example.text for example in found.examples] == [dataset.test[0].text, "quite new", "new as well"]
    assert found.known == (
        "2 of 5 rows of again.csv also stand in what was learnt from. They are left out of the score; 3 rows stay.",
    )
    kept = read_held_out([file], dataset, NEEDS, None, keep_learnt=True)
    assert len(kept.examples) == 5 and "these scores flatter the model" in kept.known[0]


def test_a_file_without_any_new_row_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    file = write(tmp_path, [str(example.text) for example in dataset.train[:7]])
    with pytest.raises(
        Refused, match=r"7 of 7 rows of again\.csv also stand in what was learnt from, so a score would say nothing"
    ):
        read_held_out([file], dataset, NEEDS, None)
    assert len(read_held_out([file], dataset, NEEDS, None, keep_learnt=True).examples) == 7


def test_new_rows_need_no_word(dataset: Dataset, tmp_path: Path) -> None:
    assert read_held_out([write(tmp_path, ["quite new"])], dataset, NEEDS, None).known == ()


def test_a_file_without_the_columns_is_told_what_it_has(dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "bare.txt"
    file.write_text("".join(f"a sentence, of number {number}\t{number % 2}\n" for number in range(20)))
    with pytest.raises(DataError, match=r"there is no column 'text', which data\.text names.*Columns found: column_1, column_2"):
        read_held_out([file], dataset, NEEDS, None)
