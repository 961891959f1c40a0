"""The memory formula against counting: torch is asked what it keeps for the backward pass."""

from dataclasses import replace

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from whet import plugins
from whet.engine.cut import pack
from whet.engine.machine import computing, free_memory, memory_now, peak_memory
from whet.models import memory
from whet.models.fusion import try_fusion
from whet.models.memory import GIB, Load, Shape, activation_bytes, estimate, fused_bytes, layer_bytes, weight_bytes
from whet.models.policy import Policy, Source
from whet.models.probe import probe
from whet.models.shapes import KNOWN, shape_of, shape_of_config
from whet.types import Row

WIDTH, INNER, HEADS, ROWS, LENGTH = 64, 160, 4, 64, 32
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
COMMON = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS, "vocab_size": 300}
FEW = {**COMMON, "num_key_value_heads": 2}
NETWORKS = {
    "bert": lambda n: (BertModel(BertConfig(num_hidden_layers=n, **COMMON), add_pooling_layer=False), "encoder"),
    "modernbert": lambda n: (
        ModernBertModel(ModernBertConfig(num_hidden_layers=n, cls_token_id=1, sep_token_id=2, **SPECIAL, **COMMON)),
        "encoder",
    ),
    "llama": lambda n: (LlamaForCausalLM(LlamaConfig(num_hidden_layers=n, **FEW)), "decoder"),
    "qwen3": lambda n: (Qwen3ForCausalLM(Qwen3Config(num_hidden_layers=n, head_dim=32, **FEW)), "decoder"),
    "gemma2": lambda n: (Gemma2ForCausalLM(Gemma2Config(num_hidden_layers=n, head_dim=16, **FEW)), "decoder"),
    "gpt2": lambda n: (
        GPT2LMHeadModel(
            GPT2Config(n_embd=WIDTH, n_inner=INNER, n_layer=n, n_head=HEADS, vocab_size=300, bos_token_id=0, eos_token_id=0)
        ),
        "decoder",
    ),
}


class Words:
    """As much of a tokenizer as a policy asks for."""

    model_max_length = 512
    eos_token_id = 1


def policy(name, layers, tmp_path):
    torch.manual_seed(0)
    network, kind = NETWORKS[name](layers)
    network.eval().requires_grad_(False)
    return Policy(network, Words(), kind, Source(name, tmp_path, ""), probe(network, kind))


def kept(made, precision):
    """Bytes that torch keeps for the backward pass beside the weights, each storage once."""
    batch = pack([Row(number, torch.randint(10, 300, (LENGTH,))) for number in range(ROWS)])
    own = {tensor.untyped_storage().data_ptr() for tensor in [*made.network.parameters(), *made.network.buffers()]}
    found, held = {}, []

    def keep(tensor):
        held.append(tensor)  # so that no storage's address is used twice
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with computing(precision, torch.device("cpu")), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made.hidden(batch)
    return sum(found.values())


@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_layer_keeps_is_what_torch_keeps(name, precision, technique, tmp_path):
    counted = []
    for layers in (1, 3):
        made = policy(name, layers, tmp_path)
        shape = shape_of(made)
        plugins.build("techniques", technique, {"rank": 1} if technique == "lora" else {}).attach(made, 0)
        counted.append(kept(made, precision))
    per_token = (counted[1] - counted[0]) / 2 / (ROWS * LENGTH)
    casts = 2 * shape.linear / shape.layers / (ROWS * LENGTH) if precision == "bf16" else 0.0
    formula = layer_bytes(shape, precision, technique == "full", LENGTH) + casts
    assert formula == pytest.approx(per_token, rel=0.25)


@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("name", ["bert", "llama", "qwen3"])
def test_what_a_fused_layer_keeps_is_what_torch_keeps(name, technique, tmp_path):
    counted = []
    for layers in (1, 3):
        made = policy(name, layers, tmp_path)
        made.fusion, reason = try_fusion(made.network)
        if made.fusion is None:
            pytest.skip(reason)
        plugins.build("techniques", technique, {"rank": 1} if technique == "lora" else {}).attach(made, 0)
        counted.append(kept(made, "bf16"))
    per_token = (counted[1] - counted[0]) / 2 / (ROWS * LENGTH)
    assert fused_bytes(shape_of(made)) == pytest.approx(per_token, rel=0.05)


def test_shapes_are_read_from_configurations_as_from_networks(tmp_path):
    for name in NETWORKS:
        made = policy(name, 2, tmp_path)
        counted, said = shape_of(made), shape_of_config(name, made.network.config, made.kind)
        assert replace(said, parameters=None) == replace(counted, parameters=None), name
        assert counted.size == sum(parameter.numel() for parameter in made.network.parameters())
        linear = {layer: module.weight.numel() for layer, module in made.network.named_modules() if "lm_head" not in layer
                  and type(module).__name__ in {"Linear", "Conv1D"}}  # fmt: skip
        assert counted.linear == sum(linear.values()), name


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as their model cards and files count them
        ("builtin:minilm", 22_565_376),
        ("google-bert/bert-base-uncased", 108_891_648),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ],
)
def test_known_sizes_are_those_of_the_models(name, parameters):
    assert next(shape for shape in KNOWN if shape.name == name).size == pytest.approx(parameters, rel=0.02)


