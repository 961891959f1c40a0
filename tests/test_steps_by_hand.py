"""Optimisers against their papers' algorithms written out and against other programs, and schedules against values worked by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from whet import plugins
from whet.engine.optimise import restore_state, state_tensors
from whet.errors import ModelError, RecipeError, TrainingError
from whet.plugins import build


def written_out(start, gradients, rate, beta1, beta2, epsilon, decay):
    """Loshchilov and Hutter 2019, algorithm 2, with eta_t * alpha = rate and lambda = rate * decay, in Python's floats."""
    theta, mean, square = list(start), [0.0] * len(start), [0.0] * len(start)
    for step, gradient in enumerate(gradients, start=1):
        for index, slope in enumerate(gradient):
            mean[index] = beta1 * mean[index] + (1 - beta1) * slope
            square[index] = beta2 * square[index] + (1 - beta2) * slope**2
            unbiased, spread = mean[index] / (1 - beta1**step), square[index] / (1 - beta2**step)
            theta[index] -= rate * unbiased / (math.sqrt(spread) + epsilon) + rate * decay * theta[index]
    return theta


@pytest.mark.parametrize(("settings", "decay"), [({}, 0.0), ({}, 0.3), ({"beta1": 0.5, "beta2": 0.8, "epsilon": 1e-3}, 0.1)])
def test_adamw_is_the_papers_algorithm(settings, decay):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    gradients = torch.randn(20, 2, 3, generator=generator, dtype=torch.float64)
    parameter = start.clone().requires_grad_()
    optimiser = build("optimisers", "adamw", settings).build([("weight", parameter)], 0.02, decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    beta1, beta2, epsilon = (
        settings.get(name, default) for name, default in (("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8))
    )
    expected = written_out(start.flatten().tolist(), gradients.flatten(1).tolist(), 0.02, beta1, beta2, epsilon, decay)
    torch.testing.assert_close(parameter.detach().flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13)


def test_weight_decay_leaves_biases_and_norms_alone():
    matrix, vector = torch.ones(2, 2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimiser = build("optimisers", "adamw", {}).build([("matrix", matrix), ("vector", vector)], 0.1, 0.5)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimiser.step()
    assert torch.equal(vector.detach(), torch.ones(2))
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))  # 1 - 0.1 * 0.5


RATE = 0.02
SHAPES = {"square": (6, 6), "wide": (3, 8), "tall": (8, 3), "row": (1, 5), "vector": (7,)}


def moved(name, settings, decay, dtype=torch.float64, num_steps=12, made=None):
    """Return where parameters of several shapes stand after steps along drawn gradients, and the starts and gradients as arrays."""
    generator = torch.Generator().manual_seed(3)
    draw = {key: torch.randn(num_steps + 1, *shape, generator=generator, dtype=torch.float64) for key, shape in SHAPES.items()}
    named = [(key, value[0].to(dtype, copy=True).requires_grad_()) for key, value in draw.items()]
    optimiser = made(named) if made else build("optimisers", name, settings).build(named, RATE, decay)
    for step in range(1, num_steps + 1):
        for key, parameter in named:
            parameter.grad = draw[key][step].to(dtype)
        optimiser.step()
    ends = {key: parameter.detach().double().numpy() for key, parameter in named}
    return ends, {key: (value[0].numpy(), value[1:].numpy()) for key, value in draw.items()}


def adamw_written_out(start, gradients, decay, beta1=0.9, beta2=0.999, epsilon=1e-8, **_):
    return np.array(
        written_out(
            start.ravel().tolist(), gradients.reshape(len(gradients), -1).tolist(), RATE, beta1, beta2, epsilon,
            decay if start.ndim > 1 else 0.0,
        )
    ).reshape(start.shape)  # fmt: skip


def lion_written_out(start, gradients, decay, beta1=0.9, beta2=0.99):
    """Chen et al. 2023, algorithm 2."""
    theta, mean, decay = start.copy(), np.zeros_like(start), decay if start.ndim > 1 else 0.0
    for gradient in gradients:
        update = np.sign(beta1 * mean + (1 - beta1) * gradient)
        theta = theta - RATE * (update + decay * theta)
        mean = beta2 * mean + (1 - beta2) * gradient
    return theta


def adafactor_written_out(
    start, gradients, decay, relative_step=False, decay_power=0.8, threshold=1.0, epsilon=1e-30, smallest=1e-3
):
    """Shazeer and Stern 2018, algorithms 4 and 5, with rho_t = RATE, and sums as they stand there; decay as in AdamW."""
    theta, rows, columns, whole = start.copy(), 0.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        beta2, squares = 1 - step**-decay_power, gradient**2 + epsilon
        if theta.ndim > 1:
            rows = beta2 * rows + (1 - beta2) * squares.sum(1)
            columns = beta2 * columns + (1 - beta2) * squares.sum(0)
            variance = np.outer(rows, columns) / rows.sum()
        else:
            variance = whole = beta2 * whole + (1 - beta2) * squares
        update = gradient / np.sqrt(variance)
        update = update / max(1.0, np.sqrt((update**2).mean()) / threshold)
        alpha = RATE * (max(smallest, np.sqrt((theta**2).mean())) if relative_step else 1.0)
        theta = theta - RATE * (decay if theta.ndim > 1 else 0.0) * theta - alpha * update
    return theta


def quintic(singular):
    """Jordan 2024: five times a x + b x^3 + c x^5, of the singular values alone."""
    for _ in range(5):
        singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
    return singular


def muon_written_out(start, gradients, decay, momentum=0.95, scale="adamw", matrix_rate=1.0, **settings):
    """Jordan 2024's algorithm by singular values, where the program multiplies matrices; AdamW for vectors."""
    if start.ndim < 2:
        return adamw_written_out(start, gradients, decay, **settings)
    theta, mean = start.copy(), np.zeros_like(start)
    size = 0.2 * math.sqrt(max(start.shape)) if scale == "adamw" else max(1.0, start.shape[0] / start.shape[1]) ** 0.5
    for gradient in gradients:
        mean = momentum * mean + gradient
        left, singular, right = np.linalg.svd(gradient + momentum * mean, full_matrices=False)
        update = left @ np.diag(quintic(singular / np.linalg.norm(singular))) @ right
        theta = theta - RATE * matrix_rate * (decay * theta + size * update)
    return theta


WRITTEN_OUT = [
    ("adamw", {}, adamw_written_out, 1e-12),
    ("adamw_8bit", {}, adamw_written_out, None),  # small parameters are in fp32
    ("lion", {}, lion_written_out, 1e-12),
    ("lion", {"beta1": 0.95, "beta2": 0.98}, lion_written_out, 1e-12),  # the authors' for language models
    ("adafactor", {}, adafactor_written_out, 1e-11),
    ("adafactor", {"relative_step": True, "decay_power": 0.5, "threshold": 0.3, "smallest": 2.0}, adafactor_written_out, 1e-11),
    ("muon", {}, muon_written_out, 2e-6),  # its 1e-7 beside the norm, five times blown up
    ("muon", {"scale": "original", "momentum": 0.8, "beta2": 0.95, "matrix_rate": 3.0}, muon_written_out, 2e-6),
]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("name", "settings", "expected", "tolerance"), WRITTEN_OUT)
def test_an_optimiser_is_its_papers_algorithm(name, settings, expected, tolerance, decay):
    for dtype, most in ((torch.float64, tolerance), (torch.float32, 3e-6)):
        if most is None:
            continue
        ends, draws = moved(name, settings, decay, dtype)
        for key, end in ends.items():
            # a quintic iteration blows rounding of fp32 up: its slope at 0 is 3.4445 ** 5, about 485
            atol = 2e-4 if name == "muon" and dtype == torch.float32 else most
            np.testing.assert_allclose(end, expected(*draws[key], decay, **settings), rtol=0, atol=atol, err_msg=key)


def test_every_optimiser_has_its_algorithm_written_out():
    missing = set(plugins.names("optimisers")) - {name for name, *_ in WRITTEN_OUT}
    assert not missing, f"write the algorithm of {missing} out"


def test_lion_by_hand():
    # mean 0: 0.1 * 0.5 > 0, so down to 0.9; the mean is 0.005. 0.9 * 0.005 - 0.1 * 0.04 = 0.0005 > 0, so down again, to 0.8;
    # the mean is 0.00495 - 0.0004 = 0.00455. 0.9 * 0.00455 - 0.1 * 0.05 < 0, so up, to 0.9.
    parameter = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimiser = build("optimisers", "lion", {}).build([("one", parameter)], 0.1, 0.0)
    places = []
    for gradient in (0.5, -0.04, -0.05):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        places.append(parameter.item())
    assert places == pytest.approx([0.9, 0.8, 0.9], abs=1e-15)


def test_adafactor_by_hand():
    # squares 1 4 9 16: means of rows 2.5, 12.5, of columns 5, 10, of all 7.5; row * column / all = 5/3 10/3 25/3 50/3;
    # gradient ** 2 over it = 0.6 1.2 1.08 0.96, whose mean is 0.96 < 1, so nothing is cut
    parameter = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    optimiser = build("optimisers", "adafactor", {}).build([("one", parameter)], 0.1, 0.0)
    parameter.grad = torch.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=torch.float64)
    optimiser.step()
    expected = [[-math.sqrt(0.006), math.sqrt(0.012)], [-math.sqrt(0.0108), -math.sqrt(0.0096)]]
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=0, atol=1e-14)


