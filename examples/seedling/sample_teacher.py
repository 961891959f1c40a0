"""Samples simple stories from the small trained Llama `stories260K`, one JSON row per story.

Shapes: B rows, D width, H query heads, K key/value heads, G = H/K, S slots of the cache, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

BOS = 1
Weights = dict[str, Tensor]
Choose = Callable[[Tensor], Tensor]


@dataclass
class Teacher:
    """The weights of a Llama with separate key/value heads and tied embeddings."""

    weights: Weights
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_tokens: int
    rms_eps: float
    cos: Tensor  # [S, head width]
    sin: Tensor  # [S, head width]


def load_teacher(folder: Path) -> Teacher:
    """The model in `folder`, in float32, with its rotary table."""
    config = json.loads((folder / "config.json").read_text())
    raw = load_file(folder / "model.safetensors")
    fused = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        qkv = [raw[f"{name}self_attn.{part}_proj.weight"] for part in "qkv"]
        fused[f"{name}qkv"] = torch.cat(qkv).T.contiguous()
        gate_up = [raw[f"{name}mlp.{part}_proj.weight"] for part in ("gate", "up")]
        fused[f"{name}gate_up"] = torch.cat(gate_up).T.contiguous()
        fused[f"{name}o"] = raw[f"{name}self_attn.o_proj.weight"].T.contiguous()
        fused[f"{name}down"] = raw[f"{name}mlp.down_proj.weight"].T.contiguous()
    width, theta = config["head_dim"], config["rope_parameters"]["rope_theta"]
    frequency = theta ** (-torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(config["max_position_embeddings"]).float(), frequency)
    angle = torch.cat([angle, angle], dim=1)
    return Teacher(
        weights=raw | fused,
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        max_tokens=config["max_position_embeddings"],
        rms_eps=config["rms_norm_eps"],
        cos=angle.cos(),
        sin=angle.sin(),
    )


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`states` turned by the angles of one position. [B, heads, head width] -> the same"""
    half = states.shape[-1] // 2
    return states * cos + torch.cat([-states[..., half:], states[..., :half]], dim=-1) * sin


def next_logits(teacher: Teacher, tokens: Tensor, position: int, cache: list[Tensor]) -> Tensor:
    """Logits after `tokens` at `position`; writes their keys and values to `cache`. [B] -> [B, V]

    `cache` holds keys [B, K, S, head width] and then values of each layer in turn.
    """
    weights, kv = teacher.weights, teacher.num_kv_heads
    hidden = weights["model.embed_tokens.weight"][tokens]
    rows, width = hidden.shape
    head = width // teacher.num_heads
    cos, sin = teacher.cos[position], teacher.sin[position]
    for layer in range(teacher.num_layers):
        name = f"model.layers.{layer}."
        normed = F.rms_norm(hidden, (width,), weights[name + "input_layernorm.weight"], teacher.rms_eps)
        qkv = (normed @ weights[name + "qkv"]).view(rows, -1, head)
        turned = rotate(qkv[:, : teacher.num_heads + kv], cos, sin)
        keys, values = cache[2 * layer], cache[2 * layer + 1]
        keys[:rows, :, position] = turned[:, teacher.num_heads :]
        values[:rows, :, position] = qkv[:, teacher.num_heads + kv :]
        query = turned[:, : teacher.num_heads].reshape(rows * kv, -1, head) * head**-0.5
        past_keys = keys[:rows, :, : position + 1].flatten(0, 1)
        past_values = values[:rows, :, : position + 1].flatten(0, 1)
        weight = torch.softmax(torch.bmm(query, past_keys.mT), dim=-1)
        hidden = hidden + torch.bmm(weight, past_values).view(rows, width) @ weights[name + "o"]
        normed = F.rms_norm(hidden, (width,), weights[name + "post_attention_layernorm.weight"], teacher.rms_eps)
        gate, up = (normed @ weights[name + "gate_up"]).chunk(2, dim=-1)
        hidden = hidden + (F.silu(gate) * up) @ weights[name + "down"]
    hidden = F.rms_norm(hidden, (width,), weights["model.norm.weight"], teacher.rms_eps)
    return hidden @ weights["model.embed_tokens.weight"].T


