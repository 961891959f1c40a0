"""Layers that share an input, computed as one product with their updates, give what the layers give, and see each change of a weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from whet.engine.activations import gated, gelu
from whet.engine.fused import why_not
from whet.engine.products import Packed, Plain, can_pack, laid_out
from whet.engine.projections import Projections, _rounded
from whet.models.lowrank import LowRank

TOKENS, WIDTH = 11, 32


def layers(bias: bool, adapted: tuple[bool, ...], frozen: bool = True) -> list[nn.Module]:
    torch.manual_seed(0)
    made: list[nn.Module] = []
    for place, (out, low) in enumerate(zip((24, 8, 8), adapted, strict=True)):
        layer = nn.Linear(WIDTH, out, bias=bias and place != 1).requires_grad_(not frozen)
        if low:
            layer = LowRank(layer, 3 + place, 8, "lora", "default", place)  # each of another rank
            nn.init.normal_(layer.up, std=0.3)
        made.append(layer)
    return made


def weights(some: list[nn.Module]) -> list[Tensor]:
    return [weight for layer in some for weight in layer.parameters() if weight.requires_grad]


def slopes(made: tuple[Tensor, ...], of: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    total = sum((one.float() * torch.randn(one.shape, generator=generator)).sum() for one in made)
    return list(torch.autograd.grad(total, of, allow_unused=False))


def close(found: Tensor, exact: Tensor, theirs: Tensor, what: str) -> None:
    """No farther from fp32 than one and a half times what the layers themselves are in bf16."""
    gap, bound = ((one.float() - exact).norm() / exact.norm() for one in (found, theirs))
    assert gap <= 1.5 * bound + 1e-3, f"{what}: {gap:.3g} beside {bound:.3g}"
    assert bound < 0.02


WEIGHTS = torch.zeros(8, 8, dtype=torch.bfloat16)
FROZEN = [
    laid_out,
    pytest.param(Packed, marks=pytest.mark.skipif(not can_pack(), reason="this torch does not lay matrices out")),
    Plain,
]
CASES = {
    "updates": (False, (True, True, True)),
    "updates and biases": (True, (True, True, True)),
    "one without an update": (True, (True, False, True)),
    "all weights": (False, (False, False, False)),
    "all weights and biases": (True, (False, False, False)),
}


@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("name", CASES)
def test_one_product_gives_what_the_layers_give(name, frozen, monkeypatch):
    monkeypatch.setattr("whet.engine.projections.laid_out", frozen)
    bias, adapted = CASES[name]
    some = layers(bias, adapted, frozen=any(adapted))
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    exact_x, own_x = x.clone().requires_grad_(), x.bfloat16().requires_grad_()
    exact = tuple(layer(exact_x) for layer in some)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = tuple(layer(own_x) for layer in some)
        found = Projections()("group", own_x, some)
    learnt = weights(some)
    assert len(learnt) == (2 * sum(adapted) or 3 + 2 * bias)
    wanted, plain, given = (
        slopes(*pair) for pair in ((exact, [exact_x, *learnt]), (theirs, [own_x, *learnt]), (found, [own_x, *learnt]))
    )
    for place in range(3):
        close(found[place], exact[place], theirs[place], f"output {place}")
    for place, one in enumerate(given):
        assert one.dtype == (torch.bfloat16 if place == 0 else torch.float32)
        close(one, wanted[place], plain[place], f"gradient {place}")


@pytest.mark.parametrize("frozen", FROZEN)
def test_a_frozen_weight_gets_no_gradient_and_is_rounded_once(frozen, monkeypatch):
    monkeypatch.setattr("whet.engine.projections.laid_out", frozen)
    rounded = []
    monkeypatch.setattr("whet.engine.projections._rounded", lambda *given: rounded.append(given) or ROUNDED(*given))
    some, projections, x = layers(False, (True, True, True)), Projections(), torch.randn(TOKENS, WIDTH).bfloat16()
    for _ in range(3):
        sum(one.float().sum() for one in projections("group", x, some)).backward()
        with torch.no_grad():
            some[0].down.add_(1)  # what learns changes, and is seen, but not the frozen weight
    assert all(layer.base.weight.grad is None for layer in some)
    assert len(rounded) == 1 and type(projections.stacks["group"].product) is type(frozen(WEIGHTS))


ROUNDED = _rounded


@pytest.mark.parametrize("change", ["optimiser", "in place", "another layer", "frozen after learning"])
def test_a_changed_weight_is_seen(change):
    some, projections = layers(False, (False, False, False), frozen=change == "in place"), Projections()
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)).bfloat16()
    learnt = weights(some)
    before = projections("group", x, some)
    if change == "in place":
        with torch.no_grad():
            some[1].weight.mul_(2)
    elif change == "another layer":
        some[1] = nn.Linear(WIDTH, 8, bias=False)
    else:
        optimiser = torch.optim.AdamW(learnt, lr=0.1, fused=True)  # leaves the tensors' versions as they are
        sum(one.float().sum() for one in before).backward()
        optimiser.step()
        if change == "frozen after learning":
            for weight in learnt:
                weight.requires_grad_(False)
    found = projections("group", x, some)
    assert not torch.equal(found[1], before[1])
    expected = torch.nn.functional.linear(x, some[1].weight.bfloat16())
    torch.testing.assert_close(found[1], expected, rtol=0.02, atol=0.02)


def test_a_pass_whose_backward_is_still_to_come_is_not_touched_by_another_adapter():
    mine, projections = layers(False, (True, True, True)), Projections()
    other = [LowRank(layer.base, 4, 8, "lora", "default", 1) for layer in mine]
    for seed, layer in enumerate((*mine, *other)):
        for matrix in (layer.down, layer.up):
            torch.nn.init.normal_(matrix, generator=torch.Generator().manual_seed(seed))
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1)).bfloat16()

    def learnt(between: bool) -> list[torch.Tensor]:
        given = x.clone().requires_grad_()
        made = projections("group", given, mine)
        if between:
            projections("group", x, other)
        return list(torch.autograd.grad(sum(one.float().square().sum() for one in made), [given, *weights(mine)]))

    for one, expected in zip(learnt(True), learnt(False), strict=True):
        assert torch.equal(one, expected)


@pytest.mark.parametrize("variant", ["dora", "hooked", "fp32"])
def test_what_is_no_product_and_update_is_asked_by_itself(variant):
    some, projections, asked = layers(False, (True, True, True)), Projections(), []
    if variant == "dora":
        some[2] = LowRank(nn.Linear(WIDTH, 8), 4, 8, "dora", "default", 0)
    if variant == "hooked":
        some[2].register_forward_hook(lambda *given: asked.append(given))
    x = torch.randn(TOKENS, WIDTH)
    with torch.autocast("cpu", torch.bfloat16, enabled=variant != "fp32"):
        x = x if variant == "fp32" else x.bfloat16()
        found = projections("group", x, some)
        assert all(torch.equal(one, layer(x)) for one, layer in zip(found, some, strict=True))
    assert not projections.stacks and (variant != "hooked" or asked)


def test_what_only_predicts_keeps_no_copies():
    projections = Projections()
    with torch.no_grad():
        projections("group", torch.randn(TOKENS, WIDTH).bfloat16(), layers(False, (True, True, True)))
    assert not projections.stacks


@pytest.mark.skipif(why_not() is not None, reason=f"no fused activations here: {why_not()}")
@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("kind", ["update", "update and bias", "weights", "weights and bias", "frozen"])
@pytest.mark.parametrize("function", [gelu, gated])
def test_an_activation_that_is_made_again_gives_the_bits_of_one_that_is_kept(function, kind, below):
    # 37 tokens, 72 wide: neither a block of tokens nor a vector register is filled
    torch.manual_seed(0)
    layer: nn.Module = nn.Linear(72, 24, bias="bias" in kind).requires_grad_("weights" in kind)
    if "update" in kind:
        layer = LowRank(layer, 3, 8, "lora", "default", 0)
        nn.init.normal_(layer.up, std=0.3)
    inner = [torch.randn(37, 72).mul(2).bfloat16().requires_grad_(below) for _ in range(1 + (function is gated))]
    of = [*(inner if below else ()), *weights([layer])]
    kept, again = Projections(), Projections()
    outs = kept("down", function(*inner), [layer])[0], again.activated("down", function, tuple(inner), layer)
    assert torch.equal(*outs)
    if of:
        pairs = list(zip(*(slopes((out,), of) for out in outs), strict=True))
        assert all(one.abs().sum() > 0 and torch.equal(one, other) for one, other in pairs)


@pytest.mark.skipif(why_not() is not None, reason=f"no fused activations here: {why_not()}")
def test_what_an_activation_gives_is_not_kept_for_the_backward_pass():
    held: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor.untyped_storage().nbytes())
        return tensor

    inner, layer = torch.randn(TOKENS, WIDTH).bfloat16().requires_grad_(), nn.Linear(WIDTH, 8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Projections().activated("down", gelu, (inner,), layer)
    assert held == [2 * TOKENS * WIDTH]  # what went into it, in bf16


@pytest.mark.parametrize("function", [torch.tanh, gelu])
def test_an_activation_before_what_is_no_product_is_made_by_itself(function):
    if function is gelu and why_not() is not None:
        pytest.skip(f"no fused activations here: {why_not()}")
    x = torch.randn(TOKENS, WIDTH).bfloat16()
    layer = nn.Sequential(nn.Linear(WIDTH, 8))
    with torch.autocast("cpu", torch.bfloat16):
        found = Projections().activated("down", function, (x,), layer)
        assert torch.equal(found, layer(function(x)))
