"""The file of a compressed network: whole numbers with their scales, matrices of many zeros without them, the rest as it is.

Plain tensors in one safetensors file; how each layer is written stands in its header. Reading it needs no library of rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from whet.errors import RunError
from whet.models.rounded import RoundedEmbedding, RoundedLinear, Whole, rounded_layers

COMPRESSED = "compressed.safetensors"
FORM = "whet-compressed-1"
FEWEST_ZEROS = 0.1
"""Share of zeros from which a matrix is written as a mask and its other numbers: the mask costs 1 bit of 32."""

Index = dict[str, dict[str, Any]]
"""Layer or parameter to how it is written."""


def save_compressed(network: PreTrainedModel, folder: Path) -> None:
    """Write a network's configuration and its weights, each in the smallest way that loses nothing."""
    tensors: dict[str, Tensor] = {}
    index: Index = {}
    places: dict[int, str] = {}
    rounded = rounded_layers(network)
    for name, layer in rounded.items():
        entry: dict[str, Any] = {"kind": "rounded", "bits": layer.bits}
        if isinstance(layer, RoundedLinear):
            entry |= {"dynamic": layer.dynamic, "transposed": layer.transposed}
        index[name] = entry
        first = places.setdefault(layer.values.data_ptr(), name)
        if first != name:
            entry["same_as"] = first
            continue
        tensors[f"{name}.values"] = _packed(layer.values) if layer.bits == 4 else layer.values
        tensors[f"{name}.scales"] = layer.scales
    tied = set(network.all_tied_weights_keys or ())
    inner = {f"{name}.{part}" for name in rounded for part in ("values", "scales")}
    for name, tensor in network.state_dict().items():
        if name in inner or (name in tied and name.removesuffix(".weight") not in rounded):
            continue
        zeros = 1 - int(tensor.count_nonzero()) / max(1, tensor.numel())
        if tensor.ndim < 2 or zeros < FEWEST_ZEROS:
            tensors[name] = tensor
            continue
        there = tensor != 0
        index[name] = {"kind": "zeros", "shape": list(tensor.shape)}
        tensors[f"{name}.mask"] = _bits(there)
        tensors[f"{name}.numbers"] = tensor[there]
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    network.config.save_pretrained(folder)
    save_file(plain, folder / COMPRESSED, metadata={"format": "pt", "form": FORM, "index": json.dumps(index, sort_keys=True)})


def load_dense(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a compressed network as plain parameters by name. Raises RunError where the file is torn."""
    tensors, index = _read(folder)
    dense: dict[str, Tensor] = {}
    for name, entry in index.items():
        if entry["kind"] == "zeros":
            numbers = tensors.pop(f"{name}.numbers")
            weight = torch.zeros(entry["shape"], dtype=numbers.dtype)
            weight[_places(tensors.pop(f"{name}.mask"), weight.shape)] = numbers
            dense[name] = weight
        else:
            weight = _whole(tensors, index, name).dense()
            dense[f"{name}.weight"] = weight.T.contiguous() if entry.get("transposed") else weight
    rounded = {f"{name}.{part}" for name in index for part in ("values", "scales")}
    return dense | {name: tensor for name, tensor in tensors.items() if name not in rounded}


def restore_rounded(network: PreTrainedModel, folder: Path) -> None:
    """Put rounded layers, as the file has them, in the place of the network's plain ones."""
    tensors, index = _read(folder)
    wholes: dict[str, Whole] = {}
    for name, entry in index.items():
        if entry["kind"] != "rounded":
            continue
        first = entry.get("same_as", name)
        if first not in wholes:
            whole = _whole(tensors, index, first)
            device = network.device
            wholes[first] = Whole(whole.values.to(device), whole.scales.to(device), whole.bits)
        made: RoundedLinear | RoundedEmbedding
        if "dynamic" in entry:
            bias: Any = getattr(network.get_submodule(name), "bias", None)
            made = RoundedLinear(wholes[first], bias, dynamic=entry["dynamic"], transposed=entry["transposed"])
        else:
            made = RoundedEmbedding(wholes[first])
        network.set_submodule(name, made.eval())


def _read(folder: Path) -> tuple[dict[str, Tensor], Index]:
    path = folder / COMPRESSED
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("form") != FORM:
            raise RunError(
                f"{path}: written in the form {header.get('form')!r}; this version reads {FORM!r}. Compress the run again."
            )
        return tensors, json.loads(header["index"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path}: not a whole file of compressed weights ({error}). Compress the run again.") from None


def _whole(tensors: dict[str, Tensor], index: Index, name: str) -> Whole:
    entry = index[name]
    first = entry.get("same_as", name)
    values = tensors[f"{first}.values"]
    return Whole(_unpacked(values) if entry["bits"] == 4 else values, tensors[f"{first}.scales"], entry["bits"])


def _packed(values: Tensor) -> Tensor:
    """Two numbers of -8..7 in each byte, the first in the lower half. int8 [O, I] -> uint8 [O, I / 2]"""
    raised = (values + 8).to(torch.uint8)
    return raised[:, 0::2] | (raised[:, 1::2] << 4)


def _unpacked(packed: Tensor) -> Tensor:
    halves = torch.stack([packed & 15, packed >> 4], dim=-1)  # [O, I / 2, 2]
    return (halves.flatten(1).to(torch.int8) - 8).contiguous()


def _bits(mask: Tensor) -> Tensor:
    """A mask as bytes of eight, the first in the lowest bit, the last byte filled up with 0. [N] -> uint8 [N / 8]"""
    flat = mask.flatten().to(torch.uint8)
    eights = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return (eights << torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def _places(packed: Tensor, shape: torch.Size) -> Tensor:
    flat = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return flat.flatten()[: shape.numel()].view(shape).bool()
