"""AdamW against the paper's algorithm written out, and schedules against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from whet import plugins
from whet.engine.optimise import restore_state, state_tensors
from whet.errors import TrainingError
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
