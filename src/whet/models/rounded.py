"""Layers whose weights are whole numbers and scales: linear layers, and the embedding of tokens. Rounded by torchao, computed without it.

Shapes: O outputs, I inputs, G groups of inputs that share a scale, M vectors at one time, V vocabulary, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from whet.engine.machine import compute_dtype
from whet.errors import ModelError, installing
from whet.models.linear import matrix

Bits = Literal[4, 8]
FEW = 8
"""Vectors up to which torch's product of bf16 with int8 is faster than bringing the weight to bf16 first; 3 times slower at 512."""
SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Whole:
    """A matrix as whole numbers: values * scale, by row and group. Shared between a tied embedding and its output head."""

    values: Tensor  # int8 [O, I]
    scales: Tensor  # fp32 [O, G]
    bits: Bits

    def dense(self) -> Tensor:
        """Return the matrix. [O, I] fp32"""
        num_out, num_groups = self.scales.shape
        grouped = self.values.view(num_out, num_groups, -1).float() * self.scales[:, :, None]
        return grouped.view(num_out, -1)


class RoundedLinear(nn.Module):
    """x W^T + b with W in whole numbers. `dynamic`: each input vector is rounded to int8 too, and the product is one of integers."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: Whole, bias: Tensor | None, *, dynamic: bool = False, transposed: bool = False) -> None:
        super().__init__()
        assert not dynamic or weight.scales.shape[1] == 1, "a product of integers needs one scale for each row"
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.bits, self.dynamic, self.transposed = weight.bits, dynamic, transposed

    @property
    def whole(self) -> Whole:
        return Whole(self.values, self.scales, self.bits)

    @property
    def weight(self) -> Tensor:
        """The matrix that is computed with. [O, I] fp32"""
        return self.whole.dense()

    def forward(self, x: Tensor) -> Tensor:
        compute = compute_dtype(x)
        if self.dynamic:
            return self._of_integers(x).to(compute)
        bias = None if self.bias is None else self.bias.to(compute)
        if self.scales.shape[1] > 1:
            return nn.functional.linear(x.to(compute), self.weight.to(compute), bias)
        vectors = x.reshape(-1, x.shape[-1])
        if compute == torch.bfloat16 and x.device.type == "cpu" and len(vectors) <= FEW:
            product = torch._weight_int8pack_mm(vectors.to(compute), self.values, self.scales[:, 0].to(compute))
            out = product.view(*x.shape[:-1], -1)
        else:
            out = nn.functional.linear(x.to(compute), self.values.to(compute)) * self.scales[:, 0].to(compute)
        return out if bias is None else out + bias

    def _of_integers(self, x: Tensor) -> Tensor:
        vectors = x.reshape(-1, x.shape[-1]).float()  # [M, I]
        sizes = vectors.abs().amax(-1, keepdim=True).clamp(min=SMALLEST) / 127  # [M, 1]
        rounded = (vectors / sizes).round().to(torch.int8)
        if x.device.type == "cpu":
            product = torch._int_mm(rounded, self.values.T).float()  # [M, O]
        else:  # the kernel of an accelerator asks for more than 16 vectors
            product = rounded.float() @ self.values.T.float()
        out = product * (sizes * self.scales.T)
        out = out if self.bias is None else out + self.bias.float()
        return out.view(*x.shape[:-1], -1)


class RoundedEmbedding(nn.Module):
    """Vectors of tokens, kept in whole numbers."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: Whole) -> None:
        super().__init__()
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.bits: Bits = weight.bits

    @property
    def whole(self) -> Whole:
        return Whole(self.values, self.scales, self.bits)

    @property
    def weight(self) -> Tensor:
        """The vectors of all tokens. [V, D] fp32"""
        return self.whole.dense()

    def forward(self, ids: Tensor) -> Tensor:
        return Whole(self.values[ids.flatten()], self.scales[ids.flatten()], self.bits).dense().view(*ids.shape, -1)


Rounded = RoundedLinear | RoundedEmbedding


