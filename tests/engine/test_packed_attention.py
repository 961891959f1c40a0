"""The package's own attention kernel gives what torch's product gives row by row, in the same bytes whatever is around a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from fences import assert_stays_within
from torch import Tensor

from whet.engine import attention, compiled
from whet.engine.attention import Prefix, attend_packed, packed
from whet.engine.packed_attention import NARROWEST, WIDEST, attend_rows, can_attend, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"the kernel is not there: {why_not()}")
CHOSEN = dict(NARROWEST)


@pytest.fixture(autouse=True)
def narrow_heads(monkeypatch):
    """In fp32 too, since it is right for them; that they are left to torch is a choice, and has a test of its own."""
    monkeypatch.setitem(NARROWEST, torch.float32, NARROWEST[torch.bfloat16])


@dataclass(frozen=True)
class Case:
    """One call of attention over packed rows."""

    lengths: tuple[int, ...] = (3, 1, 17, 17, 30)
    heads: tuple[int, int] = (4, 2)
    """Of queries, and of keys and values."""
    width: int = 32
    causal: bool = True
    window: int | None = None
    virtual: int = 0
    dtype: torch.dtype = torch.float32

    def tensors(self) -> dict[str, Tensor]:
        """Query, key, value and the gradient of what is made of them. [1, H, T, d] each but for the last, [1, T, H, d]"""
        generator = torch.Generator().manual_seed(0)
        tokens, (many, few) = sum(self.lengths), self.heads
        shapes = {
            "query": (1, tokens, many, self.width),
            "key": (1, tokens, few, self.width),
            "value": (1, tokens, few, self.width),
        }
        drawn = {name: torch.randn(shape, generator=generator).to(self.dtype).transpose(1, 2) for name, shape in shapes.items()}
        drawn["gradient"] = torch.randn(shapes["query"], generator=generator).to(self.dtype)
        for name in ("prefix_keys", "prefix_values"):
            drawn[name] = torch.randn(few, self.virtual, self.width, generator=generator).to(self.dtype)
        return drawn


def attended(case: Case, given: dict[str, Tensor], *, own: bool = True, **kwargs: Any) -> dict[str, Tensor]:
    """What attention gives, and the gradients of all that it was given."""
    learns = {name: x.detach().requires_grad_() for name, x in given.items() if name != "gradient"}
    module = torch.nn.Identity()
    if case.virtual:
        module.add_module("prefix", Prefix(learns["prefix_keys"], learns["prefix_values"]))
    query, key, value = (learns[name] for name in ("query", "key", "value"))
    with packed(case.lengths):
        out, _ = attend_packed(module, query, key, value, None, is_causal=case.causal, sliding_window=case.window, **kwargs)
    assert (type(out.grad_fn).__name__ == "_AttendBackward") == own
    out.backward(given["gradient"].to(out.dtype))
    return {"out": out.detach()} | {name: x.grad for name, x in learns.items() if x.grad is not None}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        gap = (found[name].double() - value.double()).abs().max() / max(float(value.abs().max()), 0.05)
        assert gap <= tolerance, f"{name}: {gap}"


CASES = {
    "rows of all lengths": Case(),
    "both directions": Case(causal=False),
    "one token each": Case(lengths=(1, 1, 1)),
    "one head": Case(heads=(1, 1)),
    "all query heads share one": Case(heads=(6, 1)),
    "no whole vectors": Case(width=40),
    "an odd width": Case(width=35),
    "three vectors": Case(width=48),
    "wide": Case(width=80, lengths=(40, 9)),
    "widest": Case(width=WIDEST, lengths=(9, 33)),
    "several blocks of queries": Case(lengths=(64, 65, 200), heads=(2, 1)),
    "a long row": Case(lengths=(450, 3), heads=(1, 1)),
    "window": Case(window=4),
    "window of one": Case(window=1),
    "window one short of a row": Case(lengths=(9, 5), window=8),
    "window in a long row": Case(lengths=(7, 200), window=33),
    "window, both directions": Case(lengths=(7, 200), window=33, causal=False),
    "window that begins at the last key of a vector": Case(lengths=(7, 70), window=10),
    "window so, both directions": Case(lengths=(7, 70), window=10, causal=False),
    "virtual tokens": Case(virtual=5),
    "virtual tokens, both directions": Case(virtual=5, causal=False),
    "virtual tokens and a window": Case(virtual=5, window=4, lengths=(3, 70)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_float64(name):
    case, given = CASES[name], CASES[name].tensors()
    expected = attended(case, {key: value.double() for key, value in given.items()}, own=False)
    assert_close(attended(case, given), expected, 1e-5)


@pytest.mark.slow
def test_nothing_is_read_behind_the_last_head():
    assert_stays_within("""
