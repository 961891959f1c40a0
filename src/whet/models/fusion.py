"""The body of a network by the package's own fused steps, in the place of transformers' modules, which it reads.

That a family's form is a network's is tried when it is loaded, against transformers' own modules, output and gradient; and where
some technique has put something else in a module's place, or hooked into it, transformers' modules are asked as always.

Shapes: T tokens, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from whet.engine import varlen
from whet.engine.attention import packed, witnessed
from whet.engine.cut import pack
from whet.engine.fused import why_not_on
from whet.engine.packed_attention import lowered
from whet.engine.projections import Projections
from whet.models.begun import Begun
from whet.models.bert_form import BertForm
from whet.models.llama_form import LlamaForm
from whet.types import Batch, Row

TOLERANCE = 1e-4
"""Largest difference from transformers' modules in fp32, of the output over its spread, of the gradient over its norm."""
FORMS = (LlamaForm, BertForm)
NAMES = "the Llama or the BERT family's form"


class Layer(Protocol):
    """The modules of one layer."""

    @property
    def groups(self) -> tuple[tuple[nn.Module, ...], ...]:
        """Those that are products, together where they read the same input and are one product."""
        ...


class Form(Protocol):
    """What the networks of a family have in common, and what one of them has of its own."""

    on_gpu: ClassVar[bool]
    """Its steps are there on a CUDA device too."""

    projections: Projections

    def another(self) -> Form:
        """Return the same for a second network of the same form, with nothing kept."""
        ...

    def layers(self, body: nn.Module) -> Sequence[Any] | None:
        """Return the layers of a body that has the family's form and that nobody hooked into; else None."""
        ...

    def run(
        self,
        body: nn.Module,
        layers: Sequence[Any],
        batch: Batch,
        dtype: torch.dtype,
        places: Tensor | None = None,
        begun: Begun | None = None,
    ) -> Tensor:
        """Return the last hidden states, with products in `dtype`. [T, D], or [N, D] of the tokens at these places"""
        ...

    def lower(self, body: nn.Module, layers: Sequence[Any], batch: Batch, dtype: torch.dtype, depth: int) -> tuple[Tensor, ...]:
        """Return what stands behind the lowest layers, so many of them, as `run` goes on from it. [T, D] each"""
        ...


class Fusion:
    """The fused way through a network of a known form."""

    def __init__(self, form: Form, where: str = "cpu") -> None:
        self.form = form
        self.where = where
        """The kind of device on which it was tried."""

    def another(self) -> Fusion:
        """Return the same for a second network of the same form, with nothing kept."""
        return Fusion(self.form.another(), self.where)

    def multiply(self, *, int8: bool) -> None:
        """Multiply frozen weights in 8 bits from now on, or as everything else."""
        projections = self.form.projections
        if projections.int8 != int8:
            projections.stacks.clear()
        projections.int8 = int8

    def states(
        self, network: PreTrainedModel, batch: Batch, places: Tensor | None = None, begun: Begun | None = None
    ) -> Tensor | None:
        """Return the last hidden states of packed rows, in fp32; None where the network's own modules must be asked. [T, D]

        With `places` those of these tokens only, and what the last layer does after attending it does for them only. [N, D]
        In fp32 these are asked too: what is fused pays where products are fast, and sums would be rounded in another order.
        """
        layers = self._layers(network, batch)
        return None if layers is None else self.run(network.base_model, layers, batch, torch.bfloat16, places, begun)

    def run(
        self,
        body: nn.Module,
        layers: Sequence[Any],
        batch: Batch,
        dtype: torch.dtype,
        places: Tensor | None = None,
        begun: Begun | None = None,
    ) -> Tensor:
        """Return the last hidden states, with products in `dtype`. [T, D], or [N, D] of the tokens at these places"""
        return self.form.run(body, layers, batch, dtype, places, begun)

    def lower(self, network: PreTrainedModel, batch: Batch, depth: int) -> tuple[Tensor, ...] | None:
        """Return what stands behind the lowest layers, so many of them; None where the network's own modules must be asked. [T, D] each"""
        layers = self._layers(network, batch)
        return None if layers is None else self.form.lower(network.base_model, layers, batch, torch.bfloat16, depth)

    def _layers(self, network: PreTrainedModel, batch: Batch) -> Sequence[Any] | None:
        body = network.base_model
        where = batch.ids.device
        kind = lowered() if where.type == "cpu" else varlen.lowered()
        if kind != torch.bfloat16 or where.type != self.where or body.training or why_not_on(where) is not None:
            return None
        return self.form.layers(body)


