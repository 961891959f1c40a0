"""A matrix laid out once gives the products that it gives as it lies, both ways, whatever the number of tokens."""

from __future__ import annotations

import pytest
import torch

from whet.engine.products import Packed, Plain, can_pack

KINDS = [Plain, pytest.param(Packed, marks=pytest.mark.skipif(not can_pack(), reason="this torch has no such kernels"))]


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 2, 17, 300])
@pytest.mark.parametrize(("out", "width"), [(48, 64), (7, 33), (256, 40)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_and_its_gradient(kind, tokens, out, width, biased):
    matrix, x, grad, bias = (
        drawn(out, width, seed=0),
        drawn(tokens, width, seed=1),
        drawn(tokens, out, seed=2),
        drawn(out, seed=3),
    )
    product = kind(matrix)
    found = product.out(x, bias if biased else None)
    exact = x.double() @ matrix.double().T + (bias.double() if biased else 0)
    back, slope = product.back(grad), grad.double() @ matrix.double()
    for one, other in ((found, exact), (back, slope)):
        assert one.dtype == torch.bfloat16
        assert float((one.double() - other).abs().max()) <= 2**-7 * float(other.abs().max())  # rounded at most twice


@pytest.mark.skipif(not can_pack(), reason="this torch has no such kernels")
def test_what_lies_apart_in_memory_is_read_right():
    matrix, whole = drawn(48, 64, seed=0), drawn(9, 200, seed=1)
    product, x = Packed(matrix), whole[:, 30:94]
    torch.testing.assert_close(product.out(x, None), product.out(x.contiguous(), None), rtol=0, atol=0)


def test_without_such_kernels_nothing_is_packed(monkeypatch):
    def refuse(self, matrix):
        raise AttributeError("no such operator")

    monkeypatch.setattr(Packed, "__init__", refuse)
    assert not can_pack.__wrapped__()


def test_kernels_that_give_something_else_are_not_used(monkeypatch):
    monkeypatch.setattr(Packed, "out", lambda self, x, bias: torch.zeros(len(x), 48).bfloat16())
    assert not can_pack.__wrapped__()
