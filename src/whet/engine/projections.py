"""Linear layers that read the same input, as one matrix product each way, to which their low-rank updates are added as it is written.

Where layers share their input, W is all of theirs, and so are A and B. A frozen weight is rounded and laid out once, and gets no gradient.
What learns is rounded at each pass.

Shapes: T tokens, D width of the input, O width of all outputs together, R ranks of all updates together.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whet.engine.activations import Activation, activation
from whet.engine.fused import column_sums, why_not
from whet.engine.int8_products import Int8
from whet.engine.products import Plain, Product, laid_out
from whet.engine.thin_products import Run, Update, lay, low_of, sums_of
from whet.models.lowrank import LowRank

LEARNING = -1
"""The version of a tensor that learns: torch's fused optimisers change it and leave its version as it is."""
GIVEN = 7
"""The place of the first layer's weight among what `_Project` is given."""


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
    product: Product
    """With all weights. [O, D]"""
    downs: Tensor
    """[R, D]"""
    ups: Tensor
    """Times their scales, each in its own rows and columns, zero elsewhere. [R, O]"""
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


_LASTING: ContextVar[bool] = ContextVar("lasting products", default=False)


@contextmanager
def lasting_products() -> Iterator[None]:
    """Within this, what is laid out for products is kept from the first pass on, be it one that learns or not.

    Laid out or not, a product rounds differently: a process that resumes training, and only scores before it learns, if it learns at
    all, would otherwise find other numbers than the one that has learnt.
    """
    before = _LASTING.set(True)
    try:
        yield
    finally:
        _LASTING.reset(before)


class Projections:
    """Groups of layers, by a name that the caller gives, and what is kept of each."""

    def __init__(self) -> None:
        self.stacks: dict[str, Stack] = {}
        self.int8 = False
        """Frozen weights are multiplied in 8 bits; whoever sets it has asked `int8_products.why_not`."""

    def __call__(self, name: str, x: Tensor, layers: Sequence[nn.Module]) -> tuple[Tensor, ...]:
        """Return what each layer makes of x. [T, D] -> [T, width of its output] each

        What is not a product and an update, and all in fp32, where rounded copies would only take memory, is asked by itself.
        """
        return self._project(name, (x,), layers, None)

    def activated(self, name: str, function: Callable[..., Tensor], inner: tuple[Tensor, ...], layer: nn.Module) -> Tensor:
        """Return what a layer makes of `function(*inner)`, which is not kept for the backward pass where that can make it again. [T, O]"""
        return self._project(name, inner, [layer], function)[0]

    def _project(
        self, name: str, inner: tuple[Tensor, ...], layers: Sequence[nn.Module], function: Callable[..., Tensor] | None
    ) -> tuple[Tensor, ...]:
        again = activation(function) if function is not None and inner[0].device.type == "cpu" else None
        if function is not None and again is None:
            inner = (function(*inner),)
        x = inner[0]
        parts = [part_of(layer) for layer in layers]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or x.dtype != torch.bfloat16 or any(part.weight.dtype != torch.float32 for part in known):
            self.stacks.pop(name, None)
            x = x if function is None or again is None else function(*inner)
            return tuple(layer(x) for layer in layers)
        stack = self._stack(name, known, x.dtype)
        given = [tensor for part in known for tensor in part.tensors]
        widths = tuple(len(part.weight) for part in known)
        ranks = tuple(0 if part.down is None else len(part.down) for part in known)
        scales = tuple(part.scale for part in known)
        beside = inner[1] if len(inner) > 1 else None
        made: tuple[Tensor, ...] = _Project.apply(x, beside, again, stack, widths, ranks, scales, *given)  # type: ignore[no-untyped-call]
        return made

    def _stack(self, name: str, parts: Sequence[Part], dtype: torch.dtype) -> Stack:
        given = [tensor for part in parts for tensor in part.tensors]
        key = tuple((tensor, _version(tensor)) for tensor in given)
        kept = self.stacks.get(name)
        if kept is not None and (len(kept.key) != len(key) or kept.downs.dtype != dtype):
            kept = None
        keeps = (
            torch.is_grad_enabled() or kept is not None or _LASTING.get() or self.int8
        )  # what only scores and predicts keeps nothing
        lays = keeps and parts[0].weight.device.type == "cpu"
        frozen: Callable[[Tensor], Product] = Int8 if self.int8 else laid_out if lays else Plain
        with torch.no_grad():
            stack = _fill(parts, key, dtype, kept, frozen)
        if keeps:
            self.stacks[name] = stack
        return stack


