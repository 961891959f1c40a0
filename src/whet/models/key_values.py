"""A network's key-value cache, by the name that its forward pass gives it: `cache` from transformers 5.24 on, `past_key_values` before.

Shapes: R rows, T tokens read now, V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

NAMES = ("cache", "past_key_values")


def go_on(network: PreTrainedModel, cache: Any, **inputs: Any) -> tuple[Tensor, Any]:
    """Return the logits of what is read now, and the cache with it. [R, T or fewer, V]

    `cache` is None for a network that has read nothing yet.
    """
    name = cache_name(network)
    out = network(**inputs, **{name: cache}, use_cache=True)
    logits: Tensor = out.logits
    return logits, out.get(name)


def cache_in(given: Mapping[str, Any]) -> Any:
    """Return the cache among the arguments of a forward pass, or None."""
    return next((given[name] for name in NAMES if given.get(name) is not None), None)


def cache_name(module: nn.Module) -> str:
    """Return the name of the cache among the arguments of a network, or of its decoder."""
    kind: Any = type(module)
    return _name(kind)


@functools.cache
def _name(kind: type[nn.Module]) -> str:
    return NAMES[0] if NAMES[0] in inspect.signature(kind.forward).parameters else NAMES[1]
