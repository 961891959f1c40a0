"""The gate's laws: it passes on the pessimistic end only, says what it does not know, and names what failed."""

from __future__ import annotations

import json
import math

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from whet.recipe import GateRule
from whet.report.gate import decide, judge, refusals
from whet.report.scores import Group, Measured, Resampling, measure
from whet.types import Example, Output, Score

RESAMPLING = Resampling(300, 0)
ENDS = st.floats(-5, 5)


def measured(right: list[bool], base: list[bool] | None = None, channels: str = "m") -> list[Measured]:
    """Rows of accuracy: whether the tuned model and the baseline are right."""
    examples = [
        Example(id=row, text="t", label="a", tags={"channel": channels[row % len(channels)]}) for row in range(len(right))
    ]
    outputs, others = ([Output(label="a" if one else "b") for one in some] for some in (right, base or []))
    return measure(Group(("accuracy",), examples, outputs, {"base_model": others} if base else {}), None)


def share(rows: int, right: float) -> list[bool]:
    """So many rows, of which this share is right, spread evenly."""
    return [int((row + 1) * right) > int(row * right) for row in range(rows)]


def ruled(found: list[Measured], **rule: object) -> dict[str, object]:
    return judge([GateRule(metric="accuracy", **rule)], found, RESAMPLING)


