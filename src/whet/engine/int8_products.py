"""Products with a frozen matrix in 8 bits, on the processor: weights rounded once, inputs and gradients row by row as they come.

A weight row and an input row have one step each (Wortsman et al. 2023, arXiv:2304.13013, section 2, SwitchBack): products are of
integers, whose sums are exact, so that a row's result depends on nothing but the row.

Shapes: T tokens, D width of the input, O width of the output.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from whet.engine.compiled import Strided, dense, library, missing, parallel
from whet.engine.machine import processor_flags
from whet.engine.thin_products import Update

ROUND, RESCALE = range(2)
MIDDLE = 128
"""The code of zero: oneDNN multiplies unsigned inputs by signed weights."""


class _Call(ctypes.Structure):
    """`struct call` of kernels/int8.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("work", "tokens", "width")),
        ("x", Strided),
        *((name, ctypes.c_void_p) for name in ("codes", "steps", "factors", "shift")),
        *((name, ctypes.c_int64) for name in ("threads", "next")),
    ]


class Int8:
    """A frozen matrix in 8 bits and one step for each of its rows, laid out for both directions. [O, D]"""

    def __init__(self, matrix: Tensor) -> None:
        rows = matrix.float()
        self.steps = (rows.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)  # [O]
        codes = (rows / self.steps[:, None]).round_().to(torch.int8)
        self.there, self.here = (torch.ops.onednn.qlinear_prepack(one.contiguous(), None) for one in (codes, codes.T))
        self.ones = torch.ones(matrix.shape[1])
        self.zeros = tuple(torch.zeros(size, dtype=torch.int64) for size in matrix.shape)

    def out(self, x: Tensor, bias: Tensor | None, update: Update | None = None) -> Tensor:
        """Return x W^T + bias and the update. [T, D], [O] -> [T, O]"""
        codes, steps = _round(x, None)
        found = _multiply(codes, self.there, self.steps, self.zeros[0])
        found = _rescale(found, steps, None if bias is None else bias.float())
        return found if update is None else update.added_to(found)

    def back(self, grad: Tensor, update: Update | None = None) -> Tensor:
        """Return grad W and the update. [T, O] -> [T, D]"""
        codes, steps = _round(grad, self.steps)
        found = _rescale(_multiply(codes, self.here, self.ones, self.zeros[1]), steps, None)
        return found if update is None else update.added_to(found)


def _multiply(codes: Tensor, packed: Tensor, steps: Tensor, zeros: Tensor) -> Tensor:
    found: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, MIDDLE, packed, steps, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
    )
    return found


def _round(x: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return x times the factors in 8 bits, and each row's step. [T, D], [D] -> [T, D] unsigned, [T]"""
    x = dense(x)
    codes, steps = torch.empty(x.shape, dtype=torch.uint8), torch.empty(len(x))
    _compute(ROUND, x, codes=codes, steps=steps, factors=factors)
    return codes, steps


def _rescale(found: Tensor, steps: Tensor, shift: Tensor | None) -> Tensor:
    """Return found * steps + shift, in the place of the first. [T, D], [T], [D]"""
    _compute(RESCALE, found, steps=steps, shift=shift)
    return found


def _compute(work: int, x: Tensor, **given: Tensor | None) -> None:
    call = _Call(work=work, tokens=x.shape[0], width=x.shape[1], x=Strided.of(x), threads=torch.get_num_threads())
    for name, value in given.items():
        if value is not None:
            assert value.is_contiguous()
            setattr(call, name, value.data_ptr())
    library("int8").compute(ctypes.byref(call), parallel())


@functools.cache
def why_not() -> str | None:
    """Return why there are no such products here, as the end of a sentence; None where there are.

    Tried with the largest numbers: processors without such instructions add pairs of products in 16 bits, which is too few.
    """
    if (reason := missing("int8")) is not None:
        return reason
    if "avx512_vnni" not in processor_flags() and "avx_vnni" not in processor_flags():
        return "this processor does not multiply in int8 (AVX-512 VNNI)"
    generator = torch.Generator().manual_seed(0)
    x, matrix = (torch.randint(-127, 128, shape, generator=generator) for shape in ((5, 64), (48, 64)))
    x[0], matrix[0], x[:, 0], matrix[:, 0] = 127, 127, 127, 127
    try:
        product = Int8(matrix.bfloat16())
        found, back = product.out(x.bfloat16(), None), product.back((x @ matrix.T).bfloat16())
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return "this torch has no products in int8"
    exact = (x @ matrix.T).float()
    right = torch.equal(found, exact.bfloat16()) and float((back.float() - exact @ matrix.float()).abs().max()) <= 0.05 * float(
        back.abs().max()
    )
    return None if right else "torch's products in int8 are not exact here"
