"""Frozen linear layers in 4 or 8 bits, through bitsandbytes; products are made with the weight as it is dequantised.

Shapes: in and out of a layer.
"""

from __future__ import annotations

import functools
import logging
import sys
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.engine.machine import compute_dtype
from whet.errors import ModelError, installing
from whet.models.linear import matrix, set_matrix

Bits = Literal["nf4", "int8"]
BLOCK = 64
"""Weights that share one scale in NF4; the paper's size."""


@functools.cache
def kernels(wanted_by: str = "technique 'qlora'") -> ModuleType:
    """Return bitsandbytes' functions. Raises ModelError where the extra is not installed."""
    known = "kernels" in sys.modules
    if not known:
        sys.modules["kernels"] = None  # type: ignore[assignment]  # bitsandbytes would fetch and run code from a hub with it
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that it could not fetch it
    try:
        import bitsandbytes.functional
    except ImportError:
        raise ModelError(
            f"{wanted_by} needs the package bitsandbytes, which is not installed. Install it with: {installing('qlora')}"
        ) from None
    finally:
        logger.setLevel(level)
        if not known:
            del sys.modules["kernels"]
    functions: ModuleType = bitsandbytes.functional
    return functions


class Quantised(nn.Module):
    """A frozen linear layer whose weight is held in few bits. Its bias stays as it was."""

    def __init__(self, layer: nn.Module, bits: Bits) -> None:
        super().__init__()
        weight = matrix(layer).detach().contiguous()
        self.bits: Bits = bits
        self.turned = isinstance(layer, Conv1D)
        self.dtype = weight.dtype
        bias: Tensor | None = layer.bias  # type: ignore[assignment]
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.codes: Tensor
        self.scales: Any
        if bits == "nf4":
            self.codes, self.scales = kernels().quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4", compress_statistics=True)
        else:
            self.codes, self.scales, _ = kernels().int8_vectorwise_quant(weight.float())

    @property
    def weight(self) -> Tensor:
        """The weight that it computes with, made anew each time. [out, in]"""
        if self.bits == "nf4":
            found: Tensor = kernels().dequantize_4bit(self.codes, self.scales)
        else:
            found = kernels().int8_vectorwise_dequant(self.codes, self.scales)
        return found.to(self.dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of the weight."""
        if self.bits == "int8":
            return int(self.codes.nbytes + self.scales.nbytes)
        inner = self.scales.state2
        return int(self.codes.nbytes + self.scales.absmax.nbytes + inner.absmax.nbytes)

    def forward(self, x: Tensor) -> Tensor:
        compute = compute_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = _Product.apply(x.to(compute), self)  # type: ignore[no-untyped-call]
            return out if self.bias is None else out + self.bias.to(compute)

    def same_as(self, layer: nn.Module) -> bool:
        """Whether a layer's weight is what this one was made of, as far as the bits tell."""
        other = Quantised(layer, self.bits)
        return torch.equal(other.codes, self.codes) and torch.equal(other.weight, self.weight)

    def restored(self, weight: Tensor) -> nn.Module:
        """Return a plain layer with this weight [out, in] and the bias."""
        num_out, num_in = weight.shape
        layer: nn.Module
        if self.turned:
            layer = Conv1D(num_out, num_in)
        else:
            layer = nn.Linear(num_in, num_out, bias=self.bias is not None)
        layer.to(weight.device, self.dtype).requires_grad_(False)
        set_matrix(layer, weight)
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach(), requires_grad=False)
        return layer


class _Product(torch.autograd.Function):
    """x @ W.T; the weight is dequantised again for the gradient, so that it is never held."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Quantised) -> Tensor:
        ctx.layer = layer
        return x @ layer.weight.to(x.dtype).T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        return grad @ ctx.layer.weight.to(grad.dtype), None
