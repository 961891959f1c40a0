"""A block's activations, each as one pass over memory; on the processor what one gave can be made again on the way back, not kept.

Shapes: T tokens, F inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from whet.engine import liger
from whet.engine.compiled import dense
from whet.engine.fused import GATE, GATE_BACK, GELU, GELU_BACK, compute


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up. [T, F] each. Shazeer 2020 (arXiv:2002.05202), eq. 6"""
    if gate.device.type != "cpu":
        return liger.gated(gate, up)
    out: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
    return out


def gelu(x: Tensor) -> Tensor:
    """Return x times the share of a normal distribution below it. [T, F] Hendrycks and Gimpel 2016 (arXiv:1606.08415), section 2"""
    out: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation as two passes. What it gave need not be kept for the backward pass, which makes it again on its way."""

    value: Callable[..., Tensor]
    back: Callable[..., tuple[Tensor, ...]]
    """Given what went in, the gradient of what came out, and where to write what came out once more: the gradients of what went in."""


def activation(function: Callable[..., Tensor]) -> Activation | None:
    """Return the passes of `gelu` or `gated`; None of another function."""
    return {gelu: Activation(_gelu_value, _gelu_back), gated: Activation(_gated_value, _gated_back)}.get(function)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _gated_value(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        gate, up = ctx.saved_tensors
        return _gated_back(gate, up, grad, None)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gelu_value(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _gelu_back(x, grad, None)[0]


def _gated_value(gate: Tensor, up: Tensor) -> Tensor:
    """[T, F]"""
    out = torch.empty(gate.shape, dtype=gate.dtype)
    compute(GATE, *gate.shape, a=dense(gate), b=dense(up), c=out)
    return out


def _gelu_value(x: Tensor) -> Tensor:
    """[T, F]"""
    out = torch.empty(x.shape, dtype=x.dtype)
    compute(GELU, *x.shape, a=dense(x), c=out)
    return out


def _gated_back(gate: Tensor, up: Tensor, grad: Tensor, again: Tensor | None) -> tuple[Tensor, ...]:
    tokens, width = gate.shape
    both = torch.empty(tokens, 2 * width, dtype=gate.dtype)  # beside each other, as the product before wants them
    slopes = both[:, :width], both[:, width:]
    compute(GATE_BACK, tokens, width, a=dense(gate), b=dense(up), c=dense(grad), d=slopes[0], e=slopes[1], f=again)
    return slopes


def _gelu_back(x: Tensor, grad: Tensor, again: Tensor | None) -> tuple[Tensor, ...]:
    slope = torch.empty(x.shape, dtype=x.dtype)
    compute(GELU_BACK, *x.shape, a=dense(x), c=dense(grad), d=slope, f=again)
    return (slope,)
