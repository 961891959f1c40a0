"""Losses of preferences against TRL's on the same tensors, and known values at policy = reference and by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from whet import plugins
from whet.engine.answers import answer_row, row_logprobs
from whet.engine.cut import pack
from whet.engine.fit import validate
from whet.errors import TrainingError
from whet.models.policy import Policy
from whet.models.template import stop_ids
from whet.testing.steps import ready, tiny_plan, train, whole_step
from whet.testing.tiny import tiny_judged
from whet.types import Message, Row

TRL = json.loads((Path(__file__).parent / "trl_values.json").read_text())
"""What TRL 1.16.0 computed; `origin` says how."""
REWARD = {"name": "regex", "pattern": "[a-f]"}


class Given(Policy):
    """A policy whose log-probabilities, or pooled vectors, are given."""

    def __init__(self, logprobs=None, vectors=None):
        self.given, self.vectors = logprobs, vectors
        self.heads = nn.ModuleDict()

    def logprobs(self, batch, states=None):
        return self.given

    def pooled(self, batch):
        return self.vectors


def rows_of(**scalars):
    """TRL's rows, cut at their last answer token, as ours; `scalars` are given row by row."""
    mask, theirs, ours = (torch.tensor(TRL[name]) for name in ("completion_mask", "reference_logprobs", "logprobs"))
    rows, flat = [], []
    for number, supervised in enumerate(mask.float()):
        length = int(supervised.nonzero().max()) + 1
        tokens = {"supervised": supervised[:length], "reference_logprobs": nn.functional.pad(theirs[number], (1, 0))[:length]}
        some = {name: float(values[number]) for name, values in scalars.items()}
        rows.append(Row(number, torch.arange(length), tokens, some, weights={"x": 1.0}))
        flat.append(nn.functional.pad(ours[number], (1, 0))[:length])
    return pack(rows), Given(torch.cat(flat))


@pytest.mark.parametrize("case", TRL["dpo"], ids=lambda case: f"{case['loss_type']}-{case['beta']}")
def test_dpo_and_ipo_losses_are_trls(case):
    batch, policy = rows_of()
    objective = plugins.build("objectives", "dpo", {"loss_type": case["loss_type"], "beta": case["beta"]})
    sums, measured = objective.loss(policy, batch, {})
    pairs, rows = len(batch.lengths) / 2, len(batch.lengths)
    assert float(sums["dpo"]) / pairs == pytest.approx(case["loss"], rel=1e-5, abs=1e-5)
    assert float(measured["reward_accuracy"]) / rows == pytest.approx(case["accuracy"])
    assert float(measured["reward_margin"]) / rows == pytest.approx(case["margin"], abs=1e-5)


@pytest.mark.parametrize("case", TRL["kto"], ids=lambda case: f"beta-{case['beta']}-kl-{case['kl']:.1f}-{case['good_weight']}")
def test_kto_losses_are_trls(case):
    names = ["kl_logprobs", "kl_reference_logprobs"]
    ours, theirs = (torch.tensor(TRL[name]).sum(1) for name in (names[::-1] if case["swapped"] else names))
    point = max(0.0, float((ours - theirs).mean()))
    assert point == pytest.approx(case["kl"], abs=1e-5)
    batch, policy = rows_of(good=TRL["good"], kl=[point] * len(TRL["good"]))
    settings = {name: case[name] for name in ("beta", "good_weight", "bad_weight")}
    sums, _ = plugins.build("objectives", "kto", settings).loss(policy, batch, {})
    assert float(sums["kto"]) / len(batch.lengths) == pytest.approx(case["loss"], abs=1e-5)


