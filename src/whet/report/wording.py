"""How metrics, baselines and numbers are called in a plain sentence."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet import plugins
from whet.types import Score


@dataclass(frozen=True, slots=True)
class Wording:
    """How one metric is spoken of."""

    title: str
    claim: str
    """With {value} and {rows}."""
    share: bool = True
    """A fraction shown in percent, its differences in points; else a plain number."""


BASELINES = {
    "majority_class": "always answering the most frequent class",
    "base_model": "the untuned model",
    "longer_answer": "always preferring the longer answer",
    "nearest_centroid": "the untuned model with nearest class centroids",
    "nearest_neighbours": "the untuned model with nearest training rows",
    "linear_probe": "a linear head on the untuned model",
    "majority_labels": "always giving the most frequent labels",
    "majority_tag": "always giving the most frequent label of a word",
    "tag_of_word": "giving each word the label it mostly had in training",
    "mean_value": "always answering the mean",
    "median_value": "always answering the median",
    "few_shot": "the untuned model with examples in the prompt",
    "empty_set": "never giving a label",
    "champion": "the champion",
}
TITLES = {
    "majority_class": "Most frequent class",
    "base_model": "Untuned model",
    "longer_answer": "Always the longer answer",
    "nearest_centroid": "Untuned model, class centroids",
    "nearest_neighbours": "Untuned model, nearest rows",
    "linear_probe": "Untuned model, linear head",
    "majority_labels": "Most frequent labels",
    "majority_tag": "Most frequent label of words",
    "tag_of_word": "Each word's usual label",
    "mean_value": "Always the mean",
    "median_value": "Always the median",
    "few_shot": "Untuned model, examples in prompt",
    "empty_set": "No labels",
    "champion": "Champion",
}


def metric_name(given: str) -> str:
    """The name of a metric in a report: of a file of the user's own its stem."""
    return Path(given).stem.replace("-", "_")


@functools.cache
def wording(metric: str) -> Wording:
    """How this metric is spoken of, in its own words; a metric of the user's own by its name, as a plain number."""
    if metric in plugins.names("metrics"):
        own = plugins.load("metrics", metric)
        return Wording(own.title, own.claim, own.share)
    title = metric.replace("_", " ")
    return Wording(title.capitalize(), f"{title} {{value}} on {{rows}}", share=False)


def baseline_words(name: str) -> str:
    """A baseline in words that go behind 'than'."""
    return BASELINES.get(name, name.replace("_", " "))


def baseline_title(name: str) -> str:
    """A baseline as the head of a column."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def rows(n: int) -> str:
    """The number of test rows in words."""
    return f"{n:,} test row{'' if n == 1 else 's'}"


def plain(value: float) -> str:
    """A number with about three digits that matter."""
    if not math.isfinite(value):
        return "unknown"
    digits = next((digits for bound, digits in ((1000, 0), (100, 1), (1, 2)) if abs(value) >= bound), 3)
    return _unsigned_zero(f"{value:,.{digits}f}")


def percent(value: float) -> str:
    """A fraction in percent."""
    return _unsigned_zero(f"{100 * value:.1f}") if math.isfinite(value) else "unknown"


def _unsigned_zero(number: str) -> str:
    return number if any(digit in number for digit in "123456789") else number.removeprefix("-")


def shown(metric: str, value: float | None) -> str:
    """A metric's value with its unit; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{percent(value)} %" if wording(metric).share else plain(value)


def interval(metric: str, low: float | None, high: float | None) -> str:
    """An interval with its unit, such as 92.5-94.2 %; nothing where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    share = wording(metric).share
    ends = (percent(low), percent(high)) if share else (plain(low), plain(high))
    return (" to " if low < 0 else "-").join(ends) + (" %" if share else "")


def size(metric: str, difference: float) -> str:
    """How large a difference is, without its direction."""
    return f"{percent(abs(difference))} points" if wording(metric).share else plain(abs(difference))


def direction(metric: str, difference: float) -> str:
    """Which way a difference goes; rows that are right are counted, other scores are not."""
    more, fewer = ("more", "fewer") if "right in" in wording(metric).claim else ("higher", "lower")
    return more if difference >= 0 else fewer


def claim(metric: str, score: Score) -> str:
    """What the tuned model reached, with n and interval: right in 93.4 % of 3,080 test rows (92.5-94.2 %)."""
    text = wording(metric).claim.format(value=shown(metric, score.value), rows=rows(score.n))
    inside = interval(metric, score.low, score.high)
    return f"{text} ({inside})" if inside else text


def difference(metric: str, change: Mapping[str, Any]) -> str:
    """A difference with its interval, in words: 7.8 points more (3.5-11.6), without the unit of a score."""
    if change["value"] is None:
        return "–"
    words = f"{size(metric, change['value'])} {direction(metric, change['value'])}"
    if change["low"] is None or change["high"] is None:
        return words
    return f"{words} ({interval(metric, change['low'], change['high']).removesuffix(' %')})"


def as_json(score: Score) -> dict[str, Any]:
    """A score as the report stores it; null where it is undefined."""
    ends = {"value": score.value, "low": score.low, "high": score.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()} | {"n": score.n}


def from_json(stored: Mapping[str, Any]) -> Score:
    """A score as it stands in a report; nan where it is undefined."""
    ends = (math.nan if stored.get(name) is None else float(stored[name]) for name in ("value", "low", "high"))
    value, low, high = ends
    return Score(value, low, high, int(stored.get("n", 0)))
