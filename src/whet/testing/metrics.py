"""The laws of a metric, for the built-in ones and for your own: `check_metric(MyMetric(), examples)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from whet.protocols import Metric
from whet.stats import redrawn_of, stack
from whet.types import Example, Output

if TYPE_CHECKING:
    from whet.types import Statistics


def check_metric(metric: Metric, examples: Sequence[Example]) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in METRIC_LAWS:
        law(metric, examples)


def perfect_output_scores_best(metric: Metric, examples: Sequence[Example]) -> None:
    """Answers that are all right get the metric's `best`, and no wrong answer gets a better score."""
    perfect = _score(metric, examples, [perfect_output(example) for example in examples])
    reached = math.isfinite(metric.best) and getattr(
        metric, "best_is_reached", True
    )  # METEOR only comes near, a reward has no end
    top = metric.best if reached else perfect
    assert math.isclose(perfect, top, abs_tol=1e-12), f"perfect outputs score {perfect}, and best is {top}"
    for share in (0.3, 1.0):
        worse = _score(metric, examples, _spoilt(examples, share))
        right_side = worse <= top if metric.higher_is_better else worse >= top
        assert math.isnan(worse) or right_side, f"outputs with errors score {worse}, beyond the best, {top}"
    assert worse != perfect, f"outputs that are all wrong score {worse}, as perfect ones do"


def order_does_not_matter(metric: Metric, examples: Sequence[Example]) -> None:
    """The score is of a set of examples."""
    outputs = _spoilt(examples, 0.3)
    given = _score(metric, examples, outputs)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(examples))
        found = _score(metric, [examples[index] for index in order], [outputs[index] for index in order])
        assert _close(given, found), f"the same examples in another order score {found}, not {given}"


def slices_recombine_to_the_whole(metric: Metric, examples: Sequence[Example]) -> None:
    """Statistics belong to one example: those of the slices, put together, are those of the whole."""
    outputs = _spoilt(examples, 0.3)
    whole = _statistics(metric, examples, outputs)
    for parts in (2, 3, len(examples)):
        slices = [_statistics(metric, examples[start::parts], outputs[start::parts]) for start in range(parts)]
        joined = stack([row for part in slices for row in part.tolist()])
        assert len(joined) == len(whole), f"{parts} slices have {len(joined)} rows of statistics for {len(whole)} examples"
        found, expected = metric.reduce(joined), metric.reduce(whole)
        assert _close(expected, found), f"{parts} slices put together score {found}, the whole {expected}"


def every_example_twice_scores_the_same(metric: Metric, examples: Sequence[Example]) -> None:
    """The score is a mean of some sort: counting each example twice does not change it."""
    once = _statistics(metric, examples, _spoilt(examples, 0.3))
    found, expected = metric.reduce(np.concatenate([once, once])), metric.reduce(once)
    assert _close(expected, found), f"every example twice scores {found}, once {expected}"


def few_examples_are_no_crash(metric: Metric, examples: Sequence[Example]) -> None:
    """No example at all is nan, not an error or a perfect score; one example is a number or nan, without a warning."""
    width = _statistics(metric, examples, [perfect_output(example) for example in examples]).shape[1]
    nothing = metric.reduce(np.zeros((0, width)))
    assert math.isnan(nothing), f"no examples score {nothing}; it is nan, since nothing is known"
    for outputs in ([perfect_output(examples[0])], _spoilt(examples[:1], 1.0)):
        value = _score(metric, examples[:1], outputs)
        assert isinstance(value, float), f"one example scores {value!r}; reduce() returns a float"


def statistics_are_finite(metric: Metric, examples: Sequence[Example]) -> None:
    """Every statistic is a finite number, and `reduce` does not change what it is given."""
    statistics = _statistics(metric, examples, _spoilt(examples, 0.5))
    assert np.isfinite(statistics).all(), "a statistic is not finite"
    before = statistics.copy()
    metric.reduce(statistics)
    assert np.array_equal(before, statistics), "reduce() has changed the statistics it was given"


def draws_are_scored_as_they_are_reduced(metric: Metric, examples: Sequence[Example]) -> None:
    """A metric's own quick way to score draws of the same examples gives what `reduce` gives."""
    statistics = _statistics(metric, examples, _spoilt(examples, 0.3))
    score = redrawn_of(metric)(statistics)
    random = np.random.default_rng(0)
    for rows in (np.arange(len(examples)), *random.integers(0, len(examples), size=(5, len(examples)))):
        found, expected = score(rows), metric.reduce(statistics[rows])
        assert _close(expected, found), f"rows {rows.tolist()} score {found} by redrawn(), and {expected} by reduce()"


METRIC_LAWS: tuple[Callable[[Metric, Sequence[Example]], None], ...] = (
    perfect_output_scores_best,
    order_does_not_matter,
    slices_recombine_to_the_whole,
    every_example_twice_scores_the_same,
    few_examples_are_no_crash,
    statistics_are_finite,
    draws_are_scored_as_they_are_reduced,
)


def perfect_output(example: Example) -> Output:
    """Return what a model would say that knows the answer and is sure of it. Every field is set that the example allows."""
    answers = [message.content for message in example.messages or () if message.role == "assistant"]
    return Output(
        label=example.label,
        labels=example.labels,
        token_labels=example.token_labels,
        value=example.value,
        text=answers[-1] if answers else None,
        probabilities=None if example.label is None else {example.label: 1.0},
        nll=0.0,
        num_tokens=5,
        num_characters=20,
        margin=2.0,
        reward=1.0,
        kl=0.0,
    )


def _spoilt(examples: Sequence[Example], share: float) -> list[Output]:
    """Return outputs of which about this share is wrong in every field, spread evenly; the same at each call."""
    outputs, known = [], sorted({example.label for example in examples if example.label is not None})
    for number, example in enumerate(examples):
        right = perfect_output(example)
        if int((number + 1) * share) == int(number * share):
            outputs.append(right)
            continue
        wrong, others = "some other label", [label for label in known if label != example.label]
        outputs.append(
            replace(
                right,
                label=wrong,
                labels=(wrong,),
                token_labels=None if example.token_labels is None else ("B-OTHER",) * len(example.token_labels),
                value=-(example.value or 0.0) - 1.5 - number % 3,
                text="qqq zzz",
                probabilities={wrong: 0.9, example.label or "": 0.0, **dict.fromkeys(others, 0.1 / max(1, len(others)))},
                nll=7.5 + number,
                margin=-1.0 - number,
                reward=-0.5 - number,
                kl=0.25 + number,
            )
        )
    return outputs


def _statistics(metric: Metric, examples: Sequence[Example], outputs: Sequence[Output]) -> Statistics:
    return stack([metric.statistics(example, output) for example, output in zip(examples, outputs, strict=True)])


def _score(metric: Metric, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
    return metric.reduce(_statistics(metric, examples, outputs))


def _close(left: float, right: float) -> bool:
    return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
