"""A CUDA device that is none: tensors that say they lie there, and hold their numbers on the processor. For a process of its own.

Every operator is computed for real, so that whole training steps run as on a device, autocast included; one that is given tensors of both
devices fails, as it would there. It says nothing about speed, memory, or the numbers of a device's own kernels. Imported before torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

assert "torch" not in sys.modules, "torch looks for devices when it is imported"
FOUND = importlib.util.find_spec("torch")
assert FOUND is not None
assert FOUND.origin is not None
for library in (Path(FOUND.origin).parent / "lib" / "libtorch_cpu.so", os.environ["PRETENDED"]):
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_iter, tree_map  # noqa: E402

DEVICE = torch.device("cuda", 0)
CROSSING = ("aten._to_copy", "aten.copy_", "aten.index.", "aten.index_put")
"""Operators that take tensors of both devices: copies, and indices on the processor."""


class Pretended(torch.Tensor):
    """A tensor that says it lies on the device. `held`: its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Pretended:
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def __repr__(self, **kwargs: Any) -> str:
        return f"Pretended({self.held!r})"


class OnDevice(TorchDispatchMode):
    """Makes tensors that are asked for on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operator on what the tensors hold. Raises RuntimeError where it is given tensors of both devices."""
    there, here = [], []
    for one in tree_iter((args, kwargs)):
        if isinstance(one, torch.Tensor):
            (there if isinstance(one, Pretended) else here).append(one)
    crosses = str(func).startswith(CROSSING)
    if there and any(one.ndim for one in here) and not crosses:
        raise RuntimeError(f"{func} is given tensors of cuda and of cpu {[tuple(one.shape) for one in here]}")
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    plain_args, plain_kwargs = tree_map(_held, args), tree_map(_held, kwargs)
    out = func(*plain_args, **plain_kwargs)
    if str(func).startswith("aten.copy_"):
        return args[0]
    if asked == "cpu" or (asked is None and not there):
        return out
    known = {id(one.held): one for one in there}
    return tree_map(lambda x: known[id(x)] if id(x) in known else Pretended(x) if isinstance(x, torch.Tensor) else x, out)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else torch.device("cpu") if isinstance(x, torch.device) else x


@contextlib.contextmanager
def a_device() -> Iterator[None]:
    """Within this, there is a CUDA device."""
    own, here, bf16 = torch.tensor, torch.cuda.is_available, torch.cuda.is_bf16_supported

    def tensor(data: Any, *, device: Any = None, **named: Any) -> torch.Tensor:
        made = own(data, **named)
        return made if device is None or torch.device(device).type == "cpu" else made.to(DEVICE)

    torch.cuda._initialized = True
    torch.tensor, torch.cuda.is_available = tensor, lambda: True  # type: ignore[assignment]
    torch.cuda.is_bf16_supported = lambda *given: True  # type: ignore[assignment]
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with OnDevice():
            yield
    finally:
        torch.tensor, torch.cuda.is_available, torch.cuda.is_bf16_supported = own, here, bf16
        torch.__future__.set_overwrite_module_params_on_conversion(False)
