"""Updates of several stages that were all learnt from the same weights, made into one.

Each update is what a stage adds to a weight, as a tensor of the weight's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Method = Literal["linear", "ties"]


def merge_updates(updates: Sequence[Tensor], method: Method, weights: Sequence[float], density: float) -> Tensor:
    """Return one update in the place of several of the same weight; `density` is for ties only."""
    return linear(updates, weights) if method == "linear" else ties(updates, weights, density)


def linear(updates: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum (task arithmetic: Ilharco et al. 2023, arXiv:2212.04089)."""
    return torch.stack([weight * update for weight, update in zip(weights, updates, strict=True)]).sum(0)


def ties(updates: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """Return the updates trimmed, of one sign, and averaged over those that have it. Yadav et al. 2023 (arXiv:2306.01708), section 4.

    Of each only the largest numbers stay, a share of `density`; the sign of a place is that of the trimmed sum there; the mean is over the
    stages that are not trimmed there and agree with the sign. They trim over all weights together; here each weight is trimmed by itself, as
    in PEFT, so that no layer loses all of its update. `weights` come in behind the sign.
    """
    trimmed = torch.stack([_trimmed(update, density) for update in updates])
    sign = torch.where(trimmed.sum(0) >= 0, 1.0, -1.0).to(trimmed.dtype)
    agrees = trimmed.sign() == sign
    shares = torch.tensor(list(weights), dtype=trimmed.dtype, device=trimmed.device).view(-1, *[1] * updates[0].ndim)
    return (shares * trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def _trimmed(update: Tensor, density: float) -> Tensor:
    kept = max(1, int(density * update.numel()))
    places = update.abs().flatten().topk(kept).indices
    return torch.zeros_like(update).flatten().index_copy(0, places, update.flatten()[places]).view_as(update)
