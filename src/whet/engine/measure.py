"""Sums per row, and likelihoods of many rows without gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from whet.engine.cut import cut
from whet.models.policy import Policy
from whet.types import Batch, Unit


def segment_sum(values: Tensor, batch: Batch) -> Tensor:
    """Return the sum over each row's tokens. [T] -> [R]"""
    sizes = torch.tensor(batch.lengths, device=values.device)
    rows = torch.repeat_interleave(torch.arange(len(sizes), device=values.device), sizes)
    return torch.zeros(len(sizes), dtype=values.dtype, device=values.device).index_add(0, rows, values)


def nll(policy: Policy, batch: Batch) -> Tensor:
    """Return the negative log-likelihood of the supervised tokens, summed, in nats. []"""
    supervised = batch.tokens["supervised"]
    alike = bool(((supervised == 0) | (supervised == supervised.max())).all())
    return -(policy.logprobs(batch, alike=alike) * supervised).sum()


def likelihoods(policy: Policy, units: Sequence[Unit]) -> dict[int, tuple[float, int]]:
    """Return, by row id, the negative log-likelihood of the supervised tokens in nats, and their number. Rows of one id add up."""
    found: dict[int, tuple[float, int]] = {}
    with torch.no_grad():
        for batch in cut(units, policy.max_tokens):
            supervised = batch.tokens["supervised"]
            sums = segment_sum(policy.logprobs(batch.to(policy.device)).double(), batch).tolist()
            counts = segment_sum(supervised, batch).tolist()
            for row, logprob, count in zip(batch.row_ids, sums, counts, strict=True):
                total, tokens = found.get(row, (0.0, 0))
                found[row] = (total - logprob, tokens + int(count))
    return found
