"""Linear layers that read the same input, as one matrix product each way, with their low-rank updates riding on it.

[x, x A] times [W, scale B] gives base and update together; where layers share their input, W is all of theirs. A frozen weight is
rounded once, and gets no gradient. What learns is rounded at each pass.

Shapes: T tokens, D width of the input, O width of all outputs together, R ranks of all updates together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from whet.engine.fused import column_sums, why_not
from whet.models.lowrank import LowRank

LEARNING = -1
"""The version of a tensor that learns: torch's fused optimisers change it and leave its version as it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of a group: what it computes with."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None
    up: Tensor | None
    scale: float

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.weight, self.bias, self.down, self.up


@dataclass(frozen=True, slots=True)
class Stack:
    """A group's weights beside each other, in the precision of the product."""

    key: tuple[tuple[Tensor | None, int], ...]
    """What it was made of, and in which version; LEARNING where that says nothing."""
    matrix: Tensor
    """[O, D + R]"""
    downs: Tensor
    """[R, D]"""
    bias: Tensor | None
    """[O]"""


def part_of(layer: nn.Module) -> Part | None:
    """Return what a layer computes with, where that is a product and a low-rank update; None where it is something else."""
    if type(layer) is LowRank:
        base = layer.base
        plain = type(base) is nn.Linear and layer.magnitude is None and layer.start_down is None
        weight, bias = cast(Tensor, base.weight), cast(Tensor | None, base.bias)
        return Part(weight, bias, layer.down, layer.up, layer.scale) if plain and not watched(layer) else None
    return Part(layer.weight, layer.bias, None, None, 1.0) if type(layer) is nn.Linear and not watched(layer) else None