def round_network(network: PreTrainedModel, bits: Bits, group_size: int | None, *, dynamic: bool = False) -> None:
    """Round every linear layer of a network, and its embedding of tokens, in place.

    `group_size` inputs share a scale; none: a whole row does. Embedding and output head get 8 bits and a scale for each row, and
    no rounded inputs: they are few operations, and what they lose is lost for every token. Raises ModelError without linear layers.
    """
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    chosen = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    ]
    if not chosen:
        raise ModelError(
            f"{type(network).__name__}: has no plain linear layer to round; it may be compressed already. Name its parent run."
        )
    for name, module in chosen:
        whole = round_matrix(matrix(module).contiguous(), bits, group_size)
        made = RoundedLinear(whole, module.bias, dynamic=dynamic, transposed=isinstance(module, Conv1D))
        network.set_submodule(name, made)
    shared = round_matrix(embedding.weight.detach(), 8, None) if type(embedding) is nn.Embedding else None
    tied = head is not None and head.weight is embedding.weight
    if isinstance(head, nn.Linear) and (shared is not None or not tied):
        whole = shared if tied and shared is not None else round_matrix(head.weight.detach(), 8, None)
        network.set_submodule(_name_of(network, head), RoundedLinear(whole, head.bias))
    if shared is not None:
        network.set_submodule(_name_of(network, embedding), RoundedEmbedding(shared))


def round_matrix(weight: Tensor, bits: Bits, group_size: int | None) -> Whole:
    """Return a matrix [O, I] as torchao rounds it: symmetrically, to the nearest, one scale for each row or group of it.

    A row that groups do not divide gets the largest group that does; a row of odd length is rounded to 8 bits, since two numbers of
    4 share a byte. Raises ModelError without torchao, or for values that are not finite.
    """
    if not torch.isfinite(weight).all():
        raise ModelError("a weight is not a finite number, so it cannot be rounded. Train again.")
    num_in = weight.shape[1]
    bits = 8 if num_in % 2 or group_size is None else bits
    quantization = _torchao()
    config = quantization.Int8WeightOnlyConfig()
    if bits == 4 and group_size is not None:
        granularity = quantization.granularity.PerGroup(math.gcd(num_in, group_size))
        config = quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=granularity)  # type: ignore[attr-defined]
    layer = nn.Linear(num_in, len(weight), bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach().float().cpu().clone(), requires_grad=False)
    quantization.quantize_(nn.Sequential(layer), config)
    found: Any = layer.weight
    zeros = getattr(found, "zero_point", None)
    assert zeros is None or not zeros.any(), "torchao rounded a weight asymmetrically"
    scales = found.scale.float().reshape(len(weight), -1).contiguous()
    return Whole(found.qdata.contiguous().to(weight.device), scales.to(weight.device), bits)


def rounded_layers(network: nn.Module) -> dict[str, Rounded]:
    """Return the rounded layers by name; those that share numbers each have an entry."""
    named = network.named_modules(remove_duplicate=False)
    return {name: module for name, module in named if isinstance(module, (RoundedLinear, RoundedEmbedding))}


def make_dense(network: PreTrainedModel) -> None:
    """Put plain layers in the place of rounded ones, with the numbers that were computed with. Inputs are no longer rounded."""
    weights: dict[int, nn.Parameter] = {}
    for name, layer in rounded_layers(network).items():
        weight = weights.setdefault(layer.values.data_ptr(), nn.Parameter(layer.weight, requires_grad=False))
        num_out, num_in = weight.shape
        made: nn.Module
        if isinstance(layer, RoundedEmbedding):
            made = nn.Embedding(num_out, num_in, device="meta")
        elif layer.transposed:
            made = Conv1D(num_out, num_in)
            weight = nn.Parameter(weight.detach().T.contiguous(), requires_grad=False)
        else:
            made = nn.Linear(num_in, num_out, bias=layer.bias is not None, device="meta")
        made.weight = weight
        if isinstance(layer, RoundedLinear) and layer.bias is not None:
            made.bias = layer.bias
        network.set_submodule(name, made.eval())


def _name_of(network: PreTrainedModel, wanted: nn.Module) -> str:
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}
    return names[wanted]


def _torchao() -> Any:
    """Return torchao's quantization. Raises ModelError where it is not installed."""
    try:
        from torchao import quantization
    except ImportError:
        raise ModelError(f"rounding weights needs torchao, which is not installed. Run: {installing('compress')}") from None
    return quantization
