"""The laws of an objective, for the built-in ones and for your own: `check_objective(MyLoss(), build_policy, examples)`.

A law is a function of (objective, build_policy, examples) that raises AssertionError. `build_policy` returns the same fresh policy
at each call (see `whet.testing.tiny`); `examples` have the fields that the objective needs, a dozen of different lengths.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whet import plugins
from whet.engine import checkpoint
from whet.engine.answers import token_logprobs
from whet.engine.fit import Training, validate
from whet.errors import DataError
from whet.models.policy import Policy
from whet.protocols import Objective
from whet.stats import stack
from whet.testing.agreement import norm, row_ids, same_output, same_slope, same_steps
from whet.testing.steps import ALL_TOKENS, BuildPolicy, ready, same_bytes, settle, slope, tiny_plan, train, whole_step
from whet.types import Cursor, Example, Row, State, StepRows, Unit

NUM_STEPS = 50
NUM_REWARDED = 24
"""Steps of an objective that writes its own answers."""
PROBE = 1e-5
"""Step of the finite differences, in units of a direction of length 1."""


def check_objective(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in OBJECTIVE_LAWS:
        law(objective, build_policy, examples)


def cutting_changes_nothing(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Neither micro-batches of any size nor packing changes loss and gradient."""
    for double in (False, True):
        policy = ready(objective, build_policy, examples, double=double)
        rows = whole_step(objective, policy, examples)
        alone = slope(objective, policy, rows, max_tokens=1)
        longest = max(row.num_tokens for unit in rows.units for row in unit)
        for max_tokens in (2 * longest, 4 * longest, ALL_TOKENS):
            same_slope(
                alone,
                slope(objective, policy, rows, max_tokens=max_tokens),
                double,
                f"micro-batches of {max_tokens} tokens, not one unit,",
            )


