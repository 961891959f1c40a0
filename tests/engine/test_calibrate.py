"""The temperature that validation rows like best."""

import math

import pytest
import torch

from whet.engine.calibrate import class_nll, fit_temperature


def drawn(num_rows: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores whose softmax is the true distribution of the labels, multiplied by `sharpness`. [N, 4] both"""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(num_rows, 4, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(torch.softmax(scores, -1), 1, generator=generator).squeeze(-1)
    return scores * sharpness, torch.nn.functional.one_hot(labels, 4).double()


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_it_finds_how_much_too_sure_the_scores_are(sharpness: float) -> None:
    scores, targets = drawn(20_000, sharpness)
    temperature, loss = fit_temperature(scores, targets, several=False)
    assert temperature == pytest.approx(sharpness, rel=0.03)
    assert loss == pytest.approx(float(class_nll(scores / temperature, targets, several=False)) / 20_000, rel=1e-12)
    assert loss <= float(class_nll(scores, targets, several=False)) / 20_000 + 1e-6


def test_at_the_minimum_no_other_temperature_is_better() -> None:
    scores, targets = drawn(500, 2.0)
    temperature, _ = fit_temperature(scores, targets, several=True)

    def price(t: float) -> float:
        return float(class_nll(scores / t, targets, several=True)) + math.log(t) ** 2 / 2

    assert all(price(temperature) <= price(temperature * factor) + 1e-9 for factor in (0.5, 0.99, 1.01, 2.0))


def test_a_few_rows_that_are_all_right_do_not_make_it_certain() -> None:
    temperature, _ = fit_temperature(torch.eye(4) * 3, torch.eye(4), several=False)
    assert 0.3 < temperature < 1.0


def test_without_a_known_label_nothing_changes() -> None:
    assert fit_temperature(torch.randn(3, 2), torch.zeros(3, 2), several=False) == (1.0, 0.0)
