"""Every optimiser within the engine: which parameters it moves how, resume to the bit, and what it keeps in memory."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from whet.engine import checkpoint
from whet.engine.fit import Training
from whet.engine.optimise import state_tensors
from whet.models.linear import hidden_matrices
from whet.plugins import build, names
from whet.stages.estimate import state_bytes
from whet.testing.steps import same_bytes, tiny_plan, train
from whet.types import Cursor

SETTINGS = {"adamw_8bit": {"smallest": 256}, "muon": {"matrix_rate": 2.0}}
"""So that tiny matrices are kept in 8 bits, and that Muon has a share of the rate of its own."""
LORA = {"rank": 4, "learning_rate_ratio": 4.0}


def started(builder, name, technique="full", settings=None, architecture="llama", num_steps=6):
    policy = builder(architecture)()
    objective = build("objectives", "sft", {})
    build("techniques", technique, settings or {}).attach(policy, 0)
    made = build("optimisers", name, SETTINGS.get(name, {}))
    plan = tiny_plan(policy, num_steps=num_steps, weight_decay=0.1, clip=0.5, optimiser=made, learning_rate=1e-3)
    return policy, objective, plan, Training.begin(policy, objective, plan)


@pytest.mark.parametrize("name", names("optimisers"))
@pytest.mark.parametrize(("technique", "settings"), [pytest.param("full", {}, marks=pytest.mark.slow), ("lora", LORA)])
def test_a_run_that_was_killed_ends_in_the_same_bytes(builder, examples, tmp_path, name, technique, settings):
    policy, objective, plan, whole = started(builder, name, technique, settings)
    train(objective, policy, examples, replace(plan, num_steps=2), whole)
    checkpoint.save(tmp_path, 2, whole.tensors(), {"cursor": asdict(whole.cursor), "objective": whole.objective_state})
    train(objective, policy, examples, plan, whole)
    policy, objective, plan, resumed = started(builder, name, technique, settings)
    saved = checkpoint.load(tmp_path, 2)
    resumed.restore(saved.tensors, saved.step, Cursor(**saved.state["cursor"]), saved.state["objective"])
    train(objective, policy, examples, plan, resumed)
    assert resumed.step == whole.step == 6
    assert not same_bytes(whole.tensors(), resumed.tensors())
    if technique == "lora":  # the shares of the technique reach every optimiser's groups
        ratios = {group["lr_ratio"] for group in resumed.optimiser.param_groups}
        assert max(ratios) == 4.0 * min(ratios)


@pytest.mark.parametrize("name", names("optimisers"))
def test_the_loss_falls(builder, examples, name):
    policy, objective, plan, training = started(builder, name, num_steps=12)
    rate = plan.learning_rate * float(getattr(plan.optimiser, "learning_rate_factor", 1.0))
    _, steps = train(objective, policy, examples, replace(plan, learning_rate=10 * rate), training)
    first, last = (sum(sum(step.losses.values()) for step in some) for some in (steps[:3], steps[-3:]))
    assert last < 0.9 * first, (first, last)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert", "t5"])
@pytest.mark.parametrize(
    ("technique", "settings"),
    [("full", {}), ("lora", {"rank": 2}), ("lora", {"rank": 2, "variant": "dora"}), ("prefix", {}), ("adapter", {})],
)
def test_hidden_matrices_are_those_of_linear_layers(builder, architecture, technique, settings):
    if (architecture, technique) == ("t5", "prefix"):
        pytest.skip("an encoder-decoder has no virtual tokens")
    policy = builder(architecture)()
    build("techniques", technique, settings).attach(policy, 0)
    found, learning = hidden_matrices(policy), dict(policy.trainable())
    assert found.keys() <= learning.keys() and all(learning[name].ndim == 2 for name in found)
    rest = {name for name, tensor in learning.items() if tensor.ndim == 2} - found.keys()
    if technique == "full":
        tables = {id(module.weight) for module in policy.network.modules() if isinstance(module, nn.Embedding)}
        output = policy.network.get_output_embeddings()
        tables |= set() if output is None else {id(output.weight)}
        assert rest and all(id(learning[name]) in tables for name in rest)
        assert any(found.values()) == any(isinstance(module, Conv1D) for module in policy.network.modules())
    elif technique == "prefix":
        assert not found  # virtual tokens are no matrices between hidden states
    else:
        assert not rest and len(found) > 4


def test_muon_moves_hidden_matrices_and_adamw_the_rest(builder, examples):
    policy, objective, plan, training = started(builder, "muon", num_steps=1)
    train(objective, policy, examples, plan, training)
    hidden = hidden_matrices(policy)
    for name, parameter in training.named:
        assert training.optimiser.state[parameter].keys() == (
            {"momentum"} if name in hidden else {"step", "exp_avg", "exp_avg_sq"}
        ), name
    assert {name for name, _ in training.named} - hidden.keys() >= {
        "network.model.embed_tokens.weight",
        "network.model.norm.weight",
    }


def test_muon_takes_sides_as_the_layer_computes(builder):
    # GPT-2 keeps weights as [in, out]: its author's sqrt(rows / columns) is of [out, in], whichever way they lie
    gradient = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    ends = []
    for turned in (False, True):
        parameter = torch.zeros((16, 4) if not turned else (4, 16), requires_grad=True)
        made = build("optimisers", "muon", {"scale": "original"})
        optimiser = made.build_by_role([("network.one", parameter)], {"network.one": turned}, 0.1, 0.0)
        parameter.grad = gradient.clone() if turned else gradient.T.clone()
        optimiser.step()
        ends.append(parameter.detach() if turned else parameter.detach().T)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-6)
    assert 0.1 * 2 * 0.6 < torch.linalg.matrix_norm(ends[0], 2) < 0.1 * 2 * 1.3  # sqrt(16 / 4) = 2


@pytest.mark.parametrize("name", names("optimisers"))
@pytest.mark.parametrize(("technique", "settings"), [("full", {}), ("lora", LORA)])
def test_what_is_foreseen_is_what_is_kept(builder, examples, name, technique, settings):
    policy, objective, plan, training = started(builder, name, technique, settings, num_steps=2)
    foreseen = state_bytes(plan.optimiser, policy.trainable(), hidden_matrices(policy))
    train(objective, policy, examples, plan, training)
    kept = sum(value.nbytes for value in state_tensors(training.optimiser, training.named).values() if value.ndim)
    assert foreseen * sum(parameter.numel() for _, parameter in training.named) == pytest.approx(kept, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("adamw", (3000, 500), 8.0),
        ("adamw", (50_000,), 8.0),
        ("lion", (3000, 500), 4.0),
        ("muon", (3000, 500), 4.0),
        ("adafactor", (3000, 500), 4 * 3500 / 1_500_000),  # a row and a column
        ("adafactor", (8, 3000, 500), 4 * 3500 / 1_500_000),
        ("adafactor", (50_000,), 4.0),
        ("adamw_8bit", (3000, 512), 2 + 2 * 4 / 256 + 2 * 1024 / 1_536_000),  # codes, the scale of each block, two tables of 256
    ],
)
def test_what_an_optimiser_keeps_of_a_large_parameter(name, shape, expected):
    named = [("network.one", torch.empty(shape, device="meta"))]
    hidden = {"network.one": False} if len(shape) == 2 else {}
    assert state_bytes(build("optimisers", name, {}), named, hidden) == pytest.approx(expected, rel=1e-6)


def test_muon_keeps_twice_as_much_of_an_embedding():
    named = [
        ("network.embed", torch.empty((3000, 500), device="meta")),
        ("network.layer", torch.empty((3000, 500), device="meta")),
    ]
    assert state_bytes(build("optimisers", "muon", {}), named, {"network.layer": False}) == pytest.approx(6.0)