def try_fusion(network: PreTrainedModel, first_position: int = 0) -> tuple[Fusion | None, str]:
    """Return the fused way through a network that packs, or None and the reason, as the end of a sentence."""
    body, config = network.base_model, network.config.get_text_config()
    forms: Iterator[tuple[type[LlamaForm] | type[BertForm], Sequence[Any] | None]] = ((form, form.layers(body)) for form in FORMS)
    family, layers = next(((form, found) for form, found in forms if found), (None, None))
    if family is None or layers is None:
        return None, f"'{config.model_type}' is not of {NAMES}"
    device = network.device
    if device.type != "cpu" and not family.on_gpu:
        return None, "on a GPU only networks of the Llama family's form are fused"
    if (reason := why_not_on(device)) is not None:
        return None, reason
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(min(10, config.vocab_size - 1), config.vocab_size, (size,), generator=generator) for size in (7, 3, 11)]
    batch = pack([Row(index, row) for index, row in enumerate(rows)]).to(device)
    learning = list(_few_weights(body, layers[0]))
    before = [weight.requires_grad for weight in learning]
    for weight in learning:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad(), packed(batch.lengths), witnessed() as seen:
            positions = batch.positions[None] + first_position
            own = body(input_ids=batch.ids[None], position_ids=positions, use_cache=False).last_hidden_state[0]
        form = family.of(config, seen, first_position) if len(seen) == len(layers) else None
        if form is None:
            return None, "its attention is of another kind"
        fusion = Fusion(form, device.type)
        with torch.enable_grad():
            fused = fusion.run(body, layers, batch, torch.float32)
        difference = float((fused - own).detach().abs().max() / own.detach().std())
        pull = torch.randn(own.shape, generator=generator).to(device)
        slopes = [torch.autograd.grad((out * pull).sum(), learning, allow_unused=True) for out in (own, fused)]
    except _caught(device) as error:
        return None, f"it could not be asked so ({next(iter(str(error).splitlines()), type(error).__name__)[:120]})"
    finally:
        for weight, learns in zip(learning, before, strict=True):
            weight.requires_grad_(learns)
    whole = sum(float(one.square().sum()) for one in slopes[0] if one is not None) ** 0.5
    apart = max(_apart(one, other, whole) for one, other in zip(*slopes, strict=True))
    if not max(difference, apart) <= TOLERANCE:
        return None, f"its output or gradient differs from transformers' by {max(difference, apart):.2g}"
    return fusion, ""


def _caught(device: torch.device) -> tuple[type[Exception], ...]:
    """Return the errors that mean that a network cannot be asked so: on a GPU any, since kernels of others are compiled there."""
    return (Exception,) if device.type != "cpu" else (RuntimeError, TypeError, ValueError, IndexError)


def _apart(theirs: Tensor | None, ours: Tensor | None, whole: float) -> float:
    """Return how far gradients are apart, over their norm and a hundredth of all of them together: a bias of keys has a true one of 0.

    What does not reach the output has none either way.
    """
    if theirs is None or ours is None:
        return 0.0 if theirs is ours else float("inf")
    return float((theirs - ours).norm() / (theirs.norm() + 0.01 * whole).clamp_min(1e-12))


def _few_weights(body: nn.Module, first: Layer) -> Iterator[Tensor]:
    """Yield weights whose gradients pass through everything and take little memory: all vectors, and the first layer's matrices."""
    yield from (weight for weight in body.parameters() if weight.ndim == 1)
    for module in itertools.chain(*first.groups):
        yield from (weight for weight in module.parameters() if weight.ndim == 2)
