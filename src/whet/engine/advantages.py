"""Advantages: how much better an answer, or a token, turned out than was expected. Nothing here has a gradient.

Shapes: B rows, T tokens of a row, P prompts, G answers to each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLAT = 1e-4
"""Added to a group's spread, so that equal rewards give advantages of 0."""


def gae(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Return the generalised advantage estimate of each token of one answer. [T] -> [T]

    Schulman et al. 2016 (arXiv:1506.02438), eq. 16. `values[t]` is the estimate before token t; behind the last one it is 0.
    """
    advantages = torch.zeros_like(rewards)
    running = torch.zeros((), dtype=rewards.dtype)
    for place in reversed(range(len(rewards))):
        following = values[place + 1] if place + 1 < len(values) else torch.zeros((), dtype=values.dtype)
        running = rewards[place] + gamma * following - values[place] + gamma * lam * running
        advantages[place] = running
    return advantages


def whitened(advantages: Sequence[Tensor]) -> list[Tensor]:
    """Return the advantages of a whole step moved to mean 0 and scaled to variance 1, over all tokens. [T] each"""
    together = torch.cat(list(advantages))
    scale = torch.rsqrt(together.var(unbiased=False) + 1e-8)
    return [(one - together.mean()) * scale for one in advantages]


def group_advantages(rewards: Tensor, *, scaled: bool) -> Tensor:
    """Return each answer's reward less its group's mean; scaled: over the group's standard deviation. [P, G] -> [P, G]

    Shao et al. 2024 (arXiv:2402.03300), section 4.1.2, with the deviation of a sample. Unscaled: Liu et al. 2025 (arXiv:2503.20783).
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + FLAT) if scaled else centred


def clipped_surrogate(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Return what a policy gains by its ratio to the one that wrote the answer, clipped. [T] -> [T]

    Schulman et al. 2017 (arXiv:1707.06347), eq. 7.
    """
    return torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
