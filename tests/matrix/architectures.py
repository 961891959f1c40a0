"""The smallest models of many architectures: two layers, random seeded weights, and every switch set that makes one special."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import PreTrainedModel

from whet.testing.tiny import Architecture, random_network, tiny_tokenizer

WIDTH, CONTEXT = 32, 96
Kind = Literal["encoder", "decoder", "encoder-decoder"]

SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.1,
}
TEXT = SIZES | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
GROUPED = TEXT | {"num_key_value_heads": 2}
GPT2 = {
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": CONTEXT,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 16, "sliding_window": 6, "tie_word_embeddings": True}
DEBERTA = {
    "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "max_relative_positions": -1, "type_vocab_size": 0,
}  # fmt: skip
TWO_SIDED = {
    "d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": CONTEXT, "init_std": 0.1, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """One architecture: its configuration's class, what is set, and the class with the head."""

    kind: Kind
    config: str
    network: str
    settings: dict[str, Any]
    packs: bool = True
    """Whether rows are packed; else the architecture is one of those that are padded."""
    tokenizer: Architecture = "llama"


def decoder(name: str, settings: dict[str, Any], *, config: str = "", network: str = "", packs: bool = True) -> Made:
    return Made("decoder", config or f"{name}Config", network or f"{name}ForCausalLM", settings, packs)


def encoder(name: str, settings: dict[str, Any], *, packs: bool = True, config: str = "", network: str = "") -> Made:
    return Made("encoder", config or f"{name}Config", network or f"{name}ForMaskedLM", settings, packs, "masked-bert")


ARCHITECTURES: dict[str, Made] = {
    "Llama": decoder("Llama", GROUPED),
    "Qwen2": decoder("Qwen2", GROUPED),
    "Qwen3": decoder("Qwen3", GROUPED | {"head_dim": 8}),
    "Mistral": decoder("Mistral", GROUPED | {"sliding_window": 6}),
    "Gemma2": decoder("Gemma2", GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "Gemma3": decoder("Gemma3", GEMMA | {"layer_types": ["sliding_attention", "full_attention"]}, config="Gemma3TextConfig"),
    "Phi3": decoder("Phi3", GROUPED | {"sliding_window": None}),
    "GPT2": decoder("GPT2", GPT2, network="GPT2LMHeadModel"),
    "GPTNeoX": decoder("GPTNeoX", TEXT),
    "OPT": decoder("OPT", TEXT | {"ffn_dim": 48, "word_embed_proj_dim": WIDTH, "pad_token_id": 0}),
    "Falcon": decoder("Falcon", TEXT | {"new_decoder_architecture": False, "multi_query": True, "alibi": False}, packs=False),
    "Olmo2": decoder("Olmo2", GROUPED),
    "SmolLM3": decoder("SmolLM3", GROUPED | {"no_rope_layers": [1, 0]}),
    "Granite": decoder("Granite", GROUPED | {"logits_scaling": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3}),
    "StableLm": decoder("StableLm", GROUPED | {"qk_layernorm": True, "use_qkv_bias": True}),
    "Bert": encoder("Bert", SIZES),
    "Roberta": encoder("Roberta", SIZES | {"pad_token_id": 1, "type_vocab_size": 1}),
    "DistilBert": encoder("DistilBert", {"dim": WIDTH, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": CONTEXT, "initializer_range": 0.1}),
    "DebertaV2": encoder("DebertaV2", SIZES | DEBERTA, packs=False),
    "Electra": encoder("Electra", SIZES | {"embedding_size": 16}),
    "Albert": encoder("Albert", SIZES | {"embedding_size": 16, "num_hidden_groups": 1}),
    "ModernBert": encoder("ModernBert", SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": None, "eos_token_id": None}),
    "T5": Made("encoder-decoder", "T5Config", "T5ForConditionalGeneration", {
        "d_model": WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 32, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0,
    }, False, "t5"),
    "Bart": Made("encoder-decoder", "BartConfig", "BartForConditionalGeneration",
        TWO_SIDED | {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}, False, "bart"),
    "Marian": Made("encoder-decoder", "MarianConfig", "MarianMTModel",
        TWO_SIDED | {"eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": 2, "scale_embedding": True, "share_encoder_decoder_embeddings": True}, False, "t5"),
}  # fmt: skip


def write(name: str, folder: Path) -> Path:
    """Write the architecture's model and its tokenizer. Returns the folder."""
    made = ARCHITECTURES[name]
    tokenizer = tiny_tokenizer(made.tokenizer)
    build(name, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build(name: str, vocabulary: int) -> PreTrainedModel:
    """Return the architecture's network, with the head that it has."""
    made = ARCHITECTURES[name]
    config = getattr(transformers, made.config)(vocab_size=vocabulary, **made.settings)
    network = random_network(getattr(transformers, made.network), config)
    beside = dict(network.named_buffers(recurse=False)).get("final_logits_bias")
    if beside is not None:
        beside.copy_(torch.randn(beside.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    return network