@pytest.mark.parametrize("case", TRL["reward"], ids=lambda case: f"centre-{case['centre']}")
def test_reward_model_losses_are_trls(case):
    batch, _ = rows_of()
    policy = Given(vectors=torch.tensor(TRL["scores"])[:, None])
    head = nn.Linear(1, 1)
    nn.init.ones_(head.weight)
    nn.init.zeros_(head.bias)
    policy.heads["reward"] = head
    sums, _ = plugins.build("objectives", "reward", {"centre": case["centre"]}).loss(policy, batch, {})
    assert float(sums["pair"].detach()) / (len(batch.lengths) / 2) == pytest.approx(case["loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "value"),
    [
        ("dpo", {"beta": 0.3}, math.log(2)),  # the margin is 0, and -log sigmoid(0) = log 2, whatever beta is
        ("dpo", {"loss_type": "ipo", "beta": 0.25}, 4.0),  # (0 - 1 / (2 * 0.25)) ** 2
        ("kto", {}, 0.5),  # 1 - sigmoid(0)
        ("kto", {"good_weight": 2.0, "bad_weight": 2.0}, 1.0),
    ],
)
@pytest.mark.parametrize("technique", ["full", "lora"])
def test_the_first_loss_is_known_where_the_policy_is_its_reference(name, settings, value, technique, builder, examples):
    policy, objective = builder("llama")(), plugins.build("objectives", name, settings)
    given = tiny_judged() if name == "kto" else examples
    objective.prepare(policy, given)
    plugins.build("techniques", technique, {}).attach(policy, seed=0)
    rows = whole_step(objective, policy, given)
    (found,) = validate(policy, objective, rows.units, tiny_plan(policy), {}).values()
    assert found == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_the_first_step_of_a_rollout_has_ratio_one(name, builder, examples):
    objective = plugins.build("objectives", name, {"reward": REWARD, "max_new_tokens": 6})
    policy = ready(objective, builder("llama"), examples)
    units = whole_step(objective, policy, examples).units
    rows = [row for unit in units for row in unit]
    ours = policy.logprobs(pack(rows)).detach()
    ratio = (ours - torch.cat([row.tokens["old_logprobs"] for row in rows])).exp()
    assert (ratio - 1).abs().max() < 2e-6
    # at ratio 1 and KL 0 the policy's term is minus the mean advantage, which is 0 over a group and after whitening
    losses = validate(policy, objective, units, tiny_plan(policy, max_tokens=10**9), {})
    advantages = torch.cat([row.tokens["advantages"] for row in rows])
    mask = torch.cat([row.tokens["supervised"] for row in rows])
    assert losses["policy"] == pytest.approx(-float((advantages * mask).sum() / mask.sum()), abs=1e-5)
    assert all(row.scalars["kl"] == pytest.approx(0.0, abs=1e-5) for row in rows)


def test_adapters_keep_a_reference_without_memory_and_full_tuning_one_copy(builder, examples):
    objective = plugins.build("objectives", "dpo", {})
    for technique, shared in (("lora", True), ("full", False)):
        policy = builder("llama")()
        objective.prepare(policy, examples)
        plugins.build("techniques", technique, {}).attach(policy, seed=0)
        train(objective, policy, examples, tiny_plan(policy, num_steps=2))
        own = {parameter.data_ptr() for parameter in policy.network.parameters()}
        reference = policy.reference.network
        assert all((parameter.data_ptr() in own) == shared for parameter in reference.parameters())
        assert not any(parameter.requires_grad for parameter in reference.parameters())
        base = builder("llama")()
        rows = [answer_row(example, "ok", base, base.context) for example in examples]
        assert row_logprobs(policy.reference, rows) == row_logprobs(base, rows)
        assert row_logprobs(policy, rows) != row_logprobs(base, rows)


def test_only_the_last_answer_of_a_conversation_is_compared(builder, examples):
    policy = builder("llama")()
    long = next(example for example in examples if len(example.messages) > 3)
    row = answer_row(long, "hello", policy, policy.context)
    learnt = row.ids[row.tokens["supervised"] > 0].tolist()
    assert policy.tokenizer.decode(learnt[:-1]) == "hello" and learnt[-1] in stop_ids(policy.tokenizer)


def test_a_pair_whose_answer_is_cut_away_weighs_nothing(builder, examples):
    objective = plugins.build("objectives", "dpo", {})
    policy = builder("llama")()
    objective.prepare(policy, examples)
    wordy = replace(examples[0], messages=(Message("user", "why " * 20), Message("assistant", "so")))
    chosen, rejected = objective.units([wordy], policy, 30)[0]
    assert len(chosen.ids) == 30 and chosen.weights == {"dpo": 0.0} == rejected.weights
    sums, _ = objective.loss(policy, pack([chosen, rejected]), {})
    assert float(sums["dpo"]) == 0.0


def test_a_reward_that_tells_no_answer_from_another_stops_the_run_with_a_reason(builder, examples):
    objective = plugins.build(
        "objectives", "grpo", {"reward": {"name": "regex", "pattern": ""}, "patience": 3, "max_new_tokens": 2, "group": 2}
    )
    policy = ready(objective, builder("llama"), examples)
    with pytest.raises(TrainingError, match=r"for 3 steps all answers to be compared were worth the same .mean reward 1."):
        train(objective, policy, examples, tiny_plan(policy, num_steps=9, batch_size=2))


def answer_logprob(policy, prompt, answer):
    """Log-probability of an answer after a prompt, by the network itself."""
    with torch.no_grad():
        logits = policy.network(input_ids=torch.cat([prompt, answer])[None]).logits[0]
    chances = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return float(chances.gather(-1, answer[:, None]).sum())


def test_ktos_reference_point_is_that_of_each_prompt_with_the_answer_before_it(builder):
    policy, objective, given = builder("llama")(), plugins.build("objectives", "kto", {}), tiny_judged()
    objective.prepare(policy, given)
    plugins.build("techniques", "full", {}).attach(policy, seed=0)
    train(objective, policy, given, tiny_plan(policy, num_steps=3, learning_rate=0.01))

    def step():
        return [unit[0] for unit in whole_step(objective, policy, given).units]

    def point():
        (found,) = {row.scalars["kl"] for row in step()}
        return found

    rows, longest = step(), tiny_plan(policy).max_length
    starts = [row.tokens["supervised"].tolist().index(1.0) if row.tokens["supervised"].any() else len(row.ids) for row in rows]
    prompts = [row.ids[:start] for row, start in zip(rows, starts, strict=True)]
    answers = [row.ids[row.tokens["supervised"] == 1.0] for row in rows]  # the template's line break behind it is neither
    assert any(len(prompt) + len(answer) < len(row.ids) for prompt, answer, row in zip(prompts, answers, rows, strict=True))
    before = [(prompt, answers[place - 1][: longest - len(prompt)]) for place, prompt in enumerate(prompts)]
    ratios = [answer_logprob(policy, *pair) - answer_logprob(policy.reference, *pair) if len(pair[1]) else 0.0 for pair in before]
    expected = sum(ratios) / len(ratios)
    assert expected > 1e-3 and point() == pytest.approx(expected, rel=1e-4)
    policy.network, policy.reference.network = policy.reference.network, policy.network
    assert point() == 0.0, "it is never below 0"
