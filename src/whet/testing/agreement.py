"""Whether two steps, two orders, or two outputs agree, as closely as the laws ask."""

from __future__ import annotations

import math

from torch import Tensor

from whet.testing.steps import Slope
from whet.types import Output, StepRows

FLOAT32, FLOAT64 = 1e-6, 1e-12


def same_slope(expected: Slope, found: Slope, double: bool, what: str) -> None:
    """Hold two slopes of one step against the law's tolerances."""
    tolerance = FLOAT64 if double else FLOAT32
    precision = "float64" if double else "fp32"
    for term, loss in expected.losses.items():
        difference = abs(found.losses[term] - loss)
        assert difference <= tolerance * max(1.0, abs(loss)), (
            f"{what} changes the loss '{term}' by {difference:.3g} in {precision}"
        )
    whole = norm(expected.gradients)
    gaps = {name: float((found.gradients[name] - gradient).norm()) for name, gradient in expected.gradients.items()}
    overall = math.sqrt(sum(gap**2 for gap in gaps.values())) / max(whole, 1e-30)
    assert overall <= tolerance, f"{what} changes the gradient by {overall:.3g} of its norm in {precision}"
    for name, gap in gaps.items():
        size = float(expected.gradients[name].norm())
        limit = tolerance * (5 * size + whole)
        assert gap <= limit, f"{what} changes the gradient of {name} by {gap:.3g}, of norm {size:.3g}, in {precision}"


def norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def row_ids(step: StepRows) -> list[int]:
    return [row.id for unit in step.units for row in unit]


def same_steps(expected: list[StepRows], found: list[StepRows], when: str) -> None:
    for number, (left, right) in enumerate(zip(expected, found, strict=True), start=1):
        assert row_ids(left) == row_ids(right), f"{when}, step {number} has rows {row_ids(right)} instead of {row_ids(left)}"
        assert left.after == right.after, f"{when}, step {number} leaves the cursor at {right.after} instead of {left.after}"


def same_output(left: Output, right: Output, what: str) -> None:
    for field in ("label", "labels", "token_labels", "text", "num_tokens", "num_characters"):
        assert getattr(left, field) == getattr(right, field), (
            f"{what}: {field} is {getattr(right, field)!r}, not {getattr(left, field)!r}"
        )
    pairs = [(getattr(left, name), getattr(right, name)) for name in ("value", "nll", "margin", "reward", "kl")]
    pairs += [(value, (right.probabilities or {}).get(name)) for name, value in (left.probabilities or {}).items()]
    for one, other in pairs:
        assert (one is None) == (other is None), f"{what}: a number is there only once"
        assert one is None or other is None or math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5), (
            f"{what}: {other} instead of {one}"
        )
