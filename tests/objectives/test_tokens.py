"""Labels of words: which token a word is, what a file of words becomes, and a run from the file to its entities."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from whet.data.mapping import resolve
from whet.data.profile import profile
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.errors import DataError
from whet.objectives.tokens import Tokens
from whet.recipe_data import Data
from whet.recipe_file import build_recipe
from whet.stages.evaluate import evaluate
from whet.stages.new import guess_recipe
from whet.stages.predict import load
from whet.stages.train import train
from whet.types import Example
from whet.words import repaired, spans, word_places

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP B-ORG
rejects VBZ I-VP O
German JJ I-NP B-MISC

# id = 2
Peter NNP I-NP B-PER
Blackburn NNP I-NP I-PER
"""
NEEDS = ("text", "token_labels")


def examples_of(file: Path) -> list[Example | Reject]:
    notices: list[str] = []
    rows = list(read_files([file], notices))
    return list(to_examples(rows, resolve(Data(path=(str(file),)), NEEDS, rows, notices), NEEDS))


@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.tsv"])
def test_a_conll_file_is_one_row_for_each_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONLL.replace(" ", "\t") if name.endswith("tsv") else CONLL)
    first, second = examples_of(tmp_path / name)
    assert isinstance(first, Example) and isinstance(second, Example)
    assert (first.text, first.token_labels, first.line) == ("EU rejects German", ("B-ORG", "O", "B-MISC"), 3)
    assert (second.text, second.token_labels, second.line) == ("Peter Blackburn", ("B-PER", "I-PER"), 8)


def test_a_line_without_a_label_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("EU B-ORG\nrejects\n\nPeter B-PER\n")
    broken, whole = read_files([tmp_path / "a.conll"])
    assert isinstance(broken, Reject) and broken.line == 2
    assert isinstance(whole, RawRow)


