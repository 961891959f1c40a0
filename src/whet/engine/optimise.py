"""The optimiser's state by parameter name, as tensors and plain numbers, so that it can be saved without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def state_tensors(optimiser: Optimizer, named: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return the optimiser's state as {`parameter/key`: tensor}."""
    tensors = {}
    for name, parameter in named:
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


def restore_state(optimiser: Optimizer, named: Sequence[tuple[str, Tensor]], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` returned."""
    parameters = dict(named)
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        state: dict[str, Any] = optimiser.state[parameters[parameter]]
        state[key] = tensor.clone()


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
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
    return norm