import torch
from fences import fenced
from whet.engine.packed_attention import attend_rows

for dtype in (torch.bfloat16, torch.float32):
    for width in (33, 40, 48, 72, 100, 120):
        x, gradient = (fenced(torch.ones(1, 5, 2, width, dtype=dtype)) for _ in range(2))
        query, key, value = (x.transpose(1, 2).requires_grad_() for _ in range(3))
        attend_rows(query, key, value, (2, 3), causal=True).backward(gradient)
""")


def wrong_by(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The root mean square of what is wrong, as a share of what is right."""
    return {name: float((found[name].double() - x).norm() / x.norm()) for name, x in expected.items() if x.norm() > 0}


@pytest.mark.parametrize("name", CASES)
def test_bf16_is_as_near_to_float64_as_torchs_own_attention(name, monkeypatch):
    case = replace(CASES[name], dtype=torch.bfloat16)
    given = case.tensors()
    exact = attended(case, {key: value.double() for key, value in given.items()}, own=False)
    own = attended(case, given)
    assert {value.dtype for value in own.values()} == {torch.bfloat16}
    monkeypatch.setattr(attention, "can_attend", lambda *given: False)
    torchs = wrong_by(attended(case, given, own=False), exact)
    for key, wrong in wrong_by(own, exact).items():
        assert wrong < max(1.1 * torchs[key], 0.004), key


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.03)])
def test_scores_of_ten_thousand_are_weighed_as_in_float64(dtype, tolerance):
    case = Case(lengths=(20, 1, 70), dtype=dtype)
    given = case.tensors()
    given["query"], given["key"] = given["query"] * 64, given["key"] * 64  # a power of two: bf16 rounds nothing
    assert float((given["query"][0, 0].double() @ given["key"][0, 0].double().T).abs().max()) / math.sqrt(case.width) > 1e4
    exact = attended(case, {key: value.double() for key, value in given.items()}, own=False)
    for key, wrong in wrong_by(attended(case, given), exact).items():
        assert wrong < tolerance, key


def test_scores_are_scaled_as_the_layer_says():
    case, given = Case(), Case().tensors()
    expected = attended(case, {key: value.double() for key, value in given.items()}, own=False, scaling=0.7)
    assert_close(attended(case, given, scaling=0.7), expected, 1e-5)


def test_gradients_of_a_rows_keys_sum_to_zero_however_large_its_scores_are():
    # what is added to all keys of a row is added to all scores of a query, and changes no weight; a logarithm near 10,000 is rounded by 0.0005
    case = Case(lengths=(70,), heads=(1, 1))
    given = case.tensors()
    given["query"], given["key"] = 42 + given["query"] / 8, 42 + given["key"] / 8
    slopes = attended(case, given)["key"].double()
    assert float(slopes.sum(2).abs().max()) < 1e-5 * float(slopes.abs().sum(2).max())


def test_a_processor_that_does_not_multiply_bf16_computes_in_fp32(monkeypatch):
    plain = replace(compiled.C, flags=(*compiled.C.flags, "-mno-avx512bf16"))
    monkeypatch.setitem(compiled.LANGUAGES, ".c", plain)
    case = replace(CASES["no whole vectors"], dtype=torch.bfloat16)
    given = case.tensors()
    compiled.library.cache_clear()
    try:
        found = attended(case, given)
    finally:
        compiled.library.cache_clear()
    exact = attended(case, {key: value.float() for key, value in given.items()})
    for key in ("out", "query", "key", "value"):
        torch.testing.assert_close(found[key], exact[key].bfloat16(), rtol=0, atol=0)


