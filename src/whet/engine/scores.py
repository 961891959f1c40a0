"""The head that scores an answer: of reward models, and of whoever asks one.

Shapes: R rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whet.engine.order import seed_of
from whet.models.policy import Policy
from whet.types import Batch

REWARD_HEAD = "reward"


def new_reward_head(policy: Policy) -> nn.Linear:
    """Return a head that gives one number, with small seeded weights."""
    head = nn.Linear(policy.width, 1)
    generator = torch.Generator().manual_seed(seed_of(0, REWARD_HEAD))
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) / policy.width)
        head.bias.zero_()
    return head.to(policy.device)


def reward_scores(policy: Policy, batch: Batch) -> Tensor:
    """Return the score of each row, from its pooled vector. [R], at least fp32"""
    return scalars(policy, REWARD_HEAD, policy.pooled(batch))


def scalars(policy: Policy, name: str, vectors: Tensor) -> Tensor:
    """Return a head's one number for each vector. [N, D] -> [N], at least fp32"""
    head = policy.heads[name]
    assert isinstance(head, nn.Linear), f"the policy has no head '{name}'"
    wide = vectors.to(torch.float64 if vectors.dtype == torch.float64 else torch.float32)
    with torch.autocast(vectors.device.type, enabled=False):  # one number deserves full precision
        return nn.functional.linear(wide, head.weight, head.bias).squeeze(-1)
