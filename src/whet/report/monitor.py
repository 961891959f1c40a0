"""What production looks like beside the rows that a model was judged on: quality, drift and latency, and one sentence.

Everything that is tested at one time is corrected together, by Holm 1979: the chance of any false alarm in a report stays below
its level, however many slices there are and whatever depends on what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.stats import fisher_exact, ttest_ind

from whet.drift import holm
from whet.protocols import Check
from whet.report.wording import as_json, percent
from whet.stats import NAN, bootstrap, mean, share_score
from whet.types import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whet.types import Values

    Floats = NDArray[np.float64]

Kind = Literal["numbers", "categories", "vectors"]
MOST_SLICES = 12
"""Values of a slice column that are looked at, the most frequent first."""
FEWEST_LABELS = 20
"""Judged answers below which quality is told, but not tested."""
WORDS = {
    "characters": "length of the input",
    "confidence": "confidence",
    "label": "predicted label",
    "language": "language",
    "embedding": "meaning of the input",
}
FINE, LOOK, RETRAIN = "fine", "look", "retrain"


@dataclass(frozen=True, slots=True)
class Seen:
    """One answered input, of production or of the test rows. What is not known is None."""

    characters: float | None = None
    confidence: float | None = None
    label: str | None = None
    language: str | None = None
    loss: float | None = None
    """0 where the answer was right and 1 where it was wrong; of a number how far it was off."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """When an alarm is raised."""

    level: float = 0.05
    """Chance of any false alarm of drift or quality in one report."""
    smallest_drop: float = 0.02
    """Least fall of quality that matters, as a share."""
    max_p95_s: float | None = None
    """Latency that 95 % of the requests may take; none: latency is told and not judged."""


def build_monitoring(
    window: Sequence[Seen],
    baseline: Sequence[Seen],
    *,
    checks: Mapping[str, Check],
    vectors: tuple[Values, Values] | None,
    latency_s: Sequence[float],
    first_token_s: Sequence[float],
    num_requests: int,
    num_failed: int,
    settings: Settings,
) -> dict[str, Any]:
    """Return what monitor.json holds of the findings: quality, drift, latency, alarms, and the verdict."""
    drift = list(_drift(window, baseline, checks, vectors))
    quality = [one for place, ours, theirs in _places(window, baseline) if (one := _quality(place, ours, theirs))]
    latency = _latency(latency_s, first_token_s, num_requests, num_failed, settings)
    tested = [one for one in [*quality, *drift] if one["p_value"] is not None]
    for one, corrected in zip(tested, holm([one["p_value"] for one in tested]), strict=True):
        one["corrected_p"] = corrected
    for one in quality:
        fall = one["change"]
        one["alarm"] = one["p_value"] is not None and one["corrected_p"] <= settings.level and fall >= settings.smallest_drop
    for one in drift:
        score = Score(one["value"], one["low"], one["high"], one["n"])
        one["alarm"] = one["p_value"] is not None and checks[one["check"]].alarm(score, one["corrected_p"], settings.level)
    alarms = [one["sentence"] for one in [*quality, *drift] if one["alarm"]] + latency["alarms"]
    decision = RETRAIN if any(one["alarm"] for one in quality) else LOOK if alarms or len(window) < min(
        (check.fewest for check in checks.values()), default=0
    ) else FINE  # fmt: skip
    return {
        "n": len(window),
        "quality": quality,
        "drift": drift,
        "latency": latency,
        "correction": f"Holm 1979 over {len(tested)} tests of drift and quality",
        "level": settings.level,
        "alarms": alarms,
        "verdict": {"decision": decision, "sentence": _sentence(decision, window, quality, alarms)},
    }


def _places(
    window: Sequence[Seen], baseline: Sequence[Seen]
) -> Iterator[tuple[dict[str, str] | None, Sequence[Seen], Sequence[Seen]]]:
    """Yield all rows, then those of each value of each slice column that both sides have."""
    yield None, window, baseline
    columns = dict.fromkeys(column for one in window for column in one.tags)
    for column in columns:
        values = [one.tags[column] for one in window if column in one.tags]
        for value in sorted(set(values), key=lambda value: (-values.count(value), value))[:MOST_SLICES]:
            parts = [[one for one in side if one.tags.get(column) == value] for side in (window, baseline)]
            if all(parts):
                yield {"column": column, "value": value}, parts[0], parts[1]


def _drift(
    window: Sequence[Seen], baseline: Sequence[Seen], checks: Mapping[str, Check], vectors: tuple[Values, Values] | None
) -> Iterator[dict[str, Any]]:
    for place, ours, theirs in _places(window, baseline):
        for what in ("characters", "confidence", "label", "language"):
            kind: Kind = "numbers" if what in {"characters", "confidence"} else "categories"
            yield from _compared(what, kind, place, _values(ours, what, kind), _values(theirs, what, kind), checks)
    for column in dict.fromkeys(column for one in window for column in one.tags):
        sides = [[one.tags[column] for one in side if column in one.tags] for side in (window, baseline)]
        yield from _compared(column, "categories", None, sides[0], sides[1], checks)
    if vectors is not None:
        yield from _compared("embedding", "vectors", None, *vectors, checks)


def _values(side: Sequence[Seen], what: str, kind: Kind) -> Values:
    found = [getattr(one, what) for one in side if getattr(one, what) is not None]
    return np.array(found, dtype=np.float64) if kind == "numbers" else found


def _compared(
    what: str, kind: Kind, place: dict[str, str] | None, ours: Values, theirs: Values, checks: Mapping[str, Check]
) -> Iterator[dict[str, Any]]:
    for name, check in checks.items():
        if kind not in check.takes or not len(ours) or not len(theirs):
            continue
        enough = min(len(ours), len(theirs)) >= check.fewest
        score = check.measure(ours, theirs) if enough else Score(NAN, NAN, NAN, len(ours))
        where = "" if place is None else f' where {place["column"]} is "{place["value"]}"'
        words = f"{WORDS.get(what, what)}{where}"
        found = f"{name} {score.value:.2f} ({score.low:.2f}-{score.high:.2f}) of {len(ours):,} inputs beside {len(theirs):,} test rows"
        yield {
            "what": what,
            "where": place,
            "check": name,
            **as_json(score),
            "n_baseline": len(theirs),
            "smallest": check.smallest,
            "p_value": check.p_value(ours, theirs) if enough else None,
            "corrected_p": None,
            "sentence": f"Drift of {words}: {found}."
            if enough
            else f"Drift of {words}: fewer than {check.fewest} values, not tested.",
        }


def _quality(place: dict[str, str] | None, window: Sequence[Seen], baseline: Sequence[Seen]) -> dict[str, Any] | None:
    """How often answers were right where somebody judged them, beside the test rows; None where nobody did."""
    ours, theirs = (np.array([one.loss for one in side if one.loss is not None]) for side in (window, baseline))
    if not len(ours):
        return None
    is_share = bool(np.isin(np.concatenate([ours, theirs]), (0.0, 1.0)).all())
    now, then = (_score(losses, is_share) for losses in (ours, theirs))
    change = then.value - now.value if is_share else (now.value - then.value) / max(then.value, 1e-12)
    tested = min(len(ours), len(theirs)) >= FEWEST_LABELS
    where = "" if place is None else f' where {place["column"]} is "{place["value"]}"'
    write = _percent if is_share else _plain
    beside = f"; on the test rows {write(then)}" if len(theirs) else "; the test rows say nothing to compare with"
    return {
        "metric": "accuracy" if is_share else "mean_absolute_error",
        "where": place,
        **as_json(now),
        "test": as_json(then),
        "change": change if math.isfinite(change) else 0.0,
        "p_value": _p_of_worse(ours, theirs, is_share) if tested else None,
        "corrected_p": None,
        "sentence": f"{'Accuracy' if is_share else 'Mean error'}{where}: {write(now)} of {len(ours):,} judged answers{beside}."
        + ("" if tested else f" Fewer than {FEWEST_LABELS} on one side: not tested."),
    }


def _score(losses: Floats, is_share: bool) -> Score:
    if not is_share:
        return bootstrap(mean, losses[:, None])
    return share_score(bootstrap(mean, 1 - losses[:, None]))


def _p_of_worse(ours: Floats, theirs: Floats, is_share: bool) -> float:
    """Chance of answers at least so much worse, were they as good: Fisher's exact test of shares, Welch's of errors; one-sided."""
    if is_share:
        table = [[int((side == wrong).sum()) for wrong in (1, 0)] for side in (ours, theirs)]
        return float(fisher_exact(table, alternative="greater").pvalue)
    found = float(ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue)
    return found if math.isfinite(found) else 1.0


def _latency(
    latency_s: Sequence[float], first_token_s: Sequence[float], num_requests: int, num_failed: int, settings: Settings
) -> dict[str, Any]:
    def percentiles(values: Sequence[float]) -> dict[str, float] | None:
        if not values:
            return None
        return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95, 99)}

    p95: Callable[[Any], float] = lambda statistics: float(np.percentile(statistics[:, 0], 95))  # noqa: E731
    score = (
        bootstrap(p95, np.array(latency_s, dtype=np.float64)[:, None], 200)
        if len(latency_s) > 1
        else Score(NAN, NAN, NAN, len(latency_s))
    )
    limit, alarms = settings.max_p95_s, []
    if limit is not None and score.low > limit:
        alarms.append(
            f"Latency: 95 % of the requests take up to {score.value:.3g} s ({score.low:.3g}-{score.high:.3g}), allowed are {limit:g} s."
        )
    return {
        "requests": num_requests,
        "failed": num_failed,
        "seconds": percentiles(latency_s),
        "p95": as_json(score),
        "first_token_seconds": percentiles(first_token_s),
        "max_p95_s": limit,
        "alarms": alarms,
    }


def _sentence(decision: str, window: Sequence[Seen], quality: Sequence[Mapping[str, Any]], alarms: Sequence[str]) -> str:
    whole = next((one for one in quality if one["where"] is None), None)
    told = whole["sentence"] if whole else "Nobody has judged an answer, so quality is not known; send feedback to know it."
    if decision == RETRAIN:
        first = next(one["sentence"] for one in quality if one["alarm"])
        return f"Retrain: answers are worse than on the test rows. {first}"
    if decision == LOOK and not alarms:
        return f"Look: only {len(window):,} answered inputs, too few to say anything. {told}"
    if decision == LOOK:
        more = f" and {len(alarms) - 1} more" if len(alarms) > 1 else ""
        return f"Look: {alarms[0].removesuffix('.')}{more}. {told}"
    return f"Fine: {len(window):,} answered inputs look like the test rows. {told}"


def _percent(score: Score) -> str:
    return f"{percent(score.value)} % ({percent(score.low)}-{percent(score.high)} %)"


def _plain(score: Score) -> str:
    return f"{score.value:.3g} ({score.low:.3g}-{score.high:.3g})"
