"""The form of the Llama family's decoders: its modules, and its body by the package's own fused steps.

Norm and residual, gated activation are one pass each; rotary positions are turned within attention; layers that share an input are one
product.

Shapes: T tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from whet.engine.activations import gated
from whet.engine.attention import PREFIX, Attended, attend_packed, packed
from whet.engine.fused import add_norm
from whet.engine.projections import Projections, watched
from whet.models.begun import Begun
from whet.types import Batch

BODY = {"embed_tokens", "layers", "norm", "rotary_emb"}
LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True, slots=True)
class Attending:
    """How one layer attends, as transformers asked for it."""

    scaling: float | None
    window: int | None


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of one layer."""

    attention: nn.Module
    projections: tuple[nn.Module, nn.Module, nn.Module]
    output: nn.Module
    head_norms: tuple[nn.Module, nn.Module] | None
    gate: nn.Module
    up: nn.Module
    down: nn.Module
    norms: tuple[nn.Module, nn.Module]

    @property
    def groups(self) -> tuple[tuple[nn.Module, ...], ...]:
        return self.projections, (self.output,), (self.gate, self.up), (self.down,)


class LlamaForm:
    """How the layers of one network of the family attend, and what is kept of it from step to step."""

    on_gpu: ClassVar[bool] = True
    """Its steps are there on a CUDA device too."""

    def __init__(self, attending: tuple[Attending, ...], residual_scale: float, embedding_scale: float) -> None:
        self.attending = attending
        self.residual_scale, self.embedding_scale = residual_scale, embedding_scale
        self.projections = Projections()

    @classmethod
    def of(cls, config: PreTrainedConfig, seen: Sequence[Attended], first_position: int) -> LlamaForm | None:
        """Return the form as this network attended; None where it did so in another way."""
        if any(one.special or not one.causal for one in seen) or first_position:
            return None
        scales = (float(getattr(config, name, 1.0)) for name in ("residual_multiplier", "embedding_multiplier"))
        return cls(tuple(Attending(one.scaling, one.window) for one in seen), *scales)

    def another(self) -> LlamaForm:
        return LlamaForm(self.attending, self.residual_scale, self.embedding_scale)

    @staticmethod
    def layers(body: nn.Module) -> list[Layer] | None:
        """Return the layers of a body that has the family's form and that nobody hooked into; else None."""
        children = dict(body.named_children())
        if set(children) != BODY or any(map(watched, children.values())) or watched(body) or not _is_norm(children["norm"]):
            return None
        if not isinstance(children["layers"], nn.ModuleList) or body.config.hidden_act not in {"silu", "swish"}:  # type: ignore[union-attr,operator]
            return None
        found = [_layer(layer) for layer in children["layers"]]
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
        first, carried = (0, (self._embedded(body, batch),)) if begun is None else (begun.depth, begun.carried)
        residual, added = self._through(body, layers, range(first, len(layers)), carried, batch, dtype, places)
        _, states = _normed(body.norm, residual, added, torch.float32, self.residual_scale)  # type: ignore[arg-type]
        return states

    def lower(self, body: nn.Module, layers: Sequence[Layer], batch: Batch, dtype: torch.dtype, depth: int) -> tuple[Tensor, ...]:
        """Return the residual before the lowest layers' last sum, and what it adds. [T, D] each"""
        return self._through(body, layers, range(depth), (self._embedded(body, batch),), batch, dtype, None)

    def _embedded(self, body: nn.Module, batch: Batch) -> Tensor:
        residual: Tensor = body.embed_tokens(batch.ids)  # type: ignore[operator]
        return residual if self.embedding_scale == 1 else residual * self.embedding_scale

    def _through(
        self,
        body: nn.Module,
        layers: Sequence[Layer],
        numbers: range,
        carried: tuple[Tensor, ...],
        batch: Batch,
        dtype: torch.dtype,
        places: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        residual, added = carried if len(carried) == 2 else (carried[0], None)
        cosines, sines = (x[0].float().contiguous() for x in body.rotary_emb(residual[None], batch.positions[None]))  # type: ignore[operator]
        project, scale = self.projections, self.residual_scale
        with packed(batch.lengths):
            for index in numbers:
                layer, attending = layers[index], self.attending[index]
                residual, read = _normed(layer.norms[0], residual, added, dtype, scale)
                made = project(f"{index}.heads", read, layer.projections)
                attended = _attend(layer, attending, made, cosines, sines)
                if places is not None and layer is layers[-1]:
                    residual, attended = residual.index_select(0, places), attended.index_select(0, places)
                (added,) = project(f"{index}.output", attended, [layer.output])
                residual, read = _normed(layer.norms[1], residual, added, dtype, scale)
                gate, up = project(f"{index}.gate", read, [layer.gate, layer.up])
                added = project.activated(f"{index}.down", gated, (gate, up), layer.down)
        assert added is not None, "at least one layer is passed"
        return residual, added


def _layer(module: nn.Module) -> Layer | None:
    children = dict(module.named_children())
    if set(children) != LAYER or watched(module) or any(map(watched, children.values())):
        return None
    attention, mlp = dict(children["self_attn"].named_children()), dict(children["mlp"].named_children())
    normed = set(attention) >= HEAD_NORMS
    if set(attention) - {PREFIX} != (PROJECTIONS | HEAD_NORMS if normed else PROJECTIONS) or set(mlp) != GATED:
        return None
    norms = (children["input_layernorm"], children["post_attention_layernorm"])
    head_norms = (attention["q_norm"], attention["k_norm"]) if normed else None
    if any(not _is_norm(norm) or watched(norm) for norm in (*norms, *(head_norms or ()))):
        return None
    heads = (attention["q_proj"], attention["k_proj"], attention["v_proj"])
    rest = (mlp["gate_proj"], mlp["up_proj"], mlp["down_proj"])
    return Layer(children["self_attn"], heads, attention["o_proj"], head_norms, *rest, norms)


def _is_norm(module: nn.Module) -> bool:
    """Whether this is a norm of root mean squares with one weight, and it is in fp32."""
    names = [name for name, _ in module.named_parameters()]
    named = type(module).__name__.endswith("RMSNorm") and "variance_epsilon" in vars(module)
    return named and names == ["weight"] and module.weight.dtype == torch.float32 and module.weight.is_contiguous()  # type: ignore[operator]


def _normed(norm: nn.Module, residual: Tensor, added: Tensor | None, dtype: torch.dtype, scale: float) -> tuple[Tensor, Tensor]:
    return add_norm(residual, added, norm.weight, norm.variance_epsilon, dtype, scale=scale)  # type: ignore[arg-type]


def _attend(layer: Layer, attending: Attending, made: tuple[Tensor, ...], cosines: Tensor, sines: Tensor) -> Tensor:
    """Return what the layer attends to. [T, H * d]"""
    width = cosines.shape[1]
    query, key, value = (x.view(len(x), -1, width)[None] for x in made)  # [1, T, H, d]
    if layer.head_norms is not None:
        query, key = (_heads_normed(norm, x) for norm, x in zip(layer.head_norms, (query, key), strict=True))
        value = value.clone()  # else the whole product of which it is a part would be kept for it
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    angles = (cosines, sines) if vars(layer.attention).get("use_rope", True) else None
    scaling, window = attending.scaling, attending.window
    out, _ = attend_packed(
        layer.attention, query, key, value, None, scaling=scaling, sliding_window=window, is_causal=True, angles=angles
    )
    return out[0].flatten(1)


def _heads_normed(norm: nn.Module, x: Tensor) -> Tensor:
    """[1, T, H, d]"""
    _, flat = _normed(norm, x.reshape(-1, x.shape[-1]), None, x.dtype, 1.0)
    return flat.view(x.shape)
