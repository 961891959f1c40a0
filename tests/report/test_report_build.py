"""What report.json says is true of the rows: scores, slices, classes, worst rows, and the verdict with its sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest import approx
from sklearn import metrics as sk

from whet.report.build import Group, build_report
from whet.report.hints import overfitting
from whet.types import Example, Message, Output

Case = tuple[dict[str, Any], dict[str, Any]]


def labelled(
    truth: Sequence[str], tuned: Sequence[str], base: Sequence[str], tags: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """A report on rows of one label."""
    examples = [
        Example(
            id=number,
            file="a.csv",
            line=number + 2,
            text=f"row {number}",
            label=label,
            tags={"part": tags[number]} if tags else {},
        )
        for number, label in enumerate(truth)
    ]
    sides = [[Output(label=label) for label in labels] for labels in (tuned, base)]
    group = Group(metrics=("accuracy", "macro_f1"), examples=examples, outputs=sides[0], baselines={"nearest_centroid": sides[1]})
    return build_report(
        objective="classify", metric="accuracy", groups=[group], slices=("part",) if tags else (), resamples=200, **more
    )


def numbers(truth: Sequence[float], tuned: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """A report on rows of one number."""
    examples = [Example(id=number, value=value) for number, value in enumerate(truth)]
    sides = [[Output(value=value) for value in values] for values in (tuned, base)]
    group = Group(metrics=("mean_absolute_error", "r2"), examples=examples, outputs=sides[0], baselines={"mean_value": sides[1]})
    return build_report(objective="regress", metric="mean_absolute_error", groups=[group], resamples=200)


def test_the_report_is_json_and_the_same_for_the_same_seed(make_classify: Callable[[int, int], Case]) -> None:
    first, again = (json.dumps(make_classify(5, 200)[0], allow_nan=False) for _ in range(2))
    assert first == again


def test_the_report_has_the_agreed_shape(classify: Case) -> None:
    report = classify[0]
    assert report["n"] == 3080
    assert set(report["metrics"]["accuracy"]) == {"value", "low", "high", "n"}
    assert set(report["baselines"]["nearest_centroid"]["metrics"]["macro_f1"]) == {"value", "low", "high", "n"}
    assert set(report["slices"]["channel"]["email"]) == {"n", "metrics"}
    assert set(report["per_class"]["refund"]) == {"n", "precision", "recall", "f1"}
    assert set(report["confusion"]) == {"labels", "counts"}
    assert set(report["calibration"][0]) == {"confidence", "accuracy", "n"}
    assert {"id", "file", "line", "text", "label", "prediction", "probability"} <= set(report["worst"][0])
    assert {"decision", "metric", "baseline", "difference", "sentence"} <= set(report["verdict"])


def test_slices_recombine_to_the_whole(classify: Case) -> None:
    report = classify[0]
    for values in report["slices"].values():
        assert sum(entry["n"] for entry in values.values()) == report["n"]
        right = sum(entry["n"] * entry["metrics"]["accuracy"]["value"] for entry in values.values())
        assert right / report["n"] == approx(report["metrics"]["accuracy"]["value"])


def test_many_slice_values_are_folded_and_still_recombine() -> None:
    tags = [str(number % 90) for number in range(360)]
    report = labelled(["a"] * 360, ["a"] * 360, ["b"] * 360, tags)
    values = report["slices"]["part"]
    assert len(values) == 24 and values["(other)"]["n"] == 360 - 23 * 4
    assert sum(entry["n"] for entry in values.values()) == 360


def test_a_row_without_the_column_stands_under_none() -> None:
    report = labelled(["a", "b"], ["a", "b"], ["a", "a"], ["x", ""])
    assert set(report["slices"]["part"]) == {"x", "(none)"}


def test_scores_by_class_and_the_matrix_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    truth, tuned = ([names[place] for place in random.integers(0, 3, size=200)] for _ in range(2))
    report = labelled(truth, tuned, truth, classes=names)
    assert report["confusion"]["counts"] == sk.confusion_matrix(truth, tuned, labels=names).tolist()
    expected = sk.precision_recall_fscore_support(truth, tuned, labels=names[:3])
    for place, name in enumerate(names[:3]):
        found = report["per_class"][name]
        assert [found["precision"], found["recall"], found["f1"], found["n"]] == approx([column[place] for column in expected])
    assert report["per_class"]["d"] == {"n": 0, "precision": None, "recall": None, "f1": None}


def test_counts_of_the_calibration_bins_add_up(classify: Case) -> None:
    report = classify[0]
    bins = report["calibration"]
    assert sum(one["n"] for one in bins) == report["n"]
    assert sum(one["n"] * one["accuracy"] for one in bins) / report["n"] == approx(report["metrics"]["accuracy"]["value"])
    error = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / report["n"]
    assert error == approx(report["metrics"]["calibration_error"]["value"])


def test_the_worst_rows_are_wrong_and_the_surest_come_first(classify: Case) -> None:
    worst = classify[0]["worst"]
    assert len(worst) == 20 and all(row["label"] != row["prediction"] for row in worst)
    chances = [row["probability"] for row in worst]
    assert chances == sorted(chances, reverse=True)
    assert worst[0]["file"] == "tickets.csv" and worst[0]["line"] == worst[0]["id"] + 2


def test_a_perfect_model_is_perfect_and_still_not_certain() -> None:
    truth = ["a", "b"] * 20
    report = labelled(truth, truth, ["a"] * 40)
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["value"] == accuracy["high"] == 1.0 and accuracy["low"] == approx(0.025 ** (1 / 40))
    assert report["worst"] == []


def test_better_is_said_plainly(classify: Case) -> None:
    verdict = classify[0]["verdict"]
    assert verdict["decision"] == "better" and verdict["baseline"] == "nearest_centroid" and verdict["difference"]["low"] > 0
    assert verdict["sentence"].startswith("Tuning helped: right in 93.8 % of 3,080 test rows (")
    assert " points more than the untuned model with nearest class centroids (" in verdict["sentence"]
    assert 'weakest where channel is "letter": ' in verdict["sentence"]


def test_worse_is_said_plainly() -> None:
    truth = ["a", "b"] * 100
    report = labelled(truth, ["a"] * 200, truth)
    assert report["verdict"]["decision"] == "worse" and report["verdict"]["difference"]["value"] == approx(-0.5)
    assert report["verdict"]["sentence"].startswith("Tuning hurt: right in 50.0 % of 200 test rows (")
    assert "50.0 points fewer than the untuned model with nearest class centroids (" in report["verdict"]["sentence"]


def test_no_clear_difference_is_said_plainly() -> None:
    random = np.random.default_rng(1)
    truth = ["a"] * 80
    sides = [["a" if random.random() < 0.7 else "b" for _ in truth] for _ in range(2)]
    report = labelled(truth, *sides)
    assert report["verdict"]["decision"] == "same"
    assert report["verdict"]["sentence"].startswith("Tuning did not clearly help: right in ")
    assert " points fewer to " in report["verdict"]["sentence"]


def test_few_differing_rows_decide_nothing() -> None:
    # 5 of 10 rows better, none worse: the bootstrap alone would say better, a sign test says 2 * 0.5**5 = 6 %
    report = labelled(["a"] * 10, ["a"] * 10, ["a"] * 5 + ["b"] * 5)
    assert report["verdict"]["difference"]["low"] > 0
    assert report["verdict"]["decision"] == "same" and "only 5 test rows scored differently" in report["verdict"]["sentence"]


def test_lower_is_better_where_the_metric_says_so() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=100)
    near, far = truth + random.normal(size=100) * 0.1, truth + random.normal(size=100)
    helped, hurt = numbers(truth.tolist(), near.tolist(), far.tolist()), numbers(truth.tolist(), far.tolist(), near.tolist())
    assert (
        helped["verdict"]["decision"] == "better" and " lower than always answering the mean (" in helped["verdict"]["sentence"]
    )
    assert hurt["verdict"]["decision"] == "worse" and " higher than always answering the mean (" in hurt["verdict"]["sentence"]
    scores = [row["score"] for row in hurt["worst"]]
    assert scores == sorted(scores, reverse=True)


def test_the_verdict_speaks_of_the_best_baseline_and_keeps_the_others(classify: Case) -> None:
    against = classify[0]["verdict"]["against"]
    assert set(against) == {"majority_class", "nearest_centroid"}
    assert against["majority_class"]["difference"]["value"] > against["nearest_centroid"]["difference"]["value"]


def test_groups_keep_their_own_number_of_rows(sft: Case) -> None:
    report = sft[0]
    assert report["n"] == report["metrics"]["loss"]["n"] == 400
    assert report["metrics"]["rouge_l"]["n"] == 120
    assert [row["score"] for row in report["worst"]] == sorted(row["score"] for row in report["worst"])
    assert report["verdict"]["decision"] == "better"


def test_a_side_effect_of_tuning_is_told() -> None:
    turns = (Message("user", "q"), Message("assistant", "one two three four"))
    examples = [Example(id=number, messages=turns) for number in range(120)]
    losses = [[Output(nll=value + number / 999, num_tokens=1) for number in range(120)] for value in (1.0, 2.0)]
    texts = [[Output(text=text) for _ in range(120)] for text in ("one two", "one two three four")]
    groups = [
        Group(metrics=("loss",), examples=examples, outputs=losses[0], baselines={"base_model": losses[1]}),
        Group(metrics=("rouge_l",), examples=examples, outputs=texts[0], baselines={"base_model": texts[1]}),
    ]
    report = build_report(objective="sft", metric="loss", groups=groups, resamples=100)
    assert report["verdict"]["decision"] == "better"
    assert report["hints"] == ["ROUGE-L is 33.3 points lower than with the untuned model: tuning made this clearly worse."]


def test_learning_by_heart_and_false_sureness_are_told(classify: Case) -> None:
    hints = " ".join(classify[0]["hints"])
    assert "After step 240 the validation loss rose" in hints and "surer than it says" in hints
    assert "The weights of step 240 were kept" in hints and "fewer steps" not in hints


def test_after_learning_again_from_all_rows_no_step_of_the_first_phase_is_called_kept() -> None:
    log: list[dict[str, Any]] = [{"kind": "step", "phase": "fit", "step": step, "loss": 1 / step} for step in range(1, 31)]
    log += [
        {"kind": "validation", "phase": "fit", "step": step, "loss": loss} for step, loss in ((10, 0.5), (20, 0.4), (30, 0.6))
    ]
    log.append({"kind": "step", "phase": "refit", "step": 1, "loss": 0.2})
    (hint,) = overfitting(log)
    assert "Learning again from all rows ended after as many epochs" in hint and "weights of step" not in hint


def test_rows_of_several_files_are_divided_by_file() -> None:
    files = ("/data/a/rows.csv", "/data/b/rows.csv", "/data/b/more.csv")
    examples = [
        Example(id=n, file=files[n % 3], line=n, text=f"row {n}", label="xy"[n % 2], tags={"part": "p"}) for n in range(90)
    ]
    group = Group(("accuracy",), examples, [Output(label="x")] * 90)
    settings: dict[str, Any] = {"objective": "classify", "metric": "accuracy", "resamples": 50}
    report = build_report(groups=[group], slices=("part",), **settings)
    assert list(report["slices"]) == ["part", "file"]
    assert {name: one["n"] for name, one in report["slices"]["file"].items()} == {
        "a/rows.csv": 30,
        "b/rows.csv": 30,
        "b/more.csv": 30,
    }
    one_file = replace(group, examples=[replace(example, file=files[0]) for example in examples])
    assert list(build_report(groups=[one_file], slices=("part",), **settings)["slices"]) == ["part"]


def test_what_is_known_of_the_rows_is_the_first_hint() -> None:
    known = ("3 of 33 rows of again.tsv also stand in what was learnt from.",)
    report = labelled("ab" * 15, "ab" * 15, "aa" * 15, known=known)
    assert report["hints"][0] == known[0] and len(report["hints"]) > 1


@pytest.mark.parametrize(
    ("given", "true", "told"),
    [
        (["yes"] * 30 + [f"answer {n}" for n in range(10)], [], "30 of 40"),
        (["yes"] * 30 + [f"answer {n}" for n in range(10)], [f"truth {n}" for n in range(40)], "30 of 40"),
        (["yes"] * 40, ["yes", "no"] * 20, ""),  # so it is in the data
        (["yes"] * 19 + [f"answer {n}" for n in range(21)], [], ""),
        (["yes"] * 19, [], ""),
        ([f"answer {n}" for n in range(40)], [], ""),
    ],
)
def test_one_answer_to_everything_is_told(given: list[str], true: list[str], told: str) -> None:
    asked = [Message("user", f"question {n}") for n in range(len(given))]
    examples = [Example(id=n, messages=(one, Message("assistant", true[n])) if true else (one,)) for n, one in enumerate(asked)]
    group = Group(("mean_reward",), examples, [Output(text=text, reward=1.0) for text in given])
    hints = build_report(objective="grpo", metric="mean_reward", groups=[group], resamples=50)["hints"]
    said = [hint for hint in hints if "one and the same answer" in hint]
    assert len(said) == bool(told) and all(told in hint for hint in said)


def test_a_class_that_is_never_found_is_told() -> None:
    report = labelled(["a"] * 100 + ["b"] * 20, ["a"] * 120, ["a"] * 120, classes=["a", "b", "c"])
    assert report["hints"] == [
        'Class "b" is never found in the test rows.',
        'Class "c" is absent from the test rows, so these numbers say nothing of them.',
    ]


def test_a_slice_is_called_weak_only_beyond_chance() -> None:
    random = np.random.default_rng(3)
    truth = ["a"] * 600
    tuned = ["a" if random.random() < 0.8 else "b" for _ in truth]
    tags = [str(number) for number in random.integers(0, 20, size=600)]
    assert labelled(truth, tuned, tuned, tags)["verdict"]["weakest_slice"] is None
    worse = ["b" if tag == "3" else label for tag, label in zip(tags, tuned, strict=True)]
    assert labelled(truth, worse, worse, tags)["verdict"]["weakest_slice"]["name"] == "3"


def test_the_more_slices_there_are_the_further_below_one_must_be() -> None:
    truth = ["a"] * 2000
    part = [number // 100 for number in range(2000)]  # 20 parts of 100 rows; 24 of them wrong in one part, and 12 in each other
    tuned = ["b" if number % 100 < (24 if part[number] == 7 else 12) else "a" for number in range(2000)]
    two, twenty = ["7" if one == 7 else "other" for one in part], [str(one) for one in part]
    assert labelled(truth, tuned, tuned, two)["verdict"]["weakest_slice"]["name"] == "7"
    assert labelled(truth, tuned, tuned, twenty)["verdict"]["weakest_slice"] is None, "one of 20 is that far below by chance"


def test_several_labels_have_scores_by_class_and_no_matrix() -> None:
    sets = [("a", "b"), ("a",), (), ("b",)] * 10
    examples = [Example(id=number, text="t", labels=labels) for number, labels in enumerate(sets)]
    outputs = [Output(labels=("a",), probabilities={"a": 0.9, "b": 0.4}) for _ in sets]
    group = Group(
        metrics=("micro_f1", "exact_set"), examples=examples, outputs=outputs, baselines={"empty_set": [Output(labels=())] * 40}
    )
    report = build_report(objective="tag", metric="micro_f1", groups=[group], classes=["a", "b"], resamples=100)
    assert report["per_class"]["a"] == {"n": 20, "precision": 0.5, "recall": 1.0, "f1": approx(2 / 3)}
    assert "confusion" not in report
    # the empty rows: a was given at 0.9; b missed at 0.4 leaves 0.6
    assert report["worst"][0]["probability"] == approx(0.9) and report["worst"][0]["label"] == ""


@pytest.mark.parametrize("num_rows", [0, 1])
def test_no_row_or_one_claims_nothing(num_rows: int) -> None:
    report = labelled(["a"] * num_rows, ["a"] * num_rows, ["b"] * num_rows)
    json.dumps(report, allow_nan=False)
    assert report["verdict"]["decision"] == ("same" if num_rows else None)


def test_without_a_baseline_there_is_no_verdict() -> None:
    group = Group(metrics=("accuracy",), examples=[Example(id=0, label="a")], outputs=[Output(label="a")])
    verdict = build_report(objective="classify", metric="accuracy", groups=[group], resamples=100)["verdict"]
    assert verdict["decision"] is None and "no baseline" in verdict["sentence"]


def test_a_metric_of_the_users_own_is_scored_and_named(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "src" / "whet" / "metrics" / "accuracy.py"
    (tmp_path / "strict_share.py").write_text(source.read_text())
    outputs = [Output(label="a"), Output(label="b")]
    examples = [Example(id=number, label="a") for number in range(2)]
    group = Group(metrics=("./strict_share.py",), examples=examples, outputs=outputs)
    report = build_report(objective="classify", metric="./strict_share.py", groups=[group], resamples=100, folder=tmp_path)
    assert report["metric"] == "strict_share" and report["metrics"]["strict_share"]["value"] == 0.5
    assert "strict share 0.500 on 2 test rows" in report["verdict"]["sentence"]
