"""What each `auto` becomes, worked out by hand, and what a plugin must have."""

import math

import pytest

from whet import plugins
from whet.objectives.sft import Sft
from whet.plugins import plugin
from whet.protocols import Objective, Technique
from whet.recipe import Recipe
from whet.report.wording import wording
from whet.stages.build import PROTOCOLS, missing_members
from whet.stages.decide import Facts, choose_metric, decide, planned_steps, steps_per_epoch
from whet.techniques.full import Full
from whet.types import Example


def facts(**changes):
    values = {
        "num_parameters": 22_700_000, "kind": "encoder", "context": 512, "head": "classify", "num_train": 100, "num_units": 100, "longest": 40,
        "learning_rates": ((20, 5e-4), (60, 1e-4), (math.inf, 2e-5)), "why_rates": "so", "precision": "fp32",
        "precision_reason": "so", "accelerator": False,
    }  # fmt: skip
    return Facts(**(values | changes))


def decided(train, **changes):
    recipe = Recipe.model_validate({"model": "m", "data": {"path": "x"}, "objective": "classify", "train": train})
    return decide(recipe, facts(**changes))[0].train


@pytest.mark.parametrize(
    ("kind", "accelerator", "tokens"), [("encoder", False, 1280), ("decoder", False, 4096), ("encoder", True, 16384)]
)
def test_micro_batches_are_as_large_as_the_device_and_the_kind_of_model_want(kind, accelerator, tokens):
    assert decided({}, kind=kind, accelerator=accelerator).max_tokens == tokens
    assert decided({"max_tokens": 7}, kind=kind, accelerator=accelerator).max_tokens == 7


def test_an_epoch_is_counted_in_what_can_be_learnt_from():
    # 10 texts cut into 1,000 pieces, 8 a step: 125 steps an epoch, whatever the number of texts
    assert steps_per_epoch(1000, 8) == 125
    train = decided({"batch_size": 8, "epochs": 4}, num_train=10, num_units=1000)
    assert train.validate_every == 125
    assert planned_steps(train, 1000) == 500


@pytest.mark.parametrize(
    ("train", "every"),
    [
        ({"epochs": 3}, 13),  # 100 units, 8 a step: 13 steps an epoch
        ({"epochs": 2}, 3),  # 26 steps: every third is eight times
        ({"epochs": 15, "max_steps": 20}, 2),  # less than three epochs in truth
        ({"epochs": 15, "max_steps": 5}, 1),
    ],
)
def test_validation_is_once_an_epoch_and_eight_times_in_a_short_run(train, every):
    found = decided({"batch_size": 8, **train})
    assert found.validate_every == every
    planned = planned_steps(found, 100)
    assert planned // every >= min(8, planned, round(planned / 13) if planned >= 39 else 8)


def test_the_rate_is_the_techniques_own_for_a_model_of_this_size():
    assert decided({}).learning_rate == 1e-4
    assert decided({}, num_parameters=19_999_999).learning_rate == 5e-4
    assert decided({}, num_parameters=10**12).learning_rate == 2e-5


def test_the_rate_follows_the_optimiser():
    recipe = Recipe.model_validate({"model": "m", "data": {"path": "x"}, "objective": "classify", "train": {}})
    decided_, made = decide(recipe, facts(rate_factor=0.2, why_factor="signs"))
    assert decided_.train.learning_rate == 2e-5  # a fifth of 1e-4
    reason = next(decision.reason for decision in made if decision.key == "train.learning_rate")
    assert reason == "a model of 22.7 M parameters; so; 0.2 times that, for the optimiser: signs"


@pytest.mark.parametrize("name", plugins.names("optimisers"))
def test_an_optimiser_that_changes_the_rate_says_why(name):
    for settings in ({}, {"relative_step": True} if name == "adafactor" else {}):
        made = plugins.build("optimisers", name, settings)
        factor, why = getattr(made, "learning_rate_factor", 1.0), getattr(made, "why_factor", "")
        assert 0 < factor < 100 and (why or factor == 1.0)


def test_every_technique_has_a_rate_for_every_size():
    for name in plugins.names("techniques"):
        bounds = [below for below, _ in plugins.load("techniques", name).learning_rates]
        assert bounds == sorted(bounds) and bounds[-1] == math.inf


def test_the_metric_is_macro_f1_where_one_class_is_most_of_the_training_rows():
    rows = [Example(id=number, label="a" if number < 66 else "b") for number in range(100)]
    assert choose_metric(("accuracy", "macro_f1"), rows)[0] == "macro_f1"
    assert choose_metric(("accuracy", "macro_f1"), rows[3:])[0] == "accuracy"  # 63 of 97
    assert choose_metric(("loss",), rows)[0] == "loss"


@plugin
class OnlyInherits(Objective):
    """Says that it is an objective, and is none."""


@plugin
class OnlyAttaches(Technique):
    """Half a technique."""

    def attach(self, policy, seed):
        """Nothing."""


def test_inheriting_a_protocol_gives_its_defaults_and_nothing_else():
    assert missing_members(OnlyInherits, Objective) == ["head", "needs", "metrics", "units", "steps", "loss", "outputs"]
    lacking = ["mergeable", "learning_rates", "why_rates", "detach", "merge", "save", "load"]
    assert missing_members(OnlyAttaches, Technique) == lacking
    assert missing_members(Sft, Objective) == missing_members(Full, Technique) == []
    assert set(missing_members(Full, Objective)) >= {"units", "loss", "baselines", "init"}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_every_plugin_of_the_package_has_what_its_protocol_asks_for(kind):
    for name in plugins.names(kind):
        assert missing_members(plugins.load(kind, name), PROTOCOLS[kind]) == [], name


def test_every_metric_of_the_package_says_how_it_is_spoken_of():
    for name in plugins.names("metrics"):
        said = wording(name)
        assert said.title and "{value}" in said.claim and "{rows}" in said.claim


@pytest.mark.parametrize(("rows", "refit", "epochs"), [(299, True, 15), (2999, True, 10), (9999, True, 3), (10_000, False, 3)])
def test_below_ten_thousand_rows_the_validation_rows_are_learnt_from_too(rows, refit, epochs):
    train = decided({"refit": "auto"}, num_train=rows, num_units=rows)
    assert (train.refit, train.epochs) == (refit, epochs)


def test_groups_of_rows_are_counted_and_stepped_through_one_by_one():
    # 616 rows in 10 groups: a step is a group, an epoch ten of them, and half the rate of rows by themselves
    found = decided({}, num_train=616, num_units=10)
    assert (found.batch_size, found.epochs, found.learning_rate) == (1, 5.0, 5e-5)
    assert decided({}, num_train=616, num_units=616).epochs == 10
