"""Products with thin matrices are those of exact arithmetic, rounded once, in every shape; nothing outside of a part is read or written."""

from __future__ import annotations

import pytest
import torch
from fences import assert_stays_within

from whet.engine import thin_products
from whet.engine.thin_products import Run, add_low, lay, low_of, sums_of, why_not

there = pytest.mark.skipif(why_not() is not None, reason=f"no thin products here: {why_not()}")
WHOLE, ROUNDED = 2**-8, 2**-20
"""Largest errors relative to the largest number, of results in bf16 and in fp32."""


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def parts_of(widths: list[int], ranks: list[int]) -> list[Run]:
    """Return parts beside each other."""
    found, column, rank = [], 0, 0
    for index, (width, own) in enumerate(zip(widths, ranks, strict=True)):
        found.append(Run(slice(column, column + width), slice(rank, rank + own), 0.5 + index))
        column, rank = column + width, rank + own
    return found


def blocks(matrix: torch.Tensor, parts: list[Run]) -> torch.Tensor:
    """Return the matrix, zero outside of its parts."""
    found = torch.zeros_like(matrix)
    for part in parts:
        found[part.ranks, part.columns] = matrix[part.ranks, part.columns]
    return found


def close(found: torch.Tensor, exact: torch.Tensor, error: float) -> None:
    assert found.shape == exact.shape
    assert float((found.double() - exact).abs().max()) <= error * float(exact.abs().max()) + 1e-30


SHAPES = [
    pytest.param(*shape, id="-".join(map(str, shape)))
    for shape in [
        (1, [32], [4]),
        (2, [64], [16]),
        (7, [33], [3]),
        (64, [128], [8]),
        (65, [70, 31, 129], [5, 1, 9]),
        (131, [256, 128, 128], [16, 16, 16]),
        (200, [96], [64]),
        (130, [48, 200], [65, 130]),
    ]
]


