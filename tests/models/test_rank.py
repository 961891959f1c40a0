"""The rank that `auto` becomes: by what the rows say and by what a layer's updates can hold."""

from __future__ import annotations

import math

import pytest

from whet import plugins
from whet.models.linear import choose_layers
from whet.models.rank import BITS_PER_WEIGHT, LEAST, MOST, UNSIZED, rank_for
from whet.stages.settle import bits_to_learn
from whet.types import Example


@pytest.mark.parametrize(
    ("asked_for", "expected"), [(0.1, LEAST), (16, 16), (16.1, 32), (32, 32), (33, 64), (64, 64), (1000, MOST)]
)
def test_a_rank_is_the_least_power_of_two_that_holds_what_is_to_be_learnt(builder, asked_for, expected):
    policy = builder("llama")()
    layers = choose_layers(policy, "all-linear", "lora")
    weights = sum(sum(policy.network.get_submodule(name).weight.shape) for name in layers)
    rank, why = rank_for(policy, layers, asked_for * weights * BITS_PER_WEIGHT)
    assert rank == expected and f"would fit in rank {math.ceil(asked_for):,}" in why
    bounded = {True: f"{LEAST} is the least that is taken", False: f"{MOST} is the most that is taken"}
    assert (bounded[asked_for < LEAST] in why) == (asked_for < LEAST or asked_for > MOST)


def test_the_more_weights_there_are_the_lower_the_rank_for_the_same_rows(builder):
    policy = builder("llama")()
    asked = [rank_for(policy, choose_layers(policy, targets, "lora"), 60_000.0)[0] for targets in ("all-linear", ["q_proj"])]
    assert asked[0] < asked[1] == MOST, asked


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_a_rank_that_is_named_stays(builder, name):
    policy = builder("llama")()
    assert plugins.build("techniques", name, {"rank": 3}).sized(policy, 1e9) == {}
    assert plugins.build("techniques", name, {}).sized(policy, 1e9)["rank"][0] == MOST


def test_attached_by_hand_it_has_a_rank_too(builder):
    policy = builder("llama")()
    plugins.build("techniques", "lora", {}).attach(policy, 0)
    assert {tensor.shape[0] for name, tensor in policy.trainable() if name.endswith(".down")} == {UNSIZED}


def test_a_label_says_the_logarithm_of_the_classes_and_a_token_one_bit(builder, examples):
    policy = builder("bert")()
    classify = plugins.build("objectives", "classify", {})
    classify.prepare(policy, examples)
    rows = classify.units(examples, policy, 64)
    assert bits_to_learn(policy, rows) == pytest.approx(len(examples) * math.log2(len({one.label for one in examples})))
    decoder = builder("llama")()
    written = plugins.build("objectives", "pretrain", {}).units(examples, decoder, 64)
    assert bits_to_learn(decoder, written) == sum(len(row.ids) - 1 for unit in written for row in unit)


def test_a_row_that_may_have_several_labels_says_a_bit_for_each_class(builder):
    policy = builder("bert")()
    rows = [Example(id=number, text="a parcel", labels=("abcd"[number % 4],)) for number in range(8)]
    several = plugins.build("objectives", "classify", {"kind": "several"})
    several.prepare(policy, rows)
    assert bits_to_learn(policy, several.units(rows, policy, 64)) == 8 * 4
