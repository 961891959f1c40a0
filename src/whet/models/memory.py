"""How much memory training takes, part by part, from a formula: a network's sizes, a step's tokens, and what learns.

Its factors follow from what torch keeps for the backward pass, counted for BERT, ModernBERT, Llama, Qwen3, Gemma 2, GPT-2 and GPT-NeoX
(tests/models/test_memory.py counts again); docs/how-to/plan.md shows it against measured peaks.

Symbols: D width, A width of all heads together, F inner width of the feed-forward part, H heads, L layers, V vocabulary, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from whet.engine.losses import CHUNK
from whet.engine.machine import Precision
from whet.engine.packed_attention import NARROWEST, WIDEST, why_not
from whet.engine.pool import pool_tensors
from whet.models.policy import Kind

GIB = 2**30
NF4_BYTES, INT8_BYTES = 4.127 / 8, 1.01
"""Of one weight in the bits of `qlora`, its share of the scales among it."""
ACCELERATOR_PROGRAM = int(0.6 * GIB)
"""What CUDA's context and its libraries take on the accelerator itself."""
PROGRAM = int(0.55 * GIB)
"""What Python, torch and a few thousand rows take, where nothing is loaded yet that could be measured."""

KERNELS = 48 * 2**20
"""What the processor's kernels keep for the shapes they have met."""
GAPS, GAPS_OF_A_HEAP = 0.05, 0.35
"""The share of the activations that is lost between pieces of memory, where tensors are pooled and where they lie in a heap. There, each
step has another number of tokens, so that a piece that was freed is seldom of the size that is asked for next, and over some tens of
steps such pieces add up. Not derived: measured on a dozen runs of small networks (docs/how-to/plan.md)."""

Logits = Literal["none", "chunked", "whole"]
"""Scores over the vocabulary: of no token; of a chunk of tokens at a time; of all supervised tokens at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A network's sizes."""

    name: str
    kind: Kind
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    gated: bool
    """Three matrices in the feed-forward part, not two."""
    tied: bool = True
    """The output head is the embedding; true of a network without such a head too."""
    normed_heads: bool = False
    """Queries and keys are normed, as Qwen 3 and Gemma 3 do."""
    soft_cap: bool = False
    """Attention is written out, since its scores have a soft cap."""
    unfused: bool = False
    """The activation is made of many small steps, each of which is kept (gelu_new)."""
    parameters: int | None = None
    """Counted, where the network was there to count; else it follows from the rest."""

    @property
    def attended(self) -> int:
        """Width of all heads together, A."""
        return self.heads * self.head_width

    @property
    def linear(self) -> int:
        """Weights of the linear layers of all blocks."""
        attention = 2 * self.width * self.attended + 2 * self.width * self.kv_heads * self.head_width
        return self.layers * (attention + (3 if self.gated else 2) * self.width * self.inner)

    @property
    def size(self) -> int:
        """Parameters."""
        if self.parameters is not None:
            return self.parameters
        return self.linear + self.vocabulary * self.width * (1 if self.tied else 2) + 4 * self.layers * self.width

    def low_rank(self, rank: int) -> int:
        """Return the parameters of a low-rank update of every linear layer."""
        keys = self.kv_heads * self.head_width
        sides = 2 * (self.width + self.attended) + 2 * (self.width + keys) + (3 if self.gated else 2) * (self.width + self.inner)
        return rank * self.layers * sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What training asks of a network."""

    tokens: int
    """Of the largest micro-batch, padding among them."""
    scored: int
    """Of the largest batch that is computed without gradient."""
    supervised: float
    """Share of the tokens that have a target."""
    row: int
    """Longest row, in tokens."""
    precision: Precision
    trainable: int
    """Parameters that learn."""
    deep: float = 1.0
    """Share of the layers through which gradients flow: 0 where only a head learns."""
    whole: bool = False
    """The network's own weights learn."""
    learnt: float = 1.0
    """Share of the blocks' matrices that learn, where `whole`: none with `bitfit`, the upper ones with `full` and `layers`."""
    state: float = 8.0
    """Bytes that the optimiser keeps of each parameter that learns."""
    logits: Logits = "none"
    reference: int = 0
    """Weights of a second network that is kept, in bytes."""
    bits: Literal["fp32", "nf4", "int8"] = "fp32"
    """In what the linear layers are held."""
    fused: bool = False
    """The package's own fused steps are taken in the place of the network's modules."""
    int8: bool = False
    """These multiply frozen weights in 8 bits."""
    recomputed: bool = False
    """Gradient checkpointing: blocks keep their input only."""
    shards: int = 1
    """Devices that each hold a share of the blocks' weights, gradients and optimiser (FSDP)."""
    again: bool = False
    """The network is loaded a second time for training on all rows (train.refit)."""
    kept: int = 0
    """Bytes of the states that are kept of rows, behind frozen blocks."""
    accelerator: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory at the moment when most is in use."""

    moment: str
    parts: Mapping[str, int]
    """Part to bytes."""
    step_bytes: int
    """While a step is computed, which need not be the largest moment."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def record(self) -> dict[str, Any]:
        """The estimate as a manifest keeps it."""
        return {"bytes": self.total, "moment": self.moment, "parts": dict(self.parts), "step_bytes": self.step_bytes}


