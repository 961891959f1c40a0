"""Preflight: nothing to learn is refused, and what is cut, endless, rare or leaking is said. Also rows for prediction."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import torch

from whet.data.clean import build_cleaners
from whet.data.preflight import preflight, rendered
from whet.data.preparing import prepare
from whet.data.rows import RawRow, Reject
from whet.data.write import read_prediction_rows, write_rows
from whet.errors import DataError
from whet.recipe_data import Data
from whet.types import Example, Message, Row

END = 2


class Letters:
    """A tokenizer of one character per token."""

    def decode(self, token_ids):
        return "".join(chr(96 + token) for token in token_ids)


def row(ids, supervised):
    return Row(id=0, ids=torch.tensor(ids), tokens={"supervised": torch.tensor(supervised, dtype=torch.float32)})


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(300)))
    return prepare(Data(path=str(tmp_path / "a.csv")), ("text", "label"), None)


def look(dataset, rows, full, head="lm", max_length=8):
    return preflight(dataset, {"train": [(one,) for one in rows]}, {"train": full}, Letters(), head, max_length, END)


def test_all_is_well_leaves_the_rendered_example_only(dataset):
    findings = look(dataset, [row([5, 6, 7, END], [0, 0, 1, 1])] * 3, [4, 4, 4])
    assert [finding.level for finding in findings] == ["note"] and "ef⟦gb⟧" in findings[0].sentence


def test_nothing_to_learn_is_refused(dataset):
    findings = look(dataset, [row([5, 6], [0, 0])] * 3, [2, 2, 2])
    assert findings[0].level == "refuse" and "No train row has a token to learn" in findings[0].sentence


def test_cut_rows_and_lost_answers_are_counted(dataset):
    # of four rows two are cut, and one of these has lost its whole answer
    rows = [row([5, END], [0, 1]), row([5] * 8, [0] * 8), row([5] * 8, [0] * 7 + [1]), row([5, END], [0, 1])]
    said = "\n".join(finding.sentence for finding in look(dataset, rows, [2, 20, 9, 2]))
    assert "2 of 4 train rows (50.0%) are longer than 8 tokens and were cut" in said
    assert "In 1 of them (train) the answer is cut away entirely" in said and "1 of 4 train rows have no token to learn" in said


def test_rows_that_cutting_makes_the_same_are_refused_where_texts_are_told_apart(dataset):
    rows = [Row(id=number, ids=torch.tensor([1, END])) for number in range(3)]
    findings = look(dataset, rows, [9, 7, 12], head="classify", max_length=2)
    assert findings[0].level == "refuse" and "All 3 train rows are the same once they are cut" in findings[0].sentence
    assert findings[0].remedy.startswith("Raise train.max_length")
    told = [*rows[:2], Row(id=2, ids=torch.tensor([3, END]))]
    assert all(one.level != "refuse" for one in look(dataset, told, [9, 7, 12], head="classify", max_length=2))


def test_the_remedy_for_cut_rows_is_one_that_can_be_taken(dataset):
    cut = [row([5] * 8, [0] * 7 + [1])] * 4

    def remedy(head, context):
        findings = preflight(dataset, {"train": [(one,) for one in cut]}, {"train": [20] * 4}, Letters(), head, 8, END, context)
        return next(finding.remedy for finding in findings if "were cut" in finding.sentence)

    assert remedy("classify", 512) == "Raise train.max_length, or shorten the rows; the longest has 20 tokens."
    for head, model in (("classify", "answerdotai/ModernBERT-base"), ("lm", "Qwen/Qwen2.5-0.5B")):
        said = remedy(head, 8)
        assert "reads no more than 8 tokens" in said and model in said and "max_length" not in said


def test_a_missing_end_token_is_said(dataset):
    said = "\n".join(
        finding.sentence
        for finding in look(dataset, [row([5, 6], [0, 1]), row([5, END], [0, 1]), row([5, END], [1, 0])], [2, 2, 2])
    )
    assert "2 of 3 train rows do not teach the model to stop" in said


def test_long_rows_are_shown_without_their_middle():
    assert rendered(row([1] * 1000, [0] * 999 + [1]), Letters(), longest=10) == "aaaaa … aaaaa⟦a⟧"


def test_rare_classes_leaks_and_few_rows_are_said(dataset):
    lone = replace(dataset.train[0], label="c", text="quite another")
    small = replace(
        dataset, train=(*dataset.train[:4], lone), test=(*dataset.test[:2], dataset.train[1]), classes=("a", "b", "c", "d")
    )
    findings = preflight(small, {}, {}, Letters(), "classify", 8, None)
    said = "\n".join(f"{finding.level} {finding.sentence}" for finding in findings)
    assert "warn There are 5 training rows only" in said and "warn There are 3 test rows only" in said
    assert "d: no training row" in said and "c: a single training row" in said
    assert findings[0].level == "refuse" and "1 text in both the train and the test part" in findings[0].sentence
    assert preflight(replace(small, train=()), {}, {}, Letters(), "classify", 8, None)[0].level == "refuse"


def test_prediction_rows_need_no_label_and_are_cleaned_as_in_training(tmp_path):
    (tmp_path / "p.csv").write_text("id,message\n1, a <br> b \n2,\n")
    columns = Data(path="x", text="message", label="intent", slices=("id",))
    found = list(read_prediction_rows(tmp_path / "p.csv", columns, build_cleaners(columns, None)))
    assert isinstance(found[0], tuple) and found[0][1] == Example(
        id=0, file=str(tmp_path / "p.csv"), line=2, text="a\nb", tags={"id": "1"}
    )
    assert isinstance(found[0][0], RawRow) and isinstance(found[1][1], Reject) and found[1][0].fields["id"] == "2"


def test_the_only_column_stands_for_the_text_and_another_name_is_an_error(tmp_path):
    (tmp_path / "p.txt").write_text("one thing\nanother thing\n")
    found = list(read_prediction_rows(tmp_path / "p.txt", Data(path="x", text="message", label="intent")))
    assert [made[1].text for made in found if isinstance(made, tuple)] == ["one thing", "another thing"]
    (tmp_path / "p.csv").write_text("id,massage\n1,a b\n")
    with pytest.raises(DataError, match="Did you mean 'massage'"):
        list(read_prediction_rows(tmp_path / "p.csv", Data(path="x", text="message", label="intent")))


def test_questions_leave_the_answer_out(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "p.jsonl").write_text(json.dumps({"messages": turns}) + "\n" + json.dumps({"messages": turns[:1]}) + "\n")
    found = list(read_prediction_rows(tmp_path / "p.jsonl", Data(path="x", messages="messages")))
    assert [made[1].messages for made in found if isinstance(made, tuple)] == [(Message("user", "q"),)] * 2
    (tmp_path / "p.csv").write_text("prompt\nsay something\nsay more\n")
    plain = list(read_prediction_rows(tmp_path / "p.csv", Data(path="x", prompt="prompt", response="answer")))
    assert isinstance(plain[0], tuple) and plain[0][1].messages == (Message("user", "say something"),)


def test_predictions_are_written_and_read_back(tmp_path, capsys):
    rows = [{"id": 1, "text": 'a "b",\nc', "probabilities": {"x": 0.5}}, {"id": 2, "text": "é", "probabilities": {"x": 1.0}}]
    assert write_rows(tmp_path / "out.csv", rows, "csv") == 2
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [{**one, "probabilities": json.loads(one["probabilities"])} for one in csv.DictReader(file)] == [
            {**one, "id": str(one["id"])} for one in rows
        ]
    assert write_rows(None, iter(rows), "jsonl") == 2
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
