"""The rank that `auto` becomes: by what the rows say and by what a layer's updates can hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from whet import plugins
from whet.errors import ModelError
from whet.models.linear import choose_layers
from whet.models.rank import rank_for, rank_of
from whet.recipe_file import build_recipe
from whet.stages.job import build_job
from whet.stages.narrate import SILENT
from whet.stages.prepare import prepare_data
from whet.stages.settle import bits_foreseen, bits_to_learn, counted_as
from whet.testing.techniques import what_follows_from_the_rows_is_its_own_setting
from whet.types import Example, Message, Row


@pytest.mark.parametrize(
    ("asked_for", "expected", "end"),
    [
        (0.1, 16, "rank 1 would do; 16 is the least that is taken"),
        (15, 16, "rank 15 would do; 16 is the least that is taken"),
        (16, 16, "rank 16 would do"),
        (16.1, 32, "rank 17 would do; 32 is the next power of two"),
        (32, 32, "rank 32 would do"),
        (33, 64, "rank 33 would do; 64 is the next power of two"),
        (64, 64, "rank 64 would do"),
        (1000, 64, "rank 1,000 would do; 64 is the most that is taken"),
    ],
)
def test_a_rank_is_the_least_power_of_two_that_holds_what_is_to_be_learnt(builder, asked_for, expected, end):
    policy = builder("llama")()
    layers = choose_layers(policy, "all-linear", "lora")
    weights = sum(sum(policy.network.get_submodule(name).weight.shape) for name in layers)
    bits = asked_for * weights * 2  # two bits a weight
    rank, why = rank_for(policy, layers, bits)
    assert (rank, why) == (expected, f"the rows say about {bits:,.0f} bits and each rank holds about {2 * weights:,}, so {end}")


def test_the_more_weights_there_are_the_lower_the_rank_for_the_same_rows(builder):
    policy = builder("llama")()
    asked = [rank_for(policy, choose_layers(policy, targets, "lora"), 60_000.0)[0] for targets in ("all-linear", ["q_proj"])]
    assert asked[0] < asked[1] == 64, asked


def test_where_no_layer_is_adapted_nothing_has_to_fit(builder):
    assert rank_for(builder("llama")(), [], 1e9) == rank_of(0, 1e9)
    assert rank_of(0, 1e9) == (16, "no layer is adapted, so nothing has to fit in; 16 is the least that is taken")
    assert rank_of(100, 0.0)[0] == 16


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_a_model_without_linear_layers_cannot_be_adapted(builder, name):
    policy = builder("llama")()
    policy.network.get_submodule("model").layers = torch.nn.ModuleList()
    with pytest.raises(ModelError, match=f"{name}: this model has no linear layer"):
        plugins.build("techniques", name, {}).sized(policy, 1.0)


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_a_rank_that_is_named_stays(builder, name):
    policy = builder("llama")()
    assert plugins.build("techniques", name, {"rank": 3}).sized(policy, 1e9) == {}
    assert plugins.build("techniques", name, {}).sized(policy, 1e9)["rank"][0] == 64


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_the_layers_that_are_adapted_are_what_counts(builder, name):
    # width 32: a query projection of 32 x 32 in each of two layers has 128 weights a rank, so 256 bits
    few = plugins.build("techniques", name, {"targets": ["q_proj"]})
    assert few.sized(builder("llama")(), 256 * 33.0)["rank"][0] == 64
    assert plugins.build("techniques", name, {}).sized(builder("llama")(), 256 * 33.0)["rank"][0] == 16


def test_singular_values_to_begin_at_are_not_more_than_the_narrowest_layer_has(builder, examples):
    lora = plugins.build("techniques", "lora", {"init": "pissa"})  # keys of two heads of width 8, so of 16
    rank, why = lora.sized(builder("llama")(), 1e9)["rank"]
    assert rank == 16 and "; init pissa can have 16" in why
    what_follows_from_the_rows_is_its_own_setting(lora, builder("llama"), plugins.build("objectives", "sft", {}), examples)


def test_attached_by_hand_it_has_a_rank_too(builder):
    policy = builder("llama")()
    plugins.build("techniques", "lora", {}).attach(policy, 0)
    assert {tensor.shape[0] for name, tensor in policy.trainable() if name.endswith(".down")} == {16}


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


def test_a_number_says_one_bit(builder):
    policy = builder("bert")()
    rows = [Example(id=number, text="a parcel", value=float(number)) for number in range(8)]
    number = plugins.build("objectives", "classify", {"kind": "number"})
    number.prepare(policy, rows)
    assert bits_to_learn(policy, number.units(rows, policy, 64)) == 8


def test_of_several_tasks_each_row_counts_by_the_classes_of_its_own(builder):
    policy = builder("bert")()
    rows = [replace(Example(id=number, text="a parcel", label="abcdefgh"[number % 8]), task="eight") for number in range(16)]
    rows += [replace(Example(id=number, text="a parcel", label="ab"[number % 2]), task="two") for number in range(16, 20)]
    tasks = plugins.build("objectives", "tasks", {"objectives": {"eight": "classify", "two": "classify"}})
    tasks.prepare(policy, rows)
    assert bits_to_learn(policy, tasks.units(rows, policy, 64)) == pytest.approx(16 * 3 + 4 * 1)


def test_every_row_of_a_unit_counts(builder):
    unit = tuple(Row(number, torch.tensor([1]), weights={"dpo": weight}) for number, weight in enumerate((0.0, 1.0)))
    assert bits_to_learn(builder("llama")(), [unit] * 3) == 3


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"label": lambda name: name}, 3),  # one of eight classes
        ({"labels": lambda name: (name,)}, 8),  # each of eight classes, yes or no
        ({"token_labels": lambda name: (name,) * 5}, 5 * 3),
        ({"value": ord}, 1),
        ({"chosen": str, "rejected": str}, 1),
        ({"messages": lambda name: (Message("user", name),)}, 40),  # a bit for each of its 40 tokens
    ],
)
def test_without_a_model_a_row_counts_by_what_it_is_labelled_with(columns, expected):
    rows = [Example(id=ord(name), text="a", **{key: made(name) for key, made in columns.items()}) for name in "abcdefgh"]
    assert bits_foreseen(rows, [40] * 8) == 8 * expected


def test_the_reason_says_what_a_bit_stands_for_where_the_rows_do_not_show_it(builder, teacher):
    policy, reward = builder("llama")(), {"name": "regex", "pattern": "[0-9]"}
    said = [
        counted_as(plugins.build("objectives", name, settings), policy)
        for name, settings in (("sft", {}), ("grpo", {"reward": reward}), ("masked", {}))
    ]
    assert said == ["", ". A prompt counts one bit: a reward says little", ". A token counts one bit where one pass hides it"]
    distill = plugins.build("objectives", "distill", {"teacher": str(teacher)})
    distill.prepare(policy, [])
    assert "one for the teacher's say" in counted_as(distill, policy)


def test_what_a_bit_stands_for_ends_the_reason_of_a_job(tiny_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("".join(f"a parcel and card {number} came today\n\n" for number in range(60)))
    recipe = build_recipe(
        {
            "model": str(tiny_folder("masked-bert")),
            "data": {"path": str(tmp_path / "texts.txt")},
            "objective": "masked",
            "technique": "lora",
        },
        "recipe",
    )
    made = {one.key: one.reason for one in build_job(recipe, prepare_data(recipe, None, SILENT), None).decisions}
    assert made["technique.rank"].endswith("is taken. A token counts one bit where one pass hides it")


def test_distilled_each_token_says_a_bit_for_each_loss_that_is_learnt(builder, teacher):
    policy = builder("llama")()
    texts = [Example(id=number, text="we are sorry") for number in range(4)]
    counted = {}
    for alpha in (0.0, 0.5, 1.0):
        distill = plugins.build("objectives", "distill", {"teacher": str(teacher), "of": "text", "alpha": alpha})
        counted[alpha] = bits_to_learn(policy, distill.units(texts, policy, 64))
    assert counted[0.5] == 2 * counted[0.0] == 2 * counted[1.0] > 0
