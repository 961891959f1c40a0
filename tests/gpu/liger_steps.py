"""Compares liger-kernel's steps with plain torch, values and gradients, through Triton's interpreter. Run by its test; prints JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import transformers
import triton
import triton.language as tl
from liger_kernel import ops
from torch import Tensor
from torch.nn.functional import silu
from triton.runtime import interpreter

from whet.engine import attention, liger
from whet.models import fusion, llama_form
from whet.testing.tiny import random_network

OWN = interpreter._implicit_cvt


@triton.jit
def rsqrt(x):
    return 1.0 / tl.sqrt(x)


def scalar(value: Any) -> Any:
    """Numbers of a kernel's call are numbers of the device when it is compiled; the interpreter leaves them Python's."""
    if type(value) is not float:
        return OWN(value)
    return tl.tensor(interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32), tl.float32)


def compared(ours: Callable[..., Any], theirs: Callable[..., Any], given: list[Tensor]) -> float:
    """Return the largest difference of values and gradients, over the largest value."""
    found = []
    for function in (ours, theirs):
        learns = [x.detach().clone().requires_grad_() for x in given]
        out = function(*learns)
        out = out if isinstance(out, tuple) else (out,)
        pulls = [torch.linspace(-1, 1, one.numel()).view(one.shape) for one in out]
        slopes = torch.autograd.grad(sum((one * pull).sum() for one, pull in zip(out, pulls, strict=True)), learns)
        found.append([*out, *slopes])
    return max(float((one - other).detach().abs().max() / other.detach().abs().max()) for one, other in zip(*found, strict=True))


NETWORKS = {
    "Llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
    "Qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config),
    "Qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config),
}
"""The last has norms of its heads too."""


def whole(name: str) -> str:
    """Return why a network is not fused with these steps, which try_fusion holds to transformers' own modules; empty where it is."""
    cls, config = NETWORKS[name]
    network = random_network(
        cls,
        config(
            vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, max_position_embeddings=64, initializer_range=0.1,
        ),
    )  # fmt: skip
    network.requires_grad_(False)
    network.set_attn_implementation(attention.NAME)
    made, reason = fusion.try_fusion(network)
    return reason if made is None else ""


def chosen() -> list[int]:
    """Let the family's form take these steps, as it does for tensors of a CUDA device. Filled with a number for each call."""
    calls: list[int] = []

    def add_norm(residual, added, weight, epsilon, dtype, *, scale=1.0):
        calls.append(1)
        return liger.add_norm(residual, added, weight, epsilon, dtype, scale)

    llama_form.add_norm, attention.rotate, llama_form.gated = add_norm, liger.rotate, liger.gated
    fusion.why_not_on = lambda device: None
    return calls


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    x = x.transpose(1, 2)
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat([-second, first], -1) * sines


def main() -> None:
    interpreter._implicit_cvt = scalar
    for module in ("rms_norm",):
        sys.modules[f"{ops.__name__}.{module}"].rsqrt = rsqrt  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    angles = torch.outer(torch.arange(7.0), torch.tensor([1.0, 0.3, 0.1, 0.03])).repeat(1, 2)
    cosines, sines = angles.cos(), angles.sin()
    found = {
        "norm": compared(
            lambda x, weight: liger.add_norm(x, None, weight, 1e-5, torch.float32, 1.0)[1], norm, [drawn(5, 64), drawn(64)]
        ),
        "sum and norm": compared(
            lambda x, y, weight: liger.add_norm(x, y, weight, 1e-5, torch.float32, 0.5),
            lambda x, y, weight: (x + 0.5 * y, norm(x + 0.5 * y, weight)),
            [drawn(5, 64), drawn(5, 64), drawn(64)],
        ),
        "rotary positions": compared(
            lambda q, k, v: liger.rotate(q, k, v, cosines, sines),
            lambda q, k, v: (turned(q, cosines, sines), turned(k, cosines, sines), v.transpose(1, 2)),
            [drawn(1, 7, 4, 8), drawn(1, 7, 2, 8), drawn(1, 7, 2, 8)],
        ),
        "gated activation": compared(liger.gated, lambda gate, up: silu(gate) * up, [drawn(5, 96), drawn(5, 96)]),
    }
    calls = chosen()
    found["networks"] = {name: whole(name) for name in NETWORKS}
    low = liger.add_norm(drawn(5, 64), drawn(5, 64).bfloat16(), torch.ones(64), 1e-5, torch.bfloat16, 1.0)
    print(json.dumps(found | {"calls": len(calls), "dtypes": [str(one.dtype) for one in low]}))


if __name__ == "__main__":
    main()
