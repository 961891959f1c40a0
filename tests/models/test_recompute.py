"""Gradient checkpointing: the same loss and gradient to the bit, with less kept; chosen where it does not fit, and said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from whet.engine.cut import cut
from whet.engine.machine import computing
from whet.models.memory import estimate
from whet.models.recompute import recompute_blocks
from whet.models.shapes import shape_of
from whet.plugins import build
from whet.recipe_file import load_recipe
from whet.stages import fitting
from whet.stages import train as training
from whet.stages.estimate import job_load
from whet.stages.fitting import choose
from whet.stages.job import build_job
from whet.stages.narrate import Narrator
from whet.stages.plan import plan
from whet.stages.prepare import prepare_data
from whet.testing.steps import same_bytes, slope, whole_step

CASES = {
    "llama": ("sft", ["full", "lora", "prefix", "prompt", "ia3", "adapter"]),
    "gpt2": ("sft", ["full", "prefix"]),
    "bert": ("classify", ["full", "lora", "prefix", "prompt", "head"]),
    "t5": ("seq2seq", ["full", "lora", "prefix"]),
    "bart": ("seq2seq", ["full", "lora"]),
}
QUICK = {("llama", "full"), ("llama", "lora"), ("llama", "prefix"), ("bert", "lora"), ("t5", "lora")}
"""The others are tried in the slow part."""


def attached(builder, examples, architecture, name):
    objective = build("objectives", CASES[architecture][0], {})
    policy = builder(architecture)()
    objective.prepare(policy, examples)
    technique = build("techniques", name, {"length": 3} if name in {"prefix", "prompt"} else {})
    policy.num_virtual = getattr(technique, "num_virtual", 0)
    technique.attach(policy, 0)
    return objective, policy


@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        pytest.param(one, name, marks=[] if (one, name) in QUICK else [pytest.mark.slow])
        for one, (_, names) in CASES.items()
        for name in names
    ],
)
def test_loss_and_gradient_are_the_same_bits(architecture, name, padded, builder, examples):
    made = []
    for again in (False, True):
        objective, policy = attached(builder, examples, architecture, name)
        if again:
            recompute_blocks(policy)
        made.append(slope(objective, policy, whole_step(objective, policy, examples), max_tokens=60, padded=padded))
    assert made[0].losses == made[1].losses
    assert not same_bytes(made[0].gradients, made[1].gradients)
    assert any(gradient.abs().max() > 0 for gradient in made[0].gradients.values())


def kept(objective, policy, rows, precision):
    """Bytes that torch holds for the backward pass of all rows, each storage once, weights left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*policy.network.parameters(), *policy.network.buffers()]}
    found, held = {}, []

    def keep(tensor):
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    (batch,) = cut(rows.units, 10**9)
    with computing(precision, torch.device("cpu")), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.loss(policy, batch, {})
    return sum(found.values())


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_block_keeps_its_input_only(architecture, builder, examples):
    objective, policy = attached(builder, examples, architecture, "full")
    rows = whole_step(objective, policy, examples)
    before = kept(objective, policy, rows, "fp32")
    recompute_blocks(policy)
    after = kept(objective, policy, rows, "fp32")
    assert after < before / 2


def test_nothing_is_recomputed_where_nothing_learns(builder, examples):
    objective, policy = attached(builder, examples, "llama", "full")
    recompute_blocks(policy)
    (batch,) = cut(whole_step(objective, policy, examples).units, 10**9)
    calls = []
    policy.network.base_model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        objective.loss(policy, batch, {})
    assert len(calls) == 1
    sum(objective.loss(policy, batch, {})[0].values()).backward()
    assert len(calls) == 3


@pytest.fixture
def desk(tmp_path, tiny_folder):
    rows = [{"prompt": f"where is the card {number}", "response": "here it is"} for number in range(60)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        f"model: {tiny_folder('llama')}\ndata: {{path: chat.jsonl, prompt: prompt, response: response}}\nobjective: sft\n"
        "technique: full\ntrain: {max_steps: 2, batch_size: 40, precision: fp32, early_stopping: false}\n"
    )
    return tmp_path


def job(desk, *sets):
    recipe = load_recipe(desk / "recipe.yaml", sets)
    return build_job(recipe, prepare_data(recipe, desk), desk)


def test_it_is_chosen_only_where_the_estimate_does_not_fit_without(desk):
    made = job(desk)
    shape, load = shape_of(made.policy), job_load(made)
    program = 10**9
    without, with_it = (estimate(shape, replace(load, recomputed=one), program).total for one in (False, True))
    assert with_it < without
    need = fitting.estimate_job(made).total
    assert not choose(made, 2 * need).recomputed and not choose(made, 2 * need).said
    chosen = choose(made, need // 2)
    assert chosen.recomputed and "since without it this is estimated to take" in chosen.said[0]
    assert not choose(job(desk, "train.gradient_checkpointing=false"), 1).recomputed
    asked = choose(job(desk, "train.gradient_checkpointing=true"), 2 * need)
    assert asked.recomputed and "train.gradient_checkpointing" in asked.said[0]


class Heard(Narrator):
    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_a_run_says_it_and_ends_in_the_same_weights(desk, monkeypatch):
    plain = training.train(load_recipe(desk / "recipe.yaml"), folder=desk, out=desk / "plain")
    heard = Heard()
    monkeypatch.setattr(fitting, "free_memory", lambda: 1 << 20)
    short = training.train(load_recipe(desk / "recipe.yaml"), folder=desk, out=desk / "short", narrator=heard)
    assert any(line.startswith("Gradient checkpointing: blocks are computed again") for line in heard.lines)
    assert short.manifest["actual"]["gradient_checkpointing"] and short.manifest["plan"]["memory"]["gradient_checkpointing"]
    assert "gradient_checkpointing" not in plain.manifest["actual"]
    for name in ("log.jsonl", "model/model.safetensors"):
        assert (short.path / name).read_bytes() == (plain.path / name).read_bytes()
    kept = [run.manifest["plan"]["memory"]["parts"]["activations"] for run in (short, plain)]
    assert kept[0] < kept[1]


def test_a_plan_knows_it(desk, monkeypatch):
    monkeypatch.setattr("whet.stages.plan.program_bytes", lambda job: 2**20)  # what tests before this one hold comes and goes
    recipe = load_recipe(desk / "recipe.yaml")
    usual = plan(recipe, folder=desk, probe=False)
    assert not usual["memory"]["gradient_checkpointing"]
    # so much that it fits with gradient checkpointing only
    elsewhere = f"{usual['memory']['bytes'] * 0.5 / 2**20:.3f}MiB"
    short = plan(recipe, folder=desk, device_memory=elsewhere)
    assert short["memory"]["gradient_checkpointing"]
    (decision,) = [one for one in short["decisions"] if one["key"] == "train.gradient_checkpointing"]
    assert decision["value"] is True and "without it" in decision["reason"]
