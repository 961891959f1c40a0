"""Advantages by hand."""

from __future__ import annotations

import pytest
import torch

from whet.engine.advantages import clipped_surrogate, gae, group_advantages, whitened


def test_gae_by_hand():
    # d3 = 4 - 1 = 3; d2 = 0 + 0.5 * 1 - 2 = -1.5; d1 = 1 + 0.5 * 2 - 3 = -1
    # A3 = 3; A2 = -1.5 + 0.5 * 0.8 * 3 = -0.3; A1 = -1 + 0.4 * -0.3 = -1.12
    found = gae(torch.tensor([1.0, 0.0, 4.0]), torch.tensor([3.0, 2.0, 1.0]), gamma=0.5, lam=0.8)
    assert found.tolist() == pytest.approx([-1.12, -0.3, 3.0])


def test_gae_with_lambda_one_is_the_return_less_the_value():
    rewards, values = torch.randn(7, generator=torch.Generator().manual_seed(0)), torch.arange(7.0)
    returns = torch.stack([(rewards[place:] * 0.9 ** torch.arange(7.0 - place)).sum() for place in range(7)])
    assert torch.allclose(gae(rewards, values, 0.9, 1.0), returns - values, atol=1e-6)


def test_group_advantages_by_hand():
    # mean 2; deviations -1, 0, 1 and a sample's standard deviation of 1; equal rewards have nothing to tell
    found = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]), scaled=True)
    assert found[0].tolist() == pytest.approx([-1, 0, 1], abs=2e-4)
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert group_advantages(torch.tensor([[1.0, 2.0, 6.0]]), scaled=False)[0].tolist() == [-2.0, -1.0, 3.0]


def test_whitened_over_all_answers_together():
    found = whitened([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0])])  # mean 4, variance 5
    assert torch.cat(found).tolist() == pytest.approx([-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5])


def test_the_clip_binds_only_where_it_would_be_gained_from():
    ratio, advantages = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]), torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    assert clipped_surrogate(ratio, advantages, 0.2, 0.3).tolist() == pytest.approx([1.3, -1.5, 0.5, -0.8, 2.2])
