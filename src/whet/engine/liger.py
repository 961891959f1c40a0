"""What lies between a block's matrix products on a CUDA device, by liger-kernel's Triton kernels, called as `engine.fused` is on the processor.

Norms of root mean squares, rotary positions, gated activation. An optional extra: who calls these asks `why_not` first.

Shapes: T tokens, D width, F inner width, H query heads, K key/value heads, d width of a head.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from whet.errors import installing

PACKAGE = "liger_kernel"


@functools.cache
def why_not() -> str | None:
    """Return why its kernels are not there, as the end of a sentence; None where they are."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if importlib.util.find_spec(PACKAGE) is None:
        return f"liger-kernel is not installed: {installing('liger')}"
    try:
        _functions()
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        return f"liger-kernel cannot be loaded ({next(iter(str(error).splitlines()), type(error).__name__)[:120]})"
    return None


def add_norm(
    residual: Tensor, added: Tensor | None, weight: Tensor, epsilon: float, dtype: torch.dtype, scale: float
) -> tuple[Tensor, Tensor]:
    """Return residual + scale * added, and its norm of root mean squares in `dtype`. [T, D] each

    The sum stays in the residual's precision, fp32, as it does on the processor.
    """
    norm, _, _ = _functions()
    if added is not None:
        residual = residual + (added if scale == 1 else added * scale)
    # not in place: the gradient of the norm is added to that of the sum, which needs its own
    normed: Tensor = norm.apply(residual, weight, epsilon, 0.0, "llama", False)
    return residual, normed.to(dtype)


def rotate(query: Tensor, key: Tensor, value: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys turned by their positions, and values as they are. [1, T, H, d], [1, T, K, d] twice -> [1, H, T, d], ..."""
    _, turn, _ = _functions()
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    turned: tuple[Tensor, Tensor] = turn.apply(query, key, cosines[None], sines[None])
    return *turned, value


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up. [T, F] each"""
    _, _, activate = _functions()
    out: Tensor = activate.apply(gate, up)
    return out


@functools.cache
def _functions() -> tuple[Any, Any, Any]:
    from liger_kernel.ops import LigerRMSNormFunction, LigerRopeFunction, LigerSiLUMulFunction

    return LigerRMSNormFunction, LigerRopeFunction, LigerSiLUMulFunction
