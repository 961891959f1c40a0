"""Three tiny trained runs for bundles: a classifier on an encoder, an answering decoder and an answering encoder-decoder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import whet
from whet.recipe_file import build_recipe
from whet.testing import write_tiny
from whet.testing.tiny import ANSWERS, tiny_texts

TEXTS = tiny_texts("red", "blue", "green", "old", "new", "big", "small")


def write_rows(path: Path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def trained(folder, name, model, data, objective, **more):
    recipe = {
        "model": str(model),
        "data": data,
        "objective": objective,
        "train": {"max_steps": 4, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01},
        "evaluate": {"resamples": 100, "max_new_tokens": 4},
        **more,
    }
    return whet.train(build_recipe(recipe, "test"), out=folder / name).path


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """A folder with the rows, the tiny bases, and how to train a run in it."""
    folder = tmp_path_factory.mktemp("deployed")
    labelled = write_rows(folder / "labels.jsonl", [{"text": text, "label": label} for text, label in TEXTS])
    answers = [{"prompt": text, "response": ANSWERS[n % 4].format("card")} for n, (text, _) in enumerate(TEXTS[:40])]
    return SimpleNamespace(
        folder=folder,
        bert=write_tiny(folder / "bert", "bert"),
        llama=write_tiny(folder / "llama", "llama"),
        labelled={"path": labelled, "text": "text", "label": "label"},
        asked={"path": write_rows(folder / "chat.jsonl", answers), "prompt": "prompt", "response": "response"},
        train=lambda *args, **more: trained(folder, *args, **more),
    )


@pytest.fixture(scope="session")
def labels(desk):
    return desk.train("labels", desk.bert, desk.labelled, "classify")


@pytest.fixture(scope="session")
def chat(desk):
    return desk.train("chat", desk.llama, desk.asked, "sft")


@pytest.fixture(scope="session")
def shorten(desk):
    t5 = write_tiny(desk.folder / "t5", "t5")
    longer = {"max_steps": 40, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01}  # so that it says something
    return desk.train("shorten", t5, desk.asked, {"name": "seq2seq", "prefix": "say: "}, train=longer)
