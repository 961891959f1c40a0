"""The body of a decoder of the Llama family by the package's own fused steps, in the place of transformers' modules, which it reads.

Norm and residual, rotary positions, gated activation are one pass each; layers that share an input are one product. That the family's
form is a network's is tried when it is loaded, against transformers' own modules, output and gradient; and where some technique has
put something else in a module's place, or hooked into it, transformers' modules are asked as always.

Shapes: T tokens, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from whet.engine.attention import PREFIX, attend_packed, packed, witnessed
from whet.engine.cut import pack
from whet.engine.fused import add_norm, gated, rotate, why_not
from whet.engine.packed_attention import lowered
from whet.engine.projections import Projections, watched
from whet.types import Batch, Row

TOLERANCE = 1e-4
"""Largest difference from transformers' modules in fp32, of the output over its spread, of the gradient over its norm."""
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


class Fusion:
    """What is known of a network that has the family's form, and what is kept of it from step to step."""

    def __init__(self, attending: tuple[Attending, ...], residual_scale: float, embedding_scale: float) -> None:
        self.attending = attending
        self.residual_scale, self.embedding_scale = residual_scale, embedding_scale
        self.projections = Projections()

    def another(self) -> Fusion:
        """Return the same for a second network of the same form, with nothing kept."""
        return Fusion(self.attending, self.residual_scale, self.embedding_scale)

    def states(self, network: PreTrainedModel, batch: Batch) -> Tensor | None:
        """Return the last hidden states of packed rows, in fp32; None where the network's own modules must be asked. [T, D]

        In fp32 these are asked too: what is fused pays where products are fast, and sums would be rounded in another order.
        """
        dtype, body = lowered(), network.base_model
        if dtype != torch.bfloat16 or batch.ids.device.type != "cpu" or body.training or why_not() is not None:
            return None
        layers = _layers(body)
        return None if layers is None else self.run(body, layers, batch, dtype)

    def run(self, body: nn.Module, layers: list[Layer], batch: Batch, dtype: torch.dtype) -> Tensor:
        """Return the last hidden states, with products in `dtype`. [T, D]"""
        residual: Tensor = body.embed_tokens(batch.ids)  # type: ignore[operator]
        residual = residual if self.embedding_scale == 1 else residual * self.embedding_scale
        cosines, sines = (x[0].float().contiguous() for x in body.rotary_emb(residual[None], batch.positions[None]))  # type: ignore[operator]
        added: Tensor | None = None
        project, scale = self.projections, self.residual_scale
        with packed(batch.lengths):
            for index, (layer, attending) in enumerate(zip(layers, self.attending, strict=True)):
                residual, read = _normed(layer.norms[0], residual, added, dtype, scale)
                made = project(f"{index}.heads", read, layer.projections)
                attended = _attend(layer, attending, made, cosines, sines)
                (added,) = project(f"{index}.output", attended, [layer.output])
                residual, read = _normed(layer.norms[1], residual, added, dtype, scale)
                gate, up = project(f"{index}.gate", read, [layer.gate, layer.up])
                (added,) = project(f"{index}.down", gated(gate, up), [layer.down])
        _, states = _normed(body.norm, residual, added, torch.float32, scale)  # type: ignore[arg-type]
        return states


def try_fusion(network: PreTrainedModel) -> tuple[Fusion | None, str]:
    """Return the fused way through a network that packs, or None and the reason, as the end of a sentence."""
    layers, config = _layers(network.base_model), network.config.get_text_config()
    if layers is None:
        return None, f"'{config.model_type}' is not of the Llama family's form"
    if (reason := why_not()) is not None:
        return None, reason
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(min(10, config.vocab_size - 1), config.vocab_size, (size,), generator=generator) for size in (7, 3, 11)]
    batch = pack([Row(index, row) for index, row in enumerate(rows)])
    body = network.base_model
    learning = _few_weights(body, layers[0])
    before = [weight.requires_grad for weight in learning]
    for weight in learning:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad(), packed(batch.lengths), witnessed() as seen:
            own = body(input_ids=batch.ids[None], position_ids=batch.positions[None], use_cache=False).last_hidden_state[0]
        if len(seen) != len(layers) or any(one.special for one in seen):
            return None, "its attention is of another kind"
        attending = tuple(Attending(one.scaling, one.window) for one in seen)
        scales = (float(getattr(config, name, 1.0)) for name in ("residual_multiplier", "embedding_multiplier"))
        fusion = Fusion(attending, *scales)
        with torch.enable_grad():
            fused = fusion.run(body, layers, batch, torch.float32)
        difference = float((fused - own).detach().abs().max() / own.detach().std())
        pull = torch.randn(own.shape, generator=generator)
        slopes = [torch.autograd.grad((out * pull).sum(), learning) for out in (own, fused)]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return None, f"it could not be asked so ({next(iter(str(error).splitlines()), type(error).__name__)[:120]})"
    finally:
        for weight, learns in zip(learning, before, strict=True):
            weight.requires_grad_(learns)
    apart = max(float((one - other).norm() / one.norm().clamp_min(1e-12)) for one, other in zip(*slopes, strict=True))
    if not max(difference, apart) <= TOLERANCE:
        return None, f"its output or gradient differs from transformers' by {max(difference, apart):.2g}"
    return fusion, ""


def _layers(body: nn.Module) -> list[Layer] | None:
    """Return the layers of a body that has the family's form and that nobody hooked into; else None."""
    children = dict(body.named_children())
    if set(children) != BODY or any(map(watched, children.values())) or watched(body) or not _is_norm(children["norm"]):
        return None
    if not isinstance(children["layers"], nn.ModuleList) or body.config.hidden_act not in {"silu", "swish"}:  # type: ignore[union-attr,operator]
        return None
    found = [_layer(layer) for layer in children["layers"]]
    known = [layer for layer in found if layer is not None]
    return known if known and len(known) == len(found) else None


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
    if vars(layer.attention).get("use_rope", True):
        query, key, value = rotate(query, key, value, cosines, sines)
    else:
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    out, _ = attend_packed(
        layer.attention, query, key, value, None, scaling=attending.scaling, sliding_window=attending.window, is_causal=True
    )
    return out[0].flatten(1)


def _heads_normed(norm: nn.Module, x: Tensor) -> Tensor:
    """[1, T, H, d]"""
    _, flat = _normed(norm, x.reshape(-1, x.shape[-1]), None, x.dtype, 1.0)
    return flat.view(x.shape)


def _few_weights(body: nn.Module, first: Layer) -> list[Tensor]:
    """Return weights whose gradients pass through everything and take little memory: all vectors, and the first layer's matrices."""

    def few() -> Iterator[Tensor]:
        yield from (weight for weight in body.parameters() if weight.ndim == 1)
        for module in (*first.projections, first.output, first.gate, first.up, first.down):
            yield from (weight for weight in module.parameters() if weight.ndim == 2)

    return list(few())
