"""Attention over packed rows: each row sees itself only, and nothing is padded.

Registered with transformers under one name for every architecture. It is ours only inside `packed()`; everywhere else (padded
batches, generation with a cache) transformers' own scaled-dot-product attention and masks are used.

Shapes: H heads, T tokens of all rows, L tokens of one row, d width of a head, P virtual tokens.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from whet.engine import varlen
from whet.engine.fused import rotate
from whet.engine.packed_attention import attend_rows, can_attend, lowered

NAME = "whet"
PREFIX = "prefix"
"""Name of the child of an attending module that holds its virtual keys and values."""
_lengths: contextvars.ContextVar[tuple[int, ...] | None] = contextvars.ContextVar("whet_packed_lengths", default=None)
_witnessed: contextvars.ContextVar[list[Attended] | None] = contextvars.ContextVar("whet_witnessed_attention", default=None)


class Prefix(nn.Module):
    """Keys and values that every row of a layer sees beside its own, windows or not. [H, P, d] each, or None for none.

    Parameters where they learn themselves, else plain tensors that somebody makes anew for each forward pass.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        super().__init__()
        self.keys, self.values = keys, values


@dataclass(frozen=True, slots=True)
class Attended:
    """One product of attention, as it was asked for. query [R, H, T, d], key and value [R, H or fewer, T, d]"""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float | None = None
    window: int | None = None
    causal: bool = True
    special: bool = False
    """Something beside scores, softmax and sum: a soft cap, sinks, a bias by position, dropout."""


@contextlib.contextmanager
def witnessed() -> Iterator[list[Attended]]:
    """Within this, the list that it gives is filled with every product of attention, in order."""
    seen: list[Attended] = []
    token = _witnessed.set(seen)
    try:
        yield seen
    finally:
        _witnessed.reset(token)


def packed_lengths() -> tuple[int, ...] | None:
    """Return the lengths of the rows within `packed()`, else None."""
    return _lengths.get()


@contextlib.contextmanager
def packed(lengths: tuple[int, ...]) -> Iterator[None]:
    """Within this, batches of one long sequence are rows of these lengths, end to end."""
    token = _lengths.set(lengths)
    try:
        yield
    finally:
        _lengths.reset(token)


def attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    angles: tuple[Tensor, Tensor] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of transformers' interface. query [1, H, T, d], key and value [1, H or fewer, T, d] -> [1, T, H, d]

    Of packed rows, queries and keys are turned first where there are `angles`, cosines and sines [T, d] in fp32.
    """
    lengths = _lengths.get()
    assert angles is None or lengths is not None, "only packed rows are turned here"
    witness = _witnessed.get()
    if witness is not None:
        witness.append(_asked(module, query, key, value, scaling, dropout, is_causal, kwargs))
    prefix = module._modules.get(PREFIX)
    if not isinstance(prefix, Prefix) or prefix.keys is None:
        prefix = None
    elif lengths is None:
        is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        attention_mask = _mask_beside(prefix, query, key, attention_mask, is_causal)
        key, value = _beside(prefix, key, value, 1)
        if (bias := kwargs.get("position_bias")) is not None:
            kwargs["position_bias"] = pad(bias, (key.shape[2] - bias.shape[-1], 0))
    window, softcap = kwargs.get("sliding_window"), kwargs.get("softcap")
    if lengths is None and softcap is None:
        out: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, is_causal=is_causal, **kwargs
        )
        return out
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if lengths is None:  # transformers' product knows no soft cap
        key, value = _for_each(query, key, value)
        length = query.shape[2]
        seen = _seen(length, causal, None, query.device) if attention_mask is None and length > 1 else attention_mask
        return _weigh(query, key, value, seen, scaling, softcap).transpose(1, 2), None
    plain = softcap is None and not dropout and kwargs.get("s_aux") is None
    own = plain and can_attend(query, key, value, lengths, window)
    if angles is not None and not (own and prefix is None):
        query, key, value = rotate(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), *angles)
        angles = None
    narrow = window if window is not None and window < max(lengths) else None
    if own:
        before = 0
        if prefix is not None:
            assert prefix.keys is not None
            before = prefix.keys.shape[1]
            key, value = _before_each(prefix.keys, key, lengths), _before_each(prefix.values, value, lengths)
        rows = attend_rows(
            query, key, value, lengths, causal=causal, window=narrow, scaling=scaling, before=before, angles=angles
        )
        return rows, None
    if plain and prefix is None and varlen.can_attend(query, key, value, lengths, window):
        return varlen.attend_rows(query, key, value, lengths, causal=causal, window=narrow, scaling=scaling), None
    return _attend_runs(prefix, query, key, value, lengths, causal, scaling, window, softcap), None


def _attend_runs(
    prefix: Prefix | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    causal: bool,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Return attention by one dense product for each run of rows of equal length. [1, H, T, d], [1, H or fewer, T, d] twice -> [1, T, H, d]"""
    repeats = query.shape[1] // key.shape[1]
    key, value = _for_each(query, key, value)
    parts = []
    for start, count, length in runs(lengths):
        stop = start + count * length
        q, k, v = (
            x[0, :, start:stop].reshape(x.shape[1], count, length, x.shape[-1]).transpose(0, 1) for x in (query, key, value)
        )
        if prefix is not None:
            k, v = _beside(prefix, k, v, repeats)
        narrow = window if window is not None and window < length else None
        part = _attend(q, k, v, causal, scaling, narrow, softcap)  # [count, H, L, d]
        parts.append(part.transpose(1, 2).reshape(count * length, *part.shape[1::2]))
    return torch.cat(parts).unsqueeze(0)


