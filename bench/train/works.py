"""What is timed: works, each a network of random weights, a way to train it, and the rows of its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["llama", "qwen2", "bert"]
Mode = Literal["lora", "full"]
Order = Literal["drawn", "grouped"]
RANK, ALPHA = 16, 32
"""Of LoRA, on every linear layer but the head."""
SIZE, PRODUCTS = 2048, 8
"""Side of the square matrices whose products are the machine's limit, and how many of them are timed together."""
OPERATIONS = 2 * SIZE**3 * PRODUCTS
"""Additions and multiplications of these."""
GPU_SIZE = 8192
"""Side of those matrices on a GPU, which smaller ones do not fill."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network's sizes."""

    kind: Kind
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int

    @property
    def decodes(self) -> bool:
        return self.kind != "bert"

    @property
    def key_width(self) -> int:
        """Width of all keys of a token together."""
        return self.hidden // self.heads * self.key_heads

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of all layers: what a token is multiplied with, beside the head."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.key_width
        gated = 3 if self.decodes else 2
        return self.layers * (attention + gated * self.hidden * self.inner)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One thing to train, and how much of it is timed in one measurement."""

    name: str
    shape: str
    mode: Mode
    rows_per_step: int
    warm: int
    """Steps before the clock starts: compiling, first allocations, the longest rows."""
    timed: int
    learning_rate: float
    order: Order = "drawn"
    """Which rows share a step: those that a trainer puts together that has no others than these, or as in a large data set (rows.py)."""

    frozen_precision: Literal["same", "int8"] = "same"
    """As whet's recipe has it; the peers train in bf16 beside it."""

    gpu: bool = False
    """It is trained on a CUDA device."""

    @property
    def product_operations(self) -> int:
        """Additions and multiplications of the products that are the limit."""
        return 2 * GPU_SIZE**3 * PRODUCTS if self.gpu else OPERATIONS

    @property
    def sizes(self) -> Shape:
        return SHAPES[self.shape]

    @property
    def decodes(self) -> bool:
        return self.sizes.decodes


SHAPES = {
    "m15": Shape(kind="llama", vocabulary=32000, hidden=256, layers=8, heads=4, key_heads=2, inner=1024),
    "m135": Shape(kind="llama", vocabulary=49152, hidden=576, layers=30, heads=9, key_heads=3, inner=1536),
    "q05": Shape(kind="qwen2", vocabulary=151936, hidden=896, layers=24, heads=14, key_heads=2, inner=4864),
    "l1": Shape(kind="llama", vocabulary=128256, hidden=2048, layers=16, heads=32, key_heads=8, inner=8192),
    "l3": Shape(kind="llama", vocabulary=128256, hidden=3072, layers=28, heads=24, key_heads=8, inner=8192),
    "encoder22": Shape(kind="bert", vocabulary=30522, hidden=384, layers=6, heads=12, key_heads=12, inner=1536),
}
_WORKS = (
    Work(name="m15_lora_bf16", shape="m15", mode="lora", rows_per_step=8, warm=2, timed=12, learning_rate=1e-3),
    Work(name="m135_lora_bf16", shape="m135", mode="lora", rows_per_step=8, warm=1, timed=4, learning_rate=1e-3),
    Work(name="q05_lora_bf16", shape="q05", mode="lora", rows_per_step=8, warm=1, timed=3, learning_rate=1e-3),
    Work(name="m135_full_bf16", shape="m135", mode="full", rows_per_step=8, warm=1, timed=4, learning_rate=1e-4),
    Work(name="encoder22_full_bf16", shape="encoder22", mode="full", rows_per_step=16, warm=3, timed=16, learning_rate=5e-5),
)
_GROUPED = tuple(replace(work, name=f"{work.name}_grouped", order="grouped") for work in _WORKS)
_INT8 = tuple(
    replace(work, name=work.name.replace("bf16", "int8"), frozen_precision="int8")
    for work in _GROUPED
    if work.shape in {"m135", "q05"} and work.mode == "lora"
)
WORKS = {work.name: work for work in (*_WORKS, *_GROUPED, *_INT8)}
GPU_WORKS = {
    work.name: work
    for work in (
        Work(
            name="l1_lora_gpu",
            shape="l1",
            mode="lora",
            rows_per_step=64,
            warm=5,
            timed=20,
            learning_rate=1e-3,
            order="grouped",
            gpu=True,
        ),
        Work(
            name="l1_full_gpu",
            shape="l1",
            mode="full",
            rows_per_step=64,
            warm=5,
            timed=20,
            learning_rate=1e-5,
            order="grouped",
            gpu=True,
        ),
        Work(
            name="l3_lora_gpu",
            shape="l3",
            mode="lora",
            rows_per_step=64,
            warm=5,
            timed=20,
            learning_rate=1e-3,
            order="grouped",
            gpu=True,
        ),
    )
}
"""Of the sizes of Llama 3.2, 1B and 3B. Never measured by us: there was no GPU."""
