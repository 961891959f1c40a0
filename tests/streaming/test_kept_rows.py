"""A data set with many rows is tokenised once, for every run that would make the same units of it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from whet.objectives.classify import Classify
from whet.objectives.pretrain import Pretrain
from whet.objectives.sft import Sft
from whet.recipe_file import build_recipe
from whet.stages import tokenise
from whet.stages import train as training
from whet.stages.job import build_job
from whet.stages.prepare import prepare_data
from whet.testing.tiny import THINGS

KINDS = {"sft": ("llama", Sft), "pretrain": ("llama", Pretrain), "classify": ("bert", Classify)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no data set too small for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenise, "MANY", 1)
    return tmp_path / "cache" / "whet" / "tokens"


@pytest.fixture
def asked(monkeypatch):
    """How many rows each objective was asked to tokenise."""
    found: Counter[str] = Counter()

    def counting(name, units):
        def made(self, examples, *rest):
            found[name] += len(examples)
            return units(self, examples, *rest)

        return made

    for name, (_, kind) in KINDS.items():
        monkeypatch.setattr(kind, "units", counting(name, kind.units))
    return found


@pytest.fixture
def recipe(tiny_folder, tmp_path):
    def made(name="sft", file="rows", objective=None, **train):
        rows = [
            {
                "q": f"what is in box {number}?",
                "a": f"a {THINGS[number % len(THINGS)]} of {file}",
                "label": "even" if number % 2 == 0 else "odd",
            }
            for number in range(60)
        ]
        path = tmp_path / f"{file}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        columns = {
            "sft": {"prompt": "q", "response": "a"},
            "pretrain": {"text": "q"},
            "classify": {"text": "q", "label": "label"},
        }[name]
        settings = {"max_steps": 4, "batch_size": 4, "precision": "fp32", "max_length": 40, "early_stopping": False} | train
        return build_recipe(
            {"model": str(tiny_folder(KINDS[name][0])), "data": {"path": str(path), "duplicates": {"near": False}, **columns},
             "objective": objective or name, "technique": "full", "train": settings}, "test",
        )  # fmt: skip

    return made


def job_of(recipe):
    return build_job(recipe, prepare_data(recipe, None), None)


def same(first, second):
    pairs = [(one, other) for mine, yours in zip(first, second, strict=True) for one, other in zip(mine, yours, strict=True)]
    for one, other in pairs:
        assert (one.id, one.scalars, one.weights, one.task) == (other.id, other.scalars, other.weights, other.task)
        assert torch.equal(one.ids, other.ids) and one.ids.dtype == other.ids.dtype
        for mine, yours in ((one.tokens, other.tokens), (one.vectors, other.vectors)):
            assert mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)
    return bool(pairs)


@pytest.mark.parametrize("name", KINDS)
def test_the_second_job_finds_the_units_of_the_first_to_the_bit(name, recipe, asked, cache):
    first = job_of(recipe(name))
    made = asked[name]
    assert made >= 40 and list(cache.rglob("*.safetensors"))
    second = job_of(recipe(name))
    assert asked[name] == made, "rows were tokenised again"
    assert same(first.train_units, second.train_units) and same(first.validation_units, second.validation_units)


def test_a_run_from_kept_rows_ends_in_the_same_bytes(recipe, asked, tmp_path):
    runs = [training.train(recipe(), out=tmp_path / name) for name in ("first", "second")]
    (one,), (other,) = (list((run.path / "model").glob("model*.safetensors")) for run in runs)
    assert one.read_bytes() == other.read_bytes()
    assert (runs[0].path / "log.jsonl").read_bytes() == (runs[1].path / "log.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sft", {"file": "other"}),
        ("sft", {"max_length": 12}),
        ("classify", {"objective": {"name": "classify", "threshold": 0.4}}),
    ],
    ids=["rows", "max_length", "setting"],
)
def test_a_change_of_what_decides_is_never_answered_with_what_was_kept(name, changes, recipe, asked):
    job_of(recipe(name))
    made = asked[name]
    job_of(recipe(name, **changes))
    assert asked[name] > made


def test_a_spoilt_file_is_made_again(recipe, asked, cache):
    first = job_of(recipe())
    made = asked["sft"]
    for file in cache.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-9])
    second = job_of(recipe())
    assert asked["sft"] == 2 * made and same(first.train_units, second.train_units)


def test_a_home_that_cannot_be_written_to_is_noted_and_the_run_goes_on(recipe, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    job = job_of(recipe())
    assert job.train_units and any("tokenises these rows again" in one.sentence for one in job.findings)
