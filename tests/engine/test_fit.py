"""The loop: what it refuses, what it clips, what it counts."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from whet import plugins
from whet.engine.fit import NonFiniteLoss, Training, fit, validate
from whet.testing.steps import ready, same_bytes, slope, tiny_plan, train, whole_step
from whet.types import Cursor, Example, Message, Row, StepRows


@pytest.fixture
def classify():
    return plugins.build("objectives", "classify", {})


@pytest.fixture
def sft():
    return plugins.build("objectives", "sft", {})


def first_step(policy, objective, rows, **changes):
    plan = tiny_plan(policy, num_steps=1, **changes)
    training = Training.begin(policy, objective, plan)
    return next(fit(policy, objective, [rows], plan, training)), training


def spoilt(rows: StepRows, number: int) -> StepRows:
    """The step with one row whose target is not a number."""
    units = list(rows.units)
    row = units[number][0]
    units[number] = (replace(row, vectors={"target": row.vectors["target"] * math.nan}),)
    return replace(rows, units=tuple(units))


@pytest.mark.parametrize("max_tokens", [1, 10**6])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_rows(builder, examples, classify, max_tokens):
    policy = ready(classify, builder("bert"), examples)
    plan = tiny_plan(policy, max_tokens=max_tokens)
    good = whole_step(classify, policy, examples)
    training = Training.begin(policy, classify, plan)
    loop = fit(policy, classify, [good, spoilt(good, 4), good], plan, training)
    next(loop)
    before = {name: tensor.clone() for name, tensor in training.tensors().items()}
    with pytest.raises(NonFiniteLoss) as caught:
        next(loop)
    bad = good.units[4][0].id
    assert caught.value.step == 2
    assert caught.value.row_ids == (bad,) if max_tokens == 1 else bad in caught.value.row_ids
    assert not same_bytes(before, training.tensors())
    assert training.step == 1


def test_a_gradient_that_is_not_finite_stops_before_the_update(builder, examples, sft):
    policy = ready(sft, builder("llama"), examples)
    rows = whole_step(sft, policy, examples)
    plan = tiny_plan(policy)
    training = Training.begin(policy, sft, plan)
    before = {name: tensor.clone() for name, tensor in training.tensors().items()}
    handle = policy.network.lm_head.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLoss) as caught:
        next(fit(policy, sft, [rows], plan, training))
    handle.remove()
    assert set(caught.value.row_ids) == {unit[0].id for unit in rows.units}
    assert not same_bytes(before, training.tensors())


def test_a_step_without_anything_to_learn_changes_nothing(builder, examples, sft):
    policy = ready(sft, builder("llama"), examples)
    rows = whole_step(sft, policy, examples)
    blank = tuple(
        (Row(unit[0].id, unit[0].ids, {"supervised": torch.zeros(len(unit[0].ids))}, weights={"lm": 0.0}),) for unit in rows.units
    )
    before = {name: tensor.detach().clone() for name, tensor in policy.trainable()}
    step, _ = first_step(policy, sft, replace(rows, units=blank))
    assert step.losses == {"lm": 0.0} and step.grad_norm == 0.0
    assert not same_bytes(before, {name: tensor.detach() for name, tensor in policy.trainable()})


def test_clipping_scales_the_whole_gradient_to_its_norm(builder, examples, sft):
    # plain gradient descent moves each weight by rate * gradient, clipped: by rate * gradient * clip / norm
    class Descent:
        def build(self, named, learning_rate, weight_decay):
            return torch.optim.SGD([tensor for _, tensor in named], lr=learning_rate)

    policy = ready(sft, builder("llama"), examples)
    rows = whole_step(sft, policy, examples)
    found = slope(sft, policy, rows)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in found.gradients.values()))
    before = {name: tensor.detach().clone() for name, tensor in policy.trainable()}
    step, _ = first_step(policy, sft, rows, optimiser=Descent(), learning_rate=1.0, clip=0.5 * norm)
    assert step.grad_norm == pytest.approx(norm, rel=1e-5)
    for name, tensor in policy.trainable():
        torch.testing.assert_close(before[name] - tensor.detach(), 0.5 * found.gradients[name], rtol=1e-4, atol=1e-6)


def test_a_step_says_what_it_did(builder, examples, sft):
    policy = ready(sft, builder("llama"), examples)
    rows = whole_step(sft, policy, examples)
    plan = tiny_plan(policy, num_steps=4, num_warmup=2, learning_rate=0.01)
    training = Training.begin(policy, sft, plan)
    made = list(fit(policy, sft, [replace(rows, after=Cursor(number, 0)) for number in range(9)], plan, training))
    assert [step.number for step in made] == [1, 2, 3, 4]
    assert [step.learning_rate for step in made] == [0.005, 0.01, 0.01, 0.01]  # warm-up of two steps, then constant
    assert made[0].num_rows == len(rows.units)
    assert made[0].num_tokens == sum(len(unit[0].ids) for unit in rows.units)
    assert made[2].cursor == Cursor(2, 0) and training.cursor == Cursor(3, 0)


def mean_loss(policy, rows: StepRows) -> float:
    """The mean over the supervised tokens of a step, by the network alone, row by row."""
    total = count = 0.0
    with torch.no_grad():
        for (row,) in rows.units:
            losses = torch.nn.functional.cross_entropy(
                policy.network(input_ids=row.ids[None]).logits[0, :-1], row.ids[1:], reduction="none"
            )
            total += float((losses * row.tokens["supervised"][1:]).sum())
            count += float(row.tokens["supervised"][1:].sum())
    return total / count


def test_losses_are_the_mean_over_supervised_tokens(builder, examples, sft):
    policy = ready(sft, builder("llama"), examples)
    rows = whole_step(sft, policy, examples)
    assert slope(sft, policy, rows, max_tokens=60).loss == pytest.approx(mean_loss(policy, rows), rel=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 60, 10**6])
def test_the_smaller_last_step_of_an_epoch_is_the_mean_over_its_own_tokens(builder, examples, sft, max_tokens):
    # a window of accumulation that the epoch does not fill is where others divide by the rows of a full one
    policy = ready(sft, builder("llama"), examples)
    plan = tiny_plan(policy, batch_size=len(examples) - 3)
    whole, last = islice(sft.steps(sft.units(examples, policy, 64), policy, plan, Cursor(), {}), 2)
    assert (len(whole.units), len(last.units), last.after) == (len(examples) - 3, 3, Cursor(1, 0))
    for rows in (whole, last):
        assert slope(sft, policy, rows, max_tokens=max_tokens).loss == pytest.approx(mean_loss(policy, rows), rel=1e-5)


def test_padding_with_the_token_that_ends_a_text_changes_no_loss(builder, examples, sft):
    policy = ready(sft, builder("llama"), examples)
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    policy.network.config.pad_token_id = policy.tokenizer.eos_token_id
    rows = whole_step(sft, policy, examples)
    ends = [float(row.tokens["supervised"][row.ids == policy.end_id].sum()) for (row,) in rows.units]
    assert all(ends), "the end of each answer is learnt"
    for padded in (False, True):
        assert slope(sft, policy, rows, padded=padded).loss == pytest.approx(mean_loss(policy, rows), rel=1e-5)


def test_an_evaluation_never_holds_the_logits_of_all_tokens(builder, sft):
    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            vocabulary = len(policy.tokenizer)
            for one in made if isinstance(made, tuple | list) else [made]:
                if isinstance(one, torch.Tensor) and one.ndim and one.shape[-1] == vocabulary:
                    self.most = max(self.most, one.numel() // vocabulary)
            return made

    policy = ready(sft, builder("llama"), [])
    turns = (Message("user", "where is my card"), Message("assistant", "it is on its way to you " * 3))
    examples = [Example(id=number, messages=turns) for number in range(100)]
    tokens = sum(int(unit[0].tokens["supervised"].sum()) for unit in sft.units(examples, policy, policy.context))
    policy.max_tokens = 10**6  # all rows at once
    with Largest() as seen:
        scored = list(sft.outputs(policy, examples, policy.context))
    assert len(scored) == 100 and 0 < seen.most < tokens / 3


def test_validation_leaves_no_gradient_and_no_trace(builder, examples, classify):
    policy = ready(classify, builder("bert"), examples)
    before = {name: tensor.detach().clone() for name, tensor in policy.trainable()}
    units = classify.units(examples, policy, 64)
    validate(policy, classify, units, tiny_plan(policy), {})
    assert all(tensor.grad is None for _, tensor in policy.trainable())
    assert not same_bytes(before, {name: tensor.detach() for name, tensor in policy.trainable()})


def test_bf16_keeps_weights_and_optimiser_in_fp32_and_learns(builder, examples, classify):
    policy = ready(classify, builder("bert"), examples)
    plan = tiny_plan(policy, num_steps=30, precision="bf16")
    training, steps = train(classify, policy, examples, plan)
    assert {tensor.dtype for tensor in training.tensors().values()} == {torch.float32}
    assert sum(steps[-1].losses.values()) < sum(steps[0].losses.values())


def test_a_restored_state_is_a_copy(builder, examples, classify):
    policy = ready(classify, builder("bert"), examples)
    plan = tiny_plan(policy, num_steps=3)
    training, _ = train(classify, policy, examples, plan)
    saved = {name: tensor.clone() for name, tensor in training.tensors().items()}
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    fresh = ready(classify, builder("bert"), examples)
    resumed = Training.begin(fresh, classify, plan)
    resumed.restore(saved, training.step, training.cursor, training.objective_state)
    train(classify, fresh, examples, replace(plan, num_steps=6), resumed)
    assert not same_bytes(saved, kept), "training on has written into what was restored from"