def test_muon_by_hand():
    # diag(3, -4) over its norm 5 is diag(0.6, -0.8); signs are kept, since the quintic is odd
    parameter = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    optimiser = build("optimisers", "muon", {"scale": "original"}).build([("one", parameter)], 0.1, 0.0)
    parameter.grad = torch.diag(torch.tensor([3.0, -4.0], dtype=torch.float64))
    optimiser.step()
    np.testing.assert_allclose(np.diag(parameter.detach().numpy()), [-0.1 * quintic(0.6), 0.1 * quintic(0.8)], rtol=0, atol=1e-7)
    assert 0.68 < quintic(0.6) < 1.14 and 0.68 < quintic(0.8) < 1.14  # the range that the post gives


@pytest.mark.parametrize(("scale", "theirs"), [("adamw", "match_rms_adamw"), ("original", "original")])
def test_muon_is_that_of_torch(scale, theirs):
    settings = {"scale": scale, "precision": "bf16"}
    keys = [key for key, shape in SHAPES.items() if len(shape) == 2]
    ours, _ = moved("muon", settings, 0.3, torch.float32)
    theirs, _ = moved(
        "", {}, 0.3, torch.float32,
        made=lambda named: torch.optim.Muon(
            [tensor for name, tensor in named if name in keys], lr=RATE, weight_decay=0.3, momentum=0.95, adjust_lr_fn=theirs
        ),
    )  # fmt: skip
    for key in keys:  # both in bf16, whose steps are 2 ** -8 apart; they begin with one rounding of the norm's 1e-7 between them
        np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=12 * RATE * 0.03, err_msg=key)