def estimate(shape: Shape, load: Load, program: int) -> Estimate:
    """Return what training takes. `program` is what the process takes for everything but the network: Python, torch, the rows."""
    held = _held(shape, load)
    always = {
        "program and rows": ACCELERATOR_PROGRAM if load.accelerator else program,
        "weights": round(weight_bytes(shape, load.bits) * held),
        "reference": load.reference,
        "optimiser": round(load.trainable * load.state * held),
        "kept states": load.kept,
    }
    step = always | {
        "gradients": round(4 * load.trainable * held),
        "activations": activation_bytes(shape, load),
        "logits and loss": logit_bytes(shape, load, load.tokens, learning=True),
    }
    scoring = always | {"scoring": _passing(shape, load, load.scored) + logit_bytes(shape, load, load.scored, learning=False)}
    if not load.accelerator:
        gaps = GAPS if pool_tensors() is None else GAPS_OF_A_HEAP
        step["kernels and gaps"] = KERNELS + round(gaps * step["activations"])
        scoring["kernels and gaps"] = KERNELS + round(gaps * scoring["scoring"])
    moments = {"a training step": step, "a validation": scoring}
    if not load.accelerator:  # the copy is made in the machine's own memory
        moments["a checkpoint"] = always | {"kernels and gaps": KERNELS, "checkpoint": round(load.trainable * (4 + load.state))}
    whole = weight_bytes(shape, "fp32")
    if load.bits != "fp32":
        moments["loading"] = {"program and rows": always["program and rows"], "weights": whole}
    if load.again:
        again = {
            "program and rows": always["program and rows"],
            "weights": always["weights"] + 4 * load.trainable * (not load.whole),
        }
        moments["loading again"] = again | {"the second copy": whole}
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts = {name: int(size) for name, size in moments[moment].items() if size}
    return Estimate(moment, parts, sum(int(size) for size in step.values()))


def _held(shape: Shape, load: Load) -> float:
    """Return the share of the weights that a device holds: what lies outside the blocks whole, its part of them, and the one at work."""
    if load.shards == 1:
        return 1.0
    inside = min(1.0, shape.linear / shape.size)
    return 1 - inside + inside * min(1.0, 1 / load.shards + 2 / shape.layers)


def weight_bytes(shape: Shape, bits: Literal["fp32", "nf4", "int8"] = "fp32") -> int:
    """Return what the weights take; whet keeps them in fp32, but for what `qlora` quantises."""
    if bits == "fp32":
        return 4 * shape.size
    linear = min(shape.linear, shape.size)
    return round(linear * (NF4_BYTES if bits == "nf4" else INT8_BYTES) + 4 * (shape.size - linear))


