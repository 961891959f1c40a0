"""The map of vectors: neighbours stay neighbours, the same vectors give the same picture, and odd ones do not break it."""

from __future__ import annotations

import math

import pytest
import torch

from whet.engine.layout import gradient, neighbourhood, plane, principal


def groups(sizes, seed=0):
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(sizes), 20, generator=draw) * 4
    rows = [centre + torch.randn(size, 20, generator=draw) * 0.3 for centre, size in zip(centres, sizes, strict=True)]
    return torch.cat(rows), torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def test_neighbours_of_a_row_are_of_its_own_group():
    vectors, group = groups([40, 30, 20])
    places = plane(vectors)
    assert places.shape == (90, 2) and places.abs().max() == pytest.approx(1.0)
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(1)
    assert (group[nearest] == group).all()


def test_the_same_vectors_give_the_same_picture():
    vectors, _ = groups([15, 15])
    assert torch.equal(plane(vectors), plane(vectors.clone()))


@pytest.mark.parametrize("vectors", [torch.ones(1, 3), torch.ones(4, 3), torch.ones(12, 3), torch.eye(2), torch.randn(30, 1)])
def test_few_and_equal_vectors_have_a_place_too(vectors):
    assert plane(vectors).shape == (len(vectors), 2) and plane(vectors).isfinite().all()


def test_the_neighbourhood_has_the_perplexity_that_is_asked_for():
    vectors, _ = groups([60])
    joint = neighbourhood(vectors.double(), 10.0)
    assert torch.allclose(joint, joint.T) and float(joint.sum()) == pytest.approx(1.0)
    distances = torch.cdist(vectors.double(), vectors.double()).square().fill_diagonal_(torch.inf)
    # each row by bisection, one at a time: an independent way to the same widths
    for row in (0, 17, 59):
        low, high = 0.0, 1e3
        for _ in range(200):
            middle = (low + high) / 2
            chances = torch.softmax(-distances[row] * middle, 0)
            entropy = -sum(float(one) * math.log(float(one)) for one in chances if one > 0)
            low, high = (middle, high) if entropy > math.log(10) else (low, middle)
        others = torch.softmax(-distances[:, :] * middle, 1)  # this row's width; only its own line is of use
        assert 2 * 60 * float(joint[row].sum()) > float(others[row].sum())  # half of what it holds is its own


def test_the_gradient_is_that_of_the_divergence():
    vectors, _ = groups([8, 7])
    wanted = neighbourhood(vectors.double(), 4.0)
    places = torch.randn(15, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    near = 1 / (1 + torch.cdist(places, places).square())
    near = near * (1 - torch.eye(15))
    divergence = torch.xlogy(wanted, wanted).sum() - torch.xlogy(wanted, near / near.sum() + torch.eye(15)).sum()
    (by_autograd,) = torch.autograd.grad(divergence, places)
    assert torch.allclose(gradient(places.detach(), wanted), by_autograd, atol=1e-9)


def test_components_are_those_of_the_covariance():
    vectors, _ = groups([20, 20])
    found = principal(vectors.double(), 3)
    largest = torch.linalg.eigvalsh(torch.cov(vectors.double().T))[-3:].flip(0)
    assert torch.allclose(found.var(0), largest)