def sample_rows(teacher: Teacher, num_rows: int, num_tokens: int, choose: Choose) -> Iterator[list[int]]:
    """Token ids of each row that a second BOS ended, or of every row still open at `num_tokens`.

    Closed rows leave the batch every 32 tokens, so that late steps cost less.
    """
    head = teacher.cos.shape[1]
    shape = (num_rows, teacher.num_kv_heads, num_tokens, head)
    cache = [torch.zeros(shape) for _ in range(2 * teacher.num_layers)]
    tokens = torch.full((num_rows,), BOS)
    history = torch.full((num_rows, num_tokens + 1), BOS)  # [B, T]
    is_open = torch.ones(num_rows, dtype=torch.bool)
    for position in range(num_tokens):
        tokens = choose(next_logits(teacher, tokens, position, cache))
        history[:, position + 1] = tokens
        is_open &= tokens != BOS
        if position % 32 == 31 and not is_open.all():
            for row in history[~is_open].tolist():
                yield row[1 : row.index(BOS, 1)]
            history, tokens = history[is_open], tokens[is_open]
            for place, states in enumerate(cache):
                cache[place] = states[: len(is_open)][is_open]
            is_open = is_open[is_open]
            if not len(is_open):
                return
    for row in history.tolist():
        yield row[1 : row.index(BOS, 1)] if BOS in row[1:] else row[1:]


def build_choice(temperature: float, top_p: float, seed: int) -> Choose:
    """A seeded nucleus sampler (Holtzman et al. 2020, arXiv:1904.09751) over the 128 likeliest tokens."""
    generator = torch.Generator().manual_seed(seed)

    def choose(logits: Tensor) -> Tensor:
        top, ids = (logits / temperature).topk(128, dim=-1)
        shares = torch.softmax(top, dim=-1)
        shares = shares * (shares.cumsum(-1) - shares < top_p)
        return ids.gather(1, torch.multinomial(shares, 1, generator=generator))[:, 0]

    return choose


def assert_reproduces_golden_text(teacher: Teacher, folder: Path) -> None:
    """Fails unless the loop's greedy text from BOS equals `expected.json`."""
    golden = json.loads((folder / "expected.json").read_text())["greedy_ids"]
    found = next(sample_rows(teacher, 1, len(golden) - 1, lambda logits: logits.argmax(-1)))
    assert [BOS, *found] == golden, f"{folder}: the sampling loop does not reproduce expected.json's greedy text"


def is_clean(story: str) -> bool:
    """True for a story of 200 characters or more that ends a sentence and does not go round in circles."""
    if len(story) < 200 or not re.search(r"[.!?][\"']?$", story) or "\ufffd" in story:
        return False
    sentences = Counter(re.findall(r"[^.!?\n]{9,}[.!?]", story))
    return max(sentences.values(), default=3) < 3


def main() -> None:
    """Writes clean sampled stories until the wanted number of characters or the time limit is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("build/seedling/sampled.jsonl"))
    parser.add_argument("--million-characters", type=float, default=28.0)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--top-p", type=float, default=0.92)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.shared / "models" / "stories260K"
    teacher = load_teacher(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    choose = build_choice(args.temperature, args.top_p, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    start, num_sampled, num_kept, num_characters = time.monotonic(), 0, 0, 0
    with torch.inference_mode(), args.out.open("w") as file:
        assert_reproduces_golden_text(teacher, folder)
        while num_characters < args.million_characters * 1e6:
            rows = list(sample_rows(teacher, args.rows, teacher.max_tokens, choose))
            stories = [text.strip() for text in tokenizer.decode_batch(rows)]
            num_sampled += len(stories)
            for story in filter(is_clean, stories):
                file.write(json.dumps({"text": story}) + "\n")
                num_kept += 1
                num_characters += len(story)
            file.flush()
            print(
                f"kept {num_kept:,} of {num_sampled:,} stories, {num_characters / 1e6:.2f} M characters, "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
