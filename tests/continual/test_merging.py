"""Adapters of several stages made into one: by hand, as PEFT does it, and in a run."""

from __future__ import annotations

import shutil

import pytest
import torch
from peft.utils import merge_utils
from tasks import COLOURS, make_recipe

import whet
from whet.data.dataset import read_dataset
from whet.engine import checkpoint
from whet.engine.consolidate import all_weights
from whet.errors import Interrupted, RecipeError
from whet.files import file_hash
from whet.models.load import load_policy
from whet.models.merging import linear, ties
from whet.recipe_parts import Choice
from whet.run import Run
from whet.stages.build import build_technique
from whet.stages.lineage import start_policy
from whet.stages.merging import OWN, _stages
from whet.stages.train import resume
from whet.stages.tuned import load_run

LORA = {"name": "lora", "rank": 2}


def test_ties_trims_elects_a_sign_and_averages_what_agrees():
    # density 0.5 keeps the two largest of four numbers of each:
    #   a = [ 4, -3,  1, 0.5] -> [4, -3, 0, 0]
    #   b = [-1,  2,  5, 0.1] -> [0,  2, 5, 0]
    #   c = [ 3,  1, -2, 0.2] -> [3,  0, -2, 0]
    # sums [7, -1, 3, 0], so the signs are +, -, +, +; the means of what agrees: (4 + 3) / 2, -3, 5, nothing
    updates = [torch.tensor(one) for one in ([4.0, -3.0, 1.0, 0.5], [-1.0, 2.0, 5.0, 0.1], [3.0, 1.0, -2.0, 0.2])]
    assert ties(updates, (1.0, 1.0, 1.0), 0.5).tolist() == [3.5, -3.0, 5.0, 0.0]
    assert ties(updates, (1.0, 1.0, 3.0), 0.5).tolist() == [6.5, -3.0, 5.0, 0.0]
    # where the sum is 0 the sign is +, as in PEFT
    assert ties([torch.tensor([2.0, 1.0]), torch.tensor([-2.0, 3.0])], (1.0, 1.0), 1.0).tolist() == [2.0, 2.0]


def test_linear_is_the_weighted_sum():
    assert linear([torch.tensor([1.0, 2.0]), torch.tensor([3.0, -6.0])], (0.5, 2.0)).tolist() == [6.5, -11.0]


@pytest.mark.parametrize("density", [0.2, 0.55])
def test_the_values_are_those_of_peft(density):
    generator = torch.Generator().manual_seed(3)
    updates = [torch.randn(17, 23, generator=generator) for _ in range(4)]
    weights = (1.0, 0.5, 2.0, 1.5)
    assert torch.allclose(ties(updates, weights, density), merge_utils.ties(updates, torch.tensor(weights), density), atol=1e-6)
    assert torch.allclose(linear(updates, weights), merge_utils.task_arithmetic(updates, torch.tensor(weights)), atol=1e-6)


def test_trimming_nothing_of_a_single_stage_is_that_stage():
    update = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ties([update], (1.0,), 1.0), update)
    assert torch.equal(linear([update], (1.0,)), update)


def test_the_stages_are_learnt_from_the_same_base_and_folded_in_together(desk, tiny_folder, tmp_path):
    model = tiny_folder("bert")
    recipe = make_recipe(model, desk / "second.csv", [desk / "lora"], LORA, continual={"merge": "linear", "weights": [0.75, 0.5]})
    started, base = start_policy(recipe, None), load_policy(str(model))
    assert all(
        torch.equal(weight, all_weights(base)[name]) for name, weight in all_weights(started).items() if "heads" not in name
    )
    assert started.classes == ("billing", "delivery")
    run = whet.train(recipe, out=tmp_path / "run")
    own = load_policy(str(model))
    technique = build_technique(Choice(**LORA), None)
    technique.load(own, run.model / OWN)
    technique.merge(own)
    first = start_policy(make_recipe(model, desk / "second.csv", [desk / "lora"]), None)
    merged = load_run(run.path).policy
    for name, weight in base.network.named_parameters():
        a, b = (dict(one.network.named_parameters())[name] - weight for one in (first, own))
        assert torch.allclose(dict(merged.network.named_parameters())[name], weight + 0.75 * a + 0.5 * b, atol=1e-6), name
    found = checkpoint.load(run.checkpoints / "fit", run.manifest["phases"]["fit"]["best_step"])
    assert any(bool(tensor.any()) for name, tensor in found.tensors.items() if name.endswith(".up"))
    assert load_run(run.path).card.technique == "full" and whet.evaluate(run).report["continual"]["sentence"].endswith(
        "(linear)."
    )


@pytest.mark.slow
def test_a_third_stage_merges_three_adapters_and_not_a_merged_one(desk, tiny_folder, tmp_path):
    model = tiny_folder("bert")
    shutil.copytree(desk / "lora", tmp_path / "first")
    merging = {"merge": "ties", "density": 0.5}
    second = whet.train(
        make_recipe(model, desk / "second.csv", [tmp_path / "first"], LORA, continual=merging), out=tmp_path / "second"
    )
    text = (desk / "second.csv").read_text().replace("ticket", "please")
    for colour in COLOURS:
        text = text.replace(colour, f"{colour} new")
    (tmp_path / "third.csv").write_text(text)
    third = make_recipe(model, tmp_path / "third.csv", [second.path], LORA, continual=merging)
    run = whet.train(third, out=tmp_path / "third")
    assert [one.path.name for one in _stages([run])] == ["first", "second", "third"]
    assert {example.label for example in read_dataset(run.path).test} <= set(load_run(run.path).policy.classes)


@pytest.mark.slow
def test_a_merged_run_that_was_stopped_ends_in_the_same_bytes(desk, tiny_folder, tmp_path, monkeypatch):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "lora"], LORA, continual={"merge": "ties"})
    whole = whet.train(recipe, out=tmp_path / "whole")
    real = Run.log

    def stopping(run, record):
        real(run, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", stopping)
    with pytest.raises(Interrupted):
        whet.train(recipe, out=tmp_path / "stopped")
    monkeypatch.setattr(Run, "log", real)
    stopped = resume(tmp_path / "stopped")
    for name in ("model/model.safetensors", "model/heads.safetensors", "model/adapter/adapter_model.safetensors"):
        assert file_hash(whole.path / name) == file_hash(stopped.path / name), name


@pytest.mark.parametrize(
    ("technique", "continual", "said"),
    [
        ("full", {"merge": "ties"}, "technique 'full' makes none that can be"),
        (LORA, {"merge": "ties", "weights": [1.0]}, "has 1 numbers, and 2 stages are merged"),
        (LORA, {"merge": "ties", "ewc": 1.0}, "either ewc or merge"),
        (LORA, {"merge": "slerp"}, "'none', 'linear' or 'ties'"),
        (LORA, {"merge": "ties", "density": 0.0}, "continual.density"),
    ],
)
def test_what_cannot_be_merged_is_said_before_anything_is_trained(desk, tiny_folder, tmp_path, technique, continual, said):
    with pytest.raises(RecipeError, match=said):
        whet.train(
            make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "lora"], technique, continual=continual),
            out=tmp_path / "run",
        )
    assert not list(tmp_path.iterdir())
