"""Products with one matrix in bf16, on the processor: as it lies, or laid out once as kernels read it, both ways.

A product lays its matrix out anew each time, which is worth a tenth of it in the shapes of small networks. A frozen matrix needs that once.
By the package's own C kernel a product also takes what a low-rank update adds to it, before it is rounded; and where oneDNN compiles a kernel for
each number of tokens that it meets, a millisecond each, it is one for all.

Shapes: T tokens, D width of the input, O width of the output, R ranks.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from whet.engine.compiled import Strided, dense, library, missing, parallel
from whet.engine.machine import processor_flags
from whet.engine.thin_products import Update

LAY, LAY_TURNED, MULTIPLY = range(3)
PANEL = 64
"""Columns that are laid out together."""
TILE, ROWS = 6, 24
"""Tokens that are multiplied at once, and that are dealt out together at most. 24 to 48 are equally fast, more are slower."""
MOST_NUMBERS = 1 << 22
"""Of a matrix; with larger ones oneDNN is 2 to 6 % faster, and what it compiles is nothing beside the product."""
MOST_RANKS = 256
"""Of an update that is added on the way; larger ones are added afterwards."""


class Product(Protocol):
    """x W^T and its gradient by x, each with an update added where there is one."""

    def out(self, x: Tensor, bias: Tensor | None, update: Update | None = None) -> Tensor:
        """Return x W^T + bias. [T, D], [O] -> [T, O]"""
        ...

    def back(self, grad: Tensor, update: Update | None = None) -> Tensor:
        """Return grad W. [T, O] -> [T, D]"""
        ...


class Plain:
    """A matrix as it lies. [O, D]"""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def out(self, x: Tensor, bias: Tensor | None, update: Update | None = None) -> Tensor:
        return _with(update, linear(x, self.matrix, bias))

    def back(self, grad: Tensor, update: Update | None = None) -> Tensor:
        return _with(update, grad @ self.matrix)


class Packed:
    """A matrix that stays as it is, laid out for oneDNN in both directions. Holds twice its numbers."""

    def __init__(self, matrix: Tensor) -> None:
        self.there, self.here = (torch.ops.mkldnn._reorder_linear_weight(one.contiguous(), None) for one in (matrix, matrix.T))

    def out(self, x: Tensor, bias: Tensor | None, update: Update | None = None) -> Tensor:
        return _with(update, _multiply(x, self.there, bias))

    def back(self, grad: Tensor, update: Update | None = None) -> Tensor:
        return _with(update, _multiply(grad, self.here, None))


class Tiled:
    """A matrix that stays as it is, laid out for the package's own kernel in both directions. Holds twice its numbers. [O, D], both even

    Sums are in fp32 over the input's width and then over the ranks, whatever the number of tokens and threads, and are rounded once.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.outputs, self.inputs = matrix.shape
        self.there, self.here = _tiled(matrix, turned=True), _tiled(matrix, turned=False)

    def out(self, x: Tensor, bias: Tensor | None, update: Update | None = None) -> Tensor:
        return _multiply_tiled(x, self.there, self.outputs, bias, update)

    def back(self, grad: Tensor, update: Update | None = None) -> Tensor:
        return _multiply_tiled(grad, self.here, self.inputs, None, update)


def laid_out(matrix: Tensor) -> Product:
    """Return the product with a frozen matrix in bf16, laid out for the fastest kernel that is there. [O, D]"""
    if can_tile() and not any(size % 2 for size in matrix.shape) and matrix.numel() <= MOST_NUMBERS:
        return Tiled(matrix)
    return Packed(matrix) if can_pack() else Plain(matrix)


def _with(update: Update | None, found: Tensor) -> Tensor:
    return found if update is None else update.added_to(found)


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, bias, "none", [], "")
    return found


class _Part(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("column", "width", "rank", "ranks")]


class _Call(ctypes.Structure):
    """`struct call` of kernels/product.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("work", "tokens", "inner", "outputs")),
        *((name, Strided) for name in ("x", "y", "low", "matrix")),
        *((name, ctypes.c_void_p) for name in ("panels", "bias")),
        ("parts", ctypes.POINTER(_Part)),
        *((name, ctypes.c_int64) for name in ("count", "block", "blocks", "group", "threads", "next")),
    ]


def _tiled(matrix: Tensor, *, turned: bool) -> Tensor:
    """Return a matrix laid out to be multiplied with from the left. [D, O], or [O, D] where it is to be turned"""
    outputs, inner = matrix.shape if turned else reversed(matrix.shape)
    panels = torch.empty(-(-outputs // PANEL) * PANEL * inner, dtype=torch.bfloat16)
    call = _Call(LAY_TURNED if turned else LAY, 0, inner, outputs, Strided.of(matrix), panels=panels.data_ptr())
    call.blocks, call.group, call.threads = 1, 1, torch.get_num_threads()
    _compute(call)
    return panels


def _multiply_tiled(x: Tensor, panels: Tensor, outputs: int, bias: Tensor | None, update: Update | None) -> Tensor:
    x, wide = dense(x), None if bias is None else bias.float()
    found = torch.empty(len(x), outputs, dtype=torch.bfloat16)
    threads = torch.get_num_threads()
    block = min(ROWS, max(1, -(-len(x) // (4 * threads * TILE))) * TILE)
    blocks = -(-len(x) // block)
    group = max(1, -(-outputs // PANEL) // -(-4 * threads // max(blocks, 1)))
    call = _Call(MULTIPLY, len(x), x.shape[1], outputs, Strided.of(x), Strided.of(found), panels=panels.data_ptr())
    call.block, call.blocks, call.group, call.threads = block, blocks, group, threads
    if wide is not None:
        call.bias = wide.data_ptr()
    late = update
    if update is not None and update.low.shape[1] % 2 == 0 and update.low.shape[1] <= MOST_RANKS:
        late, low, thin = None, dense(update.low), dense(update.matrix)
        call.low, call.matrix, call.count = Strided.of(low), Strided.of(thin), len(update.parts)
        call.parts = (_Part * len(update.parts))(*(_part(run.columns, run.ranks) for run in update.parts))
    _compute(call)
    return _with(late, found)


def _part(columns: slice, ranks: slice) -> _Part:
    return _Part(columns.start, columns.stop - columns.start, ranks.start, ranks.stop - ranks.start)


def _compute(call: _Call) -> None:
    library("product").compute(ctypes.byref(call), parallel())


@functools.cache
def can_tile() -> bool:
    """Whether the package's own kernel is there, and no faster one: tile registers (AMX) are oneDNN's alone."""
    return "amx_bf16" not in processor_flags() and missing("product") is None


@functools.cache
def can_pack() -> bool:
    """Whether torch was built with such kernels, and they give the product."""
    generator = torch.Generator().manual_seed(0)
    x, matrix, grad, bias = (torch.randn(shape, generator=generator).bfloat16() for shape in ((3, 64), (48, 64), (3, 48), (48,)))
    try:
        packed = Packed(matrix)
        found = packed.out(x, bias), packed.out(x, None), packed.back(grad)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    wide = x.float() @ matrix.float().T
    exact = wide + bias.float(), wide, grad.float() @ matrix.float()
    return all(
        float((one.float() - other).abs().max()) <= 0.02 * float(other.abs().max())
        for one, other in zip(found, exact, strict=True)
    )
