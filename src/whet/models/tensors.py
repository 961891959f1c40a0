"""Named tensors in safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from whet.errors import RunError


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors; shared memory is written out once for each name."""
    save_file(
        {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in sorted(tensors.items())},
        path,
        metadata={"format": "pt"},
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file. Raises RunError where it is missing or torn."""
    try:
        loaded: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise RunError(f"{path}: this file is missing; the folder is not complete.") from None
    except safetensors.SafetensorError as error:
        raise RunError(f"{path}: not a whole safetensors file ({error}).") from None
    return loaded
