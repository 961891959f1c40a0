"""A training step does no more operators and takes no more new memory than it did, layer by layer: what a clock would not notice in a test.

Counted below autograd, so that what a backward pass does is counted too. What the package's own kernels do inside is not an operator.
A ceiling is lowered where a step gets leaner, and raised only with a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from whet.engine import measure
from whet.engine.fit import Training, fit
from whet.engine.fused import why_not
from whet.engine.products import can_pack
from whet.models import llama_form
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.plugins import build
from whet.testing.steps import tiny_plan, whole_step
from whet.testing.tiny import random_network, tiny_tokenizer

pytestmark = pytest.mark.skipif(
    why_not() is not None or not can_pack(), reason=f"steps are not fused here: {why_not() or 'no packed products'}"
)
WIDTH, INNER, VOCABULARY, STEPS = 64, 128, 3000, 4
FEW, MANY = 2, 4  # layers
SHAPE = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": 2, "initializer_range": 0.1}


@dataclass(frozen=True)
class Cost:
    """Of one step."""

    operators: int
    num_bytes: int
    largest: int
    """Of one new tensor, in bytes."""


@dataclass(frozen=True)
class Ceiling:
    """What a step may cost: for each layer, and for the rest."""

    layer_operators: int
    layer_bytes: int
    """For each token."""
    operators: int
    num_bytes: int
    """Of all that does not lie in layers."""


CEILINGS = {
    "lora": Ceiling(127, 5425, 103, 352_000),  # of the last layer only the tokens before a target are computed
    "full": Ceiling(127, 5235, 127, 2_110_000),  # the head's gradient and its rounded copy are most of it
    "encoder": Ceiling(160, 7735, 121, 1_180_000),
}
"""As counted with torch 2.13 and transformers 5.24; bytes 2 % above."""


class Counted(TorchDispatchMode):
    """Counts operators, and the bytes of memory that none of their inputs had."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {place(x) for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **kwargs)
        self.operators[str(func)] += 1
        new = {place(x): size(x) for x in tree_iter(out) if isinstance(x, Tensor)}
        self.sizes += [many for where, many in new.items() if where not in given]
        return out


def place(x: Tensor) -> int:
    return id(x) if x.layout != torch.strided else x.untyped_storage()._cdata


def size(x: Tensor) -> int:
    return x.numel() * x.element_size() if x.layout != torch.strided else x.untyped_storage().nbytes()


def load(folder: Path, kind: str, layers: int) -> Policy:
    tokenizer = tiny_tokenizer("bert" if kind == "encoder" else "llama")
    said = SHAPE | {"num_hidden_layers": layers, "vocab_size": VOCABULARY, "max_position_embeddings": 64}
    if kind == "encoder":
        network = random_network(BertModel, BertConfig(**said))
    else:
        network = random_network(
            LlamaForCausalLM, LlamaConfig(**said, num_key_value_heads=1, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
        )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_policy(str(folder))


def cost(folder: Path, kind: str, layers: int, examples) -> tuple[Cost, int, Policy]:
    """Return what a step costs that is not the first, its tokens, and the policy."""
    policy = load(folder / f"{kind}-{layers}", kind, layers)
    assert policy.fusion is not None, policy.ability.unfused
    objective = build("objectives", "classify" if kind == "encoder" else "sft", {})
    objective.prepare(policy, examples)
    build("techniques", "lora" if kind == "lora" else "full", {}).attach(policy, 0)
    plan = tiny_plan(policy, num_steps=STEPS, precision="bf16", max_tokens=10**6)
    rows = [whole_step(objective, policy, examples)] * STEPS
    steps = fit(policy, objective, rows, plan, Training.begin(policy, objective, plan))
    for _ in range(STEPS - 1):
        next(steps)
    with Counted() as counted:
        step = next(steps)
    return Cost(counted.operators.total(), sum(counted.sizes), max(counted.sizes)), step.num_tokens, policy


def split(folder: Path, kind: str, examples) -> tuple[Ceiling, Cost, int]:
    """Return what a layer costs and what the rest does, the whole of a step of FEW layers, and its tokens."""
    (few, tokens, _), (many, _, _) = (cost(folder, kind, layers, examples) for layers in (FEW, MANY))
    operators, taken = ((b - a) / (MANY - FEW) for a, b in ((few.operators, many.operators), (few.num_bytes, many.num_bytes)))
    rest = Ceiling(
        round(operators), round(taken / tokens), round(few.operators - FEW * operators), round(few.num_bytes - FEW * taken)
    )
    return rest, few, tokens


def excess(found: Ceiling, allowed: Ceiling) -> dict[str, tuple[int, int]]:
    """Return what is more than allowed: found, allowed."""
    pairs = {name: (getattr(found, name), getattr(allowed, name)) for name in Ceiling.__dataclass_fields__}
    return {name: (one, most) for name, (one, most) in pairs.items() if one > most}


@pytest.mark.parametrize("kind", CEILINGS)
def test_a_step_costs_no_more_than_it_did(kind, tmp_path, examples):
    found, _, _ = split(tmp_path, kind, examples)
    assert excess(found, CEILINGS[kind]) == {}, found


def test_no_tensor_is_as_large_as_all_logits(tmp_path, examples, monkeypatch):
    monkeypatch.setattr("whet.engine.losses.CHUNK", 32)
    found, _, policy = cost(tmp_path, "lora", FEW, examples)
    supervised = sum(
        float(row.tokens["supervised"].sum()) for (row,) in whole_step(build("objectives", "sft", {}), policy, examples).units
    )
    assert supervised > 3 * 32, "the chunks would hold everything"
    assert found.largest <= max(VOCABULARY * WIDTH, 32 * VOCABULARY) * 2, "beside a chunk's logits and the rounded head"


def test_the_guard_notices_logits_of_all_tokens(tmp_path, examples, monkeypatch):
    def whole(policy, batch):
        logits = policy.hidden(batch) @ policy.network.get_output_embeddings().weight.T
        chosen = torch.log_softmax(logits[:-1].float(), -1).gather(-1, batch.ids[1:, None])[:, 0]
        return -(chosen * batch.tokens["supervised"][1:]).sum()

    monkeypatch.setattr("whet.objectives.sft.nll", whole)
    assert measure.nll is not whole
    found, _, _ = split(tmp_path, "lora", examples)
    assert "num_bytes" in excess(found, CEILINGS["lora"])


@pytest.mark.parametrize("fault", ["copy", "unfused", "cast"])
def test_the_guard_notices_what_a_layer_does_beside(fault, tmp_path, examples, monkeypatch):
    gated = llama_form.gated
    faulty = {
        "copy": lambda gate, up: gated(gate, up).clone(),
        "unfused": lambda gate, up: silu(gate) * up,
        "cast": lambda gate, up: gated(gate.float(), up.float()).to(gate.dtype),
    }
    monkeypatch.setattr(llama_form, "gated", faulty[fault])
    found, _, _ = split(tmp_path, "lora", examples)
    assert {"layer_operators", "layer_bytes"} & excess(found, CEILINGS["lora"]).keys(), found


def test_the_count_is_that_of_hand():
    layer, x = nn.Linear(4, 3, bias=False), torch.ones(2, 4)
    with Counted() as counted:
        out = layer(x) + 1
        out.view(-1)
    # t(weight): a view; mm: 2 x 3 numbers; add: 2 x 3 numbers; view
    assert counted.operators.total() == 4 and counted.sizes == [24, 24]
