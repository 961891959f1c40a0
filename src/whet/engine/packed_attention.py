"""Attention over packed rows by the package's own C kernel, on the processor: forward, backward, fp32 and bf16, sums in fp32.

It does what `attend_packed` does row by row with torch's product, in one call for all rows, without a copy of keys and values for
each query head that shares them, and without scores of a whole row. Same bytes whatever the number of threads and whichever
other rows are in the batch: a task is one row with one key/value head.

Shapes: H query heads, K key/value heads, T tokens of all rows, P virtual tokens, d width of a head, R rows.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from whet.engine.compiled import Strided, dense, library, missing, parallel
from whet.engine.fused import side_by_side

NARROWEST = {torch.bfloat16: 32, torch.float32: 64}
"""Narrowest head that goes through the kernel. In fp32 the laws of `whet.testing` hold small networks to 1e-6 between packed and padded,
and another order of sums alone is worth as much there (0.6e-6 to 2.5e-6 by the kernel, whose padded counterpart is torch's)."""
WIDEST = 256


class _Call(ctypes.Structure):
    """`struct call` of kernels/attention.c."""

    _fields_ = [
        *((name, Strided) for name in ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v")),
        ("log_sums", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("starts", "cosines", "sines")),
        *((name, ctypes.c_int64) for name in ("rows", "heads", "shared_heads", "width", "before", "window", "causal")),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int32),
        ("scratch", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("backward", "next_task", "next_slot")),
    ]


@functools.cache
def why_not() -> str | None:
    """Return why the kernel is not there, as the end of a sentence; None where it is. Compiles it at the first call."""
    return missing("attention")


def named() -> str:
    """Return whose attention packed rows go through on the processor, and why where it is torch's."""
    reason = why_not()
    return "whet's own kernel" if reason is None else f"torch's: {reason}"


def can_attend(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], window: int | None) -> bool:
    """Whether the kernel takes these. query [1, H, T, d], key and value [1, K, T, d]"""
    tensors, kind = (query, key, value), lowered() or query.dtype
    return (
        all(type(x) is Tensor and x.device.type == "cpu" and x.dtype in {torch.float32, torch.bfloat16} for x in tensors)
        and (query.dtype == key.dtype == value.dtype if lowered() is None else lowered() == torch.bfloat16)
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and NARROWEST[kind] <= query.shape[-1] <= WIDEST
        and query.shape[0] == 1
        and query.shape[2] == key.shape[2] == value.shape[2] == sum(lengths)
        and query.shape[1] % key.shape[1] == 0
        and (window is None or window > 0)
        and not torch.compiler.is_compiling()
        and why_not() is None
    )


def lowered() -> torch.dtype | None:
    """Return what products on the processor are computed in by autocast; None where it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    *,
    causal: bool,
    window: int | None = None,
    scaling: float | None = None,
    before: int = 0,
    angles: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return each row's attention to itself and to `before` virtual tokens. [1, H, T, d], [1, K, R * P + T, d] twice -> [1, T, H, d]

    The virtual keys and values of a row lie before its own, and no window leaves them out. Where there are `angles`, cosines and sines
    [T, d] in fp32, queries and keys are turned by them first (Su et al. 2021, arXiv:2104.09864, eq. 34, pairs half a head apart), and
    there are no virtual tokens.
    """
    assert angles is None or not before, "virtual tokens are not turned"
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else float(scaling)
    out: Tensor = _Attend.apply(query, key, value, lengths, causal, window or 0, scale, before, angles)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: tuple[int, ...],
        causal: bool,
        window: int,
        scale: float,
        before: int,
        angles: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        given, kind = (query, key, value), lowered()
        query, key, value = (dense(x.to(kind or x.dtype)) for x in given)
        _, heads, tokens, width = query.shape
        out = query.new_empty(1, tokens, heads, width)
        log_sums = query.new_empty(heads, tokens, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, log_sums, *(angles or ()))
        ctx.settings = (lengths, causal, window, scale, before)
        ctx.dtypes = [x.dtype for x in given]
        _run(query, key, value, log_sums, angles, ctx.settings, out=out.transpose(1, 2))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, log_sums, *angles = ctx.saved_tensors
        grads = _room((query, key, value), ctx.dtypes)
        names = ("grad_q", "grad_k", "grad_v")
        others = dict(zip(names, grads, strict=True))
        _run(query, key, value, log_sums, angles, ctx.settings, grad_out=dense(grad_out).transpose(1, 2), **others)
        return *grads, None, None, None, None, None, None


def _room(like: tuple[Tensor, ...], dtypes: list[torch.dtype]) -> list[Tensor]:
    """Return room for gradients, those of a token beside each other where that can be: one product made what they are of. [1, H, T, d]"""
    tokens = like[0].shape[2]
    if any(x.shape[2] != tokens for x in like) or len(set(dtypes)) > 1:
        return [
            x.new_empty(1, x.shape[2], x.shape[1], x.shape[3], dtype=dtype).transpose(1, 2)
            for x, dtype in zip(like, dtypes, strict=True)
        ]
    parts = side_by_side(tokens, [(x.shape[1], x.shape[3]) for x in like], dtypes[0])
    return [part.transpose(1, 2) for part in parts]


def _run(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_sums: Tensor,
    angles: Sequence[Tensor] | None,
    settings: tuple[tuple[int, ...], bool, int, float, int],
    **others: Tensor,
) -> None:
    lengths, causal, window, scale, before = settings
    starts = _starts(lengths)
    assert query.shape[2] == starts[len(lengths)], "rows do not fill the batch"
    assert key.shape[2] == value.shape[2] == query.shape[2] + before * len(lengths), (
        "keys are not the rows' own and the virtual ones"
    )
    assert all(x.is_contiguous() and x.dtype == torch.float32 and x.shape == query.shape[2:] for x in angles or ())
    assert not angles or query.shape[3] % 2 == 0, "numbers are turned in pairs"
    threads = torch.get_num_threads()
    call = _Call(
        **{name: Strided.of(x) for name, x in {"q": query, "k": key, "v": value, **others}.items()},
        log_sums=log_sums.data_ptr(),
        starts=ctypes.addressof(starts),
        **{name: x.data_ptr() for name, x in zip(("cosines", "sines"), angles or (), strict=False)},
        rows=len(lengths),
        heads=query.shape[1],
        shared_heads=key.shape[1],
        width=query.shape[3],
        before=before,
        window=window,
        causal=int(causal),
        scale=scale,
        threads=threads,
        backward=int("grad_out" in others),
    )
    kernel = library("attention")
    kernel.scratch_floats.restype = ctypes.c_int64
    floats = kernel.scratch_floats(ctypes.byref(call))
    working = min(threads, len(lengths) * key.shape[1])
    scratch = torch.empty(working * floats + 16, dtype=torch.float32)
    call.scratch = -(-scratch.data_ptr() // 64) * 64  # whole vectors
    kernel.attend(ctypes.byref(call), parallel())


@functools.lru_cache(maxsize=256)
def _starts(lengths: tuple[int, ...]) -> Any:
    """Return where each row begins, and where the last ends, as the kernel reads it."""
    starts = (ctypes.c_int64 * (len(lengths) + 1))()
    for index, length in enumerate(lengths):
        starts[index + 1] = starts[index] + length
    return starts
