"""Every technique keeps the laws. A new file in techniques/ is tested here without being named."""

from __future__ import annotations

from typing import Any

import pytest

from whet import plugins
from whet.testing.techniques import TECHNIQUE_LAWS, num_trainable
from whet.testing.tiny import Architecture

CASES: list[tuple[Architecture, str]] = [("llama", "sft"), ("gpt2", "sft"), ("bert", "classify"), ("llama", "classify")]
TWO_SIDED = ("full", "lora", "ia3", "adapter", "prefix", "prompt", "qlora")
"""Techniques for encoder-decoders."""
HEAD_ONLY = {"head"}
"""Techniques that need an objective with a head of its own."""
NO_BIASES = ("bitfit", "llama")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"variant": "rslora", "rank": 4, "learning_rate_ratio": 2.0}),
    ("lora", {"variant": "dora", "rank": 4}),
    ("lora", {"init": "pissa", "rank": 4}),
    ("qlora", {"bits": "int8", "variant": "dora", "rank": 4}),
    ("adapter", {"placement": "pfeiffer", "activation": "relu", "width": 8}),
    ("full", {"layers": 1}),
    ("prefix", {"text": "my parcel is lost", "length": 6}),
]
WITH_SETTINGS = {("gpt2", "sft"), ("bert", "classify")}
"""Where techniques are tried with other settings than their defaults."""


def cases() -> list[Any]:
    found = []
    for name, settings in [*((name, {}) for name in plugins.names("techniques")), *VARIANTS]:
        for architecture, objective in CASES:
            if (objective == "sft" and name in HEAD_ONLY) or (name, architecture) == NO_BIASES:
                continue
            if settings and (architecture, objective) not in WITH_SETTINGS:
                continue
            quick = not settings and (
                (architecture, objective) == ("bert", "classify") or (name, architecture) == ("lora", "gpt2")
            )
            label = "-".join([name, *map(str, settings.values()), architecture, objective])
            marks = [] if quick else [pytest.mark.slow]
            found.append(pytest.param(name, settings, architecture, objective, marks=marks, id=label))
    for name, architecture in [
        *((name, "t5") for name in TWO_SIDED),
        *((name, "bart") for name in ("lora", "prefix", "prompt", "bitfit")),
    ]:
        marks = [] if (name, architecture) == ("lora", "t5") else [pytest.mark.slow]
        found.append(pytest.param(name, {}, architecture, "seq2seq", marks=marks, id=f"{name}-{architecture}-seq2seq"))
    return found


@pytest.mark.parametrize("law", TECHNIQUE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("name", "settings", "architecture", "objective"), cases())
def test_technique_keeps_the_law(law, name, settings, architecture, objective, builder, examples):
    made = plugins.build("techniques", name, settings)
    law(made, builder(architecture), plugins.build("objectives", objective, {}), examples)


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


# width 32, 2 layers; keys and values have 16 numbers in Llama (2 heads of 8) and 32 in GPT-2 and BERT
KEYS = {"llama": 16, "gpt2": 32, "bert": 32}
INNER = {"llama": 64, "gpt2": 128, "bert": 64}
HEAD = 3 * 32 + 3


def count(name, settings, architecture, builder, examples):
    made = plugins.build("techniques", name, settings)
    return num_trainable(made, builder(architecture), plugins.build("objectives", "classify", {}), examples) - HEAD


@pytest.mark.parametrize("architecture", list(SIZES))
def test_each_technique_trains_as_many_numbers_as_its_formula_says(architecture, builder, examples):
    def counted(name, **settings):
        return count(name, settings, architecture, builder, examples)

    keys, inner, layers = KEYS[architecture], INNER[architecture], SIZES[architecture]
    assert counted("prefix", length=5) == 2 * 2 * 5 * keys  # layers x (keys, values) x length x width of the heads
    assert counted("prompt", length=5) == 5 * 32
    made_together = 3 * 32 if architecture == "gpt2" else 2 * keys  # one layer makes queries, keys and values in GPT-2
    assert counted("ia3") == 2 * (made_together + inner)
    assert counted("adapter", width=8) == 2 * 2 * (2 * 32 * 8 + 8 + 32)
    assert counted("adapter", width=8, placement="pfeiffer") == 2 * (2 * 32 * 8 + 8 + 32)
    assert counted("lora", rank=2, variant="dora") == 2 * sum(2 * (a + b) + b for a, b in layers)
    assert counted("lora", rank=2, init="pissa") == 2 * sum(2 * (a + b) for a, b in layers)
    assert counted("qlora", rank=2) == 2 * sum(2 * (a + b) for a, b in layers)


def test_bitfit_trains_every_bias(builder, examples):
    # BERT: a bias for each of its 6 layers of a block and 2 norms, and the norm of the embeddings; GPT-2: as many, and the last norm
    assert count("bitfit", {}, "bert", builder, examples) == 2 * (5 * 32 + 64 + 2 * 32) + 32
    assert count("bitfit", {}, "gpt2", builder, examples) == 2 * (96 + 32 + 128 + 32 + 2 * 32) + 32


def test_full_trains_the_top_layers_only(builder, examples):
    # a block of BERT: 4 matrices of 32 x 32, 2 of 32 x 64, their biases, and 2 norms
    block = 4 * 32 * 32 + 2 * 32 * 64 + 5 * 32 + 64 + 2 * 2 * 32
    assert count("full", {"layers": 1}, "bert", builder, examples) == block
    # Llama: no biases, narrow keys and values, three matrices inside, two norms, the norm above, and the output head
    block = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    head = builder("llama")().network.lm_head.weight.numel()
    assert count("full", {"layers": 1}, "llama", builder, examples) == block + 32 + head
