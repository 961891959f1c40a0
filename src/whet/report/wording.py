"""How metrics, baselines and numbers are called in a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whet.types import Score


@dataclass(frozen=True, slots=True)
class Wording:
    """How one metric is spoken of."""

    title: str
    claim: str
    """With {value} and {rows}."""
    share: bool = True
    """A fraction shown in percent, its differences in points; else a plain number."""


METRICS = {
    "accuracy": Wording("Accuracy", "right in {value} of {rows}"),
    "macro_f1": Wording("Macro F1", "a macro F1 of {value} on {rows}"),
    "macro_precision": Wording("Macro precision", "a macro precision of {value} on {rows}"),
    "macro_recall": Wording("Macro recall", "a macro recall of {value} on {rows}"),
    "weighted_f1": Wording("Weighted F1", "a weighted F1 of {value} on {rows}"),
    "weighted_precision": Wording("Weighted precision", "a weighted precision of {value} on {rows}"),
    "weighted_recall": Wording("Weighted recall", "a weighted recall of {value} on {rows}"),
    "micro_f1": Wording("Micro F1", "a micro F1 of {value} on {rows}"),
    "exact_set": Wording("All labels right", "every label right in {value} of {rows}"),
    "calibration_error": Wording("Calibration error", "confidence {value} off on average on {rows}"),
    "exact_match": Wording("Exact match", "word for word right in {value} of {rows}"),
    "rouge_l": Wording("ROUGE-L", "a ROUGE-L of {value} on {rows}"),
    "token_f1": Wording("Token F1", "a token F1 of {value} on {rows}"),
    "loss": Wording("Loss per token", "a loss of {value} per token on {rows}", share=False),
    "perplexity": Wording("Perplexity", "a perplexity of {value} on {rows}", share=False),
    "bits_per_character": Wording("Bits per character", "{value} bits per character on {rows}", share=False),
    "mean_absolute_error": Wording("Mean absolute error", "off by {value} on average on {rows}", share=False),
    "root_mean_squared_error": Wording("Root mean squared error", "a typical miss of {value} on {rows}", share=False),
    "r2": Wording("R²", "an R² of {value} on {rows}", share=False),
    "spearman": Wording("Rank correlation", "a rank correlation of {value} on {rows}", share=False),
}
BASELINES = {
    "majority_class": "always answering the most frequent class",
    "base_model": "the untuned model",
    "nearest_centroid": "the untuned model with nearest class centroids",
    "majority_labels": "always giving the most frequent labels",
    "mean_value": "always answering the mean",
    "median_value": "always answering the median",
    "few_shot": "the untuned model with examples in the prompt",
    "empty_set": "never giving a label",
}
TITLES = {
    "majority_class": "Most frequent class",
    "base_model": "Untuned model",
    "nearest_centroid": "Untuned model, class centroids",
    "majority_labels": "Most frequent labels",
    "mean_value": "Always the mean",
    "median_value": "Always the median",
    "few_shot": "Untuned model, examples in prompt",
    "empty_set": "No labels",
}


def wording(metric: str) -> Wording:
    """How this metric is spoken of; a metric of the user's own by its name, as a plain number."""
    title = metric.replace("_", " ")
    return METRICS.get(metric) or Wording(title.capitalize(), f"{title} {{value}} on {{rows}}", share=False)


def baseline_words(name: str, objective: str) -> str:
    """A baseline in words that go behind 'than'."""
    if name == "base_model" and objective.startswith("classify"):
        return BASELINES["nearest_centroid"]
    return BASELINES.get(name, name.replace("_", " "))


def baseline_title(name: str, objective: str) -> str:
    """A baseline as the head of a column."""
    if name == "base_model" and objective.startswith("classify"):
        return TITLES["nearest_centroid"]
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


def as_json(score: Score) -> dict[str, Any]:
    """A score as the report stores it; null where it is undefined."""
    ends = {"value": score.value, "low": score.low, "high": score.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()} | {"n": score.n}


def from_json(stored: Mapping[str, Any]) -> Score:
    """A score as it stands in a report; nan where it is undefined."""
    ends = (math.nan if stored.get(name) is None else float(stored[name]) for name in ("value", "low", "high"))
    value, low, high = ends
    return Score(value, low, high, int(stored.get("n", 0)))
