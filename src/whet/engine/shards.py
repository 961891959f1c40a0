"""A model that no device holds whole: the weights of its blocks lie in shares over all devices (FSDP2), and are gathered block by block.

What lies outside the blocks, such as embeddings, last norm and heads, stays whole on each device. The optimiser works on each device's
own shares as on plain tensors, so it must be one that takes each number by itself; a checkpoint holds whole tensors, so that it loads
on any number of devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from whet.engine.optimise import grad_norm
from whet.engine.parallel import add_gradients, gathered, leads, size
from whet.models.policy import Policy
from whet.models.recompute import block_modules
from whet.models.reference import part_from_reference


def shard(policy: Policy) -> None:
    """Spread the blocks of a policy over the devices, with those of its reference and its teacher. The technique is attached."""
    part_from_reference(policy)
    for one in (policy, policy.reference, policy.teacher):
        if one is not None:
            _shard_network(one)


def _shard_network(policy: Policy) -> None:
    mesh = init_device_mesh(policy.device.type, (size(),))
    two = policy.kind == "encoder-decoder"
    roots = [policy.network.get_encoder(), policy.network.get_decoder()] if two else [policy.network.base_model]
    blocks = [block for root in roots for block in block_modules(root)]
    inside = {parameter for block in blocks for parameter in block.parameters()}
    outside = {parameter for parameter in policy.network.parameters() if parameter not in inside}
    for module in (*blocks, *roots):
        made = fully_shard(module, mesh=mesh, ignored_params=outside)
        assert isinstance(made, FSDPModule)
        made.set_gradient_divide_factor(1.0)  # summed, and each term divided once by the whole step's weight
        made.set_force_sum_reduction_for_comms(True)


@dataclass(slots=True)
class Shards:
    """Which of the parameters that learn lie in shares, and this device's share of each."""

    spread: dict[str, DTensor] = field(default_factory=dict)

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> Shards:
        return cls({name: tensor for name, tensor in named if isinstance(tensor, DTensor)})

    def held(self, named: Sequence[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        """Return the parameters as this device holds them: what the optimiser steps on."""
        return [(name, tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor) for name, tensor in named]

    def take_gradients(self, held: Sequence[tuple[str, Tensor]]) -> Tensor:
        """Sum the gradients over devices, where the backward pass has not, and return the norm of all of them together. []"""
        whole = [tensor for name, tensor in held if name not in self.spread]
        add_gradients(whole)
        if not self.spread:
            return grad_norm(whole)
        shares = [tensor for name, tensor in held if name in self.spread]
        for share, spread in zip(shares, self.spread.values(), strict=True):
            grad, spread.grad = spread.grad, None
            share.grad = None if grad is None else grad.to_local() if isinstance(grad, DTensor) else grad
        squares = gathered(float(grad_norm([share for share in shares if share.numel()])) ** 2)
        return torch.tensor(math.sqrt(sum(squares) + float(grad_norm(whole)) ** 2))

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors by the names of a checkpoint with every share put together; on the first device only, elsewhere nothing."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            spread = self._parameter(name)
            if spread is not None and tensor.ndim and tensor.shape == spread.to_local().shape:
                tensor = _gathered(tensor, spread)
            if leads():
                found[name] = tensor
        return found

    def mine(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this device's share of tensors that were put together."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            spread = self._parameter(name)
            found[name] = tensor if spread is None or tensor.shape != spread.shape else _share(tensor, spread)
        return found

    def _parameter(self, name: str) -> DTensor | None:
        """Return the parameter in shares that `model/NAME`, `optimiser/NAME/key` or `optimiser/NAME/key/inner` speaks of."""
        return self.spread.get(name.partition("/")[2].partition("/")[0])


def gather(policy: Policy) -> None:
    """Put a policy's weights together again in the first process' own memory, once training is over: to be saved, not to be run."""
    for module in policy.network.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, DTensor):
                whole = parameter.full_tensor().detach()
                module._parameters[name] = nn.Parameter(
                    whole.cpu() if leads() else whole[:0], requires_grad=parameter.requires_grad
                )


def _gathered(share: Tensor, like: DTensor) -> Tensor:
    spread = DTensor.from_local(share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())
    whole: Tensor = spread.full_tensor()
    return whole.cpu() if leads() else whole[:0]


def _share(whole: Tensor, like: DTensor) -> Tensor:
    (placement,) = like.placements
    assert isinstance(placement, Shard), "weights lie in shares of their first dimension"
    local = like.to_local()
    rows = -(-whole.shape[placement.dim] // like.device_mesh.size())
    begin = min(like.device_mesh.get_local_rank() * rows, whole.shape[placement.dim])
    return whole.narrow(placement.dim, begin, local.shape[placement.dim])
