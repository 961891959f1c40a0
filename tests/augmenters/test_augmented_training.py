"""Augmented rows in training again on all rows, in a search, and in retraining: learnt from only, marked, and far from all that is judged."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import whet
from whet.data.dataset import Dataset, read_dataset
from whet.data.keys import text_key
from whet.data.near import find_near
from whet.recipe_file import build_recipe
from whet.run import Run
from whet.stages.prepare import prepare_data
from whet.stages.retrain import retrain
from whet.testing import write_tiny
from whet.types import Example

WORDS = {"billing": list("abcdefgh"), "network": list("ijklmnop")}
"""Each letter is a word of the tiny model's."""
AUGMENT = {"by": [{"name": "random_swap", "strength": 0.4}, {"name": "random_deletion", "share": 0.5}]}


def table(file: Path, number: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label"])
        for place in range(number):
            label = sorted(WORDS)[place % 2]
            writer.writerow([" ".join(draw.choices(WORDS[label], k=9)), label])
    return file


def recipe_of(folder: Path, **train: Any) -> dict[str, Any]:
    return {
        "model": str(write_tiny(folder / "bert", "bert")), "objective": "classify", "technique": "full", "evaluate": {"resamples": 100},
        "data": {"path": str(table(folder / "rows.csv", 120)), "text": "text", "label": "label", "augment": AUGMENT},
        "train": {"batch_size": 8, "precision": "fp32", "learning_rate": 0.003, "epochs": 2, "early_stopping": False, **train},
    }  # fmt: skip


def is_sound(data: Dataset, judged: Iterable[Example] = ()) -> None:
    """New rows are of training alone, marked, of a training row's label and place, and near to nothing that is judged."""
    assert not [one for one in (*data.validation, *data.test) if one.made_by]
    made = [one for one in data.train if one.made_by]
    assert len(made) > len(data.originals) and {one.made_by for one in made} == {"random_swap", "random_deletion"}
    origin = {(one.file, one.line): one.label for one in data.originals}
    assert all(one.label == origin[one.file, one.line] for one in made)
    held = [*data.validation, *data.test, *judged]
    assert not {text_key(one) for one in made} & {text_key(one) for one in held}
    texts, tiers = [one.text or "" for one in (*held, *made)], [0] * len(held) + [1] * len(made)
    assert not find_near(texts, 0.8, tiers=tiers).leaks


@pytest.mark.slow
def learnt(run: Run, phase: str) -> int:
    return sum(step["rows"] for step in run.records() if step["kind"] == "step" and step["phase"] == phase)


def test_training_again_on_all_rows_adds_the_validation_rows_as_they_are(tmp_path):
    run = whet.train(build_recipe(recipe_of(tmp_path, refit=True), "here"), out=tmp_path / "run")
    data = read_dataset(run.path)
    is_sound(data)
    epochs = run.manifest["phases"]["fit"]["best_step"] / -(-len(data.train) // 8)
    rows = len(data.train) + len(data.validation)  # new rows of training rows, and none of validation rows
    assert learnt(run, "fit") == 2 * len(data.train)
    assert learnt(run, "refit") == pytest.approx(epochs * rows, abs=8)
    report = json.loads((whet.evaluate(run).path / "report.json").read_text())
    assert report["n"] == len(data.test)


@pytest.mark.slow
def test_a_search_learns_from_the_same_new_rows_in_each_trial_and_at_last(tmp_path):
    values = recipe_of(tmp_path, max_steps=4, validate_every=2)
    values["search"] = {"trials": 3, "space": {"train.learning_rate": [0.001, 0.003]}}
    found = whet.search(build_recipe(values, "here"), out=tmp_path / "found")
    data = read_dataset(found.path)
    is_sound(data)
    alone = prepare_data(build_recipe(recipe_of(tmp_path), "here"), tmp_path)
    assert data.train == alone.train and data.validation == alone.validation and data.test == alone.test
    best = Run(tmp_path / "found-best")
    assert read_dataset(best.path).train == data.train  # made once, and not of made rows again
    assert Counter(bool(one.made_by) for one in read_dataset(best.path).train)[False] == len(alone.originals)


@pytest.mark.slow
def test_retraining_makes_new_rows_of_old_and_new_ones_and_none_of_new_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    champion = whet.evaluate(whet.train(build_recipe(recipe_of(tmp_path), "here"), out=tmp_path / "champion"))
    before = read_dataset(champion.path)
    table(tmp_path / "new.csv", 160, seed=7)
    run = retrain(str(champion.path), [tmp_path / "new.csv"], out=tmp_path / "next")
    data = read_dataset(run.path)
    is_sound(data, (*before.validation, *before.test))
    old = {text_key(one) for one in before.originals}
    now = {text_key(one) for one in data.originals}
    assert old <= now and len(now) > len(old)  # every old training row is learnt from again, and new ones
    assert {text_key(one) for one in before.test} & {text_key(one) for one in data.train} == set()
    assert len([one for one in data.train if one.made_by]) <= 1.5 * len(data.originals) + 1  # of originals only
