"""Weights set to zero by a score: which ones, in which layers, and how large the inputs of a layer are on some rows.

Shapes: O outputs, I inputs, R rows, T tokens.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.errors import ModelError, RecipeError
from whet.models.blocks import block_name
from whet.models.linear import matrix
from whet.models.policy import Policy
from whet.types import Batch

LINEAR = (nn.Linear, Conv1D)
Layers = dict[str, Any]
"""Linear layers by name."""
Score = Callable[[str, Tensor], Tensor]
"""From a layer's name and its weight [O, I] to what each weight is worth. [O, I]"""


def linear_blocks(policy: Policy) -> list[Layers]:
    """Return the linear layers of each block, in the order of the blocks. Embedding and heads are in none. Raises ModelError."""
    modules = dict(policy.network.named_modules())
    blocks: dict[str, Layers] = {}
    for name, module in modules.items():
        block = block_name(name, modules)
        if block is not None and isinstance(module, LINEAR):
            blocks.setdefault(block, {})[name] = module
    if not blocks:
        raise ModelError(
            f"{type(policy.network).__name__}: has no plain linear layer in a list of blocks, so there is nothing to prune; it may be "
            "compressed already. Name its parent run."
        )
    return list(blocks.values())


def prune_layers(layers: Layers, score: Score, sparsity: float, pattern: str, *, by_row: bool) -> None:
    """Set the weights of least score to zero, in place: a share of each layer, or of each row of it, or all but n of m neighbours."""
    with torch.no_grad():
        for name, layer in layers.items():
            weight = matrix(layer)  # [O, I]
            weight *= kept(score(name, weight), sparsity, pattern, by_row=by_row)


def kept(score: Tensor, sparsity: float, pattern: str, *, by_row: bool) -> Tensor:
    """Return which weights stay. [O, I] -> [O, I] of bool

    Of a row of I weights, floor(sparsity * I) go, those of least score; without `by_row` of the whole matrix. `n:m` keeps the n best
    of each m neighbours of a row; what is left over at its end stays.
    """
    num_out, num_in = score.shape
    if pattern == "any":
        rows = score if by_row else score.reshape(1, -1)
        worst = rows.argsort(dim=-1, stable=True)[:, : int(sparsity * rows.shape[-1])]
        return torch.ones_like(rows, dtype=torch.bool).scatter(-1, worst, False).view(num_out, num_in)
    few, many = map(int, pattern.split(":"))
    whole = num_in - num_in % many
    groups = score[:, :whole].reshape(num_out, -1, many)
    worst = groups.argsort(dim=-1, stable=True)[..., : many - few]
    stays = torch.ones_like(groups, dtype=torch.bool).scatter(-1, worst, False).view(num_out, whole)
    return nn.functional.pad(stays, (0, num_in - whole), value=True)


def check_pattern(pattern: str) -> None:
    """Raise RecipeError for a pattern that is none."""
    found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", pattern)
    if pattern != "any" and (found is None or int(found[1]) >= int(found[2])):
        raise RecipeError(f"'pattern' is {pattern!r}; allowed: any, or n:m with n below m, such as 2:4.")


def input_norms(policy: Policy, layers: Layers, calibration: Sequence[Batch]) -> dict[str, Tensor]:
    """Return the length of each input of these layers over all tokens of the rows: sqrt(sum of squares). [I] each"""
    squares: dict[str, Tensor] = {}
    with torch.no_grad(), _watching(layers, squares):
        for batch in calibration:
            policy.hidden(batch.to(policy.device))
    unseen = sorted(layers.keys() - squares.keys())
    if unseen:
        raise ModelError(f"no calibration row reaches {unseen[0]}, so its inputs are not known. Use magnitude pruning.")
    return {name: total.sqrt() for name, total in squares.items()}


@contextlib.contextmanager
def _watching(layers: Layers, squares: dict[str, Tensor]) -> Iterator[None]:
    """Within this, what comes into the layers is squared and added up."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            vectors = inputs[0].reshape(-1, inputs[0].shape[-1])  # [T, I]
            total = vectors.double().square().sum(0)
            squares[name] = squares[name] + total if name in squares else total

        return add

    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_pre_hook(hook_of(name)).remove)
        yield
