"""Every compressor keeps the laws. A new file in compressors/ is tested here without being named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from whet import plugins
from whet.engine.cut import pack
from whet.errors import ModelError, RecipeError
from whet.models.compressed import _bits, _packed, _places, _unpacked
from whet.models.prune import input_norms, kept, linear_blocks
from whet.models.rounded import RoundedLinear, Whole, make_dense, round_matrix, round_network, rounded_layers
from whet.stages.compress import _calibration
from whet.testing.compressors import COMPRESSOR_LAWS
from whet.testing.tiny import Architecture, tiny_examples
from whet.types import Row

CASES: list[tuple[Architecture, str]] = [("bert", "classify"), ("llama", "sft"), ("gpt2", "sft")]


@pytest.mark.parametrize("law", COMPRESSOR_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(
    ("architecture", "objective"), [pytest.param(*case, marks=pytest.mark.slow if case[0] == "gpt2" else ()) for case in CASES]
)
@pytest.mark.parametrize("name", plugins.names("compressors"))
def test_compressor_keeps_the_law(law, name, architecture, objective, builder, examples):
    law(plugins.build("compressors", name, {}), builder(architecture), plugins.build("objectives", objective, {}), examples)


# The example of figure 1 of Sun et al. 2023 (arXiv:2306.11695): weights, norms of the inputs, and what each method keeps at 50 %.
WEIGHT = torch.tensor([[4.0, 0.0, 1.0, -1.0], [3.0, -2.0, -1.0, -3.0], [-3.0, 1.0, 0.0, 2.0]])
NORMS = torch.tensor([1.0, 2.0, 8.0, 3.0])


def test_wanda_keeps_what_its_paper_keeps():
    score = WEIGHT.abs() * NORMS  # 4 0 8 3 | 3 4 8 9 | 3 2 0 6: the better half of each row stays
    expected = torch.tensor([[4.0, 0.0, 1.0, 0.0], [0.0, 0.0, -1.0, -3.0], [-3.0, 0.0, 0.0, 2.0]])
    assert torch.equal(WEIGHT * kept(score, 0.5, "any", by_row=True), expected)


def test_magnitude_keeps_the_largest_of_the_whole_matrix():
    # sizes 4 0 1 1 | 3 2 1 3 | 3 1 0 2: the six largest are 4, 3, 3, 3, 2, 2
    expected = torch.tensor([[4.0, 0.0, 0.0, 0.0], [3.0, -2.0, 0.0, -3.0], [-3.0, 0.0, 0.0, 2.0]])
    assert torch.equal(WEIGHT * kept(WEIGHT.abs(), 0.5, "any", by_row=False), expected)


def test_a_pattern_keeps_two_of_four_neighbours_and_what_is_left_over():
    score = torch.tensor([[1.0, 5.0, 2.0, 4.0, 9.0, 8.0, 1.0, 1.0, 0.0]])
    assert kept(score, 0.5, "2:4", by_row=True).tolist() == [[False, True, False, True, True, True, False, False, True]]


def test_input_norms_are_those_of_what_comes_in(builder):
    policy = builder("bert")()
    layers = linear_blocks(policy)[0]
    name = next(name for name in layers if name.endswith("query"))
    rows = [Row(0, torch.arange(5, 12)), Row(1, torch.arange(8, 20))]
    seen = []
    handle = layers[name].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].reshape(-1, 32)))
    found = input_norms(policy, {name: layers[name]}, [pack(rows[:1]), pack(rows[1:])])[name]
    handle.remove()
    expected = torch.cat(seen).norm(dim=0)  # one vector for each of the 19 tokens
    assert len(torch.cat(seen)) == 19
    assert torch.allclose(found.float(), expected, rtol=1e-5)


def test_padding_is_not_measured_where_rows_are_not_packed(builder):
    policy, examples = builder("bert")(), tiny_examples(8)
    objective = plugins.build("objectives", "classify", {})
    objective.prepare(policy, examples)
    tuned: Any = SimpleNamespace(
        policy=policy,
        objective=objective,
        recipe=SimpleNamespace(train=SimpleNamespace(seed=0)),
        card=SimpleNamespace(max_length=64),
    )
    dataset: Any = SimpleNamespace(train=examples)
    layers = linear_blocks(policy)[-1]

    def measured():
        return input_norms(policy, layers, _calibration(tuned, dataset, len(examples)))

    packed = measured()
    assert len({len(unit[0].ids) for unit in objective.units(examples, policy, 64)}) > 1
    policy.ability = replace(policy.ability, packs=False)
    for name, norms in measured().items():
        assert torch.allclose(norms, packed[name], rtol=1e-4), name


def test_wanda_prunes_half_of_each_row_of_each_block_and_no_embedding(builder, examples):
    policy = builder("llama")()
    units = plugins.build("objectives", "sft", {}).units(examples, policy, 100)
    before = policy.network.get_input_embeddings().weight.clone()
    plugins.build("compressors", "wanda", {}).compress(policy, [pack([unit[0] for unit in units])])
    zeros = {
        (layer.weight == 0).sum(-1).unique().item() / layer.weight.shape[1]
        for block in linear_blocks(policy)
        for layer in block.values()
    }
    assert zeros == {0.5}
    assert torch.equal(before, policy.network.get_input_embeddings().weight)


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 16)])
def test_rounding_is_torchaos(bits, group):
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    weight = torch.randn(6, 48, generator=torch.Generator().manual_seed(0))
    layer = nn.Sequential(nn.Linear(48, 6, bias=False))
    layer[0].weight = nn.Parameter(weight.clone(), requires_grad=False)
    quantize_(
        layer, Int8WeightOnlyConfig() if bits == 8 else IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(16))
    )
    ours = round_matrix(weight, bits, group)
    assert torch.allclose(ours.dense(), layer[0].weight.dequantize().float(), atol=1e-7)
    steps = ours.scales.repeat_interleave(48 // ours.scales.shape[1], dim=1)
    assert bool(((ours.dense() - weight).abs() <= 0.51 * steps + 1e-6).all()), "to the nearest: at most half a step off"


def test_rows_that_groups_do_not_divide_get_smaller_groups_and_odd_ones_8_bits():
    weight = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    assert round_matrix(weight, 4, 32).scales.shape == (4, 3)  # the greatest common divisor of 24 and 32 is 8
    assert round_matrix(weight[:, :23], 4, 32).bits == 8


def test_dynamic_rounding_of_whole_inputs_loses_nothing():
    # inputs that are multiples of their largest / 127 and weights likewise: the product of integers is exact
    weight = Whole(torch.tensor([[1, -2, 127], [5, 0, -7]], dtype=torch.int8), torch.tensor([[0.5], [2.0]]), 8)
    x = torch.tensor([[127.0, 3.0, -5.0]])
    expected = torch.tensor([[0.5 * (127 - 6 - 635), 2.0 * (635 + 35)]])
    assert torch.allclose(RoundedLinear(weight, None, dynamic=True)(x), expected)


def test_few_vectors_in_bf16_give_what_many_do():
    generator = torch.Generator().manual_seed(0)
    layer = RoundedLinear(round_matrix(torch.randn(16, 32, generator=generator), 8, None), torch.zeros(16))
    x = torch.randn(20, 32, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        many, few = layer(x)[:2].float(), layer(x[:2]).float()
    assert float((many - few).abs().max() / many.std()) < 0.02, "two roundings to bf16 apart"


def test_a_tied_head_shares_its_numbers_with_the_embedding(tmp_path):
    from whet.models.load import load_policy
    from whet.testing.tiny import write_tiny

    policy = load_policy(str(write_tiny(tmp_path, "gpt2")))
    round_network(policy.network, 8, None)
    assert policy.network.get_output_embeddings().values.data_ptr() == policy.network.get_input_embeddings().values.data_ptr()
    make_dense(policy.network)
    assert not rounded_layers(policy.network)
    assert policy.network.get_output_embeddings().weight is policy.network.get_input_embeddings().weight


def test_numbers_of_4_bits_and_masks_survive_their_packing():
    values = torch.randint(-8, 8, (5, 14), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_unpacked(_packed(values)), values)
    mask = torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    assert len(_bits(mask)) == 3  # 21 bits
    assert torch.equal(_places(_bits(mask), mask.shape), mask)


@pytest.mark.parametrize("pattern", ["4:2", "0:4", "two", "2:", "2:4:8"])
@pytest.mark.parametrize("name", ["magnitude", "wanda"])
def test_a_pattern_that_is_none_is_refused(name, pattern):
    with pytest.raises(RecipeError, match="allowed: any, or n:m"):
        plugins.build("compressors", name, {"pattern": pattern})


def test_what_is_rounded_already_has_nothing_to_prune_or_to_round(builder):
    policy = builder("bert")()
    round_network(policy.network, 8, None)
    for name in ("magnitude", "int4"):
        with pytest.raises(ModelError, match="compressed already"):
            plugins.build("compressors", name, {}).compress(policy, [])
