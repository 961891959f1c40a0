"""Metrics agree with scikit-learn, scipy and rouge-score, and keep the laws of their kind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx
from scipy.stats import spearmanr
from sklearn import metrics as sk

from whet import plugins
from whet.errors import DataError
from whet.protocols import Metric
from whet.stats import stack
from whet.types import Example, Message, Output
from whet.words import common_subsequence

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "metrics" / "rouge_score"
CLASSES = [f"class {number}" for number in range(7)]
LABELS = ["red", "green", "blue", "round"]


def metric(name: str) -> Metric:
    built: Metric = plugins.build("metrics", name, {})
    return built


def scored(name: str, rows: list[tuple[Example, Output]]) -> float:
    chosen = metric(name)
    return chosen.reduce(stack([chosen.statistics(*row) for row in rows]))


def text_row(truth: str, given_text: str) -> tuple[Example, Output]:
    turns = (Message("user", "question"), Message("assistant", truth))
    return Example(id=0, messages=turns), Output(text=given_text)


def random_rows(num_rows: int = 400, seed: int = 0) -> list[tuple[Example, Output]]:
    """Rows with every kind of answer, right about two times in three; the last class is never true."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        truth, other = CLASSES[random.integers(0, 6)], CLASSES[random.integers(0, 7)]
        label = truth if random.random() < 0.6 else other
        chances = random.dirichlet(np.ones(len(CLASSES)))
        chances[CLASSES.index(label)] += 1
        labels, given_labels = (tuple(name for name in LABELS if random.random() < 0.5) for _ in range(2))
        value = float(random.normal())
        words = [str(word) for word in random.integers(0, 9, size=12)]
        guess = [word for word in words if random.random() < 0.7] + ["tail"]
        turns = (Message("user", "question"), Message("assistant", " ".join(words)))
        output = Output(
            label=label,
            labels=given_labels,
            value=round(value + float(random.normal()), 1),
            text=" ".join(guess),
            probabilities=dict(zip(CLASSES, (chances / 2).tolist(), strict=True)),
            nll=float(random.random() * 20),
            num_tokens=int(random.integers(1, 9)),
            num_characters=int(random.integers(9, 40)),
        )
        example = Example(id=number, text="t", label=truth, labels=labels, value=round(value, 1), messages=turns)
        rows.append((example, output))
    return rows


ROWS = random_rows()
SEVERAL = [(Example(id=e.id, labels=e.labels), Output(labels=o.labels)) for e, o in ROWS]
TRUTH = [example.label for example, _ in ROWS]
GIVEN = [output.label for _, output in ROWS]
VALUES = np.array([(example.value, output.value) for example, output in ROWS], dtype=np.float64)


def test_no_rows_have_no_score() -> None:
    for name in plugins.names("metrics"):
        chosen = metric(name)
        assert math.isnan(chosen.reduce(np.zeros((0, 3)))), name


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("score", ["precision", "recall", "f1"])
def test_scores_by_class_equal_scikit_learn(average: str, score: str) -> None:
    expected = getattr(sk, f"{score}_score")(TRUTH, GIVEN, average=average, zero_division=0)
    assert scored(f"{average}_{score}", ROWS) == approx(expected, rel=1e-12)


def test_accuracy_equals_scikit_learn() -> None:
    assert scored("accuracy", ROWS) == approx(sk.accuracy_score(TRUTH, GIVEN))


def label_matrices() -> tuple[Any, Any]:
    """True and given labels as scikit-learn wants them."""
    truth, given_labels = (
        np.array([[name in (labels or ()) for name in LABELS] for labels in column], dtype=int)
        for column in ([e.labels for e, _ in SEVERAL], [o.labels for _, o in SEVERAL])
    )
    return truth, given_labels


def test_scores_of_several_labels_equal_scikit_learn() -> None:
    truth, given_labels = label_matrices()
    assert scored("micro_f1", SEVERAL) == approx(sk.f1_score(truth, given_labels, average="micro"))
    assert scored("exact_set", SEVERAL) == approx(sk.accuracy_score(truth, given_labels))


def test_micro_f1_of_one_label_is_accuracy() -> None:
    rows = [(Example(id=e.id, label=e.label), Output(label=o.label)) for e, o in ROWS]
    assert scored("micro_f1", rows) == approx(scored("accuracy", rows))


def test_scores_of_numbers_equal_scikit_learn_and_scipy() -> None:
    truth, given_values = VALUES.T
    assert scored("mean_absolute_error", ROWS) == approx(sk.mean_absolute_error(truth, given_values))
    assert scored("root_mean_squared_error", ROWS) == approx(sk.root_mean_squared_error(truth, given_values))
    assert scored("r2", ROWS) == approx(sk.r2_score(truth, given_values))
    assert scored("spearman", ROWS) == approx(spearmanr(truth, given_values).statistic)


def test_scores_of_numbers_are_undefined_where_the_truth_does_not_vary() -> None:
    for same in (2.0, 0.1):  # the mean of three times 0.1 is rounded, and is not 0.1
        rows = [(Example(id=number, value=same), Output(value=float(number))) for number in range(3)]
        assert math.isnan(scored("r2", rows)) and math.isnan(scored("spearman", rows))


