"""Products in int8: the integers of numpy, rows that depend on nothing but themselves, and what cannot be rounded is not a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whet.engine import int8_products
from whet.engine.int8_products import Int8, why_not

there = pytest.mark.skipif(why_not() is not None, reason=f"no products in int8 here: {why_not()}")


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def in_8_bits(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of -127 to 127 and each row's step, by numpy in fp32 as the kernel computes it."""
    x = rows.float().numpy()
    top = np.abs(x).max(1, keepdims=True).astype(np.float32)
    rate = np.divide(np.float32(127), top, out=np.zeros_like(top), where=top > 0)
    return np.rint(x * rate).astype(np.int64), top / np.float32(127)


@there
@pytest.mark.parametrize("tokens", [1, 2, 17, 300])
@pytest.mark.parametrize(("out", "width"), [(48, 64), (7, 33), (256, 40)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_and_its_gradient_are_those_of_the_rounded_numbers(tokens, out, width, biased):
    matrix, x, grad, bias = (
        drawn(out, width, seed=0),
        drawn(tokens, width, seed=1),
        drawn(tokens, out, seed=2),
        drawn(out, seed=3),
    )
    product = Int8(matrix)
    codes, steps = in_8_bits(matrix)
    weights = torch.from_numpy(codes * steps.astype(np.float64))
    found = product.out(x, bias if biased else None)
    given, step = in_8_bits(x)
    exact = torch.from_numpy(given @ codes.T * steps.T.astype(np.float64) * step)
    exact = exact + (bias.double() if biased else 0)
    back = product.back(grad)
    given, step = in_8_bits(grad.float() * torch.from_numpy(steps.T))
    slope = torch.from_numpy((given @ codes) * step.astype(np.float64))
    for one, other in ((found, exact), (back, slope)):
        assert one.dtype == torch.bfloat16
        assert float((one.double() - other).abs().max()) <= 2**-7 * float(other.abs().max())  # rounded at most twice
    true = x.double() @ matrix.double().T + (bias.double() if biased else 0)
    assert float((found.double() - true).norm() / true.norm()) < 0.02
    assert float((weights - matrix.double()).abs().max()) <= float(steps.max()) * 0.51


@there
def test_a_row_depends_on_nothing_but_itself():
    matrix, x = drawn(96, 200, seed=0), drawn(130, 200, seed=1)
    product = Int8(matrix)
    whole = product.out(x, None)
    for some in (slice(0, 1), slice(5, 9), slice(7, 130)):
        assert torch.equal(product.out(x[some].clone(), None), whole[some])


@there
def test_the_same_bytes_by_any_number_of_threads():
    product, x, grad = Int8(drawn(96, 200, seed=0)), drawn(333, 200, seed=1), drawn(333, 96, seed=2)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append((product.out(x, None), product.back(grad)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0][0]) and torch.equal(other, found[0][1]) for one, other in found)


@there
def test_rows_of_zeros_and_rows_with_what_is_no_number():
    matrix, x = drawn(16, 64, seed=0), drawn(4, 64, seed=1)
    matrix[3], x[0], x[1, 5], x[2, 63] = 0, 0, torch.nan, -torch.inf
    found = Int8(matrix).out(x, None)
    assert torch.equal(found[0], torch.zeros(16).bfloat16())
    assert torch.isnan(found[1:3]).all()
    assert torch.isfinite(found[3]).all()
    assert float(found[3, 3]) == 0


@there
def test_the_largest_numbers_of_bf16_survive_and_the_smallest_are_zero():
    huge, small, tiny = torch.finfo(torch.bfloat16).max, 2.0**-119, torch.finfo(torch.bfloat16).tiny
    x = torch.tensor([[huge, -huge, 0, huge], [small, -small, 0, small], [tiny, -tiny, 0, tiny]]).bfloat16()
    found = Int8(torch.eye(4).bfloat16()).out(x, None)
    assert torch.equal(found[:2], x[:2])
    assert torch.equal(found[2], torch.zeros(4).bfloat16())


@there
def test_what_lies_apart_in_memory_is_read_right():
    whole = drawn(9, 200, seed=1)
    product, x = Int8(drawn(48, 64, seed=0)), whole[:, 30:94]
    assert torch.equal(product.out(x, None), product.out(x.contiguous(), None))
    turned = whole.T.contiguous().T[:, 30:94]
    assert torch.equal(product.out(turned, None), product.out(x.contiguous(), None))


@there
def test_products_that_are_not_exact_are_not_used(monkeypatch):
    def saturated(codes, packed, steps, zeros):
        return multiply(codes, packed, steps, zeros).clamp(max=32767)

    multiply = int8_products._multiply
    monkeypatch.setattr(int8_products, "_multiply", saturated)
    assert why_not.__wrapped__() == "torch's products in int8 are not exact here"


@there
def test_a_torch_without_them_is_told_of(monkeypatch):
    def refuse(self, matrix):
        raise AttributeError("no such operator")

    monkeypatch.setattr(Int8, "__init__", refuse)
    assert why_not.__wrapped__() == "this torch has no products in int8"


def test_a_processor_without_them_is_told_of(monkeypatch):
    monkeypatch.setattr(int8_products, "processor_flags", frozenset)
    monkeypatch.setattr(int8_products, "library", lambda name: None)
    monkeypatch.setattr(int8_products, "parallel", lambda: None)
    assert why_not.__wrapped__() == "this processor does not multiply in int8 (AVX-512 VNNI)"