@given(ENDS, ENDS, ENDS)
def test_it_passes_only_where_the_whole_interval_is_on_the_good_side(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    decision, needed = decide(Score(value, low, high, 100), 20)
    assert decision == ("pass" if low >= 0 else "fail" if high < 0 else "undecided")
    assert (needed is None) or (decision == "undecided" and needed >= 100)


@given(ENDS, ENDS, ENDS, st.floats(0, 3))
def test_a_harder_rule_never_lets_more_through(a: float, b: float, c: float, harder: float) -> None:
    low, value, high = sorted((a, b, c))
    order = ["fail", "undecided", "pass"]
    here = decide(Score(value, low, high, 100), 20)[0]
    there = decide(Score(value - harder, low - harder, high - harder, 100), 20)[0]
    assert order.index(there) <= order.index(here)


def test_the_advised_number_of_rows_would_decide() -> None:
    # value 0.02 over the bound, interval 0.1 wide to the low side on 50 rows: (0.1 / 0.02)**2 = 25 times the rows
    assert decide(Score(0.02, -0.08, 0.12, 50), 20) == ("undecided", 1300)  # 1,250, rounded up
    # below the bound the other end counts: (0.12 + 0.02) / 0.02 = 7, squared 49, on 100 rows
    assert decide(Score(-0.02, -0.14, 0.12, 100), 20) == ("undecided", 4900)
    shrunk = 0.1 / math.sqrt(25)
    assert decide(Score(0.02, 0.02 - shrunk, 0.02 + shrunk, 1250), 20)[0] == "pass"


def test_what_cannot_be_known_is_undecided() -> None:
    assert decide(Score(0.5, math.nan, math.nan, 1), 1) == ("undecided", None)
    assert decide(Score(0.0, -0.1, 0.1, 100), 20) == ("undecided", None)  # on the bound: no number of rows decides
    assert decide(Score(0.5, 0.4, 0.6, 19), 20) == ("undecided", 20)


def test_a_minimum_is_decided_on_the_interval() -> None:
    # 900 of 1000 right: 95 % interval about 88.1 to 91.8 %
    found = measured(share(1000, 0.9))
    assert [ruled(found, minimum=bound)["decision"] for bound in (0.85, 0.895, 0.95)] == ["pass", "undecided", "fail"]


def test_every_row_right_is_no_certainty() -> None:
    # 0.025 ** (1 / 30) = 0.884 (Clopper and Pearson): 30 right answers do not show 95 %
    assert ruled(measured([True] * 30), minimum=0.95)["decision"] == "undecided"
    assert ruled(measured([True] * 30), minimum=0.88)["decision"] == "pass"


def test_a_loss_is_compared_row_by_row() -> None:
    # both right in half of the rows, and the same ones: no loss at all, though either score is +- 10 points
    same = measured(share(100, 0.5), share(100, 0.5))
    assert ruled(same, max_loss=0.0, baseline="base_model")["decision"] == "pass"
    opposite = measured(share(100, 0.5), [not right for right in share(100, 0.5)])
    assert ruled(opposite, max_loss=0.05, baseline="base_model")["decision"] == "undecided"
    assert ruled(measured(share(200, 0.5), share(200, 0.9)), max_loss=0.1)["decision"] == "fail"


def test_a_metric_that_is_better_the_lower_takes_a_maximum() -> None:
    examples = [Example(id=row) for row in range(200)]
    random = np.random.default_rng(0)
    ours, theirs = ([Output(nll=float(nll), num_tokens=10) for nll in random.normal(mean, 1, size=200)] for mean in (10.0, 12.0))
    found = measure(Group(("loss",), examples, ours, {"base_model": theirs}), None)
    # loss 1.0 +- 0.014, 0.2 lower than the baseline
    decisions = {bound: judge([GateRule(metric="loss", maximum=bound)], found, RESAMPLING)["decision"] for bound in (0.9, 1.1)}
    assert decisions == {0.9: "fail", 1.1: "pass"}
    assert judge([GateRule(metric="loss", max_loss=0.0)], found, RESAMPLING)["decision"] == "pass"
    swapped = measure(Group(("loss",), examples, theirs, {"base_model": ours}), None)
    assert judge([GateRule(metric="loss", max_loss=0.1)], swapped, RESAMPLING)["decision"] == "fail"


def test_one_bad_slice_fails_the_gate_and_is_named() -> None:
    # rows alternate between m (always right) and l (right in half of the rows)
    right = [row % 2 == 0 or row % 4 == 1 for row in range(400)]
    found = measured(right, [True] * 400, channels="ml")
    gate = ruled(found, max_loss=0.4, slices="channel")
    assert gate["decision"] == "fail"
    by_place = {str(one["where"] and one["where"]["value"]): one["decision"] for one in gate["rulings"]}  # type: ignore[attr-defined]
    assert by_place == {"None": "pass", "m": "pass", "l": "fail"}
    (sentence,) = refusals(gate)
    assert 'where channel is "l"' in sentence and "200 test rows" in sentence and "fail" in sentence


def test_small_slices_are_not_judged_and_said_to_be_so() -> None:
    found = measured(share(60, 1.0), channels="m" * 9 + "r")  # 6 rows of r
    gate = ruled(found, minimum=0.8, slices=("channel",))
    assert gate["decision"] == "pass" and "1 not judged" in str(gate["sentence"])
    assert ruled(found, minimum=0.8, slices=("channel",), min_rows=2)["decision"] == "undecided"


def test_too_few_rows_in_all_are_undecided() -> None:
    gate = ruled(measured([True] * 19), minimum=0.1)
    assert gate["decision"] == "undecided" and "the rule asks for 20" in refusals(gate)[0]


def test_a_baseline_that_is_not_there_is_undecided_and_named() -> None:
    gate = ruled(measured(share(50, 0.5), share(50, 0.5)), max_loss=0.1, baseline="champion")
    assert gate["decision"] == "undecided" and "'champion' is not measured here. Allowed: auto, base_model" in refusals(gate)[0]
    assert ruled(measured(share(50, 0.5)), max_loss=0.1)["decision"] == "undecided"


def test_auto_is_the_strongest_baseline() -> None:
    examples = [Example(id=row, label="a") for row in range(100)]
    models = {
        name: [Output(label="a" if right else "b") for right in share(100, part)]
        for name, part in (("weak", 0.1), ("strong", 0.9))
    }
    found = measure(Group(("accuracy",), examples, [Output(label="a")] * 100, models), None)
    (ruling,) = judge([GateRule(metric="accuracy", max_loss=0.0)], found, RESAMPLING)["rulings"]
    assert ruling["baseline"] == "strong" and ruling["value"] == approx(0.1) and ruling["decision"] == "pass"


def test_the_decision_can_be_stored_and_says_what_would_decide() -> None:
    gate = ruled(measured(share(1000, 0.9)), minimum=0.895)
    assert json.loads(json.dumps(gate, allow_nan=False)) == gate
    (sentence,) = refusals(gate)
    assert sentence.startswith("Accuracy at least 89.5 %: undecided, 90.0 %") and "rows like these would decide it" in sentence


@pytest.mark.parametrize(
    "rule", [{}, {"max_loss": -0.1}, {"minimum": 0.5, "baseline": "base_model"}, {"minimum": 0.5, "min_row": 3}]
)
def test_a_rule_that_says_nothing_is_a_mistake(rule: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        GateRule(metric="accuracy", **rule)
