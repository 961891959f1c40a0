"""Metrics of labels and probabilities equal scikit-learn, those of entities seqeval."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from pytest import approx
from sklearn import metrics as sk

from whet import plugins
from whet.errors import DataError
from whet.protocols import Metric
from whet.stats import bootstrap, redrawn_of, stack
from whet.types import Example, Output

Row = tuple[Example, Output]


def metric(name: str) -> Metric:
    built: Metric = plugins.build("metrics", name, {})
    return built


def scored(name: str, rows: list[Row]) -> float:
    chosen = metric(name)
    return chosen.reduce(stack([chosen.statistics(*one) for one in rows]))


def random_rows(num_rows: int, num_classes: int, seed: int = 0, digits: int | None = None) -> tuple[list[Row], Any, Any]:
    """Rows with probabilities that are better than chance; `digits` rounds them, so that there are ties. [N], [N, K]"""
    random = np.random.default_rng(seed)
    names = [f"class {number}" for number in range(num_classes)]
    truth = random.integers(0, num_classes, size=num_rows)
    truth[:num_classes] = np.arange(num_classes)
    scores = random.normal(size=(num_rows, num_classes)) + 1.5 * np.eye(num_classes)[truth]
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    if digits is not None:
        chances = np.round(chances, digits)
        chances[:, -1] = 1 - chances[:, :-1].sum(axis=1)
    rows = [
        (
            Example(id=number, label=names[truth[number]]),
            Output(label=names[int(chance.argmax())], probabilities=dict(zip(names, chance.tolist(), strict=True))),
        )
        for number, chance in enumerate(chances)
    ]
    return rows, truth, chances


@pytest.mark.parametrize(("num_classes", "seed"), [(2, 0), (3, 1), (7, 2), (7, 3)])
def test_matthews_correlation_equals_scikit_learn(num_classes: int, seed: int) -> None:
    rows, truth, chances = random_rows(300, num_classes, seed)
    assert scored("matthews_correlation", rows) == approx(sk.matthews_corrcoef(truth, chances.argmax(axis=1)), rel=1e-12)


def test_guessing_one_class_has_no_correlation() -> None:
    rows = [(Example(id=number, label="ab"[number % 2]), Output(label="a")) for number in range(6)]
    assert scored("matthews_correlation", rows) == 0.0
    assert math.isnan(scored("matthews_correlation", [one for one in rows if one[0].label == "a"]))


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize(("num_classes", "seed"), [(2, 0), (3, 1), (12, 2)])
def test_auroc_equals_scikit_learn(num_classes: int, seed: int, digits: int | None) -> None:
    rows, truth, chances = random_rows(300, num_classes, seed, digits)
    each = [sk.roc_auc_score(truth == number, chances[:, number]) for number in range(num_classes)]
    assert scored("auroc", rows) == approx(float(np.mean(each)), rel=1e-12)
    if num_classes == 2:
        assert scored("auroc", rows) == approx(sk.roc_auc_score(truth, chances[:, 1]), abs=0 if digits is None else 1e-3)
    elif digits is None:
        assert scored("auroc", rows) == approx(sk.roc_auc_score(truth, chances, multi_class="ovr", average="macro"), rel=1e-12)


def test_auroc_of_several_labels_is_the_mean_over_labels() -> None:
    random = np.random.default_rng(0)
    truth, chances = random.random((80, 3)) < 0.4, random.random((80, 3))
    rows = [
        (
            Example(id=number, labels=tuple("abc"[k] for k in np.flatnonzero(truth[number]))),
            Output(labels=(), probabilities=dict(zip("abc", chances[number].tolist(), strict=True))),
        )
        for number in range(80)
    ]
    assert scored("auroc", rows) == approx(sk.roc_auc_score(truth, chances, average="macro"), rel=1e-12)


def test_auroc_is_undefined_where_only_one_class_is_true() -> None:
    rows = [(Example(id=n, label="a"), Output(label="a", probabilities={"a": 0.1 * n, "b": 1 - 0.1 * n})) for n in range(5)]
    assert math.isnan(scored("auroc", rows))


def test_a_label_that_the_model_does_not_know_counts_against_the_others() -> None:
    # of two rows of a and two others (one of them of a class without a probability), 3 of 4 pairs are in order
    chances = [0.9, 0.4, 0.5, 0.1]
    rows = [(Example(id=n, label="aaxb"[n]), Output(label="a", probabilities={"a": chances[n], "b": 0.0})) for n in range(4)]
    # for b, one row with 0 against three with 0: ties
    assert scored("auroc", rows) == approx((3 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_brier_equals_scikit_learn(num_classes: int) -> None:
    rows, truth, chances = random_rows(200, num_classes)
    assert scored("brier", rows) == approx(
        sk.brier_score_loss(truth, chances, scale_by_half=False, labels=list(range(num_classes)))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_classes"), [("matthews_correlation", 77), ("brier", 77), ("auroc", 2), ("auroc", 77)])
def test_a_thousand_resamples_of_3080_rows_take_about_a_second(name: str, num_classes: int) -> None:
    chosen = metric(name)
    statistics = stack([chosen.statistics(*one) for one in random_rows(3080, num_classes)[0]])
    begun = time.process_time()
    score = bootstrap(chosen.reduce, statistics, 1000, redrawn=redrawn_of(chosen))
    assert time.process_time() - begun < 2  # 0.7 s for 77 classes, and 0.1 s for two, where nothing else runs
    assert score.low < score.value < score.high


# Entities


def token_row(truth: str, given: str) -> Row:
    return Example(id=0, file="a.conll", line=7, token_labels=tuple(truth.split())), Output(token_labels=tuple(given.split()))


def test_span_f1_by_hand() -> None:
    # true: PLACE 0-2, NAME 3-4; given: PLACE 0-2, NAME 3-5: one of two and two
    rows = [token_row("B-PLACE I-PLACE O B-NAME O", "B-PLACE I-PLACE O B-NAME I-NAME")]
    assert scored("span_f1", rows) == approx(0.5)
    # the right words with another kind do not count, and a row without entities adds nothing
    assert scored("span_f1", [*rows, token_row("B-NAME", "B-PLACE"), token_row("O O", "O O")]) == approx(2 / 6)


def random_labels(random: Any, size: int) -> list[str]:
    return [
        str(label) for label in random.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], size=size, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    ]


SEQEVAL = (0.6642857142857144, 0.7213114754098361, 0.6721991701244814, 0.7346938775510204)


@pytest.mark.parametrize("seed", range(len(SEQEVAL)))
def test_span_f1_equals_seqeval(seed: int) -> None:
    """Values of seqeval 1.2.2, f1_score(truth, given), on the rows drawn here, which break the rules of BIO as often as not."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(40):
        truth = random_labels(random, int(random.integers(1, 12)))
        given = [label if random.random() < 0.7 else random_labels(random, 1)[0] for label in truth]
        rows.append(token_row(" ".join(truth), " ".join(given)))
    assert scored("span_f1", rows) == approx(SEQEVAL[seed], rel=1e-12)


def test_no_entity_at_all_has_no_score() -> None:
    assert math.isnan(scored("span_f1", [token_row("O O", "O O")]))


@pytest.mark.parametrize("label", ["PER", "B-", "X-PER", ""])
def test_a_label_that_is_none_is_named_with_its_row(label: str) -> None:
    with pytest.raises(DataError, match=rf"a.conll:7: '{label}' is no label of a token"):
        metric("span_f1").statistics(
            Example(id=0, file="a.conll", line=7, token_labels=("O", label)), Output(token_labels=("O", "O"))
        )


def test_a_row_without_token_labels_is_named() -> None:
    with pytest.raises(DataError, match=r"row 3: there is no label of each token"):
        metric("span_f1").statistics(Example(id=3), Output(token_labels=("O",)))