def padding_changes_nothing(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Rows padded side by side give what packed ones give."""
    for double in (False, True):
        policy = ready(objective, build_policy, examples, double=double)
        rows = whole_step(objective, policy, examples)
        packed = slope(objective, policy, rows)
        longest = max(row.num_tokens for unit in rows.units for row in unit)
        for max_tokens in (2 * longest, ALL_TOKENS):
            same_slope(
                packed, slope(objective, policy, rows, max_tokens=max_tokens, padded=True), double, "padding instead of packing"
            )


def row_order_changes_nothing(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """The order of the units in a step changes neither loss nor gradient."""
    for double in (False, True):
        policy = ready(objective, build_policy, examples, double=double)
        rows = whole_step(objective, policy, examples)
        given = slope(objective, policy, rows)
        half = len(rows.units) // 2
        for units in (rows.units[::-1], rows.units[half:] + rows.units[:half]):
            same_slope(given, slope(objective, policy, replace(rows, units=units)), double, "another order of rows")


def loss_is_pure(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """The same step gives the same bits again, and validation measures what training minimises."""
    policy = ready(objective, build_policy, examples)
    rows = whole_step(objective, policy, examples)
    first, again = slope(objective, policy, rows), slope(objective, policy, rows)
    assert first.losses == again.losses, f"the same step gave {first.losses}, then {again.losses}: loss() must not keep anything"
    different = same_bytes(first.gradients, again.gradients)
    assert not different, (
        f"the same step gave other gradients the second time, in {different[:3]}: loss() must not draw or keep anything"
    )
    state = objective.init(policy)
    before = dict(state)
    measured = validate(policy, objective, rows.units, tiny_plan(policy), state)
    assert state == before, "loss() changed the state; only update() may"
    for term, value in measured.items():
        where = f"term '{term}': validation says {value}, training {first.losses[term]}"
        assert math.isclose(value, first.losses[term], rel_tol=1e-5, abs_tol=1e-6), where


def same_seed_same_steps(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """The order depends on the seed and the cursor alone; from a step's cursor the order goes on as if it had not been left."""
    policy = ready(objective, build_policy, examples)
    plan = tiny_plan(policy, batch_size=max(1, len(examples) // 3))
    units = objective.units(examples, policy, plan.max_length)

    def first_steps(cursor: Cursor, number: int, seed: int = 0, carry: State | None = None) -> list[StepRows]:
        state = objective.init(policy) | (carry or {})
        drawn = objective.steps(units, policy, replace(plan, seed=seed), cursor, state)
        return list(itertools.islice(drawn, number))

    steps = first_steps(Cursor(), 8)
    assert len(steps) == 8, f"steps() ended after {len(steps)}; it must go on for as long as it is asked"
    same_steps(steps, first_steps(Cursor(), 8), "asked again with the same seed")
    for done in (1, 3, 6):
        before = steps[done - 1]
        same_steps(steps[done:], first_steps(before.after, 8 - done, carry=before.carry), f"resumed after step {done}")
    other = first_steps(Cursor(), 8, seed=1)
    assert [row_ids(step) for step in other] != [row_ids(step) for step in steps], "another seed gave the same order"


def unsupervised_tokens_get_no_gradient(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """A row without weight adds nothing; and where rows say which tokens are supervised, no other token is learnt."""
    policy = ready(objective, build_policy, examples)
    rows = whole_step(objective, policy, examples)
    before = slope(objective, policy, rows)
    if any("supervised" not in row.tokens for unit in rows.units for row in unit):
        return
    blank: Unit = tuple(replace(row, tokens=_unsupervised(row), weights=dict.fromkeys(row.weights, 0.0)) for row in rows.units[0])
    same_slope(
        before, slope(objective, policy, replace(rows, units=(*rows.units, blank))), False, "a row without supervised tokens"
    )
    if policy.kind == "encoder" or (policy.kind == "encoder-decoder" and rows.units[0][0].source is None):
        return
    for added in (5, 6):  # a decoder's last tokens are nobody's context: only as targets could they matter
        longer = tuple(tuple(_longer(row, added) for row in unit) for unit in rows.units)
        same_slope(before, slope(objective, policy, replace(rows, units=longer)), False, "an unsupervised token behind each row")


def gradient_matches_finite_differences(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """In float64, along one random direction of each parameter, the gradient is the slope of the loss."""
    policy = ready(objective, build_policy, examples, double=True)
    rows = whole_step(objective, policy, examples[:4])
    found = slope(objective, policy, rows)
    whole = norm(found.gradients)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in policy.trainable():
        direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        direction /= direction.norm()
        expected = float((found.gradients[name] * direction).sum())
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * PROBE * direction
            losses.append(_loss(objective, policy, rows))
            with torch.no_grad():
                parameter -= sign * PROBE * direction
        measured = (losses[0] - losses[1]) / (2 * PROBE)
        close = abs(measured - expected) <= 1e-5 * abs(expected) + 1e-7 * whole
        assert close, f"{name}: the loss changes by {measured:.9g} along a direction, and the gradient says {expected:.9g}"


def starts_at_its_reference(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Before the first step every log-probability that rows bring along is the policy's own, so that all ratios are 1."""
    if not (objective.reference or objective.online):
        return
    policy = ready(objective, build_policy, examples)
    rows = [row for unit in whole_step(objective, policy, examples).units for row in unit]
    own = token_logprobs(policy, rows)
    names = [name for name in rows[0].tokens if name.endswith("logprobs")]
    assert names, "rows of an objective with a reference, or with rollouts, bring its log-probabilities as `..._logprobs`"
    for name in names:
        away = max(float((row.tokens[name] - mine).abs().max()) for row, mine in zip(rows, own, strict=True))
        assert away <= 1e-5, f"before the first step {name} differs from the policy's own log-probabilities by {away:.3g}"


def the_reference_stands_still(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Training moves the policy and leaves every bit of its reference where it was."""
    policy = ready(objective, build_policy, examples)
    if policy.reference is None:
        return
    before = {name: tensor.clone() for name, tensor in policy.reference.network.state_dict().items()}
    train(objective, policy, examples, tiny_plan(policy, num_steps=4, learning_rate=1e-2))
    moved = same_bytes(before, policy.reference.network.state_dict())
    assert not moved, f"four steps changed the reference, in {moved[:3]}"
    assert same_bytes(before, policy.network.state_dict()), "four steps left every weight of the policy where it was"


def training_reduces_the_loss(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Fifty steps on a few examples lower their loss by a tenth at least; where answers are rewarded, 24 raise their mean reward."""
    policy = ready(objective, build_policy, examples)
    if objective.online:
        _, steps = train(objective, policy, examples, tiny_plan(policy, num_steps=NUM_REWARDED, batch_size=6, learning_rate=1e-2))
        rewards = [step.metrics["reward"] for step in steps]
        first, last = (sum(some) / len(some) for some in (rewards[:8], rewards[-8:]))
        assert last > first, (
            f"the first eight steps were rewarded {first:.4f} on average, the last {last:.4f}; they should be worth more"
        )
        return
    plan = tiny_plan(policy, num_steps=NUM_STEPS)
    units = objective.units(examples, policy, plan.max_length)
    before = sum(validate(policy, objective, units, plan, objective.init(policy)).values())
    training, steps = train(objective, policy, examples, plan)
    after = sum(validate(policy, objective, units, plan, training.objective_state).values())
    assert len(steps) == NUM_STEPS, f"{NUM_STEPS} steps were planned and {len(steps)} made"
    assert after < before - 0.1 * abs(before), (
        f"{NUM_STEPS} steps took the loss from {before:.4f} to {after:.4f}; it should have learnt more"
    )


def missing_field_is_named(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """An example without a field that the objective needs is a DataError that names its row and the field."""
    for name in objective.needs:
        blank = _without(replace(examples[1], file="broken.csv", line=7), name)
        broken = [examples[0], blank, *examples[2:]]
        policy = build_policy()
        try:
            objective.prepare(policy, broken)
            objective.units(broken, policy, policy.context)
        except DataError as error:
            assert "broken.csv:7" in str(error), f"the error does not name the row (broken.csv:7): {error}"
            assert name in str(error), f"the error does not name the field '{name}': {error}"
        else:
            raise AssertionError(
                f"an example without '{name}' was accepted by prepare() and units(); raise a DataError with its file and line"
            )


def killed_and_resumed_gives_the_same_bytes(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """Stopped after any step and gone on with in a new policy from what was saved, training ends in the same bits."""
    killed = (1, 3, 5)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        policy = ready(objective, build_policy, examples)
        plan = tiny_plan(policy, num_steps=7, batch_size=max(1, len(examples) // 3), weight_decay=0.1)
        objective.units(examples, policy, plan.max_length)
        whole = Training.begin(policy, objective, plan)
        losses = []
        for target in (*killed, plan.num_steps):
            _, steps = train(objective, policy, examples, replace(plan, num_steps=target), whole)
            losses += [step.losses for step in steps]
            state = {"cursor": asdict(whole.cursor), "objective": whole.objective_state}
            checkpoint.save(folder, whole.step, whole.tensors(), state)
        straight, steps = train(objective, ready(objective, build_policy, examples), examples, plan)
        assert [step.losses for step in steps] == losses, "asked for its steps again halfway, it goes on with others"
        different = same_bytes(straight.tensors(), whole.tensors())
        assert not different, (
            f"asked for its steps again halfway, {len(different)} tensors end in other bits, such as {different[:3]}"
        )
        for done in killed:
            fresh = ready(objective, build_policy, examples)
            saved = checkpoint.load(folder, done)
            assert saved is not None, f"the checkpoint of step {done} could not be read back"
            resumed = Training.begin(fresh, objective, plan)
            resumed.restore(saved.tensors, saved.step, Cursor(**saved.state["cursor"]), saved.state["objective"])
            _, steps = train(objective, fresh, examples, plan, resumed)
            assert [step.losses for step in steps] == losses[done:], f"resumed after step {done}, the losses are others"
            different = same_bytes(whole.tensors(), resumed.tensors())
            assert not different, (
                f"resumed after step {done}, {len(different)} tensors end in other bits, such as {different[:3]}"
            )
            assert resumed.cursor == whole.cursor and resumed.objective_state == whole.objective_state, (
                "cursor or state differ after resuming"
            )


def outputs_do_not_depend_on_neighbours(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """One output for each example, in order, the same in any company, with what the objective's metrics need."""
    policy = ready(objective, build_policy, examples)
    with torch.no_grad():
        settle(objective, policy, examples)
        given = list(objective.outputs(policy, examples, policy.context))
        backwards = list(objective.outputs(policy, examples[::-1], policy.context))[::-1]
        alone = [next(iter(objective.outputs(policy, [example], policy.context))) for example in examples[:4]]
    assert len(given) == len(examples), f"{len(examples)} examples, {len(given)} outputs"
    for example, first, *others in zip(examples, given, backwards, strict=True):
        same_output(first, others[0], f"row {example.id} in another order")
    for first, single in zip(given, alone, strict=False):
        same_output(first, single, "a row by itself")
    for name in objective.metrics:
        metric = plugins.load("metrics", name)
        for field in metric.needs:
            one_label = field == "labels" and given[0].label is not None  # a set of one
            assert one_label or getattr(given[0], field) is not None, (
                f"metric '{name}' needs '{field}', which outputs() does not set"
            )
        value = metric().reduce(stack([metric().statistics(e, o) for e, o in zip(examples, given, strict=True)]))
        assert isinstance(value, float), f"metric '{name}' could not be computed from outputs()"


def settling_draws_nothing(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example]) -> None:
    """What is fitted on the training units follows from them and from the weights, to the bit, and moves no weight that learns."""
    if objective.online:  # its rows have no answer yet
        return
    policy = ready(objective, build_policy, examples)
    before = {name: tensor.detach().clone() for name, tensor in policy.trainable()}
    fitted = []
    for _ in range(2):
        settle(objective, policy, examples)
        fitted.append({name: tensor.detach().clone() for name, tensor in policy.heads.state_dict().items()})
    different = same_bytes(*fitted)
    assert not different, f"settled twice, {different[:3]} differ: settle() must not draw, and not go on from what was fitted"
    after = dict(policy.trainable())
    moved = same_bytes(before, {name: after[name].detach() for name in before if name in after})
    assert not moved, f"settle() changed or froze {moved[:3]}, which steps learn"


OBJECTIVE_LAWS = (
    cutting_changes_nothing,
    padding_changes_nothing,
    row_order_changes_nothing,
    loss_is_pure,
    same_seed_same_steps,
    unsupervised_tokens_get_no_gradient,
    gradient_matches_finite_differences,
    starts_at_its_reference,
    the_reference_stands_still,
    training_reduces_the_loss,
    missing_field_is_named,
    killed_and_resumed_gives_the_same_bytes,
    outputs_do_not_depend_on_neighbours,
    settling_draws_nothing,
)


def _loss(objective: Objective, policy: Policy, rows: StepRows) -> float:
    return sum(validate(policy, objective, rows.units, tiny_plan(policy, max_tokens=ALL_TOKENS), objective.init(policy)).values())


def _unsupervised(row: Row) -> dict[str, Tensor]:
    return {**row.tokens, "supervised": torch.zeros_like(row.tokens["supervised"])}


def _longer(row: Row, added: int) -> Row:
    """Return the row with one more token, that nothing is learnt from."""
    tokens = {name: torch.cat([values, values.new_zeros(1)]) for name, values in row.tokens.items()}
    return replace(row, ids=torch.cat([row.ids, row.ids.new_tensor([added])]), tokens=tokens)


def _without(example: Example, name: str) -> Example:
    """Return the example without this field, and without another one that holds the same thing."""
    if name == "response":
        return replace(example, messages=example.prompt)
    gone: dict[str, Any] = dict.fromkeys(("text", "messages") if name in {"text", "messages", "prompt"} else (name,))
    return replace(example, **gone)