def _fill(
    parts: Sequence[Part],
    key: tuple[tuple[Tensor | None, int], ...],
    dtype: torch.dtype,
    kept: Stack | None,
    frozen: Callable[[Tensor], Product],
) -> Stack:
    """Return the stack of these parts, `frozen` made of those that do not learn; weights that have not changed since `kept` was made are not rounded again."""
    weights, before = key[::4], None if kept is None else kept.key[::4]
    if kept is not None and before is not None and all(_same(one, other) for one, other in zip(weights, before, strict=True)):
        product = kept.product
    else:
        matrix = _rounded(parts, dtype, kept)
        product = frozen(matrix) if all(version != LEARNING for _, version in weights) else Plain(matrix)
    biases = [part.bias for part in parts if part.bias is not None]
    bias = None
    if biases:
        own = [part.bias if part.bias is not None else part.weight.new_zeros(len(part.weight)) for part in parts]
        bias = torch.cat(own).to(dtype)
    downs, ups = _laid(parts, key, dtype, kept)
    return Stack(key, product, downs, ups, bias)


def _laid(
    parts: Sequence[Part], key: tuple[tuple[Tensor | None, int], ...], dtype: torch.dtype, kept: Stack | None
) -> tuple[Tensor, Tensor]:
    """Return the matrices of all updates, as `Stack` has them; where the same ones were there before, in the same place."""
    widths, ranks = tuple(len(part.weight) for part in parts), tuple(0 if part.down is None else len(part.down) for part in parts)
    reading, making = _runs(parts[0].weight.shape[1], widths, ranks, tuple(part.scale for part in parts))
    if kept is not None and all(one is new for (one, _), (new, _) in zip(kept.key, key, strict=True)):
        downs, ups = kept.downs, kept.ups
    else:
        downs = parts[0].weight.new_empty(sum(ranks), reading[0].columns.stop, dtype=dtype)
        ups = parts[0].weight.new_zeros(sum(ranks), sum(widths), dtype=dtype)
    if making:
        known = [(parts[index], run) for index, run in making.items()]
        lay(downs, [(part.down, Run(reading[0].columns, run.ranks)) for part, run in known if part.down is not None])
        lay(ups, [(part.up.T, run) for part, run in known if part.up is not None])
    return downs, ups


def _rounded(parts: Sequence[Part], dtype: torch.dtype, kept: Stack | None) -> Tensor:
    """Return all weights beside each other; where the same ones were there before, in the same place. [O, D]

    A pass whose backward is still to come finds the same numbers there: nothing learns between the two.
    """
    weights = [part.weight for part in parts]
    if (
        kept is not None
        and type(kept.product) is Plain
        and all(one is new for (one, _), new in zip(kept.key[::4], weights, strict=True))
    ):
        matrix = kept.product.matrix
    else:
        matrix = torch.empty(sum(map(len, weights)), weights[0].shape[1], dtype=dtype, device=weights[0].device)
    for rows, weight in zip(torch.split(matrix, [len(weight) for weight in weights]), weights, strict=True):
        rows.copy_(weight)
    return matrix


def _same(one: tuple[Tensor | None, int], other: tuple[Tensor | None, int]) -> bool:
    return one[0] is other[0] and one[1] == other[1] != LEARNING


