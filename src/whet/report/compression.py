"""Whether a compressed model was worth it: its size, its speed, and its answers beside those of before, in one plain sentence."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whet.report.scores import Group, Measured, Resampling, measure
from whet.report.verdict import FEWEST_DIFFERING, Comparison, compare
from whet.report.wording import as_json, claim, direction, metric_name, rows, size, wording

BEFORE = "before"
NOTICEABLE = 1.05
"""Times smaller or faster from which it counts."""
SMALL_SHARE, SMALL_PART = 0.005, 0.01
"""A loss of quality that many rows make certain and nobody would feel: half a point of a share, 1 % of another score."""
Pace = Literal["faster", "as fast", "slower"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of the same work before and after, measured in turn, one pair after the other."""

    what: str
    """What was timed, in words."""
    before_ms: Sequence[float]
    after_ms: Sequence[float]

    @property
    def ratio(self) -> float:
        """Times as fast: the median of the pairs' ratios."""
        return statistics.median(self._ratios())

    def pace(self) -> Pace:
        """Faster or slower where it is noticeable and every pair says so: of five pairs chance alone does so once in sixteen."""
        ratios = self._ratios()
        if self.ratio > NOTICEABLE and min(ratios) > 1:
            return "faster"
        return "slower" if self.ratio < 1 / NOTICEABLE and max(ratios) < 1 else "as fast"

    def as_json(self) -> dict[str, Any]:
        """What the report stores; times in milliseconds."""
        sides = {name: _spread(times) for name, times in ((BEFORE, self.before_ms), ("after", self.after_ms))}
        return {
            "what": self.what,
            "unit": "ms",
            "repeats": len(self.before_ms),
            **sides,
            "times_as_fast": self.ratio,
            "pace": self.pace(),
        }

    def _ratios(self) -> list[float]:
        return [before / after for before, after in zip(self.before_ms, self.after_ms, strict=True)]


def build_comparison(
    *,
    groups: Sequence[Group],
    metric: str,
    before_bytes: int,
    after_bytes: int,
    latency: Latency,
    resampling: Resampling,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Everything compression.json says of before and after. Each group's outputs are those after, its one baseline those before."""
    measured = [one for group in groups for one in measure(group, folder)]
    primary = next(one for one in measured if one.name == metric_name(metric))
    compared = {one.name: compare(one, BEFORE, resampling) for one in measured if BEFORE in one.baselines}
    quality, times_smaller = compared[primary.name], before_bytes / after_bytes
    worth = _worth(quality, _is_small(primary, quality, resampling), times_smaller, latency.pace())
    return {
        "metric": primary.name,
        "n": len(primary.examples),
        "metrics": {one.name: _scores(one, compared[one.name], resampling) for one in measured if one.name in compared},
        "size": {"before_bytes": before_bytes, "after_bytes": after_bytes, "times_smaller": times_smaller},
        "latency": latency.as_json(),
        "worth_it": worth,
        "sentence": _sentence(worth, primary, quality, (before_bytes, after_bytes), latency, resampling),
    }


def _worth(quality: Comparison, small: bool, times_smaller: float, pace: Pace) -> Literal["yes", "no", "depends"]:
    """No where answers are clearly worse or nothing is gained; depends where one thing is gained and another lost."""
    smaller, larger = times_smaller > NOTICEABLE, times_smaller < 1 / NOTICEABLE
    gained, lost = smaller or pace == "faster", larger or pace == "slower"
    if (quality.decision == "worse" and not small) or not gained:
        return "no"
    return "depends" if lost else "yes"


def _scores(measured: Measured, compared: Comparison, resampling: Resampling) -> dict[str, Any]:
    return {
        BEFORE: as_json(resampling.score(measured, measured.baselines[BEFORE])),
        "after": as_json(resampling.score(measured, measured.tuned)),
        "difference": as_json(compared.difference),
        "decision": compared.decision,
        "num_differing": compared.num_differing,
    }


def _sentence(
    worth: str, measured: Measured, quality: Comparison, sizes: tuple[int, int], latency: Latency, resampling: Resampling
) -> str:
    opening = {
        "yes": "Worth it",
        "no": "Not worth it",
        "depends": "Worth it only where " + ("space" if sizes[1] < sizes[0] else "time") + " counts",
    }
    before, after = sizes
    space = f"{before / after:.1f} times smaller" if after < before else "not smaller"
    timed = latency.as_json()
    spent = f"{timed['after']['median']:.3g} instead of {timed[BEFORE]['median']:.3g} ms for {latency.what}"
    return (
        f"{opening[worth]}: {_quality(measured, quality, resampling)}; {space} ({megabytes(after)} instead of {megabytes(before)}), "
        f"{latency.pace()} (median {spent})."
    )


def _quality(measured: Measured, compared: Comparison, resampling: Resampling) -> str:
    reached, change, name = claim(measured.name, resampling.score(measured, measured.tuned)), compared.difference, measured.name
    if not compared.num_differing:
        return f"{reached}, the same as before in every row"
    if compared.num_differing < FEWEST_DIFFERING:
        return f"{reached}, and only {rows(compared.num_differing)} scored differently than before, too few to tell"
    if compared.decision == "same":
        ends = " to ".join(f"{size(name, end)} {direction(name, end)}" for end in (change.low, change.high))
        return f"{reached}, which compared with before is anything from {ends}"
    clearly = "better" if compared.decision == "better" else "worse"
    if _is_small(measured, compared, resampling):
        bound = f"{100 * SMALL_SHARE:g} points" if wording(name).share else f"{100 * SMALL_PART:.0f} %"
        return f"{reached}, {clearly} than before, but by less than {bound}"
    return f"{reached}, {size(name, change.value)} {direction(name, change.value)} than before, clearly {clearly}"


def _is_small(measured: Measured, compared: Comparison, resampling: Resampling) -> bool:
    """Whether the whole interval of the difference is one that nobody would feel."""
    ends = max(abs(compared.difference.low), abs(compared.difference.high))
    if wording(measured.name).share:
        return ends <= SMALL_SHARE
    return ends <= SMALL_PART * abs(resampling.score(measured, measured.baselines[BEFORE]).value)


def _spread(times: Sequence[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def megabytes(number: int) -> str:
    """A number of bytes for people; 1 MB is a million."""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"
