"""Folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from whet.errors import RunError
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
TASKS = {"decoder": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION", "encoder-decoder": "SEQ_2_SEQ_LM"}


def write_adapter(policy: Policy, folder: Path, kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write what was learnt into an existing folder. `kind` is PEFT's name of the method."""
    save_tensors(tensors, folder / WEIGHTS)
    config = {
        "peft_type": kind,
        "task_type": TASKS[policy.kind],
        "base_model_name_or_path": policy.source.name,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(config | dict(settings), indent=2) + "\n")


def read_adapter(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and tensors of a folder of this kind; layers are named as in the network. Raises RunError."""
    place = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        found = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{place}: missing or damaged ({error}). Restore the folder, or train again.") from None
    if found != kind:
        raise RunError(f"{place}: an adapter of kind {found}, not {kind}. Name the technique that it was made with.")
    return config, {key.removeprefix(PREFIX): value for key, value in load_tensors(folder / WEIGHTS).items()}


def number(config: Mapping[str, Any], key: str, place: Path) -> float:
    """Return a number of an adapter's settings. Raises RunError where it is missing or something else."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RunError(
            f"{place}: missing or damaged ('{key}' is {value!r}, a number is needed). Restore the folder, or train again."
        )
    return value


def refuse_other_base(place: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise RunError where saved tensors and the model's own differ by name or size."""
    ours = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if ours != theirs:
        common = sum(theirs.get(name) == shape for name, shape in ours.items())
        raise RunError(
            f"{place}: holds {len(theirs)} tensors, and {common} of them fit this model's {len(ours)} by name and size. "
            "It belongs to another base model: name that one."
        )
