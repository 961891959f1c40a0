"""Rows packed end to end give what separate rows give, for every architecture of a list; others are padded and work so."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from whet.engine.attention import attend_packed, packed
from whet.engine.cut import pack
from whet.engine.generate import generate
from whet.models.policy import Ability, Kind, Policy, Source
from whet.models.probe import probe
from whet.testing.tiny import as_float64, random_network, tiny_tokenizer
from whet.types import Batch, Row

V = 99
LENGTHS = (3, 14, 20, 20, 30)
COMMON: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
GROUPED: dict[str, Any] = COMMON | {"num_key_value_heads": 2}
WINDOW: dict[str, Any] = GROUPED | {"sliding_window": 4}
GPT2: dict[str, Any] = {
    "vocab_size": V,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
CAPS: dict[str, Any] = {"head_dim": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}
MODERN: dict[str, Any] = {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "pad_token_id": 0,
    "cls_token_id": 1,
    "sep_token_id": 2,
}

PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaForCausalLM", GROUPED),
    "Qwen2": ("Qwen2ForCausalLM", GROUPED),
    "Mistral": ("MistralForCausalLM", WINDOW),
    "Gemma2": ("Gemma2ForCausalLM", WINDOW | CAPS),
    "GPT2": ("GPT2LMHeadModel", GPT2),
    "GPTNeoX": ("GPTNeoXForCausalLM", COMMON),
    "Granite": ("GraniteForCausalLM", GROUPED | {"logits_scaling": 3.0}),
    "Bert": ("BertModel", COMMON),
    "Roberta": ("RobertaModel", COMMON | {"pad_token_id": 1}),
    "ModernBert": ("ModernBertModel", COMMON | MODERN | {"bos_token_id": None, "eos_token_id": None}),
}
PADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "Falcon": ("FalconForCausalLM", COMMON),
    "GPTNeo": (
        "GPTNeoForCausalLM",
        {"vocab_size": V, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    ),
    "Bloom": ("BloomForCausalLM", {"vocab_size": V, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "DebertaV2": ("DebertaV2Model", COMMON | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
}


@pytest.fixture(autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def build(name: str) -> tuple[Policy, transformers.PreTrainedModel]:
    """The policy as the probe leaves it, and the network as transformers made it."""
    cls, settings = (PACKED | PADDED)[name]
    config = getattr(transformers, f"{name}Config")(**settings)
    network = random_network(getattr(transformers, cls), config)
    kind: Kind = "decoder" if "LM" in cls else "encoder"
    untouched = copy.deepcopy(network)
    return Policy(network, tiny_tokenizer("llama"), kind, Source(name, Path(), ""), probe(network, kind)), untouched


def five_rows() -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for number, length in enumerate(LENGTHS):
        supervised = torch.ones(length)
        supervised[0] = 0
        ids = torch.randint(5, V, (length,), generator=generator)
        rows.append(Row(number, ids, {"supervised": supervised}, weights={"lm": length - 1.0}))
    return rows


def separate(network: transformers.PreTrainedModel, rows: list[Row]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network.base_model(input_ids=row.ids[None], use_cache=False).last_hidden_state[0] for row in rows])


def separate_logprobs(network: transformers.PreTrainedModel, row: Row) -> torch.Tensor:
    with torch.no_grad():
        logprobs = torch.log_softmax(network(input_ids=row.ids[None], use_cache=False).logits[0], dim=-1)
    return torch.cat([torch.zeros(1), logprobs[:-1].gather(-1, row.ids[1:, None]).squeeze(-1)])


def assert_as_separate(policy: Policy, untouched: transformers.PreTrainedModel) -> None:
    rows = five_rows()
    batch = pack(rows)
    expected = separate(untouched, rows)
    with torch.no_grad():
        gap = (policy.hidden(batch) - expected).abs().max() / expected.std()
        assert gap <= 1e-5
        if policy.kind == "decoder":
            wanted = torch.cat([separate_logprobs(untouched, row) for row in rows])
            torch.testing.assert_close(policy.logprobs(batch), wanted, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", list(PACKED))
def test_packed_rows_give_what_separate_rows_give(name):
    policy, untouched = build(name)
    assert policy.ability.packs, f"the probe found a difference of {policy.ability.difference}"
    assert_as_separate(policy, untouched)
    policy.ability = Ability(False, 0.0, policy.ability.plain_head)
    assert_as_separate(policy, untouched)


@pytest.mark.parametrize("name", list(PADDED))
def test_an_architecture_that_leaks_between_rows_is_padded(name):
    policy, untouched = build(name)
    assert not policy.ability.packs
    assert policy.network.config._attn_implementation == untouched.config._attn_implementation
    assert_as_separate(policy, untouched)


@pytest.mark.parametrize("name", list(PACKED))
def test_a_row_does_not_see_its_neighbours(name):
    policy, _ = build(name)
    rows = five_rows()
    changed = [*rows[:2], Row(2, torch.full((20,), 7)), *rows[3:]]
    with torch.no_grad():
        before, after = (
            policy.hidden(pack([Row(row.id, row.ids) for row in rows])),
            policy.hidden(pack([Row(row.id, row.ids) for row in changed])),
        )
    others = torch.ones(len(before), dtype=torch.bool)
    others[17:37] = False
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", ["Llama"])
def test_float64_is_never_rounded_down(name):
    policy, _ = build(name)
    as_float64(policy)
    rows = five_rows()
    with torch.no_grad():
        together = policy.hidden(pack(rows))
        alone = torch.cat([policy.hidden(pack([row])) for row in rows])
        policy.ability = Ability(False, 0.0, True)
        padded = policy.hidden(pack(rows))
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together, padded, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (4, None), (None, 2.0), (4, 2.0)])
def test_attention_in_float64_is_exact(causal, window, softcap):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 17, 8, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(1, 2, 17, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    with packed((6, 6, 5)):
        found, _ = attend_packed(
            torch.nn.Identity(), query, key, value, None, 0.3, is_causal=causal, sliding_window=window, softcap=softcap
        )
    for head in range(4):
        for start, stop in ((0, 6), (6, 12), (12, 17)):
            for here in range(start, stop):
                seen = [
                    there
                    for there in range(start, stop)
                    if (there <= here or not causal) and (window is None or abs(here - there) < window)
                ]
                scores = torch.stack([0.3 * query[0, head, here] @ key[0, head // 2, there] for there in seen])
                scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
                expected = torch.softmax(scores, dim=0) @ value[0, head // 2, seen]
                torch.testing.assert_close(found[0, here, head], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma2", "GPT2", "Falcon", "Bloom"])
def test_generation_after_the_probe_is_transformers_own(name):
    policy, untouched = build(name)
    prompts = [row.ids.tolist() for row in five_rows()]
    found = list(generate(policy, prompts, 6, frozenset()))
    for prompt, written in zip(prompts, found, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(untouched(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert written == ids[len(prompt) :]


def test_a_bidirectional_window_is_as_wide_as_transformers_own():
    policy, untouched = build("ModernBert")
    far = torch.arange(5, 35)[None]
    with torch.no_grad():
        batch: Batch = pack([Row(0, far[0])])
        expected = untouched.base_model(input_ids=far).last_hidden_state[0]
        torch.testing.assert_close(policy.hidden(batch), expected, rtol=1e-5, atol=1e-5)