def _version(tensor: Tensor | None) -> int:
    if tensor is None:
        return 0
    return LEARNING if tensor.requires_grad else tensor._version


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        beside: Tensor | None,
        again: Activation | None,
        stack: Stack,
        widths: tuple[int, ...],
        ranks: tuple[int, ...],
        scales: tuple[float, ...],
        *given: Tensor | None,
    ) -> tuple[Tensor, ...]:
        inner = (x,) if beside is None else (x, beside)
        read = x if again is None else again.value(*inner)  # [T, D]
        reading, making = _runs(read.shape[1], widths, ranks, scales)
        low = low_of(read, stack.downs, reading) if sum(ranks) else None  # [T, R]
        out = stack.product.out(read, stack.bias, None if low is None else Update(low, stack.ups, tuple(making.values())))
        ctx.rereads = any(ctx.needs_input_grad[GIVEN::4]) or low is not None  # what learns needs its input again; a bias does not
        keeps = ctx.rereads or (again is not None and any(ctx.needs_input_grad[:2]))
        ctx.save_for_backward(low, *(inner if keeps else ()))
        ctx.stack, ctx.again = stack, again
        ctx.sizes = (widths, ranks, scales)
        return torch.split(out, list(widths), dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        low, *inner = ctx.saved_tensors
        stack, again, (widths, ranks, scales), needs = ctx.stack, ctx.again, ctx.sizes, ctx.needs_input_grad[GIVEN:]
        grad = _beside(grads)  # [T, O]
        reading, making = _runs(stack.downs.shape[1], widths, ranks, scales)
        grad_low = None if low is None else low_of(grad, stack.ups, tuple(making.values()))  # [T, R]
        x: Any = None if again is not None or not inner else inner[0]
        slopes: tuple[Tensor | None, ...] = (None,)
        if any(ctx.needs_input_grad[:2]):
            back = stack.product.back(grad, None if grad_low is None else Update(grad_low, stack.downs, reading))
            slopes = (back,)
            if again is not None:
                x = back  # what the activation gave is written over the gradient, which has then been read
                slopes = again.back(*inner, back, back if ctx.rereads else None)
        elif again is not None and ctx.rereads:
            x = again.value(*inner)
        of_downs = sums_of(x, grad_low, reading, tall=False)[0] if grad_low is not None and any(needs[2::4]) else None  # [R, D]
        learning = [index for index in making if needs[4 * index + 3]]
        of_ups = sums_of(grad, low, [making[index] for index in learning], tall=True) if low is not None else []
        whole = grad.T @ x if len(widths) > 1 and all(needs[::4]) else None  # [O, D]
        sums = _sums(grad) if any(needs[1::4]) else None
        found: list[Tensor | None] = []
        for index, (rows, columns) in enumerate(zip(_slices(widths), _slices(ranks), strict=True)):
            weight, bias, down, up = needs[4 * index : 4 * index + 4]
            slope = None if not weight else grad[:, rows].T @ x if whole is None else whole[rows]
            found.append(None if slope is None else slope.float())
            found.append(sums[rows].clone() if bias and sums is not None else None)
            found.append(of_downs[columns] if down and of_downs is not None else None)
            found.append(of_ups[learning.index(index)] if up else None)
        return slopes[0], slopes[1] if len(slopes) > 1 else None, *(None,) * (GIVEN - 2), *found


@functools.lru_cache(maxsize=256)
def _runs(
    width: int, widths: tuple[int, ...], ranks: tuple[int, ...], scales: tuple[float, ...]
) -> tuple[tuple[Run, ...], dict[int, Run]]:
    """Return the columns and ranks of the updates where they read, and of each layer that has one where it writes."""
    writing = zip(_slices(widths), _slices(ranks), scales, strict=True)
    made = {index: Run(columns, own, scale) for index, (columns, own, scale) in enumerate(writing) if own.start < own.stop}
    return (Run(slice(0, width), slice(0, sum(ranks))),), made


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors as one; where they lie beside each other in memory already, without a copy. [T, width] each"""
    first, place = parts[0], parts[0].data_ptr()
    for part in parts:
        if part.stride() != first.stride() or part.data_ptr() != place or part.stride(1) != 1:
            return torch.cat(list(parts), dim=1)
        place += part.shape[1] * part.element_size()
    if len(parts) == 1:
        return first
    width = sum(part.shape[1] for part in parts)
    inside = (first.storage_offset() + width) * first.element_size() <= first.untyped_storage().nbytes()
    same = all(part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for part in parts)
    if not (inside and same and first.stride(0) >= width):
        return torch.cat(list(parts), dim=1)
    return first.as_strided((len(first), width), (first.stride(0), 1))


def _sums(grad: Tensor) -> Tensor:
    """[T, O] -> [O], fp32"""
    return column_sums(grad) if grad.device.type == "cpu" and why_not() is None else grad.sum(0, dtype=torch.float32)


def _slices(widths: Sequence[int]) -> list[slice]:
    ends = list(itertools.accumulate(widths))
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
