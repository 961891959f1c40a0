"""Several tasks on one network: how their rows are mixed, what each counts, and the laws for tasks that write."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch

from whet import plugins
from whet.engine.fit import Training, fit, validate, validation
from whet.engine.mixture import mixed, turns
from whet.errors import RecipeError
from whet.testing.objectives import OBJECTIVE_LAWS
from whet.testing.steps import ready, slope, tiny_plan, whole_step
from whet.testing.tiny import tiny_tasks
from whet.types import Cursor, Row

WRITING = {"objectives": {"one": "sft", "two": "pretrain", "three": "sft"}}
CLASSIFYING = {"objectives": {"one": "classify", "two": "classify"}}


def build(settings):
    return plugins.build("objectives", "tasks", settings)


def units(sizes):
    return {
        name: [(Row(1000 * place + number, torch.tensor([1]), task=name),) for number in range(size)]
        for place, (name, size) in enumerate(sizes.items())
    }


@pytest.mark.slow
@pytest.mark.parametrize("law", OBJECTIVE_LAWS, ids=lambda law: law.__name__)
def test_tasks_that_write_keep_the_law(law, builder):
    law(build(WRITING), builder("llama"), tiny_tasks())


def test_turns_by_size_and_temperature_follow_the_exponent_of_raffel_et_al():
    # T = 2: 900 ** 0.5 = 30 and 100 ** 0.5 = 10, so 3 to 1 of 1000 units
    assert turns({"a": 900, "b": 100}, "temperature", 2.0, {}) == {"a": 750, "b": 250}
    assert turns({"a": 900, "b": 100}, "temperature", 1.0, {}) == {"a": 900, "b": 100}
    assert turns({"a": 900, "b": 100}, "temperature", 1e9, {}) == {"a": 500, "b": 500}
    assert turns({"a": 900, "b": 100}, "temperature", 1e-9, {}) == {"a": 999, "b": 1}, "the largest alone, and one of each"
    assert turns({"a": 900, "b": 100}, "size", 2.0, {}) == {"a": 900, "b": 100}


def test_turns_by_weight_are_the_given_shares_and_every_task_has_one():
    assert turns({"a": 900, "b": 100}, "weight", 2.0, {"a": 1.0, "b": 3.0}) == {"a": 250, "b": 750}
    # of 7 units 7/3 each: 2, 2, 2 and one more for the first
    assert turns({"a": 3, "b": 3, "c": 1}, "weight", 2.0, {"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 3, "b": 2, "c": 2}
    assert turns({"a": 5, "b": 5}, "weight", 2.0, {"a": 1000.0, "b": 0.001}) == {"a": 9, "b": 1}
    assert turns({"a": 5, "b": 5}, "weight", 2.0, {"a": 1e308, "b": 1e308}) == {"a": 5, "b": 5}
    many = turns({"a": 4, "b": 1, "c": 1, "d": 1}, "weight", 2.0, {"a": 1e6, "b": 1.0, "c": 1.0, "d": 1.0})
    assert many == {"a": 4, "b": 1, "c": 1, "d": 1}


def test_by_size_every_unit_comes_once_an_epoch_and_epochs_have_other_orders(builder):
    plan = tiny_plan(builder("bert")(), batch_size=4)
    sizes = {"a": 9, "b": 4}
    drawn = list(islice(mixed(units(sizes), sizes, plan, Cursor()), 8))  # 13 units in 4 steps an epoch
    epochs = [[unit[0].id for chosen, _ in drawn[begin : begin + 4] for unit in chosen] for begin in (0, 4)]
    assert [len(chosen) for chosen, _ in drawn] == [4, 4, 4, 1] * 2
    assert sorted(epochs[0]) == sorted(epochs[1]) == [*range(9), *range(1000, 1004)]
    assert epochs[0] != epochs[1]
    assert drawn[3][1] == Cursor(1, 0)


def test_a_small_task_goes_through_all_its_units_before_one_comes_again(builder):
    plan = tiny_plan(builder("bert")(), batch_size=5)
    drawn = islice(mixed(units({"a": 17, "b": 3}), {"a": 10, "b": 10}, plan, Cursor()), 12)
    seen = [unit[0].id for chosen, _ in drawn for unit in chosen if unit[0].task == "b"]
    assert len(seen) == 30
    assert all(sorted(seen[begin : begin + 3]) == [1000, 1001, 1002] for begin in range(0, 30, 3))


def test_a_mixture_goes_on_from_any_cursor_as_if_it_had_not_been_left(builder):
    plan = tiny_plan(builder("bert")(), batch_size=3)
    given, num_turns = units({"a": 7, "b": 2, "c": 1}), {"a": 4, "b": 3, "c": 3}
    whole = list(islice(mixed(given, num_turns, plan, Cursor()), 15))
    for done in range(1, 12):
        rest = list(islice(mixed(given, num_turns, plan, whole[done - 1][1]), 15 - done))
        assert [[unit[0].id for unit in chosen] for chosen, _ in rest] == [
            [unit[0].id for unit in chosen] for chosen, _ in whole[done:]
        ]


def test_with_equal_weights_every_row_counts_the_same_whatever_task_it_is_of(builder):
    """The gradient at the shared network is that of the mean over all rows: six of one task and four of the other."""
    examples = [example for example in tiny_tasks() if example.task != "three"]
    objective = build(CLASSIFYING)
    policy = ready(objective, builder("bert"), examples)
    found = slope(objective, policy, whole_step(objective, policy, examples))
    sizes = Counter(example.task for example in examples)
    assert sizes == {"one": 6, "two": 4}
    single = plugins.build("objectives", "classify", {})
    losses = {}
    for name in sizes:
        own = [replace(example, task=None) for example in examples if example.task == name]
        alone = ready(single, builder("bert"), own)
        losses[name] = slope(single, alone, whole_step(single, alone, own))
    assert found.loss == pytest.approx(0.6 * losses["one"].loss + 0.4 * losses["two"].loss, rel=1e-6)
    for name, gradient in found.gradients.items():
        if name.startswith("network."):
            expected = 0.6 * losses["one"].gradients[name] + 0.4 * losses["two"].gradients[name]
            assert torch.allclose(gradient, expected, atol=1e-6)
    head = "heads.two__classify.weight"
    assert torch.allclose(found.gradients[head], 0.4 * losses["two"].gradients["heads.classify.weight"], atol=1e-6)


def test_a_weight_multiplies_the_loss_and_by_weight_the_turns_instead(builder):
    examples = [example for example in tiny_tasks() if example.task != "three"]
    plain = ready(build(CLASSIFYING), builder("bert"), examples)
    steps = {}
    for name, settings in {"plain": {}, "weighted": {"weights": {"two": 3.0}}}.items():
        objective = build(CLASSIFYING | settings)
        steps[name] = slope(objective, plain, whole_step(objective, plain, examples)).losses
    assert steps["weighted"]["one/label"] == pytest.approx(steps["plain"]["one/label"])
    assert steps["weighted"]["two/label"] == pytest.approx(3 * steps["plain"]["two/label"])
    objective = build(CLASSIFYING | {"weights": {"two": 4.0}, "by": "weight"})
    rows = whole_step(objective, plain, examples)
    assert Counter(unit[0].task for unit in rows.units) == {"one": 2, "two": 8}  # 10 rows, 1 to 4
    assert {unit[0].scalars["coefficient"] for unit in rows.units} == {0.2, 0.8}


def test_validation_is_the_weighted_mean_of_the_tasks_own_losses_with_their_own_temperatures(builder):
    examples = [example for example in tiny_tasks() if example.task != "three"]
    objective = build(CLASSIFYING | {"weights": {"one": 3.0}})
    policy = ready(objective, builder("bert"), examples)
    plan = tiny_plan(policy)
    units = objective.units(examples, policy, plan.max_length)
    found = validation(policy, objective, units, units, plan, {})
    single, expected, temperatures = plugins.build("objectives", "classify", {}), {}, {}
    for name, weight in (("one", 0.75), ("two", 0.25)):
        own = [example for example in examples if example.task == name]
        alone = ready(single, builder("bert"), own)
        units = single.units(own, alone, plan.max_length)
        loss = validation(alone, single, units, units, plan, {})["label"]
        expected[f"{name}/label"], temperatures[name] = weight * loss, alone.temperature
    assert found == pytest.approx(expected)
    assert policy.temperatures == pytest.approx(temperatures)
    untempered = validate(policy, objective, objective.units(examples, policy, plan.max_length), plan, {})
    assert sum(found.values()) <= sum(untempered.values()) + 1e-6


def test_a_step_tells_each_tasks_accuracy_on_its_own_rows(builder):
    examples = [example for example in tiny_tasks() if example.task != "three"]
    objective = build(CLASSIFYING)
    policy = ready(objective, builder("bert"), examples)
    plan = tiny_plan(policy, num_steps=1)
    step = next(fit(policy, objective, [whole_step(objective, policy, examples)], plan, Training.begin(policy, objective, plan)))
    with torch.no_grad():
        fresh = ready(objective, builder("bert"), examples)
        given = list(objective.outputs(fresh, examples, plan.max_length))
    for name in ("one", "two"):
        pairs = [(e, o) for e, o in zip(examples, given, strict=True) if e.task == name]
        right = sum(example.label == output.label for example, output in pairs) / len(pairs)
        assert step.metrics[f"{name}/accuracy"] == pytest.approx(right)


def test_folding_makes_every_temperature_one_and_changes_no_answer(builder):
    examples = tiny_tasks()
    objective = build({"objectives": {"one": "classify", "two": {"name": "classify", "kind": "several"}, "three": "tokens"}})
    policy = ready(objective, builder("bert"), examples)
    policy.task("one").temperature, policy.task("two").temperature = 2.0, 0.5
    with torch.no_grad():
        before = list(objective.outputs(policy, examples, 64))
        policy.fold_temperature()
        after = list(objective.outputs(policy, examples, 64))
    assert policy.temperatures == {"one": 1.0, "two": 1.0, "three": 1.0}
    for left, right in zip(before, after, strict=True):
        assert left.probabilities == (right.probabilities and pytest.approx(right.probabilities, abs=1e-6))


def test_tasks_that_cannot_share_a_step_or_a_head_are_refused():
    with pytest.raises(RecipeError, match=r"task 'b': objective 'dpo' needs steps of its own"):
        build({"objectives": {"a": "sft", "b": "dpo"}})
    with pytest.raises(RecipeError, match=r"task 'a' writes text and task 'b' does not"):
        build({"objectives": {"a": "sft", "b": "classify"}})
    with pytest.raises(RecipeError, match=r"'clasify' is no plugin.*Did you mean 'classify'"):
        build({"objectives": {"a": "clasify"}})
