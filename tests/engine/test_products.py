"""A matrix laid out once gives the products that it gives as it lies, both ways, whatever the number of tokens."""

from __future__ import annotations

import pytest
import torch

from whet.engine import products
from whet.engine.products import Packed, Plain, Tiled, can_pack, can_tile, laid_out
from whet.engine.thin_products import Run, Update

tiled = pytest.mark.skipif(not can_tile(), reason="the package's own kernel is not there")
KINDS = [
    Plain,
    pytest.param(Packed, marks=pytest.mark.skipif(not can_pack(), reason="this torch has no such kernels")),
    pytest.param(laid_out, id="laid out"),
]


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


def whole(runs: list[Run], matrix: torch.Tensor) -> torch.Tensor:
    """The update's matrix, zero outside of each part's ranks and columns."""
    found = torch.zeros_like(matrix)
    for run in runs:
        found[run.ranks, run.columns] = matrix[run.ranks, run.columns]
    return found


UPDATES = {
    "one": [Run(slice(0, 150), slice(0, 16))],
    "an odd rank": [Run(slice(0, 150), slice(0, 3))],
    "parts, one without": [Run(slice(0, 70), slice(0, 3)), Run(slice(100, 150), slice(3, 8))],
    "more than is added on the way": [Run(slice(0, 150), slice(0, 300))],
    "none": [],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("tokens", [1, 6, 100])
def test_an_update_is_added_both_ways(kind, name, tokens):
    runs = UPDATES[name]
    matrix, x, ranks = drawn(150, 40, seed=0), drawn(tokens, 40, seed=1), max((run.ranks.stop for run in runs), default=2)
    low, ups = drawn(tokens, ranks, seed=2), whole(runs, drawn(ranks, 150, seed=3))
    found = kind(matrix).out(x, None, Update(low, ups, runs))
    back = kind(matrix.T.contiguous()).back(x, Update(low, ups, runs))
    exact = x.double() @ matrix.double().T + low.double() @ ups.double()
    for one in (found, back):
        assert float((one.double() - exact).abs().max()) <= 2**-6 * float(exact.abs().max())


@tiled
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_token_gets_the_same_bits_whatever_is_multiplied_beside_it(threads):
    x, low, runs = (
        drawn(101, 96, seed=1),
        drawn(101, 8, seed=2),
        [Run(slice(0, 130), slice(0, 4)), Run(slice(130, 200), slice(4, 8))],
    )
    product, ups = Tiled(drawn(200, 96, seed=0)), whole(runs, drawn(8, 200, seed=3))
    before = torch.get_num_threads()
    together = product.out(x, None, Update(low, ups, runs))
    torch.set_num_threads(threads)
    try:
        for some in (slice(0, 101), slice(3, 4), slice(17, 100)):
            assert torch.equal(product.out(x[some], None, Update(low[some], ups, runs)), together[some])
    finally:
        torch.set_num_threads(before)


@tiled
def test_a_token_that_is_no_number_spoils_no_other():
    x = drawn(50, 64, seed=1)
    product, before = Tiled(drawn(70, 64, seed=0)), x[7].clone()
    exact = product.out(x, None)
    x[7] = torch.nan
    found = product.out(x, None)
    assert found[7].isnan().all() and before.isfinite().all()
    found[7] = exact[7]
    assert torch.equal(found, exact)


@tiled
def test_what_is_read_is_not_written_and_nothing_lies_behind_it():
    wide = drawn(30, 400, seed=1)
    copy, product = wide.clone(), Tiled(drawn(66, 100, seed=0))
    found = product.out(wide[:, 150:250], None)
    assert torch.equal(wide, copy)
    assert torch.equal(found, product.out(wide[:, 150:250].contiguous(), None))


@tiled
def test_no_tokens_are_none():
    assert Tiled(drawn(66, 100, seed=0)).out(drawn(0, 100, seed=1), None).shape == (0, 66)


@pytest.mark.parametrize(("sizes", "kind"), [((64, 34), Tiled), ((7, 64), Packed), ((64, 33), Packed), ((4098, 1024), Packed)])
def test_what_has_an_odd_side_or_is_large_is_laid_out_by_onednn(sizes, kind, monkeypatch):
    if not (can_tile() and can_pack()):
        pytest.skip("one of the kernels is not there")
    assert type(laid_out(drawn(*sizes, seed=0))) is kind
    monkeypatch.setattr(products, "can_pack", lambda: False)
    assert type(laid_out(drawn(*sizes, seed=0))) is (Tiled if kind is Tiled else Plain)


def test_a_processor_with_tile_registers_leaves_products_to_onednn(monkeypatch):
    monkeypatch.setattr(products, "processor_flags", lambda: frozenset({"amx_bf16", "avx512_bf16"}))
    assert not can_tile.__wrapped__()


def test_without_such_kernels_nothing_is_packed(monkeypatch):
    def refuse(self, matrix):
        raise AttributeError("no such operator")

    monkeypatch.setattr(Packed, "__init__", refuse)
    assert not can_pack.__wrapped__()


def test_kernels_that_give_something_else_are_not_used(monkeypatch):
    monkeypatch.setattr(Packed, "out", lambda self, x, bias, update=None: torch.zeros(len(x), 48).bfloat16())
    assert not can_pack.__wrapped__()
