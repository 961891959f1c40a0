"""What someone who reads a verdict should also know: rows learnt by heart, a false sureness, classes never given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from whet.report.verdict import Comparison
from whet.report.wording import baseline_words, plain, size, wording

RISE = 1.02
"""Validation loss over its lowest from which it counts as risen."""
MISLED = 0.05
"""Mean distance between confidence and accuracy from which sureness is called misleading."""
FEW_ROWS = 100
FEWEST_ANSWERS, SAME = 20, 0.5
"""Answers from which on, and the share of them, that one answer is called the same whatever is asked."""


def first_phase(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records of the phase that was validated, which comes first: a refit on all rows begins again at step 1."""
    phase = log[0].get("phase") if log else None
    return [entry for entry in log if entry.get("phase") == phase]


def overfitting(log: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where validation loss rose while training loss kept falling: which step was kept, and what that tells."""
    again = any(entry.get("phase") != log[0].get("phase") for entry in log)
    log = first_phase(log)
    validation = [(int(entry["step"]), float(entry["loss"])) for entry in log if entry.get("kind") == "validation"]
    training = [(int(entry["step"]), float(entry["loss"])) for entry in log if entry.get("kind") == "step"]
    by_metric = any("metric" in entry for entry in log if entry.get("kind") == "validation")
    if len(validation) < 2 or not training or by_metric:  # by a metric, another step may be the best
        return []
    step, best = min(validation, key=lambda entry: entry[1])
    last, rose = validation[-1]
    before = [loss for at, loss in training if at <= step][-10:]
    after = [loss for at, loss in training if at > step][-10:]
    fell = bool(before and after) and sum(after) / len(after) < sum(before) / len(before)
    if not fell or rose <= best * RISE or best < 0:  # below 0 it is a reward, and nothing was learnt by heart
        return []
    kept = "Learning again from all rows ended after as many epochs" if again else f"The weights of step {step:,} were kept"
    return [
        f"After step {step:,} the validation loss rose, from {plain(best)} to {plain(rose)} at step {last:,}, while the training loss "
        f"kept falling: rows were being learnt by heart. {kept}, so nothing of that is in the model, and more epochs would not help."
    ]


def sureness(bins: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence where the model is much surer, or much less sure, than it is right."""
    n = sum(one["n"] for one in bins)
    if n < FEW_ROWS:
        return []
    confidence, accuracy = (sum(one[name] * one["n"] for one in bins) / n for name in ("confidence", "accuracy"))
    if abs(confidence - accuracy) < MISLED:
        return []
    word = "too sure of itself" if confidence > accuracy else "surer than it says"
    said = f"its mean confidence is {100 * confidence:.0f} %, and it is right in {100 * accuracy:.0f} %"
    return [f"The model is {word}: {said}. Do not read its probabilities as chances."]


def silent_classes(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence about classes that stand in the test rows and are never found, or do not stand there at all."""
    missed = [name for name, score in scores.items() if score["n"] and not score["recall"]]
    absent = [name for name, score in scores.items() if not score["n"]]
    return [
        f"{_listed(names)} {what}"
        for names, what in (
            (missed, "never found in the test rows."),
            (absent, "absent from the test rows, so these numbers say nothing of them."),
        )
        if names
    ]


def sameness(given: Sequence[str], true: Sequence[str]) -> list[str]:
    """A sentence where most answers are one and the same, and those in the data, which a reward has none of, are not."""
    if len(given) < FEWEST_ANSWERS or _most_frequent(given) < SAME:
        return []
    if true and _most_frequent(true) >= _most_frequent(given) / 2:
        return []
    times = round(_most_frequent(given) * len(given))
    return [
        f"The model gives one and the same answer to {times:,} of {len(given):,} test rows, whatever it is asked. What it is scored by may not "
        "mind that; read its answers before you use it."
    ]


def _most_frequent(texts: Sequence[str]) -> float:
    """Return the share of the most frequent of these texts."""
    return Counter(text.strip() for text in texts).most_common(1)[0][1] / len(texts)


def few_rows(n: int) -> list[str]:
    """A sentence where the test rows are so few that intervals are wide."""
    return [f"Only {n} test rows: every number here is rough. A few hundred would make it firm."] if n < FEW_ROWS else []


def side_effects(compared: Sequence[tuple[str, Comparison]]) -> list[str]:
    """A sentence for each further metric that tuning made clearly worse."""
    return [
        f"{wording(metric).title} is {size(metric, one.difference.value)} {'lower' if one.difference.value < 0 else 'higher'} "
        f"than with {baseline_words(one.baseline)}: tuning made this clearly worse."
        for metric, one in compared
        if one.decision == "worse" and math.isfinite(one.difference.value)
    ]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:5])
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{'Class' if len(names) == 1 else 'Classes'} {shown}{rest} {'is' if len(names) == 1 else 'are'}"
