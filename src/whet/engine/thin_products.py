"""Products of a tall matrix with a thin one, of which a low-rank update is made: forward, backward, and the gradients of its two matrices.

General products of such shapes run at a tenth to a third of a processor's rate, and write what is only to be added. On the processor, in
bf16, by the package's own C kernel: sums in fp32, the same bytes whatever the number of threads; elsewhere by torch.

Shapes: T tokens, W width, R ranks of all updates together.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.engine.compiled import Strided, dense, library, missing, parallel

LOW, ADD, SUM, LAY = range(4)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of columns of the tall matrix with ranks of its own: what one layer has of the input, or makes of the output."""

    columns: slice
    ranks: slice
    scale: float = 1.0
    """Of the sums, and of what is laid out; the thin matrix has it then."""


@dataclass(frozen=True, slots=True)
class Update:
    """A low-rank product that is to be added to another one. low [T, R], matrix [R, W]"""

    low: Tensor
    matrix: Tensor
    parts: Sequence[Run]

    def added_to(self, x: Tensor) -> Tensor:
        """Return x, to which it has been added. [T, W]"""
        add_low(x, self.low, self.matrix, self.parts)
        return x


class _Part(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("column", "width", "rank", "ranks")),
        ("sums", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("by_rank", "by_column")),
        ("scale", ctypes.c_float),
    ]


class _Call(ctypes.Structure):
    """`struct call` of kernels/thin.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("work", "tokens")),
        *((name, Strided) for name in ("x", "low", "matrix")),
        ("parts", ctypes.POINTER(_Part)),
        *((name, ctypes.c_int64) for name in ("count", "threads", "next")),
    ]


@functools.cache
def why_not() -> str | None:
    """Return why the kernel is not there, as the end of a sentence; None where it is. Compiles it at the first call."""
    return missing("thin")


def lay(matrix: Tensor, given: Sequence[tuple[Tensor, Run]]) -> None:
    """Write scale * what is given, rounded, to its ranks and columns. [R, W], [ranks, columns] each"""
    if not _is_ours(matrix) or any(source.dtype != torch.float32 for source, _ in given):
        for source, run in given:
            matrix[run.ranks, run.columns].copy_(source if run.scale == 1 else source * run.scale)
        return
    _compute(LAY, None, None, matrix, [run for _, run in given], [source for source, _ in given])


def low_of(x: Tensor, matrix: Tensor, parts: Sequence[Run]) -> Tensor:
    """Return x M^T, each part's ranks of its columns alone. [T, W], [R, W] -> [T, R]"""
    if not _is_ours(x):
        return x @ matrix.T  # outside of the parts, the matrix is zero
    low = torch.empty(len(x), len(matrix), dtype=x.dtype)
    _compute(LOW, x, low, matrix, parts)
    return low


def add_low(x: Tensor, low: Tensor, matrix: Tensor, parts: Sequence[Run]) -> None:
    """Add low M to x, each part's ranks to its columns alone. [T, W], [T, R], [R, W]"""
    if _is_ours(x):
        _compute(ADD, x, low, matrix, parts)
    else:
        x.addmm_(low, matrix)


def sums_of(x: Tensor, low: Tensor, parts: Sequence[Run], *, tall: bool) -> list[Tensor]:
    """Return scale * low^T x of each part, in fp32: [ranks, columns], or [columns, ranks] where `tall`. [T, W], [T, R]"""
    if not _is_ours(x):
        return [_sum_of(x[:, part.columns], low[:, part.ranks], part.scale, tall=tall) for part in parts]
    found = [
        torch.empty(_width(part.columns), _width(part.ranks)) if tall else torch.empty(_width(part.ranks), _width(part.columns))
        for part in parts
    ]
    _compute(SUM, x, low, None, parts, found, tall=tall)
    return found


def _sum_of(x: Tensor, low: Tensor, scale: float, *, tall: bool) -> Tensor:
    found = (x.T @ low if tall else low.T @ x).float()
    return found if scale == 1 else found.mul_(scale)


def _is_ours(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and why_not() is None


def _width(run: slice) -> int:
    return int(run.stop - run.start)


def _compute(
    work: int,
    x: Tensor | None,
    low: Tensor | None,
    matrix: Tensor | None,
    parts: Sequence[Run],
    sums: Sequence[Tensor] = (),
    *,
    tall: bool = False,
) -> None:
    """`sums`: of each part [ranks, columns], or [columns, ranks] where `tall`."""
    written = {ADD: x, LAY: matrix}.get(work)
    assert written is None or written.stride(-1) == 1, "what is written to in place is not dense"
    given = (_Part * len(parts))()
    for index, part in enumerate(parts):
        place, by_rank, by_column = None, 0, 0
        if sums:
            place, (by_rank, by_column) = sums[index].data_ptr(), sums[index].T.stride() if tall else sums[index].stride()
        ranks, width = _width(part.ranks), _width(part.columns)
        given[index] = _Part(part.columns.start, width, part.ranks.start, ranks, place, by_rank, by_column, part.scale)
    kept = [None if one is None else dense(one) for one in (x, low, matrix)]  # copies too, until all is done
    tensors = (Strided() if one is None else Strided.of(one) for one in kept)
    call = _Call(work, 0 if x is None else len(x), *tensors, given, len(parts), torch.get_num_threads(), 0)
    library("thin").compute(ctypes.byref(call), parallel())
