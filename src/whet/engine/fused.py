"""What lies between a block's matrix products, each as one pass over memory by the package's own C kernel, forward and backward.

Norms with the sum before them; rotary positions where attention does not turn them itself; the kernel's activations are in
`engine.activations`. On the processor, in fp32 and bf16, sums in fp32; the same bytes whatever the number of threads. What the Llama family
needs of it is `engine.liger` on a CUDA device. Who calls these asks `why_not_on` first.

Shapes: T tokens, D width, H query heads, K key/value heads, d width of a head, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from whet.engine import liger
from whet.engine.compiled import Strided, dense, library, missing, parallel

BLOCK = 32
"""Tokens that are summed up first where a norm's own weights learn; as in kernels/fused.c."""
LANES = 16
NORM, NORM_BACK, ROTATE, GATE, GATE_BACK, LOSS, GELU, GELU_BACK, COLUMNS = range(9)


class _Call(ctypes.Structure):
    """`struct call` of kernels/fused.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("work", "tokens", "width", "heads")),
        *((name, Strided) for name in "abcdef"),
        *((name, ctypes.c_void_p) for name in ("weight", "shift", "rates", "means", "sums", "targets")),
        ("scale", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("threads", "backward", "centred")),
        ("next", ctypes.c_int64),
    ]


@functools.cache
def why_not() -> str | None:
    """Return why the kernel is not there, as the end of a sentence; None where it is. Compiles it at the first call."""
    return missing("fused")


def why_not_on(device: torch.device) -> str | None:
    """Return why steps cannot be fused on a device, as the end of a sentence; None where they can."""
    return why_not() if device.type == "cpu" else liger.why_not()


def add_norm(
    residual: Tensor,
    added: Tensor | None,
    weight: Tensor,
    epsilon: float,
    dtype: torch.dtype,
    *,
    scale: float = 1.0,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return residual + scale * added, and its norm in `dtype`. [T, D] each

    The norm is that of root mean squares (Zhang and Sennrich 2019), or a layer's (Ba et al. 2016) where there is a `shift`.
    """
    if residual.device.type != "cpu":
        assert shift is None, "on a CUDA device norms are of root mean squares"
        return liger.add_norm(residual, added, weight, epsilon, dtype, scale)
    if added is None:
        normed: Tensor = _Norm.apply(residual, weight, shift, epsilon, dtype)  # type: ignore[no-untyped-call]
        return residual, normed
    total, normed = _AddNorm.apply(residual, added, weight, shift, epsilon, dtype, scale)  # type: ignore[no-untyped-call]
    return total, normed