def angles_of(tokens: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of angles that are another one for each token and number, so that one read in the place of another shows. [T, d]"""
    turns = 6 * torch.rand(tokens, width, generator=torch.Generator().manual_seed(1))
    return turns.cos(), turns.sin()


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """[1, H, T, d]"""
    one, two = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-two, one], dim=-1) * sines


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("width", "heads", "kwargs"),
    [(32, (4, 2), {}), (48, (2, 2), {"sliding_window": 5}), (80, (3, 1), {"is_causal": False}), (34, (2, 1), {})],
)
@pytest.mark.parametrize("own", [True, False])
def test_queries_and_keys_are_turned_by_the_angles_of_their_tokens(width, heads, kwargs, dtype, own, monkeypatch):
    case = Case(width=width, heads=heads, lengths=(3, 70, 18), dtype=dtype)
    given, angles = case.tensors(), angles_of(91, width)
    if not own:
        monkeypatch.setattr(attention, "can_attend", lambda *given: False)
    found, expected = ({name: given[name].clone().requires_grad_() for name in ("query", "key", "value")} for _ in range(2))
    module, asked = torch.nn.Identity(), {"is_causal": True} | kwargs
    with packed(case.lengths):
        out, _ = attend_packed(module, *found.values(), None, angles=angles, **asked)
        assert (type(out.grad_fn).__name__ == "_AttendBackward") == own
        out.backward(given["gradient"])
        query, key, value = (x.double() for x in expected.values())
        cosines, sines = (x.double() for x in angles)
        exact, _ = attend_packed(module, turned(query, cosines, sines), turned(key, cosines, sines), value, None, **asked)
        exact.backward(given["gradient"].double())
    found_by = {"out": out.detach()} | {name: x.grad for name, x in found.items()}
    exact_by = {"out": exact.detach()} | {name: x.grad for name, x in expected.items()}
    for name, wrong in wrong_by(found_by, exact_by).items():
        assert wrong < (2e-6 if dtype == torch.float32 else 0.006), name


@pytest.mark.parametrize(("width", "angles"), [(64, angles_of(91, 32)), (64, angles_of(90, 64)), (33, angles_of(91, 33))])
def test_angles_that_are_not_the_tokens_own_are_never_read(width, angles):
    case = Case(width=width, lengths=(3, 70, 18))
    query, key, value = (case.tensors()[name] for name in ("query", "key", "value"))
    with pytest.raises(AssertionError):
        attend_rows(query, key, value, case.lengths, causal=True, angles=angles)


def test_angles_are_never_left_out_where_rows_are_not_packed():
    query, key, value = (Case(lengths=(3, 20)).tensors()[name] for name in ("query", "key", "value"))
    with pytest.raises(AssertionError, match="only packed rows"):
        attend_packed(torch.nn.Identity(), query, key, value, None, angles=angles_of(23, 32), is_causal=True)


def test_virtual_tokens_are_not_turned():
    case = Case(virtual=5, lengths=(3, 20))
    given, (cosines, sines) = case.tensors(), angles_of(23, 32)
    module = torch.nn.Identity()
    module.add_module("prefix", Prefix(given["prefix_keys"], given["prefix_values"]))
    query, key, value = (given[name] for name in ("query", "key", "value"))
    with packed(case.lengths):
        found, _ = attend_packed(module, query, key, value, None, angles=(cosines, sines), is_causal=True)
        query, key = turned(query, cosines, sines), turned(key, cosines, sines)
        expected, _ = attend_packed(module, query, key, value, None, is_causal=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_bf16_keeps_what_is_no_number_and_rounds_to_even():
    # one token sees itself only, so what comes out is its value: 1 + 2^-8 lies between 1 and 1 + 2^-7, and 1 + 3 * 2^-8 below 1 + 2^-6
    values = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, math.nan, math.inf]).repeat(8).reshape(1, 1, 1, 32)
    with packed((1,)), torch.autocast("cpu", torch.bfloat16):
        out, _ = attend_packed(
            torch.nn.Identity(), torch.ones(1, 1, 1, 32), torch.ones(1, 1, 1, 32), values, None, is_causal=True
        )
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out[0, 0, 0, :4].float(), torch.tensor([1, 1 + 2.0**-6, math.nan, math.inf]), equal_nan=True)


def test_what_is_not_dense_gives_the_same_bytes():
    case, dense = Case(), Case().tensors()
    scattered = {name: torch.stack([x, x], dim=-1)[..., 0] if x.numel() else x for name, x in dense.items()}
    assert scattered["query"].stride(-1) == 2
    flat = {name: x.contiguous() for name, x in dense.items()}
    expected = attended(case, dense)
    for given in (scattered, flat):
        found = attended(case, given)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_number_of_threads_does_not_change_a_byte():
    case = Case(lengths=(5, 40, 41, 70), heads=(6, 2), width=48)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(attended(case, case.tensors()))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


@pytest.mark.parametrize("window", [None, 9])
def test_a_row_has_the_same_bytes_alone_and_in_company(window):
    case = Case(lengths=(5, 70, 41), window=window)
    given, start, stop = case.tensors(), 5, 75
    together = attended(case, given)
    row = {
        name: x[:, start:stop] if name == "gradient" else x[:, :, start:stop] for name, x in given.items() if "prefix" not in name
    }
    alone = attended(replace(case, lengths=(70,)), row)
    assert torch.equal(together["out"][:, start:stop], alone["out"])
    for name in ("query", "key", "value"):
        assert torch.equal(together[name][:, :, start:stop], alone[name])


@pytest.mark.parametrize("own", [True, False])
def test_autocast_rounds_what_goes_in_and_gives_gradients_in_their_own_types(own, monkeypatch):
    # rotated queries and keys are fp32 there, and values bf16
    if not own:
        monkeypatch.setattr(attention, "can_attend", lambda *given: False)
    case, given = Case(), Case().tensors()
    given["value"], given["gradient"] = given["value"].bfloat16(), given["gradient"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = attended(case, given, own=own)
    assert [found[name].dtype for name in ("out", "query", "key", "value")] == [
        torch.bfloat16,
        torch.float32,
        torch.float32,
        torch.bfloat16,
    ]
    expected = attended(case, {name: x.bfloat16().double() for name, x in given.items()}, own=False)
    assert_close(found, expected, 2**-8 if own else 2**-7)


@pytest.mark.parametrize(
    ("changes", "kwargs"),
    [
        ({"dtype": torch.float64}, {}),
        ({"width": 24}, {}),
        ({"width": WIDEST + 16}, {}),
        ({}, {"softcap": 2.0}),
        ({}, {"dropout": 0.1}),
        ({}, {"s_aux": torch.zeros(4)}),
    ],
)
def test_what_the_kernel_does_not_do_is_left_to_torch(changes, kwargs):
    case = replace(Case(), **changes)
    attended(case, case.tensors(), own=False, **kwargs)


class Marked(Tensor):
    """Not a plain tensor."""


REFUSED = {
    "rows that do not fill the batch": lambda q, k, v: (q, k, v, (3, 60), None),
    "keys of other tokens": lambda q, k, v: (q, k[:, :, :-1], v[:, :, :-1], (3, 65), None),
    "a window of none": lambda q, k, v: (q, k, v, (3, 65), 0),
    "heads that do not share evenly": lambda q, k, v: (q[:, :3], k, v, (3, 65), None),
    "several types": lambda q, k, v: (q, k.bfloat16(), v, (3, 65), None),
    "a batch": lambda q, k, v: (*(torch.cat([x, x]) for x in (q, k, v)), (3, 65), None),
    "no plain tensor": lambda q, k, v: (q.as_subclass(Marked), k, v, (3, 65), None),
    "another device": lambda q, k, v: (*(x.to("meta") for x in (q, k, v)), (3, 65), None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernel_would_read_wrongly_is_not_taken(name):
    query, key, value = (Case(lengths=(3, 65)).tensors()[name] for name in ("query", "key", "value"))
    assert can_attend(query, key, value, (3, 65), None)
    assert not can_attend(*REFUSED[name](query, key, value))


def test_the_kernel_is_not_called_within_a_compiled_network(monkeypatch):
    query, key, value = (Case(lengths=(3, 65)).tensors()[name] for name in ("query", "key", "value"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not can_attend(query, key, value, (3, 65), None)


@pytest.mark.parametrize(
    ("width", "dtype", "own"), [(32, torch.float32, False), (64, torch.float32, True), (32, torch.bfloat16, True)]
)
def test_small_networks_in_fp32_are_left_to_torch(monkeypatch, width, dtype, own):
    monkeypatch.setitem(NARROWEST, torch.float32, CHOSEN[torch.float32])
    case = Case(width=width, dtype=dtype)
    attended(case, case.tensors(), own=own)


def test_a_gradient_of_a_gradient_is_refused():
    given = Case().tensors()
    query = given["query"].requires_grad_()
    with packed(Case().lengths):
        out, _ = attend_packed(torch.nn.Identity(), query, given["key"], given["value"], None, is_causal=True)
    slope = torch.autograd.grad(out.square().sum(), query, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_scores_of_a_long_row_are_never_held_at_once(monkeypatch):
    # 8,192 tokens would be 256 MiB of fp32 scores for one head; keys, values and blocks of 32 queries are below 24 MiB
    asked = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kwargs: asked.append(size[0]) or empty(*size, **kwargs))
    case = Case(lengths=(8192,), heads=(1, 1), window=8)
    attended(case, case.tensors())
    assert asked and max(asked) * 4 <= 24 * 2**20 * torch.get_num_threads()


def test_torch_is_taken_where_the_kernel_is_not_there(monkeypatch):
    monkeypatch.setattr(attention, "can_attend", lambda *given: False)
    case = Case(virtual=3)
    attended(case, case.tensors(), own=False)
