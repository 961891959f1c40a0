"""Gradient checkpointing: a block keeps only its input for the backward pass, and is computed again there. Chen et al. 2016 (arXiv:1604.06174).

Not transformers' own switch, which works in training mode only, where dropout is on, and knows neither packed rows nor virtual tokens:
what a block saw beside its arguments in the forward pass, it sees again. A block that writes into a cache, as the prefix of an
encoder-decoder makes it do, keeps everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache

from whet.engine.attention import Prefix, packed, packed_lengths
from whet.models.policy import Policy


def block_modules(root: nn.Module) -> list[nn.Module]:
    """Return the outermost elements of the module lists of a network: its blocks."""
    found: list[nn.Module] = []
    for child in root.children():
        if isinstance(child, nn.ModuleList):
            found += [block for block in child if next(block.parameters(), None) is not None]
        else:
            found += block_modules(child)
    return found


def recompute_blocks(policy: Policy) -> None:
    """Let every block of a policy be computed again in the backward pass. Outputs and gradients stay the same; the technique is attached."""
    for block in block_modules(policy.network.base_model):
        block.forward = _again(block, block.forward)


def _again(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    layers = [module for module in block.modules() if isinstance(module, Prefix) and not isinstance(module.keys, nn.Parameter)]

    def run(*args: Any, **kwargs: Any) -> Any:
        written = any(isinstance(one, Cache) for one in (*args, *kwargs.values()))  # twice computed, it would hold all twice
        if written or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        lengths = packed_lengths()
        seen = [(layer, layer.keys, layer.values) for layer in layers]

        def compute(*inner: Any, **named: Any) -> Any:
            rows = contextlib.nullcontext() if lengths is None else packed(lengths)
            with rows, _virtual(seen):
                return forward(*inner, **named)

        return checkpoint(compute, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


@contextlib.contextmanager
def _virtual(seen: list[tuple[Prefix, Tensor | None, Tensor | None]]) -> Any:
    """Within this, layers have these keys and values of virtual tokens, which are cleared at the end of a forward pass."""
    now = [(layer, layer.keys, layer.values) for layer, _, _ in seen]
    for layer, keys, values in seen:
        layer.keys, layer.values = keys, values
    try:
        yield
    finally:
        for layer, keys, values in now:
            layer.keys, layer.values = keys, values
