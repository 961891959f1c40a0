"""Every check keeps the laws; values against scipy and by hand; the battery notices a wrong check."""

import math

import numpy as np
import pytest
from scipy import stats

from whet import plugins
from whet.drift import category_counts, holm, redrawn_p
from whet.protocols import Check
from whet.report.monitor import Seen, Settings, build_monitoring
from whet.testing import check_check
from whet.types import Score

LONG = {"embedding_drift"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in plugins.names("checks")]
)
def test_the_laws_hold(name):
    check_check(plugins.build("checks", name, {}))


def test_kolmogorov_smirnov_is_scipys():
    draw = np.random.default_rng(0)
    window, baseline = draw.normal(0.3, 1, 70), draw.normal(0, 1, 90)
    check = plugins.build("checks", "kolmogorov_smirnov", {})
    assert math.isclose(check.measure(window, baseline).value, stats.ks_2samp(window, baseline).statistic)


def test_chi_square_is_scipys():
    window, baseline = ["a"] * 30 + ["b"] * 50 + ["c"] * 20, ["a"] * 55 + ["b"] * 45 + ["c"] * 25
    found = stats.chi2_contingency([[30, 50, 20], [55, 45, 25]], correction=False)
    check = plugins.build("checks", "chi_square", {})
    assert math.isclose(check.p_value(window, baseline), found.pvalue)
    assert math.isclose(check.measure(window, baseline).value, math.sqrt(found.statistic / 225))


def test_psi_by_hand():
    # half a value is added to each of two bins: shares 20.5/41 and 30.5/41 against 10.5/41
    check = plugins.build("checks", "psi", {})
    found = check.measure(["a"] * 20 + ["b"] * 20, ["a"] * 30 + ["b"] * 10).value
    p, q = (20.5 / 41, 20.5 / 41), (30.5 / 41, 10.5 / 41)
    assert math.isclose(found, sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)))


def test_rare_categories_go_together_and_none_is_lost():
    window, baseline = ["a"] * 50 + ["b", "c", "d"], ["a"] * 50 + ["e", "f", "g"] * 3
    ours, theirs = category_counts(window, baseline)
    assert ours.tolist() == [50, 3] and theirs.tolist() == [
        50,
        9,
    ]  # 12 * 53 / 112 of the rare ones are expected: enough for a place
    ours, theirs = category_counts(["a"] * 50 + ["b"], ["a"] * 50 + ["c"])
    assert ours.tolist() == [51] and theirs.tolist() == [51]  # 1 is not


def test_holm_by_hand():
    # Holm 1979: 0.01 * 4, 0.02 * 3, then never less than the one before
    assert holm([0.02, 0.01, 0.5, 0.03]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([]) == []


def test_where_few_redraws_lie_as_far_apart_more_are_drawn():
    # 2 of the first 100 count, so 20 times 100 are drawn; of 10 of the first 100 none more are
    blocks = [0]

    def draw(hits):
        blocks[0] += 1
        return np.r_[np.full(hits, 1.0), np.zeros(100 - hits)]

    assert redrawn_p(1.0, lambda: draw(2)) == 41 / 2001 and blocks == [20]
    assert redrawn_p(1.0, lambda: draw(10)) == 11 / 101 and blocks == [21]
    assert redrawn_p(2.0, lambda: draw(0)) == 1 / 2001


@pytest.mark.parametrize("name", ["psi", "embedding_drift"])
def test_a_plain_drift_is_an_alarm_however_many_slices_are_tested_beside_it(name):
    """A p-value from redraws has a least value, and a correction for many tests multiplies it."""
    draw = np.random.default_rng(0)
    checks = {one: plugins.build("checks", one, {}) for one in ("kolmogorov_smirnov", name)}
    away = 3.0 if name == "embedding_drift" else 0.0
    sides = [
        [
            Seen(
                draw.normal(100, 20),
                draw.beta(8, 2),
                "a" if name == "psi" and drifted else draw.choice(["a", "b", "c"]),
                tags={"channel": draw.choice(list("uvwxyz")), "tier": draw.choice(list("fghijklm"))},
            )
            for _ in range(900)
        ]
        for drifted in (True, False)
    ]
    found = build_monitoring(
        *sides, checks=checks, vectors=(draw.normal(away, 1, (150, 8)), draw.normal(0, 1, (150, 8))), latency_s=[],
        first_token_s=[], num_requests=900, num_failed=0, settings=Settings(level=0.01),
    )  # fmt: skip
    kind = "embedding" if name == "embedding_drift" else "label"
    drifted = next(one for one in found["drift"] if one["check"] == name and one["what"] == kind and one["where"] is None)
    assert sum(one["p_value"] is not None for one in found["drift"]) > 30
    assert drifted["alarm"], drifted


class Nervous(Check):
    """Always certain."""

    takes = ("numbers",)
    smallest = 0.0

    def measure(self, window, baseline):
        value = float(abs(np.mean(window) - np.mean(baseline)))
        return Score(value, value, value, len(window))

    def p_value(self, window, baseline):
        return 0.01


class Asleep(Nervous):
    """Never certain."""

    def p_value(self, window, baseline):
        return 1.0


@pytest.mark.parametrize(("wrong", "words"), [(Nervous, "without drift"), (Asleep, "raises no alarm")])
def test_the_battery_notices(wrong, words):
    with pytest.raises(AssertionError, match=words):
        check_check(wrong())


@pytest.mark.soak
def test_ten_thousand_looks_without_drift_raise_no_more_alarms_than_the_level_allows():
    """All kinds of check in one report, corrected together: at level 0.01, and what is too small to matter is no alarm either."""
    draw = np.random.default_rng(7)
    checks = {name: plugins.build("checks", name, {}) for name in plugins.names("checks") if name != "embedding_drift"}
    rows = [Seen(float(size), float(sure), label) for size, sure, label in _seen(draw, 2000)]
    false = 0
    for _ in range(10_000):
        window = [Seen(float(size), float(sure), label) for size, sure, label in _seen(draw, 200)]
        found = build_monitoring(
            window, rows, checks=checks, vectors=None, latency_s=[], first_token_s=[], num_requests=200, num_failed=0,
            settings=Settings(level=0.01),
        )  # fmt: skip
        false += bool(found["alarms"])
    assert false <= 10_000 * 0.01, f"{false} false alarms in 10,000 looks"


def _seen(draw, number):
    return zip(
        draw.lognormal(4, 0.5, number).round(), draw.beta(8, 2, number), draw.choice(["a", "b", "c"], number, p=[0.6, 0.3, 0.1]),
        strict=True,
    )  # fmt: skip
