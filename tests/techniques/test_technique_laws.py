"""Every technique keeps the laws. A new file in techniques/ is tested here without being named."""

from __future__ import annotations

import pytest

from whet import plugins
from whet.testing.techniques import TECHNIQUE_LAWS, num_trainable
from whet.testing.tiny import Architecture

CASES: list[tuple[Architecture, str]] = [("llama", "sft"), ("gpt2", "sft"), ("bert", "classify"), ("llama", "classify")]
HEAD_ONLY = {"head"}
"""Techniques that need an objective with a head of its own."""


def cases() -> list[tuple[str, Architecture, str]]:
    return [
        (name, architecture, objective)
        for name in plugins.names("techniques")
        for architecture, objective in CASES
        if objective == "classify" or name not in HEAD_ONLY
    ]


@pytest.mark.parametrize("law", TECHNIQUE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("name", "architecture", "objective"), cases())
def test_technique_keeps_the_law(law, name, architecture, objective, builder, examples):
    law(plugins.build("techniques", name, {}), builder(architecture), plugins.build("objectives", objective, {}), examples)


# width 32, inner width 64, 2 layers; Llama has 4 heads of 8 and 2 of them for keys and values (16), GPT-2 an inner width of 4 * 32
SIZES = {
    "llama": [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)],
    "gpt2": [(32, 96), (32, 32), (32, 128), (128, 32)],
    "bert": [(32, 32)] * 4 + [(32, 64), (64, 32)],
}


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("architecture", list(SIZES))
def test_lora_trains_rank_times_in_plus_out_of_each_layer(architecture, rank, builder, examples):
    objective = plugins.build("objectives", "classify", {})
    technique = plugins.build("techniques", "lora", {"rank": rank})
    layers = 2 * sum(rank * (num_in + num_out) for num_in, num_out in SIZES[architecture])
    head = 3 * 32 + 3  # 3 classes
    assert num_trainable(technique, builder(architecture), objective, examples) == layers + head


def test_full_trains_every_weight_and_head_only_the_head(builder, examples):
    build, objective = builder("bert"), plugins.build("objectives", "classify", {})
    head = 3 * 32 + 3
    everything = build().num_parameters + head
    assert num_trainable(plugins.build("techniques", "full", {}), build, objective, examples) == everything
    assert num_trainable(plugins.build("techniques", "head", {}), build, objective, examples) == head
