"""Linear layers of both layouts, and what a technique puts in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.errors import ModelError, RecipeError
from whet.models.policy import Policy


class Around(nn.Module):
    """A module in a linear layer's place that still calls it. Code of an architecture may read the layer's own weight through it."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        return bias


A = TypeVar("A", bound=Around)


def placed(policy: Policy, kind: type[A]) -> list[tuple[str, A]]:
    """Return what stands in the place of linear layers, by the layer's name."""
    return [(name, module) for name, module in policy.network.named_modules() if isinstance(module, kind)]


def take_off(policy: Policy, kind: type[Around]) -> None:
    """Put the linear layers back where something of this kind stands in their place."""
    for name, layer in placed(policy, kind):
        policy.network.set_submodule(name, layer.base)


def linear_layers(policy: Policy) -> Iterator[tuple[str, nn.Module]]:
    """Yield every linear layer but the output head, by name."""
    output = policy.network.get_output_embeddings()
    for name, module in policy.network.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module is not output:
            yield name, module


def hidden_matrices(policy: Policy) -> dict[str, bool]:
    """Return the matrices that learn between hidden states, as `Policy.trainable` names them, and whether each is kept as [in, out].

    Those are weights of linear layers and of what techniques put around them; no embedding, output head, virtual token or task's head.
    """
    apart = {
        id(parameter)
        for module in policy.network.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    output = policy.network.get_output_embeddings()
    apart |= {id(parameter) for parameter in output.parameters()} if output is not None else set()
    found = {}
    for name, module in policy.network.named_modules():
        if isinstance(module, (nn.Linear, Conv1D, Around)):
            for own, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter.ndim == 2 and id(parameter) not in apart:
                    found[".".join(filter(None, ("network", name, own)))] = isinstance(module, Conv1D)
    return found


def choose_layers(policy: Policy, targets: str | list[str], technique: str) -> list[str]:
    """Return the linear layers that `targets` names: all-linear, a regular expression, or a list of endings."""
    linear = [name for name, _ in linear_layers(policy)]
    if not linear:
        raise ModelError(f"{technique}: this model has no linear layer that could be adapted. Use technique full, or head.")
    if targets == "all-linear":
        return linear
    if isinstance(targets, str):
        try:
            chosen = [name for name in linear if re.search(targets, name)]
        except re.error as error:
            raise RecipeError(
                f"{technique}: targets {targets!r} is not a regular expression: {error}. Allowed: all-linear, one, or a list."
            ) from None
    else:
        chosen = [name for name in linear if name.endswith(tuple(targets))]
    if not chosen:
        endings = sorted({name.rpartition(".")[2] for name in linear})
        raise ModelError(
            f"{technique}: targets {targets!r} match no linear layer of this model. Its layers end in: {', '.join(endings)}."
        )
    return chosen


def sizes(layer: nn.Module) -> tuple[int, int]:
    """Return how many numbers go into a linear layer, and how many come out."""
    num_out, num_in = matrix(layer).shape
    return num_in, num_out


def matrix(layer: nn.Module) -> Tensor:
    """Return a layer's weight as [out, in], whatever its own layout."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.T if isinstance(layer, Conv1D) else weight


def set_matrix(layer: nn.Module, value: Tensor) -> None:
    """Give a layer another weight, which is said as [out, in]."""
    with torch.no_grad():
        matrix(layer).copy_(value)
