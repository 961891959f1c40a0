"""Tiny policies whose texts say more than one token."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture
def policy_of(builder):
    """A policy by architecture. The tiny encoder-decoders get a head of their own: tied to what they read, it says one token for ever."""

    def make(architecture):
        policy = builder(architecture)()
        if policy.kind == "encoder-decoder":
            old = policy.network.get_output_embeddings().weight
            head = nn.Linear(old.shape[1], old.shape[0], bias=False)
            with torch.no_grad():
                head.weight.copy_(torch.randn(old.shape, generator=torch.Generator().manual_seed(1)))
            policy.network.set_output_embeddings(head)
        return policy

    return make
