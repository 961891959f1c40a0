"""The frozen reference of a policy: what it computed before it learnt, in as little memory as that takes.

It is a second tree of modules over the same tensors. What a technique adds stands in the policy's tree only, so with adapters the
reference costs no memory; the weights that learn themselves are copied before the first step.
"""

from __future__ import annotations

import copy
from itertools import chain

from torch import nn

from whet.models.policy import Policy


def keep_reference(policy: Policy) -> None:
    """Keep the network as it is now as `policy.reference`. Called before a technique is attached, while nothing has learnt."""
    shared = {id(tensor): tensor for tensor in chain(policy.network.parameters(), policy.network.buffers())}
    network = copy.deepcopy(policy.network, shared)
    policy.reference = Policy(network, policy.tokenizer, policy.kind, policy.source, policy.ability)
    policy.reference.max_tokens = policy.max_tokens
    policy.reference.fusion = None if policy.fusion is None else policy.fusion.another()


def part_from_reference(policy: Policy) -> None:
    """Give the reference a frozen copy of every weight that learns in the policy. Does nothing where it has one already."""
    if policy.reference is None:
        return
    copies: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in policy.reference.network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                frozen = copies.setdefault(id(parameter), nn.Parameter(parameter.detach().clone(), requires_grad=False))
                module._parameters[name] = frozen