def activation_bytes(shape: Shape, load: Load) -> int:
    """Return what a step keeps of its forward pass, and the few tensors of the layer that is being worked at."""
    layer = fused_bytes(shape, load.accelerator) if load.fused else layer_bytes(shape, load.precision, load.whole, load.row)
    kept = round(load.tokens * shape.layers * load.deep * (4 * shape.width if load.recomputed else layer))
    kept += round(load.tokens * layer) if load.recomputed and load.deep else 0  # of the block that is computed again
    # the weights that products ran with; frozen ones are laid out for both directions by the fused steps of the processor
    laid_out = load.fused and not load.accelerator and not load.int8
    each = 2 + 2 * (1 - load.learnt * load.whole) * laid_out
    rounded = load.deep or load.fused  # fused steps keep their copies also where nothing in the blocks learns; autocast does not
    casts = round(each * shape.linear) if load.precision == "bf16" and rounded else 0
    decoded = 4 * shape.width * shape.inner * (2 if load.bits != "fp32" else 0)
    return kept + casts + decoded + _passing(shape, load, load.tokens)


def layer_bytes(shape: Shape, precision: Precision, whole: bool, row: int) -> float:
    """Return what torch keeps of one token in one layer for the backward pass.

    Measured by counting: in fp32 16 A for queries, keys, values and their sums, 20 D and 8 F for the rest of an encoder's layer, 28 D and
    16 F for a gated one; 8 D less where its norms are frozen. In bf16 the feed-forward part halves. torch's attention keeps fp32 on the
    processor, and keys and values for each query head; the package's own kernel keeps what it was given, and keys and values once.
    """
    half = precision == "bf16"
    if shape.gated:
        outer, inner = (20.6 if half else 28.0) - (0 if whole else 8.0), 8.0 if half else 16.0
    else:
        outer, inner = (18.5 if half else 20.0), 4.0 if half else 8.0
    inner += (6.0 if half else 12.0) if shape.unfused else 0.0
    normed = 12.0 * shape.attended if shape.normed_heads else 0.0
    narrowest = NARROWEST[torch.bfloat16 if half else torch.float32]
    own = not shape.soft_cap and narrowest <= shape.head_width <= WIDEST and why_not() is None
    shared = 2 * shape.kv_heads * shape.head_width if own else 2 * shape.attended
    attended = (2 if own and half else 4) * (2 * shape.attended + shared)
    scores = 8.0 * shape.heads * row if shape.soft_cap else 4.0 * shape.heads
    return outer * shape.width + attended + normed + inner * shape.inner + scores


def fused_bytes(shape: Shape, accelerator: bool = False) -> float:
    """Return what the fused steps keep of one token in one layer for the backward pass, in bf16.

    Two sums in fp32 and their norms, 12 D; what the attention was given and gave; the inner products, 2 F, or 4 F where they are gated
    (the activation is made again; on an accelerator it is kept, 2 F); queries and keys before their norms. Where the package's own
    attention is not there, torch's keeps fp32.
    """
    keys = shape.kv_heads * shape.head_width
    own = NARROWEST[torch.bfloat16] <= shape.head_width <= WIDEST and why_not() is None
    attended = 4 * (shape.attended + keys) if own else 18 * shape.attended
    normed = 2 * (shape.attended + keys) if shape.normed_heads else 0
    inner = (4 if shape.gated else 2) + (2 if accelerator else 0)
    return 12.0 * shape.width + attended + normed + inner * shape.inner + 4 * shape.heads


def logit_bytes(shape: Shape, load: Load, tokens: int, *, learning: bool) -> int:
    """Return the working set of the scores over the vocabulary."""
    if load.logits == "none":
        return 0
    targets = math.ceil(tokens * load.supervised)
    if load.logits == "whole":
        return targets * shape.vocabulary * 4 * (4 if learning else 2)
    matrix = shape.vocabulary * shape.width
    working = min(targets, CHUNK) * shape.vocabulary * 4 * 3 + (2 * matrix if load.precision == "bf16" else 0)
    return working + (4 * matrix if learning and load.whole else 0)


def _passing(shape: Shape, load: Load, tokens: int) -> int:
    """Return the tensors of one layer at work, forward or backward; nothing of them stays."""
    size = 2 if load.precision == "bf16" else 4
    return round(tokens * size * ((3 if shape.gated else 2) * shape.inner + 4 * shape.width))
