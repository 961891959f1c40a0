"""Trains tiny networks a few steps on the processor and on a pretended CUDA device, and prints both as JSON. Run by its test."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pretended

warnings.simplefilter("error")
import torch  # noqa: E402
from contract import varlen_attn  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import silu  # noqa: E402

from whet.engine import liger, varlen  # noqa: E402
from whet.engine.fit import Training, fit, validate  # noqa: E402
from whet.models.fusion import try_fusion  # noqa: E402
from whet.models.load import load_policy  # noqa: E402
from whet.models.policy import Policy  # noqa: E402
from whet.plugins import build  # noqa: E402
from whet.testing.steps import tiny_plan, whole_step  # noqa: E402
from whet.testing.tiny import tiny_examples, write_tiny  # noqa: E402

CALLS: list[int] = []
STEPS: list[str] = []


class Norm:
    """Stands for liger-kernel's functions, in plain torch, as do the next two."""

    @staticmethod
    def apply(x: Tensor, weight: Tensor, epsilon: float, offset: float, mode: str, in_place: bool) -> Tensor:
        STEPS.append("norm")
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * weight).to(x.dtype)


class Turn:
    @staticmethod
    def apply(query: Tensor, key: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor]:
        halves = [x.float().chunk(2, -1) for x in (query, key)]
        turned = [torch.cat([-second, first], -1) for first, second in halves]
        return tuple((x.float() * cosines + y * sines).to(x.dtype) for x, y in zip((query, key), turned, strict=True))  # type: ignore[return-value]


class Gated:
    @staticmethod
    def apply(gate: Tensor, up: Tensor) -> Tensor:
        return silu(gate.float()).to(up.dtype) * up


def counted(*given: Any, **named: Any) -> Any:
    CALLS.append(len(given[0]))
    return varlen_attn(*given, **named)


def trained(policy: Policy, objective_name: str, technique: str, precision: Any) -> dict[str, Any]:
    """Return the losses of three steps, the validation after them, and what was asked of the kernel."""
    CALLS.clear()
    STEPS.clear()
    objective, examples = build("objectives", objective_name, {}), tiny_examples(10)
    objective.prepare(policy, examples)
    build("techniques", technique, {}).attach(policy, 0)
    where = {tensor.device.type for _, tensor in policy.trainable()}
    plan = tiny_plan(policy, num_steps=3, precision=precision, max_tokens=100)
    rows = [whole_step(objective, policy, examples)] * 3
    training = Training.begin(policy, objective, plan)
    losses = [sum(step.losses.values()) for step in fit(policy, objective, rows, plan, training)]
    validation = sum(validate(policy, objective, rows[0].units, plan, training.objective_state).values())
    kept = {tensor.device.type for tensor in training.tensors().values()}
    return {
        "losses": losses,
        "validation": validation,
        "learns_on": sorted(where),
        "kept_on": sorted(kept),
        "calls": len(CALLS),
        "steps": len(STEPS),
    }


def main(cases: list[list[str]], folder: Path) -> None:
    varlen.varlen_attn = counted  # type: ignore[assignment]
    varlen.why_not = lambda: None  # type: ignore[assignment]
    liger.why_not = lambda: None  # type: ignore[assignment]
    liger._functions = lambda: (Norm, Turn, Gated)  # type: ignore[assignment]
    found = {}
    for architecture, objective, technique, precision in cases:
        place = folder / architecture
        if not place.is_dir():
            write_tiny(place, architecture)  # type: ignore[arg-type]
        given = (objective, technique, precision)
        one, other = (load_policy(str(place), masked=objective == "masked") for _ in range(2))
        one.fusion = None  # transformers' modules, on both
        here = trained(one, *given)
        with pretended.a_device():
            other.network.to(pretended.DEVICE)
            other.fusion, reason = try_fusion(other.network, other.ability.first_position)
            there = trained(other, *given)
        found[" ".join((architecture, objective, technique, precision))] = {"cpu": here, "cuda": there, "unfused": reason}
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