@pytest.mark.parametrize("relative", [False, True])
def test_adafactor_is_that_of_transformers(relative):
    from transformers.optimization import Adafactor

    ours, _ = moved("adafactor", {"relative_step": relative}, 0.0)
    theirs, _ = moved(
        "", {}, 0.0,
        made=lambda named: Adafactor(
            [tensor for _, tensor in named], lr=RATE, scale_parameter=relative, relative_step=False, warmup_init=False
        ),
    )  # fmt: skip
    for key, end in ours.items():
        np.testing.assert_allclose(end, theirs[key], rtol=0, atol=2e-6, err_msg=key)  # theirs computes in fp32


def test_lion_is_that_of_bitsandbytes():
    from whet.models.quantised import kernels

    kernels()
    from bitsandbytes.optim import Lion

    ours, _ = moved("lion", {}, 0.0, torch.float32)
    theirs, _ = moved(
        "", {}, 0.0, torch.float32, made=lambda named: Lion([tensor for _, tensor in named], lr=RATE, weight_decay=0.0)
    )
    for key, end in ours.items():
        np.testing.assert_allclose(end, theirs[key], rtol=0, atol=1e-6, err_msg=key)


def dynamic_values(signed):
    """Return the values of Dettmers et al. 2022, section 1.3: seven decades, each cut twice as fine as the one below, 0 and 1."""
    values = [0.0, 1.0]
    for decade in range(7):
        bounds = np.linspace(0.1, 1, (2**decade if signed else 2 ** (decade + 1)) + 1)
        middles = (bounds[:-1] + bounds[1:]) / 2 * 10.0 ** (decade - 6)
        values += [*middles, *(-middles if signed else ())]
    return np.sort(values)


