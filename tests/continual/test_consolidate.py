"""Elastic weight consolidation: the Fisher information row by row, the penalty by hand, and what it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tasks import make_recipe

from whet import plugins
from whet.data.replay import stratified
from whet.engine.consolidate import all_weights, fisher_diagonal, held_weights, hold
from whet.engine.cut import pack
from whet.engine.fit import Training, TrainPlan, fit
from whet.errors import RecipeError
from whet.models.linear import placed
from whet.models.lowrank import LowRank
from whet.stages import consolidate
from whet.stages.consolidate import anchored, measured_fisher
from whet.stages.job import build_job
from whet.stages.narrate import SILENT
from whet.stages.phase import Flag
from whet.stages.prepare import past_of, prepare_data
from whet.stages.trials import Kept, Shared, run_trial
from whet.testing.tiny import tiny_examples

pytestmark = pytest.mark.slow

PLAN = TrainPlan(
    num_steps=6,
    num_warmup=0,
    batch_size=4,
    max_tokens=4096,
    max_length=64,
    learning_rate=0.01,
    weight_decay=0.0,
    clip=1.0,
    precision="fp32",
    seed=0,
    schedule=plugins.build("schedules", "linear", {}),
    optimiser=plugins.build("optimisers", "adamw", {}),
)


def prepared(builder, architecture, objective):
    """A policy with its head, and units of eight rows."""
    built, policy, examples = plugins.build("objectives", objective, {}), builder(architecture)(), tiny_examples(8)
    built.prepare(policy, examples)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.heads.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator))  # a head of zeros would send no gradient down
    return built, policy, built.units(examples, policy, 64)


@pytest.mark.parametrize(("architecture", "objective"), [("bert", "classify"), ("bert", "tokens"), ("llama", "sft")])
def test_the_fisher_is_the_mean_squared_gradient_of_single_rows(builder, architecture, objective):
    built, policy, units = prepared(builder, architecture, objective)
    names = sorted(all_weights(policy))
    found = fisher_diagonal(policy, built, units, names)
    assert not any(weight.requires_grad or weight.grad is not None for weight in all_weights(policy).values())
    policy.network.requires_grad_(True)
    policy.heads.requires_grad_(True)
    expected = {name: torch.zeros_like(weight) for name, weight in all_weights(policy).items()}
    for unit in units:
        policy.network.zero_grad()
        policy.heads.zero_grad()
        terms, _ = built.loss(policy, pack(unit), {})
        sum(terms.values()).backward()
        for name, weight in all_weights(policy).items():
            if weight.grad is not None:
                expected[name] += weight.grad**2 / len(units)
    for name in names:
        assert torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-12), name
    assert sum(bool(value.sum()) for value in found.values()) > len(names) / 2


def test_the_penalty_is_half_the_strength_times_importance_times_squared_change(builder):
    _, policy, _ = prepared(builder, "bert", "classify")
    plugins.build("techniques", "head", {}).attach(policy, 0)
    shape = policy.heads["classify"].weight.shape
    fisher = {"heads.classify.weight": torch.full((2, shape[1]), 3.0), "heads.classify.bias": torch.tensor([1.0, 5.0])}
    anchor = hold(policy, 4.0, fisher)
    assert float(anchor.penalty().detach()) == 0.0
    with torch.no_grad():
        policy.heads["classify"].weight[0, 0] += 0.5
        policy.heads["classify"].bias[1] += 2.0
        policy.heads["classify"].bias[2] += 100.0  # a class that is new, so free
    # 4 / 2 * (3 * 0.5^2 + 5 * 2^2) = 2 * (0.75 + 20)
    assert float(anchor.penalty().detach()) == pytest.approx(41.5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_the_same_change_costs_the_same_beside_the_weights_as_in_them(builder, architecture, variant):
    policy, whole = builder(architecture)(), builder(architecture)()
    plugins.build("techniques", "full", {}).attach(whole, 0)
    generator = torch.Generator().manual_seed(0)
    fisher = {name: torch.rand(weight.shape, generator=generator) for name, weight in all_weights(whole).items()}
    of_whole = hold(whole, 7.0, fisher)
    lora = plugins.build("techniques", "lora", {"rank": 2, "variant": variant})
    lora.attach(policy, 0)
    beside = hold(policy, 7.0, fisher)
    with torch.no_grad():
        for _, layer in placed(policy, LowRank):
            layer.up.normal_(generator=generator)
            if layer.magnitude is not None:
                layer.magnitude.mul_(1.1)
    cost = float(beside.penalty().detach())
    lora.merge(policy)
    with torch.no_grad():
        for name, weight in all_weights(policy).items():
            all_weights(whole)[name].copy_(weight)
    assert cost > 1 and float(of_whole.penalty().detach()) == pytest.approx(cost, rel=1e-4)


def trained(builder, strength, max_tokens=4096, num_steps=6):
    """A policy that learnt with its weights held, the steps, and the importances."""
    built, policy, units = prepared(builder, "bert", "classify")
    fisher = fisher_diagonal(policy, built, units, sorted(all_weights(policy)))
    plugins.build("techniques", "full", {}).attach(policy, 0)
    before = {name: weight.detach().clone() for name, weight in all_weights(policy).items()}
    plan = replace(PLAN, max_tokens=max_tokens, num_steps=num_steps)
    anchor = hold(policy, strength, fisher) if strength else None
    training = Training.begin(policy, built, plan)
    other = [(replace(unit[0], vectors={"target": unit[0].vectors["target"].roll(1)}),) for unit in units]  # the labels moved on
    rows = built.steps(other, policy, plan, training.cursor, {})
    steps = list(fit(policy, built, rows, plan, training, anchor))
    moved = sum(
        float((fisher[name] * (weight.detach() - before[name]) ** 2).sum()) for name, weight in all_weights(policy).items()
    )
    return policy, steps, moved


def test_neither_the_cut_into_micro_batches_nor_their_number_changes_the_penalty(builder):
    together, one_by_one = trained(builder, 100.0), trained(builder, 100.0, max_tokens=1)
    for a, b in zip(together[1], one_by_one[1], strict=True):
        assert a.losses == pytest.approx(b.losses, rel=1e-3, abs=1e-6)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3)
    assert together[1][0].losses["ewc"] == 0.0 and together[1][1].losses["ewc"] > 0


def test_a_large_strength_keeps_what_matters_where_it_was(builder):
    free, held, firmly = (trained(builder, strength, num_steps=24)[2] for strength in (0.0, 1.0, 1e4))
    assert firmly < held < free and firmly < free / 50, (free, held, firmly)


def test_what_is_no_weight_of_the_network_cannot_be_held(builder):
    policy = builder("bert")()
    known = all_weights(policy)
    plugins.build("techniques", "ia3", {}).attach(policy, 0)
    with pytest.raises(RecipeError, match="learns something beside them"):
        held_weights(policy, known)


def test_a_run_measures_with_the_parents_own_head(desk, tiny_folder):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "first"], "full", continual={"ewc": 5.0})
    job = build_job(recipe, prepare_data(recipe, None), None)
    fisher = measured_fisher(job, None, SILENT)
    assert fisher["heads.classify.weight"].shape[0] == 2 < len(job.policy.classes)
    job.anchor = anchored(job, fisher)
    with torch.no_grad():
        job.policy.heads["classify"].weight[2:] += 1.0
    assert float(job.anchor.penalty().detach()) == 0.0
    with torch.no_grad():
        job.policy.heads["classify"].weight[:2] += 1.0
    assert float(job.anchor.penalty().detach()) == pytest.approx(2.5 * float(fisher["heads.classify.weight"].sum()), rel=1e-3)


@pytest.mark.slow
def test_a_trial_that_reads_rows_otherwise_than_the_one_before_it_measures_anew(desk, tiny_folder):
    shared, scores = Shared(), {}
    for length in (64, 4):
        recipe = make_recipe(
            tiny_folder("bert"), desk / "second.csv", [desk / "first"], "full",
            train={"max_length": length, "max_steps": 6}, continual={"ewc": 1e4},
        )  # fmt: skip
        dataset = prepare_data(recipe, None)
        scores[length] = [
            run_trial(recipe, dataset, "loss", kept, None, Flag(), lambda number, score: False).scores
            for kept in (shared, Kept())
        ]
    assert scores[64][0] == scores[64][1] and scores[4][0] == scores[4][1] != scores[64][0]


def test_what_the_run_is_stopped_or_judged_by_is_not_measured_on(desk, tiny_folder, monkeypatch):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "first"], "full", continual={"ewc": 5.0})
    job = build_job(recipe, prepare_data(recipe, None), None)
    learnt = past_of(recipe, None)[-1].dataset.train
    job.dataset = replace(job.dataset, validation=learnt[:3], test=learnt[3:5])
    pools = []
    monkeypatch.setattr(consolidate, "stratified", lambda pool, *rest: pools.append(pool) or stratified(pool, *rest))
    measured_fisher(job, None, SILENT)
    assert {one.text for one in pools[0]} == {one.text for one in learnt[5:]}
