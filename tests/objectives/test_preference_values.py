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
from whet.models.reference import part_from_reference
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
    mask, theirs, ours = (torch.tensor(TRL[name]) for name in ("completion_mask", "reference_logprobs", "logprobs"))
    rewards = case["beta"] * ((ours - theirs) * mask[:, 1:]).sum(1)  # of each answer
    for name, side in (("chosen_reward", 0), ("rejected_reward", 1)):
        assert float(measured[name]) / rows == pytest.approx(float(rewards[side::2].mean()), abs=1e-5)


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


class Written(Given):
    """A policy whose log-probabilities are given, and whose values are its states."""

    def __init__(self, logprobs, states=None):
        super().__init__(logprobs)
        self.states = states
        self.heads["value"] = nn.Linear(1, 1)
        nn.init.ones_(self.heads["value"].weight)
        nn.init.zeros_(self.heads["value"].bias)

    def hidden(self, batch):
        return self.states


def rollout(**tokens):
    """Two answers of three tokens, each behind a prompt of two; what is given holds the six numbers of the answers."""
    rows = []
    for number in range(2):
        some = {name: torch.zeros(5) for name in tokens}
        for name, values in tokens.items():
            some[name][2:] = torch.tensor(values[3 * number : 3 * number + 3])
        mask = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
        rows.append(Row(number, torch.arange(5), {"supervised": mask, **some}, {}, weights={"policy": 3.0, "value": 3.0}))
    return pack(rows)


OLD, NEW = [-1.0, -2.0, -0.5, -1.5, -0.2, -3.0], [-0.4, -2.6, -0.5, -1.1, -0.9, -2.8]
ADVANTAGES = [1.0, 1.0, 1.0, -0.5, -0.5, -0.5]


def flat(values):
    """Six numbers of two answers at their places, among all tokens."""
    return torch.tensor([0.0, 0.0, *values[:3], 0.0, 0.0, *values[3:]])


def test_grpos_loss_by_hand():
    reference = [-0.9, -2.0, -0.6, -1.0, -0.2, -3.5]
    batch = rollout(old_logprobs=OLD, reference_logprobs=reference, advantages=ADVANTAGES)
    objective = plugins.build("objectives", "grpo", {"reward": REWARD, "clip": 0.1, "clip_high": 0.3, "kl": 0.5})
    sums, _ = objective.loss(Written(flat(NEW)), batch, {})
    expected = 0.0
    for new, old, ref, advantage in zip(NEW, OLD, reference, ADVANTAGES, strict=True):
        ratio, away = math.exp(new - old), ref - new
        gained = min(ratio * advantage, min(max(ratio, 1 - 0.1), 1 + 0.3) * advantage)
        expected += gained - 0.5 * (math.exp(away) - away - 1)
    assert float(sums["policy"]) == pytest.approx(-expected, rel=1e-6)


def test_ppos_losses_by_hand():
    values, old_values = [0.5, 0.1, -0.2, 0.9, 0.3, 0.0], [0.1, 0.2, -0.2, 0.2, 0.3, 0.4]
    returns = [1.0, 0.9, 0.8, -0.5, 0.0, 0.5]
    batch = rollout(old_logprobs=OLD, advantages=ADVANTAGES, old_values=old_values, returns=returns)
    states = torch.cat([flat(values)[1:], torch.zeros(1)])[:, None]  # the value of a token is read from the state before it
    objective = plugins.build("objectives", "ppo", {"reward": REWARD, "clip": 0.1, "value_clip": 0.3, "value_weight": 0.25})
    with torch.no_grad():
        sums, _ = objective.loss(Written(flat(NEW), states), batch, {})
    gained = errors = 0.0
    for new, old, advantage in zip(NEW, OLD, ADVANTAGES, strict=True):
        ratio = math.exp(new - old)
        gained += min(ratio * advantage, min(max(ratio, 0.9), 1.1) * advantage)
    for value, before, returned in zip(values, old_values, returns, strict=True):
        near = before + min(max(value - before, -0.3), 0.3)
        errors += max((value - returned) ** 2, (near - returned) ** 2)
    assert float(sums["policy"]) == pytest.approx(-gained, rel=1e-6)
    assert float(sums["value"]) == pytest.approx(0.25 * errors / 2, rel=1e-6)


def test_an_answers_return_is_its_reward_less_the_price_of_leaving_the_reference(builder, examples):
    settings = {"reward": REWARD, "max_new_tokens": 6, "kl": 0.5, "lam": 1.0}
    objective = plugins.build("objectives", "ppo", settings)
    policy = ready(objective, builder("llama"), examples)
    part_from_reference(policy)
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    rows = [unit[0] for unit in whole_step(objective, policy, examples).units]
    assert max(abs(row.scalars["kl"]) for row in rows) > 0.1, "the policy has not left its reference"
    for row in rows:
        first = row.tokens["supervised"].tolist().index(1.0)
        assert float(row.tokens["returns"][first]) == pytest.approx(row.scalars["reward"] - 0.5 * row.scalars["kl"], abs=1e-4)
    advantages = torch.cat([row.tokens["advantages"][row.tokens["supervised"] > 0] for row in rows])
    assert float(advantages.mean()) == pytest.approx(0.0, abs=1e-5) and float(advantages.std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("per", "mean"), [("answer", 1.0), ("token", 0.0)])
def test_grpo_weighs_each_answer_or_each_token_the_same(per, mean):
    # three tokens of advantage 1 and one of -3: over answers -(1 - 3) / 2, over tokens -(3 - 3) / 4
    objective = plugins.build("objectives", "grpo", {"reward": REWARD, "per": per})
    rows = []
    for number, (length, advantage) in enumerate([(3, 1.0), (1, -3.0)]):
        mask = torch.tensor([0.0, 0.0] + [1.0] * length)
        tokens = {"supervised": mask, "old_logprobs": torch.zeros(2 + length), "reference_logprobs": torch.zeros(2 + length)}
        rows.append(objective._learnable(Row(number, torch.arange(2 + length), tokens, {}), advantage, 0.0))
    batch = pack(rows)
    sums, _ = objective.loss(Written(torch.zeros(8)), batch, {})
    assert float(sums["policy"]) / batch.weights["policy"] == pytest.approx(mean, abs=1e-6)
