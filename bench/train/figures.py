"""What measurements come to: rates, ratios of pairs with their intervals, shares of the machine's limit, and whether the losses agree.

A pair is a measurement of whet and one of a peer in the same round, done one after the other, so that what slows the machine slows both.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.train.works import Work

OURS = "whet"
MOST_FOREIGN = 0.1
"""Seconds of the processors that others may take of a second; a measurement with more is thrown away."""
FIRST_LOSS, LATER_LOSS = 2e-3, 2e-2
"""How far apart losses may be: of the first step, which is one forward pass, and of the later ones, in which bf16's rounding adds up."""
FIRST_LOSS_INT8 = 1e-2
"""The same of the first step where whet multiplies frozen weights in 8 bits."""
RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement: one process that trained a few steps."""

    work: str
    peer: str
    repeat: int
    """The round; measurements of the same round are compared."""
    at: str
    """When it ended, UTC."""
    machine: str
    key: str
    """What was measured: a trainer's packages, how it is set, and how many steps."""
    beside: str
    """The source of whet that was measured in the same rounds."""
    seconds: list[float]
    """Of each step."""
    foreign_s: list[float]
    losses: list[float]
    peak_bytes: int
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def timed_s(self, warm: int) -> float:
        return sum(self.seconds[warm:])

    def foreign(self, warm: int) -> float:
        """Return the share of a processor that others took while it was timed."""
        return sum(self.foreign_s[warm:]) / self.timed_s(warm)

    def rate(self, warm: int, tokens: Sequence[int]) -> float:
        """Return tokens per second of the timed steps; `tokens` are those of all steps, without padding."""
        return sum(tokens[warm : len(self.seconds)]) / self.timed_s(warm)


def is_disturbed(foreign: float) -> bool:
    """Whether others took so much that the figure says little of the trainer."""
    return not foreign <= MOST_FOREIGN


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return our figure over theirs, of each round that has both."""
    return [ours[repeat] / theirs[repeat] for repeat in sorted(ours.keys() & theirs.keys())]


def fastest(rates: Mapping[str, Sequence[float]]) -> str | None:
    """Return the peer with the highest median rate; none where nobody was measured."""
    known = {peer: statistics.median(some) for peer, some in rates.items() if some}
    return max(known, key=known.__getitem__) if known else None


def interval(values: Sequence[float], seed: int = 0) -> list[float]:
    """Return a 95 % interval of the median, by the bootstrap over rounds."""
    generator = random.Random(seed)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return [medians[int(share * (RESAMPLES - 1))] for share in (0.025, 0.975)]


def operations(work: Work, steps: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """Return the additions and multiplications that training on these steps cannot do without.

    Of N weights in matrices, each of them 2 N a token forward and 2 N back to its input; where they learn, 2 N for their gradients. The
    head is used on supervised tokens only. Attention is two products of queries with keys and values forward, twice as many back, causal
    in a decoder: half of them. What LoRA adds, norms, and the optimiser are left out.
    """
    sizes, times = work.sizes, 4 if work.mode == "lora" else 6
    total = 0.0
    for row in (row for step in steps for row in step):
        length, supervised = len(row["ids"]), len(row["ids"]) - row["supervised_from"] if work.decodes else 0
        total += times * sizes.layer_weights * length
        total += times * sizes.vocabulary * sizes.hidden * supervised
        total += 3 * 4 * sizes.layers * sizes.hidden * length**2 * (0.5 if work.decodes else 1.0)
    return total


def first_allowed(work: Work) -> float:
    """Return how far apart the losses of a work's first step may be."""
    return FIRST_LOSS if work.frozen_precision == "same" else FIRST_LOSS_INT8


def agreement(losses: Mapping[str, Sequence[float]], whole: Mapping[str, bool]) -> dict[str, float]:
    """Return how far apart the trainers' losses are at most: at the first step, and later of those that train the `whole` same network."""
    first = [some[0] for some in losses.values()]
    later = [some[1:] for peer, some in losses.items() if whole.get(peer, True)]
    gaps = [max(step) - min(step) for step in zip(*later, strict=False)]
    return {"first": max(first) - min(first), "later": max(gaps, default=math.nan)}
