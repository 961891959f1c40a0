"""PPO and GRPO raise a reward that anybody can check, from the first seed to the fifth; and rollouts resume to the bit."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch

from whet import plugins
from whet.engine.fit import Training
from whet.engine.rollout import units_as_json, units_from_json
from whet.testing.steps import ready, tiny_plan, train
from whet.types import Cursor

DIGIT = {"reward": {"name": "regex", "pattern": "[0-9]", "match": "start"}, "max_new_tokens": 1}
"""One of ten digits as the first sign, of some hundred that a model of characters may write."""
SETTINGS = {"ppo": DIGIT | {"updates": 2}, "grpo": DIGIT | {"group": 8}}
BATCH = {"ppo": 32, "grpo": 4}
"""Prompts of a step: 32 answers each."""
STEPS = {"ppo": 60, "grpo": 30}
"""30 rollouts each."""


def learnt(name, seed, builder, examples):
    """Mean reward of the first five and of the last five rollouts."""
    objective = plugins.build("objectives", name, SETTINGS[name])
    prompts = [replace(one, id=number) for number, one in enumerate(itertools.islice(itertools.cycle(examples), 32))]
    policy = ready(objective, builder("llama"), prompts)
    plan = tiny_plan(policy, num_steps=STEPS[name], batch_size=BATCH[name], learning_rate=1e-2, clip=1.0, seed=seed)
    _, steps = train(objective, policy, prompts, plan)
    rewards = [step.metrics["reward"] for step in steps]
    few = 5 * STEPS[name] // 30
    return sum(rewards[:few]) / few, sum(rewards[-few:]) / few


QUICK = ("grpo", 0)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(*case, marks=() if case == QUICK else pytest.mark.slow)
        for case in itertools.product(("ppo", "grpo"), range(5))
    ],
)
def test_a_verifiable_reward_is_raised(name, seed, builder, examples):
    first, last = learnt(name, seed, builder, examples)
    assert first < 0.5, f"seed {seed}: the untuned model is rewarded {first:.2f} already"
    assert last > 0.8, f"seed {seed}: from {first:.2f} to {last:.2f}"


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_answers_are_drawn_from_seed_and_cursor_alone(name, builder, examples):
    objective = plugins.build("objectives", name, {**SETTINGS[name], "max_new_tokens": 4})
    policy = ready(objective, builder("llama"), examples)
    plan = tiny_plan(policy, batch_size=3)
    units = objective.units(examples, policy, plan.max_length)

    def answers(cursor, seed=0):
        torch.manual_seed(torch.seed())  # torch's own stream must not matter
        step = next(iter(objective.steps(units, policy, replace(plan, seed=seed), cursor, {})))
        return [row.ids.tolist() for unit in step.units for row in unit]

    assert answers(Cursor()) == answers(Cursor())
    assert answers(Cursor(0, 3)) != answers(Cursor()) != answers(Cursor(), seed=1)
    if name == "grpo":
        first = answers(Cursor())[:8]
        assert len({tuple(ids) for ids in first}) > 1, "the answers of a group are drawn apart"


def test_a_rollout_survives_a_checkpoint_exactly(builder, examples):
    objective = plugins.build("objectives", "ppo", {**SETTINGS["ppo"], "updates": 3, "max_new_tokens": 4})
    policy = ready(objective, builder("llama"), examples)
    plan = tiny_plan(policy, num_steps=1, batch_size=4)
    training = Training.begin(policy, objective, plan)
    units = objective.units(examples, policy, plan.max_length)
    (step,) = itertools.islice(objective.steps(units, policy, plan, training.cursor, {}), 1)
    stored = json.loads(json.dumps(units_as_json(step.units), allow_nan=False))
    for given, found in zip(step.units, units_from_json(stored), strict=True):
        for left, right in zip(given, found, strict=True):
            assert left.ids.equal(right.ids) and left.scalars == right.scalars and left.weights == right.weights
            assert all(
                left.tokens[name].equal(right.tokens[name]) and right.tokens[name].dtype == left.tokens[name].dtype
                for name in left.tokens
            )
    assert step.after == Cursor() and step.carry["updates"] == 1, "a rollout in use keeps its place"


def test_what_is_learnt_is_what_was_written(builder, examples):
    """A row is the prompt as it was given and the answer as it was drawn, its end token too; its length is counted."""
    objective = plugins.build("objectives", "grpo", {**SETTINGS["grpo"], "max_new_tokens": 5, "group": 2})
    policy = ready(objective, builder("llama"), examples)
    units = objective.units(examples, policy, 40)
    plan = tiny_plan(policy, batch_size=len(units), max_length=40)
    step = next(iter(objective.steps(units, policy, plan, Cursor(), {})))
    prompts = {unit[0].id: unit[0].ids for unit in units}
    assert max(len(ids) for ids in prompts.values()) <= 35, "room is left for the answer"
    for row in itertools.chain.from_iterable(step.units):
        prompt = prompts[row.id]
        assert row.ids[: len(prompt)].equal(prompt)
        assert int(row.tokens["supervised"].sum()) == len(row.ids) - len(prompt) == row.scalars["answer_tokens"] <= 5
        assert (row.ids[-1] == policy.end_id) == bool(row.scalars["ended"])
