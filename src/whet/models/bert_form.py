"""The form of BERT's family of encoders (BERT, RoBERTa, ELECTRA and theirs): its modules, and its body by the package's own fused steps.

Sum and norm, the activation, and the sums of bias gradients are one pass each; queries, keys and values are one product.

Shapes: T tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from whet.engine.activations import gelu
from whet.engine.attention import PREFIX, Attended, attend_packed, packed
from whet.engine.fused import normed_sum
from whet.engine.projections import Projections, watched
from whet.models.begun import Begun
from whet.types import Batch

BODY, BESIDE = {"embeddings", "encoder"}, {"pooler", "embeddings_project"}
LAYER = {"attention", "intermediate", "output"}
HEADS = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of one layer."""

    attention: nn.Module
    heads: tuple[nn.Module, nn.Module, nn.Module]
    attended: nn.Module
    inner: nn.Module
    outer: nn.Module
    norms: tuple[nn.LayerNorm, nn.LayerNorm]

    @property
    def groups(self) -> tuple[tuple[nn.Module, ...], ...]:
        return self.heads, (self.attended,), (self.inner,), (self.outer,)


class BertForm:
    """How wide the heads of one network of the family are, and what is kept of it from step to step."""

    on_gpu: ClassVar[bool] = False
    """Its steps are there on the processor only."""

    def __init__(self, scalings: tuple[float | None, ...], head_width: int, first_position: int) -> None:
        self.scalings, self.head_width, self.first_position = scalings, head_width, first_position
        self.projections = Projections()

    @classmethod
    def of(cls, config: PreTrainedConfig, seen: Sequence[Attended], first_position: int) -> BertForm | None:
        """Return the form as this network attended; None where it did so in another way."""
        if any(one.special or one.causal or one.window is not None for one in seen):
            return None
        return cls(tuple(one.scaling for one in seen), seen[0].query.shape[-1], first_position)

    def another(self) -> BertForm:
        return BertForm(self.scalings, self.head_width, self.first_position)

    @staticmethod
    def layers(body: nn.Module) -> list[Layer] | None:
        """Return the layers of a body that has the family's form and that nobody hooked into; else None."""
        children = dict(body.named_children())
        if set(children) - BESIDE != BODY or any(map(watched, children.values())) or watched(body):
            return None
        inside = dict(children["encoder"].named_children())
        if set(inside) != {"layer"} or not isinstance(inside["layer"], nn.ModuleList) or body.config.hidden_act != "gelu":  # type: ignore[union-attr]
            return None
        found = [_layer(layer) for layer in inside["layer"]]
        known = [layer for layer in found if layer is not None]
        return known if known and len(known) == len(found) else None

    def run(
        self,
        body: nn.Module,
        layers: Sequence[Layer],
        batch: Batch,
        dtype: torch.dtype,
        places: Tensor | None = None,
        begun: Begun | None = None,
    ) -> Tensor:
        """Return the last hidden states, with products in `dtype`. [T, D], or [N, D] of the tokens at these places"""
        first, (states,) = (0, (self._embedded(body, batch),)) if begun is None else (begun.depth, begun.carried)
        return self._through(layers, range(first, len(layers)), states, batch, dtype, places)

    def lower(self, body: nn.Module, layers: Sequence[Layer], batch: Batch, dtype: torch.dtype, depth: int) -> tuple[Tensor, ...]:
        """Return the states behind the lowest layers, so many of them. [T, D]"""
        return (self._through(layers, range(depth), self._embedded(body, batch), batch, dtype, None),)

    def _embedded(self, body: nn.Module, batch: Batch) -> Tensor:
        positions = batch.positions[None] + self.first_position
        states: Tensor = body.embeddings(input_ids=batch.ids[None], position_ids=positions)[0]  # type: ignore[operator]
        if "embeddings_project" in body._modules:
            states = body.embeddings_project(states).float()  # type: ignore[operator]
        return states

    def _through(
        self, layers: Sequence[Layer], numbers: range, states: Tensor, batch: Batch, dtype: torch.dtype, places: Tensor | None
    ) -> Tensor:
        read, project = states.to(dtype), self.projections
        with packed(batch.lengths):
            for index in numbers:
                layer, scaling = layers[index], self.scalings[index]
                made = project(f"{index}.heads", read, layer.heads)
                query, key, value = (x.view(len(x), -1, self.head_width)[None].transpose(1, 2) for x in made)  # [1, H, T, d]
                out, _ = attend_packed(layer.attention, query, key, value, None, scaling=scaling, is_causal=False)
                attended = out[0].flatten(1)
                if places is not None and layer is layers[-1]:
                    states, attended = states.index_select(0, places), attended.index_select(0, places)
                (added,) = project(f"{index}.attended", attended, [layer.attended])
                states, read = _normed(layer.norms[0], states, added, dtype)
                (inner,) = project(f"{index}.inner", read, [layer.inner])
                added = project.activated(f"{index}.outer", gelu, (inner,), layer.outer)
                states, read = _normed(layer.norms[1], states, added, dtype)
        return states


def _layer(module: nn.Module) -> Layer | None:
    parts = {name: dict(child.named_children()) for name, child in module.named_children()}
    if set(parts) != LAYER or set(parts["attention"]) != {"self", "output"}:
        return None
    attention, attended = (dict(child.named_children()) for child in parts["attention"].values())
    if set(attention) - {PREFIX} != {*HEADS, "dropout"} or any(
        set(some) != {"dense", "LayerNorm", "dropout"} for some in (attended, parts["output"])
    ):
        return None
    if set(parts["intermediate"]) != {"dense", "intermediate_act_fn"}:
        return None
    inside = (*parts["attention"].values(), *parts["intermediate"].values(), *attention.values(), *attended.values())
    if any(map(watched, (module, *module.children(), *inside, *parts["output"].values()))):
        return None
    norms = (attended["LayerNorm"], parts["output"]["LayerNorm"])
    if not (_is_norm(norms[0]) and _is_norm(norms[1])):
        return None
    query, key, value = (attention[name] for name in HEADS)
    return Layer(
        parts["attention"]["self"],
        (query, key, value),
        attended["dense"],
        parts["intermediate"]["dense"],
        parts["output"]["dense"],
        norms,  # type: ignore[arg-type]
    )


def _is_norm(module: nn.Module) -> bool:
    """Whether this is torch's layer norm with weight and bias, in fp32."""
    return type(module) is nn.LayerNorm and all(x is not None and x.dtype == torch.float32 for x in (module.weight, module.bias))


def _normed(norm: nn.LayerNorm, states: Tensor, added: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return normed_sum(states, added, norm.weight, norm.bias, norm.eps, dtype)
