"""Greedy and sampled generation with a key-value cache, in batches.

Shapes: R prompts of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.engine.order import seed_of
from whet.models.policy import Policy

BATCH = 32


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
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(by_length), BATCH):
        chosen = by_length[start : start + BATCH]
        written = _batch(policy, [prompts[i] for i in chosen], chosen, max_new_tokens, stops, sampling)
        found |= dict(zip(chosen, written, strict=True))
    for index in range(len(prompts)):
        yield found[index]


@torch.no_grad()
def _batch(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    max_new_tokens: int,
    stops: frozenset[int],
    sampling: Sampling,
) -> list[list[int]]:
    room = max(policy.context - max_new_tokens, policy.context // 2)
    kept = [list(prompt)[-room:] for prompt in prompts]
    longest = max(len(prompt) for prompt in kept)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in kept], device=policy.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in kept], device=policy.device)
    written: list[list[int]] = [[] for _ in kept]
    limits = [min(max_new_tokens, policy.context - len(prompt)) for prompt in kept]
    open_rows = set(range(len(kept)))
    cache = None
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for count in range(max(limits)):
        out = policy.network(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        cache = out.past_key_values
        chosen = _choose(out.logits[:, -1].float(), numbers, count, sampling)  # [R]
        for row, token in enumerate(chosen.tolist()):
            if row not in open_rows:
                continue
            if token in stops:
                open_rows.discard(row)
            else:
                written[row].append(token)
                if len(written[row]) == limits[row]:
                    open_rows.discard(row)
        if not open_rows:
            break
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
        positions = (positions[:, -1:] + 1).clamp(max=policy.context - 1)  # of a row that is done
    return written


def _choose(logits: Tensor, numbers: Sequence[int], count: int, sampling: Sampling) -> Tensor:
    """Return the next token of each row. Every draw is keyed by (seed, prompt's number, position), so a row does not depend on its batch."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    ordered, order = probabilities.sort(dim=-1, descending=True)
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0)
    chosen = []
    for row, number in enumerate(numbers):
        generator = torch.Generator().manual_seed(seed_of(sampling.seed, f"{number}/{count}"))
        draw = torch.multinomial(ordered[row].cpu(), 1, generator=generator)
        chosen.append(order[row, draw.to(order.device)])
    return torch.cat(chosen)