SHAPE = Shape(
    name="a", kind="decoder", layers=2, width=8, heads=2, kv_heads=1, head_width=4, inner=16, vocabulary=100, gated=True, parameters=1000
)  # fmt: skip
LOAD = Load(tokens=50, scored=100, supervised=0.5, row=10, precision="fp32", trainable=1000, whole=True, logits="chunked")


def test_a_step_worked_by_hand(monkeypatch):
    monkeypatch.setattr(memory, "pool_tensors", lambda: None)
    # weights 4 x 1000; gradients 4 x 1000; AdamW 8 x 1000
    # a layer and token: 28 x 8 + 16 x 8 + 16 x 16 + 4 x 2 = 616, x 2 layers x 50 tokens = 61,600
    # at work: 50 x 4 x (3 x 16 + 4 x 8) = 16,000
    # logits: 25 targets x 100 x 4 x 3 = 30,000, and the head's gradient 4 x 100 x 8 = 3,200
    found = estimate(SHAPE, LOAD, 5000)
    assert found.moment == "a training step"
    parts = {
        "program and rows": 5000,
        "weights": 4000,
        "optimiser": 8000,
        "gradients": 4000,
        "activations": 77_600,
        "logits and loss": 33_200,
    }
    parts["kernels and gaps"] = 48 * 2**20 + 3_880  # of a decoder on the processor, with 0.05 x 77,600
    assert dict(found.parts) == parts
    assert found.total == found.step_bytes == 131_800 + 48 * 2**20 + 3_880
    monkeypatch.setattr(memory, "pool_tensors", lambda: "no C++ compiler was found")
    assert estimate(SHAPE, LOAD, 5000).parts["kernels and gaps"] == 48 * 2**20 + 27_160  # with 0.35 x 77,600


def test_a_checkpoint_may_be_the_moment():
    # a copy of weights and state of what learns: 12 x 1000, where a step of one token needs little
    found = estimate(replace(SHAPE, kind="encoder"), replace(LOAD, tokens=1, scored=1, logits="none"), 0)
    assert found.moment == "a checkpoint" and found.parts["checkpoint"] == 12_000


def test_what_the_fused_steps_hold_of_weights_and_of_activations():
    fused = replace(LOAD, precision="bf16", fused=True)
    frozen = replace(fused, whole=False, trainable=50)
    linear = SHAPE.linear
    # frozen weights lie in bf16 for both directions, 4 bytes, or in int8, 2 bytes
    assert activation_bytes(SHAPE, frozen) - activation_bytes(SHAPE, replace(frozen, int8=True)) == 2 * linear
    assert activation_bytes(SHAPE, frozen) - activation_bytes(SHAPE, fused) == 2 * linear
    # with bitfit none of the matrices learns, with the upper half of the layers half of them
    for learnt, more in ((0.0, 2), (0.5, 1)):
        assert activation_bytes(SHAPE, replace(fused, learnt=learnt)) - activation_bytes(SHAPE, fused) == more * linear
    # int8 saves nothing where all learns, as in the plan's row of technique full, nor where a GPU or transformers' modules compute
    for other in (fused, replace(frozen, accelerator=True), replace(frozen, fused=False)):
        assert activation_bytes(SHAPE, replace(other, int8=True)) == activation_bytes(SHAPE, other)
    # where only a head learns the fused steps lay weights out all the same; transformers' modules keep no copies then
    head = replace(frozen, deep=0.0)
    assert activation_bytes(SHAPE, head) - activation_bytes(SHAPE, replace(head, fused=False)) == 4 * linear
    assert activation_bytes(SHAPE, head) - activation_bytes(SHAPE, replace(head, int8=True)) == 2 * linear
    # on a GPU the activation is kept: 2 bytes x 16 wide x 2 layers x 50 tokens
    assert activation_bytes(SHAPE, replace(fused, accelerator=True)) - activation_bytes(SHAPE, fused) == 3200


def test_less_learns_less_is_kept():
    full = estimate(SHAPE, LOAD, 0).total
    lora = estimate(SHAPE, replace(LOAD, trainable=50, whole=False), 0).total
    head = estimate(SHAPE, replace(LOAD, trainable=50, whole=False, deep=0.0, logits="none"), 0).total
    assert head < lora < full
    assert activation_bytes(SHAPE, replace(LOAD, tokens=100)) == 2 * activation_bytes(SHAPE, LOAD)
    assert weight_bytes(SHAPE, "nf4") < weight_bytes(SHAPE, "int8") < weight_bytes(SHAPE)


def test_what_is_quantised_is_loaded_whole_first():
    # one of 8 billion parameters: 33 GB of fp32 go through memory before 4 bits of each are left
    large = next(shape for shape in KNOWN if shape.name == "Qwen/Qwen3-8B")
    found = estimate(large, replace(LOAD, bits="nf4", whole=False, trainable=large.low_rank(16)), 0)
    assert found.moment == "loading" and found.total == 4 * large.size


def test_the_machine_says_what_is_held_and_what_is_free():
    assert 0.05 * GIB < memory_now() <= peak_memory() < free_memory() + GIB
