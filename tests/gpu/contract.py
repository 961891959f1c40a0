"""A stand-in of torch.nn.attention.varlen.varlen_attn: what its documentation promises, in plain torch, row by row.

It proves what it is called with, not the kernel itself, which runs on CUDA devices only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """query [T, H, d], key and value [T, K, d], cumulative lengths [R + 1] -> [T, H, d]"""
    assert query.ndim == key.ndim == value.ndim == 3
    assert query.dtype == key.dtype == value.dtype, "the kernel takes one dtype"
    assert all(x.stride(-1) == 1 for x in (query, key, value)), "the last axis must be dense"
    assert query.shape[2] % 8 == 0
    assert query.shape[2] <= 256
    for starts, tensor, longest in ((cu_seq_q, query, max_q), (cu_seq_k, key, max_k)):
        assert starts.dtype == torch.int32
        assert starts.device == tensor.device
        assert int(starts[0]) == 0
        assert int(starts[-1]) == len(tensor)
        assert int((starts[1:] - starts[:-1]).max()) == longest
    heads, shared = query.shape[1], key.shape[1]
    assert enable_gqa or heads == shared
    left, right = window_size
    scale = 1 / math.sqrt(query.shape[2]) if scale is None else scale
    rows = []
    for row in range(len(cu_seq_q) - 1):
        begin, end = int(cu_seq_q[row]), int(cu_seq_q[row + 1])
        q, k, v = (x[begin:end].transpose(0, 1).float() for x in (query, key, value))
        k, v = (x.repeat_interleave(heads // shared, dim=0) for x in (k, v))
        place = torch.arange(end - begin, device=query.device)
        ahead = place[None, :] - place[:, None]  # how far a key lies behind the query's own token
        seen = torch.ones_like(ahead, dtype=torch.bool)
        if left >= 0:
            seen = seen & (ahead >= -left)
        if right >= 0:
            seen = seen & (ahead <= right)
        scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~seen, -math.inf)
        rows.append((torch.softmax(scores, -1) @ v).transpose(0, 1))
    return torch.cat(rows).to(query.dtype)
