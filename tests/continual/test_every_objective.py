"""Whatever is learnt goes on: texts, words, numbers, several labels, pairs of answers."""

from __future__ import annotations

import json

import pytest
from tasks import COLOURS

import whet
from whet.recipe_file import build_recipe
from whet.stages.tuned import load_run
from whet.testing.tiny import tiny_examples

pytestmark = pytest.mark.slow
CASES = {
    "sft": ("llama", "sft", {"prompt": "text", "response": "chosen"}),
    "pretrain": ("llama", "pretrain", {"text": "text"}),
    "masked": ("masked-bert", "masked", {"text": "text"}),
    "tokens": ("bert", "tokens", {"text": "text", "token_labels": "tags"}),
    "number": ("bert", {"name": "classify", "kind": "number"}, {"text": "text", "label": "value"}),
    "several": ("bert", {"name": "classify", "kind": "several"}, {"text": "text", "labels": "labels"}),
    "reward": ("llama", "reward", {"prompt": "text", "chosen": "chosen", "rejected": "rejected"}),
}


def write_rows(path, colours):
    rows = [
        {
            "text": f"{colour} {one.text}",
            "tags": ["O", *(one.token_labels or ())],
            "value": one.value,
            "labels": list(one.labels or ()),
            "chosen": f"{one.chosen} {colour}",
            "rejected": one.rejected,
        }
        for colour in colours
        for one in tiny_examples(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_and_says_what_was_forgotten(tiny_folder, tmp_path, case):
    architecture, objective, columns = CASES[case]
    values = {
        "model": str(tiny_folder(architecture)),
        "objective": objective,
        "technique": {"name": "lora", "rank": 2} if case != "masked" else "full",
        "train": {"max_steps": 3, "batch_size": 8, "precision": "fp32"},
        "evaluate": {"resamples": 100, "max_new_tokens": 4, "max_generated": 3},
    }
    runs = []
    for name, colours, more in (
        ("first", COLOURS[:4], {}),
        ("second", COLOURS[4:], {"parents": [str(tmp_path / "first")], "continual": {"replay": 0.5, "ewc": 10.0, "ewc_rows": 8}}),
    ):
        path = write_rows(tmp_path / f"{name}.jsonl", colours)
        recipe = build_recipe(values | more | {"data": {"path": str(path)} | columns}, "test")
        runs.append(whet.evaluate(whet.train(recipe, out=tmp_path / name)))
    report, tuned = runs[1].report, load_run(runs[1].path)
    matrix = report["continual"]["matrix"]
    assert matrix[1][1] == report["metrics"][report["metric"]]
    assert matrix[0][0]["value"] == pytest.approx(runs[0].report["metrics"][report["metric"]]["value"])
    assert set(load_run(runs[0].path).card.classes) <= set(tuned.card.classes)
    assert all("ewc" in record["losses"] for record in runs[1].records() if record["kind"] == "step")
