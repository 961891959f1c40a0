"""The optimiser's state by parameter name, as tensors and plain numbers, so that it can be saved without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from whet.errors import TrainingError
from whet.protocols import ByRole, Optimiser


def build(
    optimiser: Optimiser,
    named: Sequence[tuple[str, Tensor]],
    hidden: Mapping[str, bool],
    learning_rate: float,
    weight_decay: float,
) -> Optimizer:
    """Return the optimiser over these parameters. `hidden`: the matrices between hidden states, as `models.linear.hidden_matrices` has them."""
    if isinstance(optimiser, ByRole):
        return optimiser.build_by_role(named, hidden, learning_rate, weight_decay)
    return optimiser.build(named, learning_rate, weight_decay)


def decayed_groups(named: Sequence[tuple[str, Tensor]], weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters as groups: matrices with weight decay, and vectors, which are biases and norms, without."""
    groups: list[dict[str, Any]] = [
        {"params": [tensor for _, tensor in named if tensor.ndim >= 2], "weight_decay": weight_decay},
        {"params": [tensor for _, tensor in named if tensor.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


PLAIN: dict[str, tuple[type, torch.dtype]] = {
    "int": (int, torch.int64),
    "float": (float, torch.float64),
    "bool": (bool, torch.bool),
    "none": (type(None), torch.bool),
}
"""Plain values of a state, by the word behind their name in a checkpoint, and the type of tensor that holds each exactly."""
ON_CPU = "cpu"
"""The word behind the name of a tensor that is kept beside the processor while its parameter is not."""


def state_tensors(optimiser: Optimizer, named: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return the optimiser's state as {`parameter/key`: tensor}, and `parameter/key/inner` where a state has an inner mapping.

    What is a plain value there has its type behind its name, so that it is one again: `parameter/step:int`.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in named:
        _flatten(name, optimiser.state.get(parameter, {}), parameter.device, tensors)
    return tensors


def restore_state(optimiser: Optimizer, named: Sequence[tuple[str, Tensor]], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` returned. Raises ValueError for what belongs to none of the parameters."""
    parameters = dict(named)
    for parameter in parameters.values():
        optimiser.state.pop(parameter, None)
    for name, tensor in tensors.items():
        parts = name.split("/")
        depth = next((depth for depth in range(len(parts) - 1, 0, -1) if "/".join(parts[:depth]) in parameters), None)
        if depth is None:
            raise ValueError(f"{name}: the optimiser has no such parameter")
        parameter, keys = parameters["/".join(parts[:depth])], parts[depth:]
        state: dict[str, Any] = optimiser.state[parameter]
        for key in keys[:-1]:
            state = state.setdefault(key, {})
        key, _, word = keys[-1].rpartition(":")
        if word in PLAIN and key:
            state[key] = None if word == "none" else PLAIN[word][0](tensor.item())
        elif word == ON_CPU and key:
            state[key] = tensor.clone()
        else:
            state[keys[-1]] = tensor.to(parameter.device, copy=True)


def _flatten(path: str, state: Mapping[Any, Any], device: torch.device, tensors: dict[str, Tensor]) -> None:
    for key, value in state.items():
        if not isinstance(key, str) or "/" in key or ":" in key:
            raise TrainingError(f"the optimiser keeps {path} under the key {key!r}. Allowed: a word without '/' and ':'.")
        place = f"{path}/{key}"
        word = next((word for word, (kind, _) in PLAIN.items() if type(value) is kind), None)
        if isinstance(value, Tensor):
            tensors[place if value.device == device else f"{place}:{ON_CPU}"] = value
        elif isinstance(value, Mapping):
            _flatten(place, value, device, tensors)
        elif word is not None:
            tensors[f"{place}:{word}"] = torch.tensor(False if value is None else value, dtype=PLAIN[word][1])
        else:
            raise TrainingError(
                f"the optimiser keeps a {type(value).__name__} as {place}, which a checkpoint cannot hold. Allowed: tensors, numbers, "
                "None, and mappings of them."
            )


def share_rates(optimiser: Optimizer, named: Sequence[tuple[str, Tensor]], rates: Mapping[str, float]) -> None:
    """Let parameters learn at a share of the learning rate, by name: each group is split by share, and says it as `lr_ratio`."""
    shares = {parameter: rates.get(name, 1.0) for name, parameter in named}
    groups, whole = [], list(optimiser.param_groups)
    for group in whole:
        for share in sorted({shares[parameter] for parameter in group["params"]}):
            chosen = [parameter for parameter in group["params"] if shares[parameter] == share]
            groups.append({**group, "params": chosen, "lr_ratio": share * group.get("lr_ratio", 1.0)})
    optimiser.param_groups[:] = groups


def grad_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients together, in fp32 or more; 0 where there is none."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return torch.zeros(())
    norm: Tensor = get_total_norm(grads)
    return norm
