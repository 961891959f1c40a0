"""Log-probabilities of targets against plain log softmax, values and gradients, for every part that may be there."""

from __future__ import annotations

import pytest
import torch

from whet.engine import losses
from whet.engine.losses import target_logprobs

V, D = 23, 8


def plain(hidden, weight, bias, targets, cap):
    logits = hidden @ weight.T + (0 if bias is None else bias)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None]).squeeze(-1)


def parts(number: int, dtype: torch.dtype, bias: bool):
    generator = torch.Generator().manual_seed(number)
    hidden = torch.randn(number, D, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator, dtype=dtype).requires_grad_()
    offset = torch.randn(V, generator=generator, dtype=dtype).requires_grad_() if bias else None
    targets = torch.randint(V, (number,), generator=generator)
    each = torch.randn(number, generator=generator, dtype=dtype)  # another slope for each token
    return hidden, weight, offset, targets, each


@pytest.mark.parametrize("chunk", [1, 7, 512])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_log_softmax(monkeypatch, chunk, cap, bias):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, weight, offset, targets, each = parts(20, torch.float64, bias)
    inputs = [tensor for tensor in (hidden, weight, offset) if tensor is not None]
    expected = plain(hidden, weight, offset, targets, cap)
    found = target_logprobs(hidden, weight, offset, targets, cap)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    wanted = torch.autograd.grad((expected * each).sum(), inputs)
    given = torch.autograd.grad((found * each).sum(), inputs)
    for left, right in zip(given, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_gradient_matches_finite_differences(cap):
    hidden, weight, offset, targets, _ = parts(5, torch.float64, True)
    assert torch.autograd.gradcheck(lambda *tensors: target_logprobs(*tensors, targets, cap), (hidden, weight, offset))


@pytest.mark.parametrize("learns", ["hidden", "weight", "bias"])
def test_only_what_learns_gets_a_gradient(learns):
    hidden, weight, offset, targets, each = parts(9, torch.float64, True)
    tensors = {"hidden": hidden, "weight": weight, "bias": offset}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == learns)
    wanted = torch.autograd.grad((plain(hidden, weight, offset, targets, None) * each).sum(), tensors[learns])
    given = torch.autograd.grad((target_logprobs(hidden, weight, offset, targets) * each).sum(), tensors[learns])
    torch.testing.assert_close(given, wanted, rtol=1e-12, atol=1e-12)


def test_nothing_to_predict_is_an_empty_result_with_a_gradient_of_zero():
    hidden, weight, offset, targets, _ = parts(0, torch.float32, True)
    found = target_logprobs(hidden, weight, offset, targets)
    assert found.shape == (0,)
    gradient = torch.autograd.grad(found.sum(), weight)[0]
    assert not gradient.any()


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1e4, 0.0], [-1e4, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    found = target_logprobs(hidden, weight, None, torch.tensor([0, 0]))
    # row 0: logits 1e4, -1e4, 0: the target has all the mass; row 1: logits -1e4, 1e4, 0: 2e4 below the largest
    assert found.tolist() == [0.0, -2e4]
    assert torch.isfinite(torch.autograd.grad(found.sum(), hidden)[0]).all()


def test_bf16_products_are_summed_in_fp32():
    hidden, weight, _, targets, _ = parts(16, torch.float32, False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = target_logprobs(hidden, weight, None, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(hidden, weight, None, targets, None), rtol=0.05, atol=0.1)
    found.sum().backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32 and torch.isfinite(hidden.grad).all()


def test_without_gradient_nothing_is_kept():
    hidden, weight, offset, targets, _ = parts(4, torch.float32, True)
    with torch.no_grad():
        assert target_logprobs(hidden, weight, offset, targets).grad_fn is None


@pytest.mark.parametrize("chunk", [7, 512])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("alike", [True, False])
def test_in_bf16_the_gradients_are_as_near_as_those_of_torchs_operators(monkeypatch, chunk, same, alike):
    # what is said of the slopes ahead saves work, and is not believed
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, weight, _, targets, each = parts(40, torch.float32, False)
    each = torch.full_like(each, -0.3) if same else each
    inputs = [hidden, weight]
    exact = torch.autograd.grad((plain(hidden, weight, None, targets, None) * each).sum(), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = plain(hidden, weight, None, targets, None)
        found = target_logprobs(hidden, weight, None, targets, alike=alike)
    theirs, ours = (torch.autograd.grad((one * each).sum(), inputs, retain_graph=True) for one in (theirs, found))
    again = torch.autograd.grad((found * each).sum(), inputs)
    for one, other, third, bound in zip(exact, ours, again, theirs, strict=True):
        allowed = 1.5 * float((bound - one).norm()) + 1e-3 * float(one.norm())
        assert float((other - one).norm()) <= allowed
        assert float((third - one).norm()) <= allowed, "a second backward pass gives another gradient"


def test_a_weight_that_learns_costs_three_products_where_all_targets_count_alike(monkeypatch):
    if losses.why_not() is not None:
        pytest.skip(f"the kernel is not there: {losses.why_not()}")
    hidden, weight, _, targets, _ = parts(40, torch.float32, False)
    made = []
    monkeypatch.setattr(losses, "linear", lambda *given: made.append(given) or torch.nn.functional.linear(*given))
    for alike, products in ((True, 1), (False, 2)):
        made.clear()
        with torch.autocast("cpu", torch.bfloat16):
            found = target_logprobs(hidden, weight, None, targets, alike=alike)
        found.sum().backward()
        assert [x.dtype for x, _ in made] == [torch.bfloat16] * products, (
            "out of autocast the backward pass computed in another precision"
        )
