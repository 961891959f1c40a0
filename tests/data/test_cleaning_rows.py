"""What cleaners, label synonyms and conflicts do to rows: dropped ones are accounted for, the user's test file keeps all of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from whet.data.clean import build_cleaners
from whet.data.held_out import read_held_out
from whet.data.preparing import prepare
from whet.recipe_data import Data
from whet.recipe_file import build_recipe
from whet.stages.predict import read_prediction_rows
from whet.stages.preview import differences, preview

NEEDS = ("text", "label")
DROPPING = ("gibberish", {"name": "length", "min_words": 2})


def table(path: Path, *rows: tuple[str, str]) -> str:
    plain = [(f"question of another kind, it is number {i}", "ab"[i % 2]) for i in range(40)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows, *plain])
    return str(path)


def test_rows_that_a_cleaner_drops_are_accounted_for_and_count_as_no_fault(tmp_path):
    path = table(tmp_path / "a.csv", ("sdkfjh wqpzx lkjhgf", "a"), ("one", "b"), ("two words", "a"))
    found = prepare(Data(path=path, clean=DROPPING, strict=True, duplicates={"near": False}), NEEDS, None)
    assert found.accounting.dropped == {"unwanted": 2}
    assert [(one.line, one.by) for one in found.rejects] == [(2, "gibberish"), (3, "length")]
    assert found.rejects[1].reason == "a text of 1 words; allowed: 2 to 1,000,000"
    assert not [one for one in found.rejects if "sdkfjh" in one.reason]
    assert "Cleaner 'gibberish' dropped 1 row; rejects.jsonl says which, and why." in found.notices


def test_nothing_is_dropped_from_a_test_file_nor_from_what_is_to_be_answered(tmp_path):
    path = table(tmp_path / "a.csv")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("sdkfjh wqpzx lkjhgf", "a"), ("one", "b")])
    found = prepare(Data(path=path, test=str(tmp_path / "t.csv"), clean=DROPPING, duplicates={"near": False}), NEEDS, None)
    assert [one.text for one in found.test] == ["sdkfjh wqpzx lkjhgf", "one"]
    held = read_held_out([tmp_path / "t.csv"], prepare(Data(path=path, clean=DROPPING), NEEDS, None), NEEDS, None)
    assert len(held.examples) == 2
    asked = list(read_prediction_rows(tmp_path / "t.csv", found.columns, build_cleaners(found.columns, None)))
    assert len(asked) == 2


def test_other_names_of_labels_are_read_as_the_label_everywhere(tmp_path):
    path = table(tmp_path / "a.csv", ("first thing of all", "Old Name"), ("second thing of all", "old_name"))
    data = Data(path=path, label_synonyms={"old name": "a"}, duplicates={"near": False})
    found = prepare(data, NEEDS, None)
    assert found.classes == ("a", "b")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("a new one", "OLD-NAME"), ("another one", "b")])
    assert [one.label for one in read_held_out([tmp_path / "t.csv"], found, NEEDS, None).examples] == ["a", "b"]


@pytest.mark.parametrize(("how", "stay", "leave"), [("keep", 5, 0), ("majority", 2, 3), ("drop", 0, 5)])
def test_rows_with_one_text_and_different_labels(tmp_path, how, stay, leave):
    # the first text has two votes for a and one for b; the second one for each
    rows = [("first thing", "a"), ("First  thing", "a"), ("first thing", "b"), ("second thing", "a"), ("second thing", "b")]
    data = Data(path=table(tmp_path / "a.csv", *rows), conflicts=how, duplicates={"near": False})
    found = prepare(data, NEEDS, None)
    kept = [one for part in found.parts.values() for one in part if "thing" in (one.text or "")]
    assert (len(kept), found.accounting.dropped.get("conflict", 0)) == (stay, leave)
    assert len(found.conflicts) == 2  # told in any case


def test_a_preview_shows_before_and_after_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path / "a.csv", ("two  words <b>here</b> of anna@firma.de", "a"), ("one", "b"))
    before = sorted(tmp_path.rglob("*"))
    clean = ["markup", "spaces", {"name": "length", "min_words": 2}]
    recipe = build_recipe(
        {"model": "builtin:minilm", "data": {"path": path, "clean": clean, "redact": True}, "objective": "classify"}, "here"
    )
    found = preview(recipe, tmp_path)[""].record()
    assert sorted(tmp_path.rglob("*")) == before
    assert found["rows"] == 42 and found["private"] == [{"kind": "mail", "rows": 1, "found": 1}]
    markup, spaces, length = found["cleaners"]
    assert markup["changes"] == [
        {"place": f"{path}:2", "before": "two  words <b>here</b> of anna@firma.de", "after": "two  words here of anna@firma.de"}
    ]
    assert (spaces["changed"], length["dropped"], length["drops"][0]["place"]) == (1, 1, f"{path}:3")
    assert json.dumps(found)


def test_a_difference_is_shown_between_brackets_and_what_cannot_be_seen_written_out():
    assert differences("a  b c", "a b c").plain == "a[-  -]{+ +}b c"
    assert differences("x\u200by z", "xy z").plain == "[-x\\u200by-]{+xy+} z"