def test_other_files_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nwhat is this,B-flat\nno idea,O\nwhy not,B-flat\n")
    assert [row.fields for row in read_files([tmp_path / "a.csv"]) if isinstance(row, RawRow)][1] == {
        "text": "no idea",
        "label": "O",
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "2 words, and 'ner_tags' 1 labels"),
        ({"tokens": ["a", "b"], "ner_tags": [0, 3]}, "no label of a word"),
        ({"tokens": ["a", "New York"], "ner_tags": ["O", "O"]}, "empty or has a space"),
        ({"tokens": ["a", "b"], "ner_tags": ["O", "S-LOC"]}, "no label of a word"),
        ({"tokens": ["a"], "ner_tags": []}, "'ner_tags' is empty"),
    ],
)
def test_what_a_row_lacks_is_said(tmp_path: Path, row: dict[str, object], reason: str) -> None:
    good = {"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [good, row])))
    first, second = examples_of(tmp_path / "a.jsonl")
    assert isinstance(first, Example) and first.text == "EU rejects"
    assert isinstance(second, Reject) and reason in second.reason


def test_new_proposes_tokens_for_lists_of_words_and_for_conll(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(2 * (json.dumps({"tokens": ["EU", "x"], "tags": ["B-ORG", "O"]}) + "\n"))
    (tmp_path / "b.conll").write_text(CONLL)
    for name, column in (("a.jsonl", "tags"), ("b.conll", "token_labels")):
        seen = profile(read_files([tmp_path / name]))
        recipe = guess_recipe(seen, [tmp_path / name])
        assert (recipe["objective"], recipe["model"]) == ("tokens", "builtin:minilm")
        assert recipe["data"]["text"] == "tokens" and recipe["data"]["token_labels"] == column
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": f"a film no {n}", "tags": ["x", "y"]}) for n in range(9)))
    assert profile(read_files([tmp_path / "c.jsonl"])).objective == "classify"


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_words_first_piece_has_its_label_and_no_other_token(architecture, builder):
    policy, objective = builder(architecture)(), Tokens()
    example = Example(id=0, text="my card, x", token_labels=("O", "B-CARD", "I-CARD"))
    objective.prepare(policy, [example])
    row = objective.units([example], policy, policy.context)[0][0]
    learnt = (row.tokens["supervised"] > 0).tolist()
    assert sum(learnt) == 3 == row.weights["label"]
    firsts = [policy.tokenizer.decode(row.ids[place]) for place, one in enumerate(learnt) if one]
    assert firsts == (["my", "card", "x"] if architecture == "bert" else ["m", "c", "x"])
    targets = [policy.classes[int(row.tokens["target"][place])] for place, one in enumerate(learnt) if one]
    assert targets == ["O", "B-CARD", "I-CARD"]
    unknown = objective.units([replace(example, token_labels=("O", "B-NEW", "O"))], policy, policy.context)[0][0]
    assert unknown.weights["label"] == 2
    cut = next(iter(objective.outputs(policy, [replace(example, text="my card " + "x " * 200, token_labels=None)], 8)))
    assert cut.token_labels is not None and len(cut.token_labels) == 202 and set(cut.token_labels[8:]) == {"O"}


def test_repairing_keeps_the_entities() -> None:
    assert repaired(["I-A", "I-A", "O", "I-B", "B-B", "I-B", "I-A"]) == ("B-A", "I-A", "O", "B-B", "B-B", "I-B", "B-A")
    drawn = random.Random(0)
    for _ in range(200):
        labels = drawn.choices(["O", "B-A", "I-A", "B-B", "I-B"], k=8)
        assert spans(repaired(labels), "") == spans(labels, "") and repaired(repaired(labels)) == repaired(labels)


def test_places_of_words() -> None:
    text = "  a  bc\u00a0a "
    assert [text[begin:end] for begin, end in word_places(text)] == ["a", "bc", "a"]


def test_baselines_answer_from_the_training_rows(builder) -> None:
    train_rows = [Example(id=0, text="in Paris in May", token_labels=("O", "B-PLACE", "O", "O"))]
    asked = [Example(id=1, text="Paris , Texas", token_labels=("B-PLACE", "O", "B-PLACE"))]
    found = Tokens().baselines(builder("bert")(), train_rows, asked, 64)
    assert found["majority_tag"][0].token_labels == ("O", "O", "O")
    assert found["tag_of_word"][0].token_labels == ("B-PLACE", "O", "O")


def test_one_label_everywhere_is_refused(builder) -> None:
    with pytest.raises(DataError, match="nothing to tell apart"):
        Tokens().prepare(builder("bert")(), [Example(id=0, text="a b", token_labels=("O", "O"))])


@pytest.mark.slow
def test_from_a_conll_file_to_entities(tmp_path: Path, tiny_folder) -> None:
    """Trained, judged and asked: entities of a file whose entities follow from the word."""
    drawn, texts = random.Random(1), []
    for number in range(120):
        words = drawn.choices(["my", "the", "is", "lost", "please", "call", "us"], k=3 + number % 4)
        lines = [f"{word} O" for word in words]
        kind, thing = drawn.choice([("THING", "card"), ("THING", "parcel"), ("TRIP", "ticket")])
        lines.insert(drawn.randrange(len(lines)), f"{thing} B-{kind}\ntoday I-{kind}")
        texts.append("\n".join(lines))
    file = tmp_path / "words.conll"
    file.write_text("\n\n".join(texts))
    recipe = build_recipe(
        {
            "model": str(tiny_folder("bert")),
            "data": {"path": str(file)},
            "objective": "tokens",
            "technique": "full",
            "train": {"epochs": 15, "learning_rate": 5e-3, "early_stopping": False, "refit": False},
            "evaluate": {"resamples": 100},
        },
        "test",
    )
    run = train(recipe, out=tmp_path / "run")
    report = evaluate(run.path).report
    assert report["metric"] == "span_f1" and report["metrics"]["span_f1"]["value"] > 0.9
    assert {"majority_tag", "tag_of_word"} <= report["baselines"].keys()
    lines = (run.path / "predictions.jsonl").read_text().splitlines()
    assert {"tokens", "label", "prediction"} <= json.loads(lines[0]).keys()
    listed, written = load(run.path).predict([{"tokens": ["my", "ticket", "today"]}, "the parcel today is lost"])
    assert listed.prediction == ({"kind": "TRIP", "text": "ticket today", "first": 1, "end": 3},)
    assert written.prediction == ({"kind": "THING", "text": "parcel today", "first": 1, "end": 3},)
