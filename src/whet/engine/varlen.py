"""Attention over packed rows on a CUDA device, by torch's flash kernel for rows of any length: one call for all rows, and no mask.

What it does not take (fp32, a soft cap, virtual tokens, heads of odd widths) goes through torch's product as before, in one call for each
run of rows of equal length.

Shapes: H query heads, K key/value heads, T tokens of all rows, d width of a head, R rows.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

TAKEN = (torch.bfloat16, torch.float16)
WIDEST, STEP = 256, 8
"""Widths of a head: multiples of STEP up to WIDEST."""
UNTRAINED = range(193, 225)
"""Widths whose backward pass this kernel has for some GPUs only."""
OLDEST = (8, 0)
"""The first compute capability, Ampere's, that the kernel is made for."""


def lowered() -> torch.dtype | None:
    """Return what products on a CUDA device are computed in by autocast; None where it is off."""
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None


@functools.cache
def why_not() -> str | None:
    """Return why the kernel is not there, as the end of a sentence; None where it is."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this torch was built without flash attention"
    if torch.cuda.get_device_capability() < OLDEST:
        return f"{torch.cuda.get_device_name()} is older than flash attention needs (compute capability {OLDEST[0]}.{OLDEST[1]})"
    return None


def obstacle(dtype: torch.dtype, width: int, *, special: bool = False) -> str | None:
    """Return why packed rows do not go through the kernel in this precision, with heads of this width, as the end of a sentence.

    `special`: scores have a soft cap or a bias, or there are virtual tokens.
    """
    if (reason := why_not()) is not None:
        return reason
    if dtype not in TAKEN:
        return f"flash attention computes in bf16 and fp16 only, and this is {str(dtype).removeprefix('torch.')}"
    if special:
        return "flash attention has no soft cap, no bias and no virtual tokens here"
    if width % STEP or width > WIDEST or width in UNTRAINED:
        return f"flash attention has no heads of width {width}"
    return None


def named(dtype: torch.dtype, width: int, *, special: bool = False) -> str:
    """Return whose attention packed rows go through on a CUDA device, and why where it is not flash attention."""
    reason = obstacle(dtype, width, special=special)
    return "torch's flash attention over rows of any length" if reason is None else f"torch's, row lengths one by one: {reason}"


def can_attend(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], window: int | None) -> bool:
    """Whether the kernel takes these. query [1, H, T, d], key and value [1, K, T, d]"""
    return (
        all(x.device.type == "cuda" for x in (query, key, value))
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and query.shape[0] == 1
        and query.shape[2] == key.shape[2] == value.shape[2] == sum(lengths)
        and query.shape[1] % key.shape[1] == 0
        and (window is None or window > 0)
        and (lowered() is not None or query.dtype == key.dtype == value.dtype)
        and obstacle(lowered() or query.dtype, query.shape[-1]) is None
    )


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    *,
    causal: bool,
    window: int | None = None,
    scaling: float | None = None,
) -> Tensor:
    """Return each row's attention to itself. [1, H, T, d], [1, K, T, d] twice -> [1, T, H, d]

    A window counts the token itself, as transformers' do; the kernel's counts the tokens on each side of it.
    """
    kind = lowered() or query.dtype
    shared = query.shape[1] != key.shape[1]
    query, key, value = (_rows_of(x, kind) for x in (query, key, value))
    starts, longest = _starts(lengths, query.device), max(lengths)
    side = -1 if window is None else window - 1
    out = varlen_attn(
        query,
        key,
        value,
        starts,
        starts,
        longest,
        longest,
        scale=scaling,
        window_size=(side, 0 if causal else side),
        enable_gqa=shared,
    )
    assert isinstance(out, Tensor), "nothing beside the sums was asked for"
    return out[None]


def _rows_of(x: Tensor, kind: torch.dtype) -> Tensor:
    """Return heads of tokens as the kernel reads them, which autocast does not know. [1, H, T, d] -> [T, H, d]"""
    x = x[0].transpose(0, 1).to(kind)
    return x if x.stride(-1) == 1 else x.contiguous()


@functools.lru_cache(maxsize=16)
def _starts(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where each row begins, and where the last ends, on the device; every layer of a pass asks for the same. [R + 1]"""
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
