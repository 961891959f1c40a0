"""The lead that a challenger needs: by hand, and no luck promoted in many tries beside one champion."""

import math

import numpy as np
import pytest

from whet.report.lead import FALSE_PROMOTIONS, THROWS, is_better, lead_needed, spent
from whet.report.scores import Group, Measured, Resampling, measure
from whet.report.verdict import compare
from whet.types import Example, Output

FEW = Resampling(200, 0)


def beside(champion, challenger) -> Measured:
    """Accuracy of both; each is given as rows that it has right."""
    examples = [Example(id=place, text=str(place), label="a") for place in range(len(champion))]
    ours, theirs = ([Output(label="a" if right else "b") for right in rows] for rows in (challenger, champion))
    return measure(Group(("accuracy",), examples, ours, {"champion": theirs}), None)[0]


def better(one: Measured, number: int | None) -> bool:
    found = compare(one, "champion", FEW)
    if found.decision != "better":
        return False
    return is_better(one, found, None if number is None else lead_needed(one, number, FEW))


def test_all_shares_together_are_the_whole():
    # the sum of 1 / k**2 is pi**2 / 6; what lies behind k is less than 1 / k
    assert 0 < FALSE_PROMOTIONS - sum(map(spent, range(1, 10_001))) < 1e-4 * FALSE_PROMOTIONS


def test_throws_lie_beyond_any_bound_no_more_often_than_is_said():
    # the exact tail of (heads - tails) / sqrt(n), a sign test's, against that of a normal variable; two heads of two reach the limit
    ratios = {
        (n, heads): sum(math.comb(n, one) for one in range(heads, n + 1))
        / 2**n
        / (math.erfc((2 * heads - n) / math.sqrt(2 * n)) / 2)
        for n in range(1, 61)
        for heads in range(n // 2 + 1, n + 1)
    }
    assert max(ratios, key=ratios.get) == (2, 2) and max(ratios.values()) == pytest.approx(THROWS)


def test_the_lead_of_an_accuracy_by_hand():
    # 40 of 100 rows are answered otherwise: each throw moves the difference by 1/100, so the spread is sqrt(40) / 100 = 0.0632.
    # The first has 0.01 * 6 / pi**2 = 0.00608, and 0.00608 / 3.179 lies beyond 2.892 of a normal variable; the 20th has a 400th of it: 4.427
    one = beside([True] * 50 + [False] * 25 + [True] * 15 + [False] * 10, [True] * 50 + [True] * 25 + [False] * 15 + [False] * 10)
    assert lead_needed(one, 1, Resampling(20_000, 0)) == pytest.approx(2.892 * 0.0632, rel=0.02)
    assert lead_needed(one, 20, Resampling(20_000, 0)) == pytest.approx(4.427 * 0.0632, rel=0.02)


def test_what_is_clearly_better_is_found_early_and_late():
    # of 1,000 rows 260 are answered otherwise, which is a spread of 0.0161: the first needs 4.7 points, the 20th 7.1
    def ahead(points):
        wins = 130 + 5 * points
        return beside([False] * wins + [True] * (1000 - wins), [True] * wins + [False] * (260 - wins) + [True] * 740)

    assert [better(ahead(points), 1) for points in (4, 6, 10)] == [False, True, True]
    assert [better(ahead(points), 20) for points in (4, 6, 10)] == [False, False, True]


@pytest.mark.slow
def test_a_metric_that_is_better_the_lower_it_is():
    # losses of 2 for the champion and 1 for the challenger in each of 100 rows: a spread of 1 / sqrt(100), needed 0.289
    examples = [Example(id=place, text="a") for place in range(100)]
    ours, theirs = ([Output(nll=loss, num_tokens=1) for _ in examples] for loss in (1.0, 2.0))
    one = measure(Group(("loss",), examples, ours, {"champion": theirs}), None)[0]
    assert lead_needed(one, 1, Resampling(5_000, 0)) == pytest.approx(0.289, rel=0.03) and better(one, 1)
    worse = measure(Group(("loss",), examples, theirs, {"champion": ours}), None)[0]
    assert not better(worse, 1)


@pytest.mark.slow
def test_without_a_difference_twenty_tries_promote_hardly_ever():
    """Champion and 20 challengers have each row right with the same chance; the rows are looked at again each time, or new ones."""
    draw, wrong, plain = np.random.default_rng(0), 0, 0
    for sequence in range(120):
        champion, by_interval, by_lead = draw.random(120) < 0.7, False, False
        for number in range(1, 21):
            if sequence % 2:
                champion = draw.random(120) < 0.7
            one = beside(champion, draw.random(120) < 0.7)
            found = compare(one, "champion", Resampling(100, 0))
            if found.decision == "better":
                by_interval = True
                by_lead |= is_better(one, found, lead_needed(one, number, FEW))
        plain, wrong = plain + by_interval, wrong + by_lead
    assert wrong <= 0.05 * 120, "at most one sequence in twenty"
    assert plain >= 0.2 * 120, "the interval alone promotes luck, so the test can tell"