def from_8_bits(state, number, signed):
    """Return the numbers that the codes of a mean stand for, blocks of 256 over their largest. [64, 64]"""
    codes, largest = state[f"state{number}"].numpy(), state[f"absmax{number}"].double().numpy()
    return (dynamic_values(signed)[codes].reshape(-1, 256) * largest[:, None]).reshape(codes.shape)


def test_adamw_8bit_is_the_papers_algorithm():
    """Each step is AdamW's from the means as they are kept, and each number is kept as the nearest of the dynamic values, or nearly."""
    generator = torch.Generator().manual_seed(1)
    start, *gradients = torch.randn(5, 64, 64, generator=generator).unbind()
    parameter = start.clone().requires_grad_()
    optimiser = build("optimisers", "adamw_8bit", {}).build([("large", parameter)], RATE, 0.3)
    theta, kept = start.double().numpy(), [np.zeros((64, 64)), np.zeros((64, 64))]
    for step, gradient in enumerate(gradients, start=1):
        parameter.grad, slope = gradient.clone(), gradient.double().numpy()
        optimiser.step()
        mean, square = 0.9 * kept[0] + 0.1 * slope, 0.999 * kept[1] + 0.001 * slope**2
        theta = theta * (1 - RATE * 0.3) - RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(parameter.detach().double().numpy(), theta, rtol=0, atol=1e-6)
        theta = parameter.detach().double().numpy().copy()
        state = optimiser.state[parameter]
        assert state["state1"].dtype == state["state2"].dtype == torch.uint8
        for number, (signed, exact) in enumerate([(True, mean), (False, square)], start=1):
            kept[number - 1] = from_8_bits(state, number, signed)
            largest = np.abs(exact).reshape(-1, 256).max(1).repeat(256).reshape(64, 64)
            values, share = dynamic_values(signed), exact / largest
            nearest = np.abs(share[..., None] - values).min(-1)
            # bitsandbytes looks the nearest up in a table, which is off by a little half-way between two values
            assert (np.abs(kept[number - 1] / largest - share) <= nearest + 2e-4).all()


def test_adamw_8bit_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(RecipeError, match=r"needs the package bitsandbytes.*pip install 'whet\[qlora\]'"):
        build("optimisers", "adamw_8bit", {})


def test_adamw_8bit_refuses_a_device_that_bitsandbytes_cannot_compute_on(monkeypatch):
    from whet.models.quantised import kernels

    def lacking(*_, **__):
        raise NotImplementedError("Could not run 'optimizer_update_8bit_blockwise'\nwith arguments from the 'CPU' backend")

    monkeypatch.setattr(kernels(), "optimizer_update_8bit_blockwise", lacking)
    parameter = torch.zeros(4, 4, requires_grad=True)
    with pytest.raises(
        ModelError, match=r"no 8-bit optimiser for 'cpu'.*Could not run 'optimizer_update_8bit_blockwise'.*adafactor"
    ):
        build("optimisers", "adamw_8bit", {}).build([("one", parameter)], RATE, 0.0)