def test_calibration_error_of_hand_made_bins() -> None:
    # bin (0.6, 0.667]: 4 rows at 0.65, 1 right: |0.65 - 0.25| * 4; bin (0.933, 1]: 6 rows at 1.0, all right: 0; over 10 rows
    rows = []
    for number in range(10):
        sure = number >= 4
        label, chance = ("a", 1.0) if sure else (("a", 0.65) if number == 0 else ("b", 0.65))
        rows.append((Example(id=number, label="a"), Output(label=label, probabilities={label: chance})))
    assert scored("calibration_error", rows) == approx(0.4 * 4 / 10)


def test_loss_and_its_kin_by_hand() -> None:
    # 3 + 5 nats over 2 + 2 tokens and 4 + 12 characters
    outputs = [Output(nll=3.0, num_tokens=2, num_characters=4), Output(nll=5.0, num_tokens=2, num_characters=12)]
    rows = [(Example(id=0), output) for output in outputs]
    assert scored("loss", rows) == approx(2.0)
    assert scored("perplexity", rows) == approx(math.exp(2.0))
    assert scored("bits_per_character", rows) == approx(0.5 / math.log(2))


def test_a_perplexity_past_all_floats_is_infinite() -> None:
    assert scored("perplexity", [(Example(id=0), Output(nll=800.0, num_tokens=1))]) == math.inf


WORD = st.text(alphabet="abcdeé .-'1\n", max_size=30)


@settings(max_examples=150, deadline=None)
@given(WORD, WORD)
def test_rouge_l_equals_rouge_score(truth: str, given_text: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # two seconds to import

    expected = RougeScorer(["rougeL"], use_stemmer=False).score(truth, given_text)["rougeL"].fmeasure
    if any(sign in "abcde1" for sign in truth.lower()):
        assert scored("rouge_l", [text_row(truth, given_text)]) == approx(expected, rel=1e-12)


def test_rouge_l_without_latin_letters_compares_signs() -> None:
    # of 3 true and 4 given signs, 3 in order: 2 * 3 / 7
    assert scored("rouge_l", [text_row("你好吗", "你 好 了吗")]) == approx(6 / 7)


def test_rouge_l_equals_the_published_vectors() -> None:
    if not SHARED.is_dir():
        pytest.skip("the vectors of rouge-score are not here (../shared/data/metrics/rouge_score)")
    expected: dict[str, Any] = json.loads((SHARED / "expected.json").read_text())
    truths, texts = ((SHARED / name).read_text().splitlines() for name in ("target.txt", "prediction.txt"))
    cases = [(truths[case["line"]], texts[case["line"]], case) for case in expected["cases"] if not case["stem"]]
    cases += [(case["target"], case["prediction"], case) for case in expected["inline"]]
    checked = [(truth, text, case["f"]) for truth, text, case in cases if case["type"] == "rougeL"]
    assert len(checked) == 3
    for truth, text, value in checked:
        assert scored("rouge_l", [text_row(truth, text)]) == approx(value, abs=5e-6)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_subsequence_equals_the_table_of_the_textbook(left: list[str], right: list[str]) -> None:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left, start=1):
        for j, b in enumerate(right, start=1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    assert common_subsequence(left, right) == table[-1][-1]


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("The cat sat.", "a cat SAT", 1.0),  # articles, case and full stops do not count
        ("cat sat down", "cat sat cat", 2 * 2 / 6),  # the second cat has no partner
        ("the", "a", 1.0),  # neither has a word left
        ("the", "cat", 0.0),
        ("cat", "dog", 0.0),
    ],
)
def test_token_f1_by_hand(truth: str, answer: str, expected: float) -> None:
    assert scored("token_f1", [text_row(truth, answer)]) == approx(expected)


def test_exact_match_ignores_space_around_and_nothing_else() -> None:
    rows = [text_row("yes", " yes\n"), text_row("yes", "Yes")]
    assert scored("exact_match", rows) == 0.5


def test_a_row_without_its_answer_is_named() -> None:
    with pytest.raises(DataError, match=r"tickets.csv:7: there is no label"):
        metric("accuracy").statistics(Example(id=3, file="tickets.csv", line=7), Output(label="a"))


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("score", ["precision", "recall", "f1"])
def test_scores_by_class_of_several_labels_equal_scikit_learn(average: str, score: str) -> None:
    expected = getattr(sk, f"{score}_score")(*label_matrices(), average=average, zero_division=0)
    assert scored(f"{average}_{score}", SEVERAL) == approx(expected, rel=1e-12)


def test_rows_without_any_label_have_no_score_by_class() -> None:
    rows = [(Example(id=0, labels=()), Output(labels=())), (Example(id=1, labels=()), Output(labels=()))]
    assert math.isnan(scored("macro_f1", rows)) and math.isnan(scored("weighted_f1", rows))
    assert scored("micro_f1", rows) == 1.0