def normed_sum(
    residual: Tensor, added: Tensor, weight: Tensor, shift: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the layer norm of residual + added twice: as the residual is, and in `dtype`. [T, D] each"""
    found: tuple[Tensor, Tensor] = _NormedSum.apply(residual, added, weight, shift, epsilon, dtype)  # type: ignore[no-untyped-call]
    return found


def rotate(query: Tensor, key: Tensor, value: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys turned by their positions, and values as they are. [1, T, H, d], [1, T, K, d] twice -> [1, H, T, d], ...

    Su et al. 2021 (arXiv:2104.09864), eq. 34, pairs half a head apart. cosines and sines [T, d]. On the processor only before attention that is
    not the package's own kernel, which turns them as it reads them: heads too narrow or too wide for it, and virtual tokens.
    """
    if query.device.type != "cpu":
        return liger.rotate(query, key, value, cosines, sines)
    turned: tuple[Tensor, Tensor, Tensor] = _Rotate.apply(query, key, value, cosines, sines)  # type: ignore[no-untyped-call]
    return turned


def column_sums(x: Tensor) -> Tensor:
    """Return the sum over tokens. [T, D] -> [D], fp32"""
    tokens, width = x.shape
    sums = torch.zeros(-(-tokens // BLOCK), -(-width // LANES) * LANES)
    compute(COLUMNS, tokens, width, a=dense(x), sums=sums)
    return sums.sum(0)[:width]


def target_slopes(logits: Tensor, targets: Tensor, *, learning: bool) -> Tensor:
    """Return each target's log-probability. [N, V], [N] -> [N], fp32

    Where `learning`, the logits become its gradient by them, onehot(target) - softmax, in place.
    """
    logprobs = torch.empty(len(targets), dtype=torch.float32)
    compute(LOSS, len(logits), logits.shape[1], targets=targets, rates=logprobs, backward=int(learning), a=logits)
    return logprobs


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        residual: Tensor,
        added: Tensor,
        weight: Tensor,
        shift: Tensor | None,
        epsilon: float,
        dtype: torch.dtype,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        total = torch.empty_like(residual, memory_format=torch.contiguous_format)
        normed = _norm(ctx, residual, weight, shift, epsilon, dtype, a=residual, b=added, c=total, scale=scale)
        ctx.save_for_backward(total, weight, shift, *ctx.kept)
        ctx.scale, ctx.dtype = scale, added.dtype
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor | None, grad_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight, shift, rates, means = ctx.saved_tensors
        if grad_normed is None:
            added = None if grad_total is None else (grad_total * ctx.scale).to(ctx.dtype)
            return grad_total, added, None, None, None, None, None
        added = torch.empty_like(total, dtype=ctx.dtype)
        slopes = _norm_back(ctx, grad_normed, grad_total, total, weight, shift, rates, means, added, ctx.scale)
        return slopes[0], added, *slopes[1:], None, None, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, shift: Tensor | None, epsilon: float, dtype: torch.dtype) -> Tensor:
        normed = _norm(ctx, given, weight, shift, epsilon, dtype, a=given)
        ctx.save_for_backward(given, weight, shift, *ctx.kept)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given, weight, shift, rates, means = ctx.saved_tensors
        return *_norm_back(ctx, grad, None, given, weight, shift, rates, means, None, 1.0), None, None


class _NormedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, added: Tensor, weight: Tensor, shift: Tensor, epsilon: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total, wide = (torch.empty_like(residual, memory_format=torch.contiguous_format) for _ in range(2))
        normed = _norm(ctx, residual, weight, shift, epsilon, dtype, a=residual, b=added, c=total, f=wide)
        ctx.save_for_backward(total, weight, shift, *ctx.kept)
        ctx.dtype = added.dtype
        ctx.set_materialize_grads(False)
        return wide, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_wide: Tensor | None, grad_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight, shift, rates, means = ctx.saved_tensors
        first, second = (grad_wide, grad_normed) if grad_normed is None else (grad_normed, grad_wide)
        if first is None:
            return (None,) * 6
        added = torch.empty_like(total, dtype=ctx.dtype)
        slopes = _norm_back(ctx, first, None, total, weight, shift, rates, means, added, 1.0, again=second)
        return slopes[0], added, *slopes[1:], None, None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, ...]:
        given = [query, key, value]
        parts = side_by_side(query.shape[1], [x.shape[2:] for x in given], query.dtype)
        for x, out in zip(given, parts, strict=True):
            angles = (None, None) if x is value else (cosines, sines)
            _turn(x.transpose(1, 2), out.transpose(1, 2), *angles, back=False)
        ctx.save_for_backward(cosines, sines)
        return tuple(part.transpose(1, 2) for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        parts = side_by_side(grads[0].shape[2], [(x.shape[1], x.shape[3]) for x in grads], grads[0].dtype)
        for index, (grad, out) in enumerate(zip(grads, parts, strict=True)):
            angles = (None, None) if index == 2 else (cosines, sines)
            _turn(grad, out.transpose(1, 2), *angles, back=True)
        return *parts, None, None


def _norm(
    ctx: Any,
    like: Tensor,
    weight: Tensor,
    shift: Tensor | None,
    epsilon: float,
    dtype: torch.dtype,
    scale: float = 1.0,
    **tensors: Tensor,
) -> Tensor:
    normed = torch.empty(like.shape, dtype=dtype)
    rates = torch.empty(len(like), dtype=torch.float32)
    means = torch.empty(len(like) if shift is not None else 0, dtype=torch.float32)
    ctx.kept = (rates, means)
    compute(
        NORM,
        like.shape[0],
        like.shape[1],
        weight=weight,
        shift=shift,
        rates=rates,
        means=means,
        epsilon=epsilon,
        scale=scale,
        centred=int(shift is not None),
        d=normed,
        **tensors,
    )
    return normed


def _norm_back(
    ctx: Any,
    grad: Tensor,
    beside: Tensor | None,
    given: Tensor,
    weight: Tensor,
    shift: Tensor | None,
    rates: Tensor,
    means: Tensor,
    added: Tensor | None,
    scale: float,
    again: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of what was normed, of the weight and of the shift; fill that of what was added. `again`: more of `grad`."""
    tokens, width = given.shape
    below = ctx.needs_input_grad[0] or added is not None
    slope = torch.empty_like(given) if below else None
    place = 1 if added is None else 2
    learns = ctx.needs_input_grad[place] or ctx.needs_input_grad[place + 1]
    wide = -(-width // LANES) * LANES
    sums = torch.zeros(-(-tokens // BLOCK), 2, wide) if learns else None
    compute(
        NORM_BACK,
        tokens,
        width,
        weight=weight,
        rates=rates,
        means=means,
        sums=sums,
        scale=scale,
        centred=int(shift is not None),
        a=dense(grad),
        b=None if beside is None else dense(beside),
        c=given,
        d=slope,
        e=added,
        f=None if again is None else dense(again),
    )
    if sums is None:
        return slope, None, None
    whole = sums.sum(0)[:, :width]
    return slope, whole[0], whole[1] if shift is not None else None


def side_by_side(tokens: int, shapes: list[Any], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return heads of a token that lie beside each other in one piece of memory. [1, T, H, d] each"""
    widths = [heads * width for heads, width in shapes]
    whole = torch.empty(tokens, sum(widths), dtype=dtype)
    parts = torch.split(whole, widths, dim=1)
    return tuple(part.view(tokens, *shape)[None] for part, shape in zip(parts, shapes, strict=True))


def _turn(given: Tensor, out: Tensor, cosines: Tensor | None, sines: Tensor | None, *, back: bool) -> None:
    """[1, H, T, d]"""
    _, heads, tokens, width = given.shape
    compute(ROTATE, tokens, width, heads=heads, weight=cosines, shift=sines, backward=int(back), a=dense(given), b=out)


def compute(work: int, tokens: int, width: int, **given: Any) -> None:
    """Let the kernel do one kind of work. `given`: fields of `_Call`; its tensors `a` to `f` are [T, D], or [1, H, T, d] to be turned."""
    call = _Call(work=work, tokens=tokens, width=width, threads=torch.get_num_threads(), scale=1.0)
    for name, value in given.items():
        if name in "abcdef":
            if value is not None:
                setattr(call, name, Strided.of(value))
        elif isinstance(value, Tensor):
            assert value.is_contiguous() and value.dtype == (torch.int64 if name == "targets" else torch.float32)
            setattr(call, name, value.data_ptr())
        else:
            setattr(call, name, value)
    library("fused").compute(ctypes.byref(call), parallel())