def test_plain_values_and_inner_mappings_of_a_state_come_back_as_they_were():
    parameter = torch.zeros(3, requires_grad=True)
    kept = {
        "step": 2**40 + 1,
        "share": 0.1,
        "warm": True,
        "last": None,
        "mean": torch.arange(3, dtype=torch.bfloat16),
        "inner": {"codes": torch.arange(3, dtype=torch.uint8), "deeper": {"scale": 1 / 3}},
    }
    for name in ("network.a", "heads.task/one.b"):  # a slash in a name is no inner mapping
        first, second = (torch.optim.SGD([parameter], lr=0.1) for _ in range(2))
        first.state[parameter].update(kept)
        restore_state(second, [(name, parameter)], state_tensors(first, [(name, parameter)]))
        found = second.state[parameter]
        assert torch.equal(found["mean"], kept["mean"]) and found["mean"].dtype == torch.bfloat16
        assert torch.equal(found["inner"]["codes"], kept["inner"]["codes"])
        assert found["inner"]["deeper"] == {"scale": 1 / 3}
        plain = {key: found[key] for key in ("step", "share", "warm", "last")}
        assert plain == {key: kept[key] for key in plain} and [type(value) for value in plain.values()] == [
            int,
            float,
            bool,
            type(None),
        ]


def test_a_state_that_no_checkpoint_can_hold_is_named():
    parameter = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    optimiser.state[parameter]["names"] = ["a"]
    with pytest.raises(TrainingError, match=r"a list as network\.a/names"):
        state_tensors(optimiser, [("network.a", parameter)])
    with pytest.raises(ValueError, match=r"network\.b/step: the optimiser has no such parameter"):
        restore_state(optimiser, [("network.a", parameter)], {"network.b/step": torch.zeros(())})


# four steps after a warm-up of two: each factor worked from the class's own sentence
BY_HAND = {
    "constant": [0.5, 1, 1, 1, 1, 1],
    "linear": [0.5, 1, 1, 0.75, 0.5, 0.25],
    "wsd": [0.5, 1, 1, 1, 1, 0.5],  # a tenth of 6 steps is one, half-way down
    "cosine": [0.5, 1, 1, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0.5 * (1 - math.sqrt(0.5))],  # half cosine at 0, 45, 90, 135 degrees
}


@pytest.mark.parametrize("name", list(BY_HAND))
def test_a_schedule_has_the_values_worked_by_hand(name):
    schedule = build("schedules", name, {})
    assert [schedule.factor(step, 6, 2) for step in range(1, 7)] == pytest.approx(BY_HAND[name], abs=1e-15)


@pytest.mark.parametrize(
    ("settings", "num_steps", "num_warmup", "expected"),
    [
        ({"decay": 0.5}, 6, 2, [0.5, 1, 1, 3 / 4, 2 / 4, 1 / 4]),
        ({"decay": 0.5, "shape": "1-sqrt"}, 6, 2, [0.5, 1, 1, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)]),
        ({"decay": 0.2}, 10, 0, [1] * 8 + [2 / 3, 1 / 3]),
        ({"decay": 1.0}, 4, 0, [1, 3 / 4, 2 / 4, 1 / 4]),  # the peak is no part of the fall
        ({"decay": 1.0}, 4, 4, [0.25, 0.5, 0.75, 1]),  # nor is the warm-up
    ],
)
def test_wsd_falls_over_its_share_of_the_steps(settings, num_steps, num_warmup, expected):
    schedule = build("schedules", "wsd", settings)
    found = [schedule.factor(step, num_steps, num_warmup) for step in range(1, num_steps + 1)]
    assert found == pytest.approx(expected, abs=1e-15)


def test_every_schedule_has_values_by_hand():
    missing = set(plugins.names("schedules")) - BY_HAND.keys()
    assert not missing, f"work out six factors by hand for {missing}"
