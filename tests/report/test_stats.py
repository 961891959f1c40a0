"""Intervals cover what they claim, comparisons are paired, and the same seed gives the same bytes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from pytest import approx

from whet import plugins
from whet.stats import bootstrap, label_code, mean, paired, ranks, ratio, renumbered, share_score, stack
from whet.types import Example, Output, Score


def test_label_codes_are_whole_numbers_that_floats_hold_exactly() -> None:
    codes = [label_code(f"label {number}") for number in range(20_000)]
    assert len(set(codes)) == len(codes)
    assert all(code == int(code) and 2**52 <= code < 2**53 for code in codes)


def test_a_label_has_the_same_code_in_every_process() -> None:
    # blake2b of b"spam" with 6 bytes, as `b2sum -l 48` prints it
    assert label_code("spam") == 2**52 + int("89189a113363", 16)


def test_renumbered_codes_tell_the_same_classes_apart() -> None:
    a, b, c = map(label_code, "abc")
    statistics = np.array([[a, -b, 0], [b, -c, -a]])
    found = renumbered(statistics)
    assert np.array_equal(np.sign(found), np.sign(statistics)) and np.abs(found).max() < 2**52 + 4
    assert abs(found[0, 0]) == abs(found[1, 2]) and abs(found[0, 1]) == found[1, 0]
    assert len({found[0, 0], found[1, 0], -found[1, 1]}) == 3


@pytest.mark.parametrize("statistics", [[[0.0, 3.5]], [[np.inf, 0.0]], [[label_code("a"), 0.5]]])
def test_statistics_that_are_no_codes_are_left_alone(statistics: list[list[float]]) -> None:
    assert renumbered(np.array(statistics)).tolist() == statistics


@pytest.mark.parametrize("name", ["macro_f1", "weighted_precision", "macro_recall"])
def test_renumbering_does_not_change_a_score(name: str) -> None:
    random = np.random.default_rng(8)
    metric = plugins.build("metrics", name, {})
    rows = [
        metric.statistics(
            Example(id=0, labels=tuple(random.choice(list("abcdef"), 2))), Output(labels=tuple(random.choice(list("abcde"), 3)))
        )
        for _ in range(100)
    ]
    assert metric.reduce(renumbered(stack(rows))) == approx(metric.reduce(stack(rows)), rel=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    statistics = np.random.default_rng(0).random((50, 1))
    assert bootstrap(mean, statistics, 200, seed=4) == bootstrap(mean, statistics, 200, seed=4)
    assert bootstrap(mean, statistics, 200, seed=4) != bootstrap(mean, statistics, 200, seed=5)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    # the standard error of a mean is s / sqrt(n); 1.96 of it on either side
    statistics = np.random.default_rng(1).normal(size=(2000, 1))
    score = bootstrap(mean, statistics, 2000, seed=0)
    half = 1.96 * statistics.std() / math.sqrt(2000)
    assert score.high - score.value == approx(half, rel=0.1)
    assert score.value - score.low == approx(half, rel=0.1)


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        score = bootstrap(mean, (random.random((100, 1)) < 0.7).astype(np.float64), 200, seed)
        covered += score.low <= 0.7 <= score.high
    assert 0.88 <= covered / 200 <= 0.99  # 0.95 less what 100 rows and 200 resamples cost, 4 standard errors wide


def test_nothing_is_claimed_about_no_rows_or_one() -> None:
    none, one = bootstrap(mean, np.zeros((0, 1))), bootstrap(mean, np.ones((1, 1)))
    assert none.n == 0 and math.isnan(none.value) and math.isnan(none.low)
    assert one == Score(1.0, one.low, one.high, 1) and math.isnan(one.low) and math.isnan(one.high)


def test_an_undefined_score_has_no_interval() -> None:
    score = bootstrap(ratio, np.zeros((10, 2)), 100)
    assert math.isnan(score.value) and math.isnan(score.low)


def test_the_interval_always_holds_the_score() -> None:
    metric = plugins.build("metrics", "calibration_error", {})
    random = np.random.default_rng(3)
    confidence = random.random(60)
    statistics = np.stack([confidence, random.random(60) < confidence], axis=1).astype(np.float64)
    score = bootstrap(metric.reduce, statistics, 300)
    assert score.low <= score.value <= score.high


def test_a_share_of_all_is_not_certain() -> None:
    # Clopper and Pearson for 10 of 10: 0.025 ** (1 / 10) = 0.6915
    score = share_score(bootstrap(mean, np.ones((10, 1)), 100))
    assert (score.value, score.high) == (1.0, 1.0) and score.low == approx(0.6915, abs=1e-4)
    none = share_score(bootstrap(mean, np.zeros((10, 1)), 100))
    assert (none.value, none.low) == (0.0, 0.0) and none.high == approx(1 - 0.6915, abs=1e-4)


def test_a_paired_difference_has_the_sign_of_the_better_side_and_turns_with_the_sides() -> None:
    random = np.random.default_rng(4)
    theirs = (random.random((300, 1)) < 0.5).astype(np.float64)
    ours = np.maximum(theirs, (random.random((300, 1)) < 0.3).astype(np.float64))
    difference, turned = paired(mean, ours, theirs, 300), paired(mean, theirs, ours, 300)
    assert difference.low > 0
    assert (difference.value, difference.low, difference.high) == approx((-turned.value, -turned.high, -turned.low))


def test_pairing_is_narrower_than_two_intervals() -> None:
    random = np.random.default_rng(5)
    theirs = random.normal(size=(200, 1)) * 10
    ours = theirs + 1 + random.normal(size=(200, 1)) / 10
    difference = paired(mean, ours, theirs, 300)
    assert 0.9 < difference.low < difference.high < 1.1


def test_equal_sides_do_not_differ() -> None:
    statistics = np.random.default_rng(6).random((40, 1))
    assert paired(mean, statistics, statistics.copy(), 100) == Score(0.0, 0.0, 0.0, 40)


def test_ranks_share_ties() -> None:
    assert ranks(np.array([10.0, 20.0, 10.0, 5.0])).tolist() == [2.5, 4.0, 2.5, 1.0]


@pytest.mark.parametrize("name", ["macro_f1", "accuracy"])
def test_a_thousand_resamples_of_3080_rows_and_77_classes_take_seconds(name: str) -> None:
    random = np.random.default_rng(7)
    metric = plugins.build("metrics", name, {})
    pairs = random.integers(0, 77, size=(3080, 2))
    rows = [metric.statistics(Example(id=0, label=f"c{truth}"), Output(label=f"c{given}")) for truth, given in pairs]
    start = time.process_time()
    bootstrap(metric.reduce, np.array(rows), 1000)
    assert time.process_time() - start < 4  # 0.7 s on a free core