def watched(module: nn.Module) -> bool:
    """Whether somebody hooked into a module or put another `forward` into it, who would not be called where it is only read."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks) or "forward" in vars(module)


class Projections:
    """Groups of layers, by a name that the caller gives, and what is kept of each."""

    def __init__(self) -> None:
        self.stacks: dict[str, Stack] = {}

    def __call__(self, name: str, x: Tensor, layers: Sequence[nn.Module]) -> tuple[Tensor, ...]:
        """Return what each layer makes of x. [T, D] -> [T, width of its output] each

        What is not a product and an update, and all in fp32, where rounded copies would only take memory, is asked by itself.
        """
        parts = [part_of(layer) for layer in layers]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or x.dtype != torch.bfloat16 or any(part.weight.dtype != torch.float32 for part in known):
            self.stacks.pop(name, None)
            return tuple(layer(x) for layer in layers)
        stack = self._stack(name, known, x.dtype)
        given = [tensor for part in known for tensor in part.tensors]
        widths = tuple(len(part.weight) for part in known)
        ranks = tuple(0 if part.down is None else len(part.down) for part in known)
        scales = tuple(part.scale for part in known)
        made: tuple[Tensor, ...] = _Project.apply(x, stack, widths, ranks, scales, *given)  # type: ignore[no-untyped-call]
        return made

    def _stack(self, name: str, parts: Sequence[Part], dtype: torch.dtype) -> Stack:
        given = [tensor for part in parts for tensor in part.tensors]
        key = tuple((tensor, _version(tensor)) for tensor in given)
        kept = self.stacks.get(name)
        if kept is not None and (len(kept.key) != len(key) or kept.matrix.dtype != dtype):
            kept = None
        with torch.no_grad():
            stack = _fill(parts, key, dtype, kept)
        if torch.is_grad_enabled() or kept is not None:  # what only scores and predicts keeps nothing
            self.stacks[name] = stack
        return stack


def _fill(parts: Sequence[Part], key: tuple[tuple[Tensor | None, int], ...], dtype: torch.dtype, kept: Stack | None) -> Stack:
    """Return the stack of these parts; what has not changed since `kept` was made is not rounded again."""
    ranks = [0 if part.down is None else len(part.down) for part in parts]
    width, num_out = parts[0].weight.shape[1], sum(len(part.weight) for part in parts)
    if kept is not None and all(old is new for (old, _), (new, _) in zip(kept.key, key, strict=True)):
        matrix = kept.matrix
        changed = [new == LEARNING or new != old for (_, new), (_, old) in zip(key, kept.key, strict=True)]
    else:
        matrix, changed = torch.zeros(num_out, width + sum(ranks), dtype=dtype), [True] * len(key)
    row, column = 0, width
    for index, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        rows = slice(row, row + len(part.weight))
        if changed[4 * index]:
            matrix[rows, :width].copy_(part.weight)
        if part.up is not None and changed[4 * index + 3]:
            matrix[rows, column : column + rank].copy_(part.up * part.scale)
        row, column = rows.stop, column + rank
    downs = [part.down.to(dtype) for part in parts if part.down is not None]
    biases = [part.bias for part in parts if part.bias is not None]
    bias = None
    if biases:
        own = [part.bias if part.bias is not None else part.weight.new_zeros(len(part.weight)) for part in parts]
        bias = torch.cat(own).to(dtype)
    return Stack(key, matrix, torch.cat(downs) if downs else matrix.new_empty(0, width), bias)


def _version(tensor: Tensor | None) -> int:
    if tensor is None:
        return 0
    return LEARNING if tensor.requires_grad else tensor._version


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        stack: Stack,
        widths: tuple[int, ...],
        ranks: tuple[int, ...],
        scales: tuple[float, ...],
        *given: Tensor | None,
    ) -> tuple[Tensor, ...]:
        read = torch.cat([x, linear(x, stack.downs)], dim=1) if sum(ranks) else x  # [T, D + R]
        out = linear(read, stack.matrix, stack.bias)
        needed = any(ctx.needs_input_grad[5::4]) or sum(ranks) > 0  # what learns needs its input again; a bias does not
        ctx.save_for_backward(read if needed else None)
        ctx.stack = stack  # written again by another pass before this one's backward, but with the same numbers
        ctx.sizes = (widths, ranks, scales)
        return torch.split(out, list(widths), dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (read,), matrix, downs = ctx.saved_tensors, ctx.stack.matrix, ctx.stack.downs
        widths, ranks, scales = ctx.sizes
        needs, width = ctx.needs_input_grad[5:], downs.shape[1]
        grad = _beside(grads)  # [T, O]
        grad_x = grad_low = None
        if ctx.needs_input_grad[0]:
            grad_read = grad @ matrix
            grad_low = grad_read[:, width:]
            grad_x = torch.addmm(grad_read[:, :width], grad_low, downs) if sum(ranks) else grad_read
        elif sum(ranks):
            grad_low = grad @ matrix[:, width:]
        grad_downs = grad_low.T @ read[:, :width] if grad_low is not None and sum(ranks) else None
        whole = grad.T @ read[:, :width] if len(widths) > 1 and all(needs[::4]) else None  # [O, D]
        sums = _sums(grad) if any(needs[1::4]) else None
        found: list[Tensor | None] = []
        for index, (rows, columns) in enumerate(zip(_slices(widths), _slices(ranks), strict=True)):
            weight, bias, down, up = needs[4 * index : 4 * index + 4]
            own = grad[:, rows]
            slope = None if not weight else own.T @ read[:, :width] if whole is None else whole[rows]
            found.append(None if slope is None else slope.float())
            found.append(sums[rows].clone() if bias and sums is not None else None)
            found.append(grad_downs[columns].float() if down and grad_downs is not None else None)
            low = slice(width + columns.start, width + columns.stop)
            found.append((own.T @ read[:, low]).float().mul_(scales[index]) if up else None)
        return grad_x, None, None, None, None, *found


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors as one; where they lie beside each other in memory already, without a copy. [T, width] each"""
    first, place = parts[0], parts[0].data_ptr()
    for part in parts:
        if part.stride() != first.stride() or part.data_ptr() != place or part.stride(1) != 1:
            return torch.cat(list(parts), dim=1)
        place += part.shape[1] * part.element_size()
    width = sum(part.shape[1] for part in parts)
    inside = (first.storage_offset() + width) * first.element_size() <= first.untyped_storage().nbytes()
    same = all(part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for part in parts)
    if len(parts) > 1 and not (inside and same and first.stride(0) >= width):
        return torch.cat(list(parts), dim=1)
    return first if len(parts) == 1 else first.as_strided((len(first), width), (first.stride(0), 1))


def _sums(grad: Tensor) -> Tensor:
    """[T, O] -> [O], fp32"""
    return column_sums(grad) if why_not() is None else grad.sum(0, dtype=torch.float32)


def _slices(widths: Sequence[int]) -> list[slice]:
    ends = list(itertools.accumulate(widths))
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