@pytest.fixture(params=[pytest.param("kernel", marks=there), "torch"])
def kind(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(thin_products, "why_not", lambda: "not asked for")


@pytest.mark.parametrize(("tokens", "widths", "ranks"), SHAPES)
@pytest.mark.parametrize("source", ["as they lie", "turned", "scattered", "float64"])
def test_what_is_laid_out_is_rounded_once_and_nothing_else_is_written(kind, source, tokens, widths, ranks):
    parts, generator = parts_of(widths, ranks), torch.Generator().manual_seed(0)
    given = [
        torch.randn(part.ranks.stop - part.ranks.start, width, generator=generator)
        for part, width in zip(parts, widths, strict=True)
    ]
    lies = {
        "as they lie": lambda x: x,
        "turned": lambda x: x.T.contiguous().T,
        "scattered": lambda x: torch.stack([x, x], -1)[..., 0],
        "float64": lambda x: x.double(),
    }[source]
    wide = drawn(sum(ranks) + 2, sum(widths) + 40, seed=1)
    matrix, before = wide[1:-1, 8 : sum(widths) + 8], wide.clone()
    lay(matrix, [(lies(x), part) for x, part in zip(given, parts, strict=True)])
    for x, part in zip(given, parts, strict=True):
        assert torch.equal(matrix[part.ranks, part.columns], (x * part.scale).bfloat16())
        before[1:-1, 8 : sum(widths) + 8][part.ranks, part.columns] = (x * part.scale).bfloat16()
    assert torch.equal(wide, before)


@there
def test_what_is_laid_out_is_never_written_to_a_copy():
    with pytest.raises(AssertionError):
        lay(torch.zeros(40, 8, dtype=torch.bfloat16).T, [(torch.ones(8, 40), Run(slice(0, 40), slice(0, 8)))])


@pytest.mark.parametrize(("tokens", "widths", "ranks"), SHAPES)
def test_three_products_of_every_shape(kind, tokens, widths, ranks):
    parts, width, rank = parts_of(widths, ranks), sum(widths), sum(ranks)
    wide = drawn(tokens, width + 40, seed=0)
    x, low, matrix = (
        wide[:, 8 : width + 8],
        drawn(tokens, rank, seed=1),
        blocks(drawn(rank, width, seed=2), parts),
    )  # x is strided
    close(low_of(x, matrix, parts), x.double() @ matrix.double().T, WHOLE)
    for tall in (False, True):
        for part, found in zip(parts, sums_of(x, low, parts, tall=tall), strict=True):
            exact = part.scale * low[:, part.ranks].double().T @ x[:, part.columns].double()
            assert found.dtype == torch.float32
            close(found, exact.T if tall else exact, ROUNDED if thin_products.why_not() is None else 2**-7)
    before, exact = wide.clone(), x.double() + low.double() @ matrix.double()
    add_low(x, low, matrix, parts)
    close(x, exact, WHOLE * -(-max(ranks) // 64))  # rounded once for each 64 ranks of a part
    assert torch.equal(wide[:, :8], before[:, :8])
    assert torch.equal(wide[:, width + 8 :], before[:, width + 8 :])


@there
def test_nothing_is_read_or_written_behind_the_last_token_and_rank():
    assert_stays_within("""
import torch
from fences import fenced
from whet.engine.thin_products import Run, add_low, low_of, sums_of

for tokens, width, ranks in ((1, 33, 1), (3, 70, 5), (65, 31, 3), (7, 64, 66)):
    x, low, matrix = (fenced(torch.ones(shape).bfloat16()) for shape in ((tokens, width), (tokens, ranks), (ranks, width)))
    parts = [Run(slice(0, width), slice(0, ranks))]
    low_of(x, matrix, parts)
    sums_of(x, low, parts, tall=False)
    add_low(x, low, matrix, parts)
""")


@there
def test_a_part_alone_leaves_the_other_columns_as_they_are():
    x, low, matrix = drawn(70, 96, seed=0), drawn(70, 8, seed=1), drawn(8, 96, seed=2)
    part, before = Run(slice(33, 66), slice(2, 7)), x.clone()
    add_low(x, low, matrix, [part])
    close(x[:, 33:66], before[:, 33:66].double() + low[:, 2:7].double() @ matrix[2:7, 33:66].double(), WHOLE)
    x[:, 33:66] = before[:, 33:66]
    assert torch.equal(x, before)


@there
def test_the_same_bytes_by_any_number_of_threads():
    parts, before, found = parts_of([150, 70], [16, 5]), torch.get_num_threads(), []
    x, low, matrix = drawn(333, 220, seed=0), drawn(333, 21, seed=1), drawn(21, 220, seed=2)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = x.clone()
            add_low(out, low, matrix, parts)
            found.append([out, low_of(x, matrix, parts), *sums_of(x, low, parts, tall=False), *sums_of(x, low, parts, tall=True)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, first) for others in found for one, first in zip(others, found[0], strict=True))


@there
def test_a_token_depends_on_nothing_but_itself():
    x, low, matrix = drawn(130, 200, seed=0), drawn(130, 16, seed=1), drawn(16, 200, seed=2)
    whole, parts = x.clone(), [Run(slice(0, 200), slice(0, 16))]
    add_low(whole, low, matrix, parts)
    ranks = low_of(x, matrix, parts)
    for some in (slice(0, 1), slice(5, 9), slice(7, 130)):
        out = x[some].clone()
        add_low(out, low[some].clone(), matrix, parts)
        assert torch.equal(out, whole[some])
        assert torch.equal(low_of(x[some].clone(), matrix, parts), ranks[some])


@there
def test_what_is_only_read_may_lie_in_any_way():
    x, matrix, parts = drawn(40, 70, seed=0).T, drawn(3, 40, seed=1), [Run(slice(0, 40), slice(0, 3))]
    assert torch.equal(low_of(x, matrix, parts), low_of(x.contiguous(), matrix, parts))


@there
def test_no_tokens_give_sums_of_zero():
    (found,) = sums_of(drawn(0, 40, seed=0), drawn(0, 3, seed=1), [Run(slice(0, 40), slice(0, 3))], tall=False)
    assert torch.equal(found, torch.zeros(3, 40))
