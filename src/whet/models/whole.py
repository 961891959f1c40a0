"""Whether the files of a model folder are whole and belong together, before anything is built from them."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
from transformers import PreTrainedConfig

from whet.display import brief
from whet.errors import ModelError

MANY_LAYERS = 1000
"""More layers than any model has; beyond it a network is not built unless the weights have as many."""


def check_files(name: str, folder: Path) -> None:
    """Raise ModelError where a file of weights is missing or torn, or lies outside the folder."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        named = sorted(set(_indexed(name, index)))
        outside = next((file for file in named if Path(file).name != file), None)
        if outside is not None:
            raise ModelError(
                f"{name}: {index.name} names a file outside the model's folder: {brief(outside)}. Download it again."
            )
        missing = [file for file in named if not (folder / file).is_file()]
        if missing:
            raise ModelError(
                f"{name}: {len(missing)} of the {len(named)} files of its weights are missing, such as {brief(missing[0])}. "
                "Download or copy the model again, whole."
            )
    for file in sorted(folder.glob("*.safetensors")):
        num_tensors(name, file)


def check_depth(name: str, folder: Path, config: PreTrainedConfig) -> None:
    """Raise ModelError where the configuration asks for more layers than the weights can have."""
    num_layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if not isinstance(num_layers, int) or num_layers <= MANY_LAYERS:
        return
    found = sum(num_tensors(name, file) for file in folder.glob("*.safetensors"))
    if num_layers > found:
        raise ModelError(
            f"{name}: config.json says {num_layers:,} layers, and the weights are {found:,} tensors. They do not belong together; copy "
            "both from one model."
        )


def num_tensors(name: str, file: Path) -> int:
    """Return how many tensors a file holds; its header says how long it must be. Raises ModelError where it is not."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            return len(opened.keys())
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{name}: {file.name} is torn or damaged, or no safetensors file ({brief(str(error))}). Download or copy it again."
        ) from None


def _indexed(name: str, file: Path) -> list[str]:
    try:
        return [str(value) for value in dict(json.loads(file.read_text(encoding="utf-8"))["weight_map"]).values()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{name}: {file.name} is damaged ({brief(str(error))}). Download the model again.") from None
