"""How far annotators agree beyond chance: Cohen's kappa, Fleiss' kappa, Krippendorff's alpha.

A unit is what was judged; its ratings are what each annotator said, by name. Whoever did not judge a unit is not among them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Rating = TypeVar("Rating", bound=Hashable)
Level = Literal["nominal", "ordinal", "interval"]
Units = Sequence[Mapping[str, Rating]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient, and the units behind it."""

    value: float | None
    """1 where all agree, 0 where as by chance; None where nothing can be said: too few units, or one value only."""
    n: int
    """Units that count."""


def cohen_kappa(units: Units[Rating], first: str, second: str) -> Agreement:
    """Return the agreement of two annotators over the units that both judged.

    Cohen 1960, A coefficient of agreement for nominal scales: (p_o - p_e) / (1 - p_e).
    """
    pairs = [(unit[first], unit[second]) for unit in units if first in unit and second in unit]
    if not pairs:
        return Agreement(None, 0)
    n = len(pairs)
    ours, theirs = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    observed = sum(one == two for one, two in pairs) / n
    expected = sum(ours[value] * theirs[value] for value in ours) / n**2
    return Agreement(_beyond(observed, expected), n)


def fleiss_kappa(units: Units[Rating]) -> Agreement:
    """Return the agreement of several annotators, over the units that as many judged as judged most units (two at least).

    Fleiss 1971, Measuring nominal scale agreement among many raters. It needs the same number of ratings in every unit; who gave
    them does not matter. Alpha takes all units.
    """
    sizes = Counter(len(unit) for unit in units if len(unit) > 1)
    if not sizes:
        return Agreement(None, 0)
    raters = max(sizes, key=lambda size: (sizes[size], size))
    counted = [Counter(unit.values()) for unit in units if len(unit) == raters]
    n = len(counted)
    observed = sum(sum(times * (times - 1) for times in unit.values()) for unit in counted) / (n * raters * (raters - 1))
    total = sum(counted, Counter[Rating]())
    expected = sum((times / (n * raters)) ** 2 for times in total.values())
    return Agreement(_beyond(observed, expected), n)


def krippendorff_alpha(units: Units[Rating], level: Level = "nominal") -> Agreement:
    """Return the agreement of any number of annotators, of whom each may have left units out.

    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability: 1 - D_o / D_e from the matrix of coincidences. Ordinal and interval
    values are numbers.
    """
    pairable = [list(unit.values()) for unit in units if len(unit) > 1]
    together: Counter[tuple[Rating, Rating]] = Counter()
    coincidences: dict[tuple[Rating, Rating], float] = {}
    for values in pairable:
        together.clear()
        together.update(itertools.permutations(values, 2))
        for pair, times in together.items():
            coincidences[pair] = coincidences.get(pair, 0.0) + times / (len(values) - 1)
    totals: dict[Rating, float] = {}
    for (one, _), weight in coincidences.items():
        totals[one] = totals.get(one, 0.0) + weight
    n = sum(totals.values())
    if n < 2 or len(totals) < 2:
        return Agreement(None, len(pairable))
    apart = _distances(totals, level)
    observed = sum(weight * apart[pair] for pair, weight in coincidences.items()) / n
    expected = sum(totals[one] * totals[two] * apart[one, two] for one in totals for two in totals) / (n * (n - 1))
    return Agreement(1 - observed / expected, len(pairable))


def _beyond(observed: float, expected: float) -> float | None:
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def _distances(totals: Mapping[Rating, float], level: Level) -> dict[tuple[Rating, Rating], float]:
    """Return the squared difference of every two values, as a level of measurement has it."""
    if level == "nominal":
        return {(one, two): float(one != two) for one in totals for two in totals}
    if level == "interval":
        return {(one, two): (_number(one) - _number(two)) ** 2 for one in totals for two in totals}
    ranked = sorted(totals, key=_number)
    before, places = 0.0, dict[Rating, float]()
    for value in ranked:  # the middle of a value's ranks: between two values lie all that stand between, and half of each
        places[value] = before + totals[value] / 2
        before += totals[value]
    return {(one, two): (places[one] - places[two]) ** 2 for one in totals for two in totals}


def _number(value: Hashable) -> float:
    assert isinstance(value, int | float), "ordinal and interval values are numbers"
    return float(value)
