"""The data of a run: every row accounted for, the user's test file untouched, limits kept, and the folder a faithful copy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.dataset import Dataset, read_dataset
from whet.data.keys import text_key
from whet.data.preflight import preflight
from whet.data.preparing import prepare
from whet.errors import DataError, Refused
from whet.recipe_data import Data

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
CLASSIFY, CHAT, TEXT = ("text", "label"), ("messages",), ("text",)


def table(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f'"{text}","{label}"\n' for text, label in rows), encoding="utf-8")
    return str(path)


def balanced(number: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"this is text number {i}", "ab"[i % 2]) for i in range(start, start + number)]


TEXTS = st.sampled_from(["one thing", "One  thing", "two things", "", " ", "three\nthings", "four, things", "fünf"])
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["a", "b", "B ", "", "c"])), max_size=25)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, ROWS, st.booleans(), st.booleans())
def test_rows_in_are_rows_used_and_rows_dropped(tmp_path_factory, train, validation, test, named_validation, named_test):
    folder = tmp_path_factory.mktemp("rows")
    data = Data(
        path=table(folder / "a.csv", balanced(40) + train),
        max_reject_fraction=1.0,
        split={"train": 0.6, "validation": 0.2, "test": 0.2},
        validation=(table(folder / "b.csv", validation + balanced(8, 100)),) if named_validation else (),
        test=(table(folder / "c.csv", test + balanced(8, 200)),) if named_test else (),
    )
    try:
        found = prepare(data, CLASSIFY, None)
    except Refused:
        return
    rows = {"path": 40 + len(train), "validation": len(validation) + 8, "test": len(test) + 8}
    assert {source: count.rows for source, count in found.accounting.sources.items()} == {
        source: number for source, number in rows.items() if source == "path" or getattr(data, source)
    }
    assert found.accounting.rows == sum(found.accounting.used.values()) + len(found.rejects)
    assert found.accounting.used == {part: len(some) for part, some in found.parts.items()}
    assert sum(found.accounting.dropped.values()) == len(found.rejects)
    assert sorted(example.id for some in found.parts.values() for example in some) == list(
        range(sum(map(len, found.parts.values())))
    )
    keys = [{text_key(example) for example in some} for some in found.parts.values()]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    if named_test:  # only rows without text or label are missing from the user's test file
        assert len(found.test) == 8 + sum(bool(text.strip()) and bool(label.strip()) for text, label in test)
    places = [(reject.file, reject.line) for reject in found.rejects] + [
        (one.file, one.line) for some in found.parts.values() for one in some
    ]
    assert len(places) == len(set(places)) == found.accounting.rows


def test_the_folder_is_a_faithful_copy(tmp_path):
    path = table(
        tmp_path / "a.csv",
        [*balanced(40), ("", "a"), ("this is text number 1", "b"), ("this is text number 2", "b"), ("caf\u00c3\u00a9 x", "A")],
    )
    found = prepare(Data(path=path), CLASSIFY, None)
    assert found.conflicts and found.rejects and found.cleaned == {"encoding": 1} and found.classes == ("a", "b")
    found.write(tmp_path / "run")
    assert read_dataset(tmp_path / "run") == found and read_dataset(tmp_path / "run").hash == found.hash
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert splits["train"] == [example.id for example in found.train] and splits["hash"] == found.hash
    (tmp_path / "run" / "data" / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"test\.jsonl is missing"):
        read_dataset(tmp_path / "run")


@pytest.mark.slow
def test_conversations_survive_the_folder(tmp_path):
    rows = [{"prompt": f"question {i} \u2028", "chosen": "good", "rejected": "bad", "channel": None} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = prepare(Data(path=str(tmp_path / "a.jsonl"), slices=("channel",)), CHAT, None)
    found.write(tmp_path)
    assert read_dataset(tmp_path) == found and found.train[0].chosen == "good"


def test_the_same_data_give_the_same_bytes_in_another_process(tmp_path):
    path = table(tmp_path / "a.csv", balanced(50))
    found = prepare(Data(path=path), CLASSIFY, None)
    code = "from whet.data.preparing import prepare; from whet.recipe_data import Data"
    code += f"; print(prepare(Data(path={path!r}), ('text', 'label'), None).hash)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert done.stdout.strip() == found.hash


def test_reading_data_loads_no_torch():
    code = "import sys, whet.data.preparing, whet.data.preflight, whet.data.write, whet.data.profile; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_strict_stops_at_the_first_unusable_row_and_names_it(tmp_path):
    path = table(tmp_path / "a.csv", [*balanced(30), ("", "a"), *balanced(10, 50)])
    with pytest.raises(DataError, match=r"a\.csv:32: 'text' is empty\. Fill it in"):
        prepare(Data(path=path, strict=True), CLASSIFY, None)
    duplicated = table(tmp_path / "b.csv", [*balanced(30), balanced(1)[0]])
    assert prepare(Data(path=duplicated, strict=True), CLASSIFY, None).accounting.dropped == {"duplicate": 1}


def test_too_many_unusable_rows_stop_the_run_with_the_commonest_reasons(tmp_path):
    path = table(tmp_path / "a.csv", [*balanced(20), *[("", "a")] * 3, ("x y", "")])
    with pytest.raises(DataError) as caught:
        prepare(Data(path=path), CLASSIFY, None)
    assert "4 of 24 rows (16.7%) cannot be used" in str(caught.value) and "3 rows: 'text' is empty (first at" in str(caught.value)
    assert "--set data.max_reject_fraction=0.17" in str(caught.value)
    assert prepare(Data(path=path, max_reject_fraction=0.17), CLASSIFY, None).accounting.used["train"] == 14


def test_duplicates_do_not_count_as_unusable(tmp_path):
    path = table(tmp_path / "a.csv", balanced(20) * 3)
    assert prepare(Data(path=path, max_reject_fraction=0.0), CLASSIFY, None).accounting.dropped == {"duplicate": 40}


@pytest.mark.parametrize("rows", [[(f"text number {i}", "a") for i in range(30)], [(f"text number {i}", "") for i in range(30)]])
def test_one_class_or_none_is_an_error_that_says_so(tmp_path, rows):
    with pytest.raises(DataError, match=r"class|label"):
        prepare(Data(path=table(tmp_path / "a.csv", rows), label="label"), CLASSIFY, None)


def test_a_wrong_column_names_file_columns_and_the_nearest(tmp_path):
    path = table(tmp_path / "a.csv", balanced(20))
    with pytest.raises(
        DataError,
        match=r"a\.csv: there is no column 'Lable', which data.label names. Did you mean 'label'\? Columns found: text, label\.",
    ):
        prepare(Data(path=path, label="Lable"), CLASSIFY, None)
    with pytest.raises(DataError, match=r"no column 'tier', which data.slices"):
        prepare(Data(path=path, slices=("tier",)), CLASSIFY, None)
    (tmp_path / "t.csv").write_text("text,category\na b,c\nd e,f\n")
    with pytest.raises(DataError, match=r"t\.csv: there is no column 'label'"):
        prepare(Data(path=path, test=(str(tmp_path / "t.csv"),)), CLASSIFY, None)


def test_a_column_that_cannot_be_guessed_is_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text("id,remark\n" + "".join(f"{i},remark number {i}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"data\.label among: id, remark\. Name it, for example: --set data\.label="):
        prepare(Data(path=str(tmp_path / "a.csv")), CLASSIFY, None)


def test_spellings_of_a_label_become_one_also_in_the_test_file(tmp_path):
    rows = [
        (
            f"text number {i}",
            ["Card Arrival", "card_arrival", "card arrival", "other"][i % 4] if i < 8 else ["card arrival", "other"][i % 2],
        )
        for i in range(40)
    ]
    test = table(tmp_path / "t.csv", [("a new text", "CARD-ARRIVAL"), ("another new text", "other")])
    found = prepare(Data(path=table(tmp_path / "a.csv", rows), test=(test,)), CLASSIFY, None)
    assert found.classes == ("card arrival", "other") and found.test[0].label == "card arrival"
    assert any("merged" in notice for notice in found.notices)
    kept = prepare(Data(path=table(tmp_path / "a.csv", rows), test=(test,), clean=()), CLASSIFY, None)
    assert len(kept.classes) == 5
    assert any("differ by case" in finding.sentence for finding in preflight(kept, {}, {}, None, "classify", 8, None))  # type: ignore[arg-type]


def test_rows_of_the_test_file_leave_training_and_the_test_file_stays(tmp_path):
    test = table(
        tmp_path / "t.csv", [*balanced(3), balanced(1)[0], *balanced(10, 500)]
    )  # three leaks, and a duplicate within itself
    found = prepare(Data(path=table(tmp_path / "a.csv", balanced(40)), test=(test,)), CLASSIFY, None)
    assert (
        len(found.test) == 14
        and found.accounting.sources["path"].dropped == {"leak": 3}
        and found.accounting.sources["test"].dropped == {}
    )
    with pytest.raises(Refused, match="also stand in the test file"):
        prepare(
            Data(path=table(tmp_path / "a.csv", balanced(40)), test=(table(tmp_path / "t.csv", balanced(9)),)), CLASSIFY, None
        )


def test_too_few_rows_are_an_error(tmp_path):
    with pytest.raises(DataError, match="too few"):
        prepare(Data(path=table(tmp_path / "a.csv", balanced(2))), CLASSIFY, None)


def test_the_example_tickets_are_accounted_for_as_their_statement_says():
    # README of the example: 1,855 rows, 90 exact duplicates, 25 without message, 15 without intent
    found = prepare(Data(path=str(ROOT / "examples" / "tickets" / "tickets.csv"), slices=("channel",)), CLASSIFY, None)
    dropped = found.accounting.dropped
    assert found.accounting.rows == 1855 and len(found.classes) == 10
    assert (
        dropped["'message' is empty"] == 25
        and dropped["'intent', the label, is empty"] == 15
        and 90 <= dropped["duplicate"] <= 130
    )
    assert found.cleaned["encoding"] == 50 and found.cleaned["markup"] >= 60
    assert {example.tags["channel"] for example in found.test} == {"email", "chat", "phone_transcript", "app"}


def test_banking77_keeps_its_test_file_and_loses_what_also_stands_there():
    # Counted by hand with csv and set(): 6 texts are the same but for line ends around them, and a 7th for a double space within.
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    folder = SHARED / "classify" / "banking77"
    found = prepare(Data(path=str(folder / "train.csv"), test=(str(folder / "test.csv"),)), CLASSIFY, None)
    assert len(found.test) == 3080 and len(found.classes) == 77
    assert found.accounting.sources["path"].rows == 10_003 and found.accounting.dropped["leak"] == 7
    assert found.accounting.sources["test"].dropped == {}


def test_multi_label_rows_and_pairs(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": f"about {i}", "labels": ["x", "y"] if i % 2 else ["y"]}) for i in range(30))
    )
    found = prepare(Data(path=str(tmp_path / "a.jsonl")), ("text", "labels"), None)
    assert found.classes == ("x", "y") and found.train[0].labels is not None


def test_numbers_as_labels_are_ordered_as_numbers(tmp_path):
    path = table(tmp_path / "a.csv", [(f"text number {i}", str(i % 11)) for i in range(99)])
    assert prepare(Data(path=path), CLASSIFY, None).classes == tuple(map(str, range(11)))


def test_the_hash_depends_on_contents_and_division_only(tmp_path):
    found = prepare(Data(path=table(tmp_path / "a.csv", balanced(30))), CLASSIFY, None)
    moved = prepare(Data(path=table(tmp_path / "b.csv", balanced(30))), CLASSIFY, None)
    assert found.hash == moved.hash
    changed: Dataset = replace(found, train=found.train[1:], test=(*found.test, found.train[0]))
    assert changed.hash != found.hash


def test_a_path_to_what_stands_within_a_column_is_told_to_be_none(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"fields": {"body": f"text {number}"}, "kind": "ab"[number % 2]}) + "\n" for number in range(20))
    )
    with pytest.raises(
        DataError, match=r"no column 'fields\.body'.* within 'fields' is no column: write it at the top of each row"
    ):
        prepare(Data(path=(str(path),), text="fields.body", label="kind"), CLASSIFY, None)
    with pytest.raises(DataError, match=r"no column 'others\.body'") as caught:
        prepare(Data(path=(str(path),), text="others.body", label="kind"), CLASSIFY, None)
    assert "within" not in str(caught.value)


@pytest.mark.parametrize(
    ("named", "told"), [({}, True), ({"part": "fold"}, False), ({"slices": ("fold",)}, False), ({"label": "fold"}, False)]
)
def test_a_column_that_says_the_part_is_told_to_be_unused_unless_it_is_named(tmp_path, named, told):
    path = tmp_path / "a.jsonl"
    parts = ("train", "train", "train", "dev", "test")
    rows = [{"text": f"the text of row {n}", "label": "ab"[n // 5 % 2], "fold": parts[n % 5]} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data.model_validate({"path": str(path), "text": "text", "label": "label", "duplicates": {"near": False}, **named})
    found = prepare(data, CLASSIFY, None)
    assert any("Column 'fold' is not used" in one and "name it as data.part" in one for one in found.notices) == told
    if "part" in named:
        assert {len(rows) for rows in found.parts.values()} == {36, 12}
