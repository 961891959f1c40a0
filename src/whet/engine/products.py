"""Products with one matrix in bf16, on the processor: as it lies, or laid out once as oneDNN's kernels read it, both ways.

A product lays its matrix out anew each time, which is worth a tenth of it in the shapes of small networks. A frozen matrix needs that once.

Shapes: T tokens, D width of the input, O width of the output.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear


class Product(Protocol):
    """x W^T and its gradient by x."""

    def out(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W^T + bias. [T, D], [O] -> [T, O]"""
        ...

    def back(self, grad: Tensor) -> Tensor:
        """Return grad W. [T, O] -> [T, D]"""
        ...


class Plain:
    """A matrix as it lies. [O, D]"""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def out(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, self.matrix, bias)

    def back(self, grad: Tensor) -> Tensor:
        return grad @ self.matrix


class Packed:
    """A matrix that stays as it is, laid out for both directions. Holds twice its numbers."""

    def __init__(self, matrix: Tensor) -> None:
        self.there, self.here = (torch.ops.mkldnn._reorder_linear_weight(one.contiguous(), None) for one in (matrix, matrix.T))

    def out(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return _multiply(x, self.there, bias)

    def back(self, grad: Tensor) -> Tensor:
        return _multiply(grad, self.here, None)


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, bias, "none", [], "")
    return found


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
