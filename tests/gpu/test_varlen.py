"""Packed rows through torch's kernel for rows of any length: what it is called with gives what padded rows give.

There is no CUDA device in the tests: a stand-in does what the kernel's documentation says, so its caller is held to that, not the kernel.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from contract import varlen_attn

from whet.engine import attention, varlen
from whet.engine.attention import Prefix, attend_packed, packed
from whet.engine.cut import pack
from whet.models.policy import Ability, Policy, Source
from whet.testing.tiny import random_network
from whet.types import Row

SIZES: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
NETWORKS: dict[str, tuple[Any, Any]] = {
    "Llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED)),
    "Qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**GROUPED)),
    "Mistral, a window": (transformers.MistralForCausalLM, transformers.MistralConfig(**GROUPED, sliding_window=4)),
    "Granite, a scale of its own": (transformers.GraniteForCausalLM, transformers.GraniteConfig(**GROUPED, attention_multiplier=0.3)),
    "Bert": (transformers.BertModel, transformers.BertConfig(**SIZES)),
    "ModernBert, a window both ways": (
        transformers.ModernBertModel,
        transformers.ModernBertConfig(**SIZES, local_attention=8, global_attn_every_n_layers=2, pad_token_id=0, cls_token_id=1, sep_token_id=2),
    ),
}  # fmt: skip
LENGTHS = (3, 14, 20, 20, 30)


@pytest.fixture
def called(monkeypatch):
    """Here the kernel is there, on the processor and in fp32 too, so that numbers can be compared closely. Filled with its calls."""
    calls: list[dict[str, Any]] = []

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(named)
        return varlen_attn(*given, **named)

    def can_attend(query, key, value, lengths, window):
        return varlen.obstacle(query.dtype, query.shape[-1]) is None

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    monkeypatch.setattr(varlen, "TAKEN", (*varlen.TAKEN, torch.float32))
    monkeypatch.setattr(varlen, "why_not", lambda: None)
    monkeypatch.setattr(varlen, "can_attend", can_attend)
    monkeypatch.setattr(attention, "can_attend", lambda *given: False)  # the processor's own
    return calls


def policy_of(network: Any, kind: Any, packs: bool) -> Policy:
    ability = Ability(packs=packs, difference=0.0, plain_head=False)
    if packs:
        network.set_attn_implementation(attention.NAME)
    return Policy(network, None, kind, Source("test", None, ""), ability)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_packed_rows_give_what_padded_ones_give_forward_and_back(name, called):
    cls, config = NETWORKS[name]
    ours, theirs = (random_network(cls, copy.deepcopy(config)) for _ in range(2))
    kind = "encoder" if "Bert" in name else "decoder"
    generator = torch.Generator().manual_seed(3)
    rows = [Row(index, torch.randint(10, 99, (length,), generator=generator)) for index, length in enumerate(LENGTHS)]
    batch = pack(rows)
    found, expected = policy_of(ours, kind, True).hidden(batch), policy_of(theirs, kind, False).hidden(batch)
    assert len(called) == config.num_hidden_layers
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    pull = torch.randn(found.shape, generator=generator)
    for states in (found, expected):
        (states * pull).sum().backward()
    there = dict(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert sum(parameter.grad is not None for parameter in there) > 10
    for parameter, other in there.items():
        assert (parameter.grad is None) == (other.grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_heads_are_shared_windows_are_one_less_and_the_scale_is_handed_on(called):
    query, key = torch.randn(1, 4, 9, 16), torch.randn(1, 2, 9, 16)
    with packed((4, 5)):
        attend_packed(torch.nn.Identity(), query, key, key, None, scaling=0.3, is_causal=True, sliding_window=3)
        attend_packed(torch.nn.Identity(), key, key, key, None, is_causal=True, sliding_window=5)  # as wide as any row
        attend_packed(torch.nn.Identity(), key, key, key, None, is_causal=False, sliding_window=2)
    assert called == [
        {"scale": 0.3, "window_size": (2, 0), "enable_gqa": True},
        {"scale": None, "window_size": (-1, 0), "enable_gqa": False},
        {"scale": None, "window_size": (1, 1), "enable_gqa": False},
    ]


def test_what_it_does_not_take_goes_the_old_way_and_gives_the_same(called):
    query = torch.randn(1, 2, 9, 12)  # 12 is no multiple of 8
    with packed((4, 5)):
        out, _ = attend_packed(torch.nn.Identity(), query, query, query, None, is_causal=True)
        attend_packed(torch.nn.Identity(), query[..., :8], query[..., :8], query[..., :8], None, is_causal=True, softcap=2.0)
        module = torch.nn.Identity()
        module.add_module("prefix", Prefix(torch.randn(2, 3, 8), torch.randn(2, 3, 8)))
        attend_packed(module, query[..., :8], query[..., :8], query[..., :8], None, is_causal=True)
    assert called == []
    row = query[:, :, 4:]
    alone = torch.nn.functional.scaled_dot_product_attention(row, row, row, is_causal=True)
    torch.testing.assert_close(out[:, 4:].transpose(1, 2), alone)


@pytest.mark.parametrize(
    ("dtype", "width", "special", "expected"),
    [
        (torch.bfloat16, 64, False, None),
        (torch.float16, 256, False, None),
        (torch.float32, 64, False, "bf16 and fp16 only, and this is float32"),
        (torch.bfloat16, 64, True, "no soft cap"),
        (torch.bfloat16, 36, False, "no heads of width 36"),
        (torch.bfloat16, 264, False, "no heads of width 264"),
        (torch.bfloat16, 208, False, "no heads of width 208"),
    ],
)
def test_the_reason_is_told(dtype, width, special, expected, monkeypatch):
    monkeypatch.setattr(varlen, "why_not", lambda: None)
    found, words = varlen.obstacle(dtype, width, special=special), varlen.named(dtype, width, special=special)
    assert found is None if expected is None else expected in str(found)
    assert words.startswith("torch's flash attention" if expected is None else "torch's, row lengths one by one: ")


def test_without_a_device_nothing_of_it_is_used():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    varlen.why_not.cache_clear()
    assert varlen.why_not() == "there is no CUDA device"
    x = torch.randn(1, 2, 4, 64, dtype=torch.bfloat16)
    assert not varlen.can_attend(x, x, x, (4,), None)
