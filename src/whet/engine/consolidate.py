"""Elastic weight consolidation: weights that mattered for what was learnt before are held near where they were.

Kirkpatrick et al. 2017 (arXiv:1612.00796), eq. 3: strength / 2 * sum of F (weight - start)^2, with the diagonal F of the Fisher
information. It is taken of the weights that the network computes with, whatever learns: beside a frozen layer that is base + update, so
that the same change costs the same by any technique. LoRA's own A and B would not do: where they begin, B is 0, so A has no gradient
and no importance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from whet.engine.cut import pack
from whet.errors import RecipeError
from whet.models.linear import placed
from whet.models.lowrank import LowRank
from whet.models.policy import Policy
from whet.protocols import Objective
from whet.types import Unit


@dataclass(frozen=True, slots=True)
class Anchor:
    """What holds a policy that learns to where it began."""

    strength: float
    fisher: Mapping[str, Tensor]
    """By the name of a weight, as large as it, of layers [out, in]; a head may have grown rows since, which are free."""
    layers: Mapping[str, LowRank]
    """Layers with an update beside them, by the name of their weight: the update is the change."""
    learning: Mapping[str, Tensor]
    """Weights that learn themselves, by name."""
    start: Mapping[str, Tensor]
    """What these were at the beginning."""

    def penalty(self) -> Tensor:
        """Return the term that is added to the loss once a step, in fp32 at least. []"""
        sums = [(self.fisher[name] * layer.changed().square()).sum() for name, layer in self.layers.items()]
        for name, weight in self.learning.items():
            known = self.fisher[name]
            sums.append((known * (weight - self.start[name])[: len(known)].square()).sum())
        return self.strength / 2 * torch.stack(sums).sum()


def held_weights(policy: Policy, known: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the plain network's weights that a technique lets learn; `known` are those there are before it is attached.

    Raises RecipeError for a technique that learns something else than weights.
    """
    return [*_layers(policy), *_learning(policy, known)]


def hold(policy: Policy, strength: float, fisher: Mapping[str, Tensor]) -> Anchor:
    """Return what holds a policy to where it is now; the technique is attached, and nothing has learnt yet."""
    where, layers = {name: tensor.to(policy.device) for name, tensor in fisher.items()}, _layers(policy)
    learning = _learning(policy, where)
    start = {name: weight.detach().clone() for name, weight in learning.items()}
    turned = {name: where[name].T for name, layer in layers.items() if isinstance(layer.base, Conv1D)}  # updates are [out, in]
    return Anchor(strength, where | turned, layers, learning, start)


def fisher_diagonal(policy: Policy, objective: Objective, units: Sequence[Unit], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean over units of the squared gradient of each one's loss, by the weight's name.

    With the labels that the rows have (the empirical Fisher), in fp32; a unit's loss is a sum, so that of a text is its negative
    log-likelihood. The gradients come from `torch.autograd.grad`, one unit at a time: nothing is accumulated, and no weight changes.
    """
    every = all_weights(policy)
    chosen = [every[name] for name in names]
    sums = [torch.zeros_like(weight) for weight in chosen]
    state = objective.init(policy)
    for weight in chosen:
        weight.requires_grad_(True)
    try:
        for unit in units:
            terms, _ = objective.loss(policy, pack(unit).to(policy.device), state)
            loss = torch.stack(list(terms.values())).sum()
            for total, gradient in zip(sums, torch.autograd.grad(loss, chosen, allow_unused=True), strict=True):
                if gradient is not None:
                    total.add_(gradient.square())
    finally:
        for weight in chosen:
            weight.requires_grad_(False)
    return {name: total / len(units) for name, total in zip(names, sums, strict=True)}


def all_weights(policy: Policy) -> dict[str, Tensor]:
    """Return every weight of a policy by the name that `trainable` gives it."""
    network = {f"network.{name}": parameter for name, parameter in policy.network.named_parameters()}
    return network | {f"heads.{name}": parameter for name, parameter in policy.heads.named_parameters()}


def _layers(policy: Policy) -> dict[str, LowRank]:
    return {f"network.{name}.weight": layer for name, layer in placed(policy, LowRank)}


def _learning(policy: Policy, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inside = tuple(f"network.{name}." for name, _ in placed(policy, LowRank))
    found = {name: weight for name, weight in policy.trainable() if not inside or not name.startswith(inside)}
    strange = next((name for name in found if name not in known), None)
    if strange is not None:
        raise RecipeError(
            f"continual.ewc holds weights where they are, and this technique learns something beside them ({strange}). Use lora, full, "
            "bitfit or head, or set continual.ewc to 0."
        )
    return found
