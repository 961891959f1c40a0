"""The package's own attention kernel against torch's row-by-row product: one training step, forward and backward, paired and interleaved.

    python bench/attention.py [--only WORD] [--threads 1 2] [--pairs 9]

Random networks of three shapes and rows of log-normal length, in one process: each pair is the same step by either, in turn first. Prints
one JSON object a line: median seconds of both, the ratio of the medians of pairs with its quartiles, seconds of the processor, the
peak of what tensors take beyond those that were there before the step, and how far the two gradients are apart. The machine's load is
printed beside it; ratios taken side by side are what counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from whet.engine import attention, packed_attention
from whet.engine.cut import pack
from whet.engine.machine import computing, keep_pages
from whet.models.load import probe
from whet.models.policy import Policy, Source
from whet.techniques.lora import Lora
from whet.testing.tiny import tiny_tokenizer
from whet.types import Batch, Row

WARM = 2
"""Pairs that are not counted."""


@dataclass(frozen=True)
class Work:
    """One shape, and the rows of its step."""

    kind: str
    hidden: int
    layers: int
    heads: tuple[int, int]
    inner: int
    vocabulary: int
    rows: int
    mean: float
    """Of the rows' lengths in tokens."""
    spread: float
    """Of their logarithms."""
    longest: int
    lora: bool = True


WORKS = {
    "llama 15M": Work("decoder", 288, 6, (6, 6), 768, 32000, 8, 190, 0.5, 512),
    "llama 135M": Work("decoder", 576, 30, (9, 3), 1536, 49152, 8, 190, 0.5, 512),
    "encoder 22M": Work("encoder", 384, 6, (12, 12), 1536, 30522, 32, 32, 0.5, 60, lora=False),
}


def build(work: Work) -> Policy:
    """Return a network of random weights that the technique is attached to."""
    torch.manual_seed(0)
    many, few = work.heads
    common = {
        "vocab_size": work.vocabulary,
        "hidden_size": work.hidden,
        "num_hidden_layers": work.layers,
        "num_attention_heads": many,
        "intermediate_size": work.inner,
        "max_position_embeddings": 1024,
    }
    if work.kind == "decoder":
        network = LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=few, tie_word_embeddings=True))
    else:
        network = BertModel(BertConfig(**common, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    network.eval()
    name = "llama" if work.kind == "decoder" else "bert"
    policy = Policy(network, tiny_tokenizer(name), work.kind, Source(name, Path(), ""), probe(network, work.kind))
    assert policy.ability.packs
    if work.lora:
        network.requires_grad_(requires_grad=False)
        Lora(rank=16).attach(policy, 0)
    return policy


def draw(work: Work, seed: int) -> Batch:
    """Return a packed batch; the second half of a decoder's row is supervised."""
    generator = random.Random(seed)
    location = math.log(work.mean) - work.spread**2 / 2
    lengths = sorted(max(4, min(work.longest, round(generator.lognormvariate(location, work.spread)))) for _ in range(work.rows))
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.tensor([generator.randrange(5, work.vocabulary) for _ in range(length)])
        rows.append(Row(number, ids, {"supervised": (torch.arange(length) >= length // 2).float()}))
    return pack(rows)


def step(policy: Policy, work: Work, batch: Batch, own: bool) -> tuple[float, float]:
    """Compute the gradients of a batch; return seconds of the clock and of the processor."""
    attention.can_attend = packed_attention.can_attend if own else (lambda *given: False)
    for _, parameter in policy.trainable():
        parameter.grad = None
    began, used = time.perf_counter(), time.process_time()
    with computing("bf16", policy.device):
        loss = -policy.logprobs(batch).sum() if work.kind == "decoder" else policy.pooled(batch).square().sum()
    loss.backward()
    return time.perf_counter() - began, time.process_time() - used


def difference(policy: Policy, work: Work, batch: Batch) -> float:
    """Return how far the gradients by either are apart, over their norm."""
    found = []
    for own in (True, False):
        step(policy, work, batch, own)
        found.append([parameter.grad.clone() for _, parameter in policy.trainable() if parameter.grad is not None])
    gap = sum(float((one - other).square().sum()) for one, other in zip(*found, strict=True))
    return math.sqrt(gap / sum(float(other.square().sum()) for other in found[1]))


def compare(name: str, threads: int, pairs: int) -> dict[str, object]:
    """Return what pairs of steps took."""
    torch.set_num_threads(threads)
    work = WORKS[name]
    policy = build(work)
    taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    tokens = []
    for number in range(WARM + pairs):
        batch = draw(work, number)
        tokens.append(batch.num_tokens)
        for own in (True, False) if number % 2 else (False, True):
            taken[own].append(step(policy, work, batch, own))
    clock = {own: [one for one, _ in some[WARM:]] for own, some in taken.items()}
    used = {own: [one for _, one in some[WARM:]] for own, some in taken.items()}
    ratios = [other / one for one, other in zip(clock[True], clock[False], strict=True)]
    of_used = [other / one for one, other in zip(used[True], used[False], strict=True)]
    return {
        "work": name,
        "threads": threads,
        "pairs": pairs,
        "tokens": round(statistics.mean(tokens[WARM:])),
        "own_s": round(statistics.median(clock[True]), 4),
        "torch_s": round(statistics.median(clock[False]), 4),
        "ratio": quartiles(ratios),
        "processor_ratio": quartiles(of_used),
        "own_peak_mib": round(peak(policy, work, draw(work, 0), own=True), 1),
        "torch_peak_mib": round(peak(policy, work, draw(work, 0), own=False), 1),
        "gradient_difference": float(f"{difference(policy, work, draw(work, 0)):.2g}"),
        "load": round(os.getloadavg()[0], 1),
    }


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def peak(policy: Policy, work: Work, batch: Batch, own: bool) -> float:
    """Return the MiB that tensors of a step take at most, beyond those that were there before."""
    for _, parameter in policy.trainable():
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step(policy, work, batch, own)
    events = [one for one in seen.profiler.kineto_results.events() if one.name() == "[memory]"]
    held = itertools.accumulate(one.nbytes() for one in sorted(events, key=lambda one: one.start_ns()))
    return max(held) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="works whose name holds this word")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--pairs", type=int, default=9)
    asked = parser.parse_args()
    if (reason := packed_attention.why_not()) is not None:
        sys.exit(f"the kernel is not there: {reason}")
    keep_pages()
    for name in (name for name in WORKS if asked.only in name):
        for threads in asked.threads:
            print(json.dumps(compare(name, threads, asked.pairs)), flush=True)


if __name__ == "__main__":
    main()