def _for_each(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values once for each query head. [R, H or fewer, T, d] -> [R, H, T, d]"""
    repeats = query.shape[1] // key.shape[1]
    if repeats <= 1:
        return key, value
    return key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)


def _asked(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    is_causal: bool | None,
    kwargs: dict[str, Any],
) -> Attended:
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    special = bool(dropout) or any(kwargs.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    return Attended(module, query, key, value, scaling, kwargs.get("sliding_window"), bool(causal), special)


@functools.lru_cache(maxsize=256)
def runs(lengths: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return (first token, rows, length) of each run of neighbours of equal length, so that a run is one dense product."""
    found, start = [], 0
    for length, group in itertools.groupby(lengths):
        count = len(list(group))
        found.append((start, count, length))
        start += count * length
    return tuple(found)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    before = k.shape[-2] - q.shape[-2]
    if window is None and softcap is None and not (causal and before):
        return _dense(q, k, v, causal, scaling)
    seen = pad(_seen(q.shape[-2], causal, window, q.device), (before, 0), value=True)  # [L, P + L]
    if window is None and softcap is None:
        return _dense(q, k, v, False, scaling, seen)
    return _weigh(q, k, v, seen, scaling, softcap)


def _beside(prefix: Prefix, key: Tensor, value: Tensor, repeats: int) -> tuple[Tensor, Tensor]:
    """Return keys and values with the virtual ones before them. [R, H, T, d] -> [R, H, P + T, d]"""
    joined = []
    for virtual, own in ((prefix.keys, key), (prefix.values, value)):
        assert virtual is not None
        many = virtual.to(own.dtype).repeat_interleave(repeats, dim=0) if repeats > 1 else virtual.to(own.dtype)
        joined.append(torch.cat([many.expand(len(own), *many.shape), own], dim=2))
    return joined[0], joined[1]


def _before_each(virtual: Tensor | None, own: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """Return packed rows with the virtual tokens before each. [H, P, d], [1, H, T, d] -> [1, H, R * P + T, d]"""
    assert virtual is not None
    first = virtual.to(own.dtype)[None]
    return torch.cat([part for row in torch.split(own, list(lengths), dim=2) for part in (first, row)], dim=2)


def _mask_beside(prefix: Prefix, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """Return the mask with columns for the virtual tokens, which everything sees. [..., L, T] -> [..., L, P + T]"""
    assert prefix.keys is not None
    before, length, past = prefix.keys.shape[1], query.shape[2], key.shape[2] - query.shape[2]
    if mask is None:
        if not causal or length == 1:
            return None
        mask = pad(_seen(length, True, None, query.device), (past, 0), value=True)
    return pad(mask, (before, 0), value=True if mask.dtype == torch.bool else 0.0)


def _seen(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """Return which tokens of a row see which. [L, L]"""
    row, column = torch.meshgrid(torch.arange(length, device=device), torch.arange(length, device=device), indexing="ij")
    seen = row >= column if causal else torch.ones_like(row, dtype=torch.bool)
    return seen if window is None else seen & ((row - column).abs() < window)  # as transformers' kernels: the token itself counts


def _weigh(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scaling: float | None, softcap: float | None) -> Tensor:
    """Attention written out, where a mask or a soft cap asks for it; softmax in at least fp32."""
    scores = q @ k.transpose(-1, -2) * (scaling if scaling is not None else 1 / math.sqrt(q.shape[-1]))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    wide = scores if scores.dtype == torch.float64 else scores.float()
    if seen is not None:
        wide = wide.masked_fill(~seen, torch.finfo(wide.dtype).min)  # not -inf: a row of padding sees nothing at all
    return torch.softmax(wide, dim=-1).to(q.dtype) @ v


def _dense(q: Tensor, k: Tensor, v: Tensor, causal: bool, scaling: float | None, seen: Tensor | None = None) -> Tensor:
    kind = q.dtype if q.dtype == torch.float64 else lowered() or q.dtype  # rotated queries come in fp32 under autocast
    if q.device.type != "cpu" or kind != torch.bfloat16:
        return scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=scaling)
    # torch's bf16 backward on the CPU takes 10 times as long as its fp32 one at 12 tokens, and as long at 512
    with torch.autocast("cpu", enabled=False):
        return scaled_dot_product_attention(q.float(), k.float(), v.float(), seen, is_causal=causal, scale=scaling).to(kind)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    if _lengths.get() is not None:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(NAME, attend_packed)
AttentionMaskInterface.register(NAME, _mask)
