"""Coefficients of agreement give what their papers give."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.annotation.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

# Krippendorff 2011, section C: four observers, twelve units, values missing
OBSERVED = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}
UNITS = [
    {name: int(value) for name, value in zip(OBSERVED, unit, strict=True) if value != "."}
    for unit in zip(*(row.split() for row in OBSERVED.values()), strict=True)
]
# the worked example of fourteen raters, ten subjects and five categories that is taught with Fleiss 1971
FLEISS = """
0 0 0 0 14
0 2 6 4 2
0 0 3 5 6
0 3 9 2 0
2 2 8 1 1
7 7 0 0 0
3 2 6 3 0
2 5 3 2 2
6 5 2 1 0
0 2 2 3 7
"""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorffs_paper(level, alpha):
    found = krippendorff_alpha(UNITS, level)
    assert found.value == pytest.approx(alpha, abs=5e-4)
    assert found.n == 11  # the last unit has one value only, which pairs with nothing


def test_fleiss_kappa_is_that_of_the_worked_example():
    units = []
    for line in FLEISS.split("\n")[1:-1]:
        said = list(itertools.chain.from_iterable([place] * int(times) for place, times in enumerate(line.split())))
        units.append({str(rater): value for rater, value in enumerate(said)})
    assert fleiss_kappa(units).value == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([*units, {"0": 1, "1": 2}]).n == 10  # a unit that fewer judged is left to alpha


def test_cohen_kappa_by_hand():
    # fifty proposals: both yes 20, both no 15, yes/no 5, no/yes 10. p_o = 0.7; p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = 0.2 / 0.5
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    units = [{"A": one, "B": two} for (one, two), times in table.items() for _ in range(times)]
    assert cohen_kappa(units, "A", "B").value == pytest.approx(0.4)
    assert cohen_kappa([*units, {"A": "yes"}, {"C": "no"}], "A", "B") == cohen_kappa(units, "A", "B")


def test_nothing_is_claimed_where_nothing_can_be_said():
    assert cohen_kappa([], "A", "B").value is None
    assert fleiss_kappa([{"A": 1}]).value is None
    same = [{"A": "x", "B": "x"}] * 5
    assert (cohen_kappa(same, "A", "B").value, fleiss_kappa(same).value, krippendorff_alpha(same).value) == (None, None, None)


ratings = st.lists(st.dictionaries(st.sampled_from("ABCD"), st.integers(1, 4), min_size=1), min_size=2, max_size=30)


@given(ratings)
def test_alpha_is_one_only_where_all_agree_and_does_not_depend_on_names_or_order(units):
    found = krippendorff_alpha(units)
    renamed = [{"ABCD"[3 - "ABCD".index(name)]: value for name, value in unit.items()} for unit in reversed(units)]
    assert krippendorff_alpha(renamed).value == (None if found.value is None else pytest.approx(found.value))
    if found.value is not None:
        agreed = all(len(set(unit.values())) == 1 for unit in units if len(unit) > 1)
        assert (found.value == pytest.approx(1)) == agreed


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=40))
def test_cohen_equals_scikit_learn(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    found = cohen_kappa([{"A": one, "B": two} for one, two in pairs], "A", "B").value
    if found is not None:
        theirs = sklearn.cohen_kappa_score([one for one, _ in pairs], [two for _, two in pairs])
        assert found == pytest.approx(theirs)
