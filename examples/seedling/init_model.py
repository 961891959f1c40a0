"""Writes the seedling's untrained model folder: a random Llama of about 3.1 million parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MAX_HALF_BYTES = 11_500_000
"""The 16-bit weights must fit in this many bytes."""


def build_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The seedling's shape, with the special ids of `tokenizer`."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.02,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def main() -> None:
    """Writes config and float32 weights beside the tokenizer and prints their size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/seedling/base"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = LlamaForCausalLM(build_config(PreTrainedTokenizerFast.from_pretrained(args.out)))
    num_parameters = sum(p.numel() for p in model.parameters())
    assert 2 * num_parameters <= MAX_HALF_BYTES, f"{2 * num_parameters:,} bytes in 16 bits exceed {MAX_HALF_BYTES:,}"
    model.save_pretrained(args.out)
    print(f"{num_parameters:,} parameters, {2 * num_parameters:,} bytes in 16 bits")


if __name__ == "__main__":
    main()
