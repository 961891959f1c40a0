"""Each fused step gives what torch's own operators give in float64, value and gradient, in the same bytes on any number of threads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import layer_norm, log_softmax, silu

from whet.engine.activations import gated, gelu
from whet.engine.fused import BLOCK, add_norm, column_sums, normed_sum, rotate, target_slopes, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"the kernel is not there: {why_not()}")
SIZES = [(1, 16), (5, 40), (BLOCK, 64), (2 * BLOCK + 3, 576)]
EPSILON = 1e-5


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learning(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in tensors.items()}


def assert_same(found, expected, given: dict[str, Tensor], exact: dict[str, Tensor], tolerance: float = 2e-6) -> None:
    """Values, and gradients under slopes that differ from place to place."""
    pulls = [drawn(*one.shape, seed=7 + place) for place, one in enumerate(expected)]
    slopes = torch.autograd.grad(sum((one * pull).sum() for one, pull in zip(expected, pulls, strict=True)), [*exact.values()])
    own = torch.autograd.grad(sum((one * pull).sum() for one, pull in zip(found, pulls, strict=True)), [*given.values()])
    names = [*(f"output {place}" for place in range(len(found))), *given]
    for name, one, other in zip(names, (*found, *own), (*expected, *slopes), strict=True):
        gap = float((one.double() - other).detach().abs().max() / other.detach().abs().max().clamp_min(1.0))
        assert gap <= tolerance, f"{name}: {gap}"


def plain_norm(total: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
    if shift is not None:
        return layer_norm(total, weight.shape, weight, shift, EPSILON)
    return total * torch.rsqrt(total.square().mean(-1, keepdim=True) + EPSILON) * weight


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_sum_and_its_norm(size, shifted, scale):
    tensors = {"residual": drawn(*size), "added": drawn(*size, seed=1), "weight": drawn(size[1], seed=2)}
    tensors |= {"shift": drawn(size[1], seed=3)} if shifted else {}
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    found = add_norm(
        given["residual"], given["added"], given["weight"], EPSILON, torch.float32, scale=scale, shift=given.get("shift")
    )
    total = exact["residual"] + scale * exact["added"]
    assert_same(found, (total, plain_norm(total, exact["weight"], exact.get("shift"))), given, exact, 5e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shifted", [False, True])
def test_a_norm_alone(size, shifted):
    tensors = {"residual": drawn(*size), "weight": drawn(size[1], seed=2)} | (
        {"shift": drawn(size[1], seed=3)} if shifted else {}
    )
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    _, found = add_norm(given["residual"], None, given["weight"], EPSILON, torch.float32, shift=given.get("shift"))
    assert_same((found,), (plain_norm(exact["residual"], exact["weight"], exact.get("shift")),), given, exact, 5e-6)


def test_a_sum_that_nothing_normed_is_asked_of_passes_its_slope_on():
    residual, added, weight = (drawn(3, 16, seed=seed).float().requires_grad_() for seed in range(3))
    total, _ = add_norm(residual, added, weight[0], EPSILON, torch.float32, scale=0.5)
    slopes = torch.autograd.grad((total * 3).sum(), (residual, added))
    assert slopes[0].eq(3).all() and slopes[1].eq(1.5).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("used", [(0, 1), (0,), (1,)])
def test_a_norm_of_a_sum_goes_two_ways_and_both_slopes_come_back(size, used):
    tensors = {"residual": drawn(*size), "added": drawn(*size, seed=1), "weight": drawn(size[1], seed=2)}
    tensors |= {"shift": drawn(size[1], seed=3)}
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    found = normed_sum(*given.values(), EPSILON, torch.float32)
    expected = plain_norm(exact["residual"] + exact["added"], exact["weight"], exact["shift"])
    assert_same([found[way] for way in used], [expected for _ in used], given, exact, 5e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_gaussian_activation(size):
    tensors = {"x": 4 * drawn(*size)}
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    assert_same((gelu(given["x"]),), (functional.gelu(exact["x"]),), given, exact)


def test_a_gaussian_activation_far_from_zero():
    x = torch.tensor([[-1e4, -20.0, 0.0, 20.0, 1e4, math.inf, math.nan]], requires_grad=True)
    out = gelu(x)
    (slope,) = torch.autograd.grad(out[:, :5].sum(), x)
    torch.testing.assert_close(out[0, :5], torch.tensor([0.0, 0.0, 0.0, 20.0, 1e4]), rtol=0, atol=1e-30)
    torch.testing.assert_close(slope[0, :5], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), rtol=0, atol=1e-6)
    assert out[0, 5] == math.inf and out[0, 6].isnan(), "a number that is none is not hidden"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_over_tokens(size, dtype):
    x = drawn(*size).to(dtype)
    torch.testing.assert_close(column_sums(x).double(), x.double().sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (9, 1)])
@pytest.mark.parametrize("width", [8, 32, 40, 128])
def test_positions_turn_pairs_half_a_head_apart(heads, width):
    tokens, (many, few) = 7, heads
    tensors = {"query": drawn(1, tokens, many, width), "key": drawn(1, tokens, few, width, seed=1)}
    tensors |= {"value": drawn(1, tokens, few, width, seed=2)}
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    angles = drawn(tokens, width // 2, seed=3)  # pair (i, i + d / 2) turns by angle i
    cosines, sines = (torch.cat([part, part], dim=1).contiguous() for part in (angles.cos(), angles.sin()))
    found = rotate(*given.values(), cosines.float(), sines.float())

    def turned(x: Tensor) -> Tensor:
        whole = torch.view_as_complex(torch.stack([x[..., : width // 2], x[..., width // 2 :]], dim=-1))
        made = torch.view_as_real(whole * torch.polar(torch.ones_like(angles), angles)[:, None])
        return torch.cat([made[..., 0], made[..., 1]], dim=-1).transpose(1, 2)

    assert_same(found, (turned(exact["query"]), turned(exact["key"]), exact["value"].transpose(1, 2)), given, exact)


@pytest.mark.parametrize("size", SIZES)
def test_a_gated_activation(size):
    tensors = {"gate": 4 * drawn(*size), "up": drawn(*size, seed=1)}
    given, exact = learning(tensors, torch.float32), learning(tensors, torch.float64)
    assert_same((gated(**given),), (silu(exact["gate"]) * exact["up"],), given, exact)


def test_a_gate_far_from_zero_is_open_or_shut():
    gate = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4] + [0.0] * 11])
    out = gated(gate, torch.ones_like(gate))
    torch.testing.assert_close(out[0, :5], torch.tensor([0.0, 0.0, 0.0, 100.0, 1e4]), rtol=0, atol=1e-30)


@pytest.mark.parametrize("vocabulary", [5, 16, 1000])
def test_log_probabilities_and_their_slopes(vocabulary):
    logits, targets = 5 * drawn(9, vocabulary), torch.arange(9) % vocabulary
    exact = logits.clone().requires_grad_()
    expected = log_softmax(exact, dim=-1).gather(-1, targets[:, None]).squeeze(-1)
    (slopes,) = torch.autograd.grad(expected.sum(), exact)
    single = logits.float()
    torch.testing.assert_close(target_slopes(single, targets, learning=False).double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(single, logits.float()), "logits that nothing is learnt from were written to"
    torch.testing.assert_close(target_slopes(single, targets, learning=True).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.double(), slopes, rtol=1e-5, atol=1e-6)


def test_logits_far_apart_stay_finite():
    # row 0: the target has all the mass; row 1: it lies 2e4 below the largest; row 2: something is no number, and that is not hidden
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [math.nan, 0.0, 0.0]])
    found = target_slopes(logits, torch.tensor([0, 0, 1]), learning=True)
    assert found[:2].tolist() == [0.0, -2e4] and math.isnan(found[2])
    assert logits[:2].tolist() == [[0.0, 0.0, 0.0], [1.0, -1.0, 0.0]]


def steps(dtype: torch.dtype) -> list[Tensor]:
    """Every step and its gradient on the same numbers."""
    tokens, width = 70, 96
    x, y, weight = (drawn(tokens, width, seed=seed).to(dtype).requires_grad_() for seed in range(3))
    weight = weight[0].detach().float().requires_grad_()
    angles = drawn(tokens, 8).float()
    heads = [part.unflatten(1, (6, 16))[None] for part in (x, y, x)]
    made = [*add_norm(x, y, weight, EPSILON, dtype), gated(x, y), *rotate(*heads, angles.repeat(1, 2), angles.repeat(1, 2))]
    made += [*normed_sum(x, y, weight, weight, EPSILON, dtype), gelu(x), column_sums(x.detach())]
    slopes = torch.autograd.grad(sum(one.float().square().sum() for one in made if one.requires_grad), (x, y, weight))
    logits = x.detach().clone()
    return [*made, *slopes, target_slopes(logits, torch.arange(tokens), learning=True), logits]


def test_the_number_of_threads_does_not_change_a_byte():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(steps(torch.float32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for some in found[1:] for one, other in zip(found[0], some, strict=True))


def test_bf16_is_only_rounded_where_it_goes_out():
    x, y = drawn(5, 48).bfloat16(), drawn(5, 48, seed=1).bfloat16()
    weight = drawn(48, seed=2).float()
    for found, exact in zip(
        (*add_norm(x, y, weight, EPSILON, torch.bfloat16), gated(x, y), gelu(x)),
        (*add_norm(x.float(), y.float(), weight, EPSILON, torch.float32), gated(x.float(), y.float()), gelu(x.float())),
        strict=True,
    ):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, exact.bfloat16(), rtol=0, atol=0)
