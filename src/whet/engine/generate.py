"""Greedy and sampled generation with a key-value cache, in batches.

Shapes: R prompts of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.engine.order import seed_of
from whet.models.key_values import go_on
from whet.models.policy import Policy

BATCH = 32
CHEAPER = 4
"""A token costs less than this part of what it costs in training: keys, values, and one layer's activations."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


GREEDY = Sampling()


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stops: frozenset[int],
    sampling: Sampling = GREEDY,
) -> Iterator[list[int]]:
    """Yield the tokens that follow each prompt, in order, without the stop token.

    A prompt too long for the context loses its beginning, but keeps half the context at least; then the answer may be shorter.
    """
    for ids in continuations(policy, prompts, max_new_tokens, stops, sampling):
        yield ids[:-1] if ids and ids[-1] in stops else ids


def continuations(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stops: frozenset[int],
    sampling: Sampling = GREEDY,
) -> Iterator[list[int]]:
    """Yield what `generate` does, with the stop token behind the answers that end with one."""
    found: dict[int, list[int]] = {}
    for chosen in batches([len(prompt) + max_new_tokens for prompt in prompts], CHEAPER * policy.max_tokens):
        written = _batch(policy, [prompts[i] for i in chosen], chosen, max_new_tokens, stops, sampling)
        found |= dict(zip(chosen, written, strict=True))
    for index in range(len(prompts)):
        yield found[index]


def batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield the prompts that are answered together, the shortest first: at most `max_tokens` tokens, padded, and BATCH of them."""
    held: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if held and (len(held) == BATCH or (len(held) + 1) * lengths[index] > max_tokens):
            yield held
            held = []
        held.append(index)
    if held:
        yield held


@torch.no_grad()
def _batch(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    max_new_tokens: int,
    stops: frozenset[int],
    sampling: Sampling,
) -> list[list[int]]:
    kept, limits = map(list, zip(*(fitted(policy, prompt, max_new_tokens) for prompt in prompts), strict=True))
    longest = max(len(prompt) for prompt in kept)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in kept], device=policy.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in kept], device=policy.device)
    written: list[list[int]] = [[] for _ in kept]
    open_rows = set(range(len(kept)))
    cache = None
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for count in range(max(limits)):
        read = {"input_ids": ids, "attention_mask": mask, "position_ids": positions + policy.ability.first_position}
        logits, cache = go_on(policy.network, cache, **read, logits_to_keep=1)
        chosen = _choose(logits[:, -1].float(), numbers, count, sampling)  # [R]
        for row, token in enumerate(chosen.tolist()):
            if row not in open_rows:
                continue
            written[row].append(token)
            if token in stops or len(written[row]) == limits[row]:
                open_rows.discard(row)
        if not open_rows:
            break
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
        positions = (positions[:, -1:] + 1).clamp(max=policy.context - 1)  # of a row that is done
    return written


def fitted(policy: Policy, prompt: Sequence[int], max_new_tokens: int) -> tuple[list[int], int]:
    """Return the end of a prompt that fits into the context, at least half of it, and how many tokens may follow."""
    room = max(policy.context - max_new_tokens, policy.context // 2)
    kept = list(prompt)[-room:]
    return kept, min(max_new_tokens, policy.context - len(kept))


def _choose(logits: Tensor, numbers: Sequence[int], count: int, sampling: Sampling) -> Tensor:
    """Return the next token of each row. [R, V] -> [R]"""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    drawn = [draw(row, number, count, sampling) for row, number in zip(logits, numbers, strict=True)]
    return torch.tensor(drawn, device=logits.device)


def draw(logits: Tensor, number: int, count: int, sampling: Sampling) -> int:
    """Return a row's next token. [V]

    Keyed by (seed, prompt's number, position), so that a row does not depend on its batch.
    """
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    ordered, order = probabilities.sort(dim=-1, descending=True)
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0)
    generator = torch.Generator().manual_seed(seed_of(sampling.seed, f"{number}/{count}"))
    return int(order[int(torch.multinomial(ordered.cpu(), 1, generator=generator))])
