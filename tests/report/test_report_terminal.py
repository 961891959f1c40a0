"""The short form fits its terminal and says the verdict."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from whet.report.terminal import show_report


def printed(report: dict[str, Any], width: int) -> str:
    stream = io.StringIO()
    show_report(report, Console(file=stream, width=width, no_color=True), "runs/x/report.html")
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("name", ["classify", "sft", "regression"])
def test_the_short_form_fits_and_says_the_verdict(name: str, width: int, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(name)[0]
    text = printed(report, width)
    assert max(map(len, text.splitlines())) <= max(width, len("More, with charts: runs/x/report.html"))
    assert " ".join(text.split()).startswith(report["verdict"]["sentence"])
    assert "runs/x/report.html" in text


def test_wide_terminals_see_intervals_and_every_baseline(classify: tuple[dict[str, Any], dict[str, Any]]) -> None:
    text = printed(classify[0], 120)
    assert "Most frequent class" in text and "93.0-94.6" in text


def test_the_weakest_slice_is_told_even_if_it_may_be_chance(regression: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert "No slice is clearly below the rest; the weakest is shop " in " ".join(printed(regression[0], 100).split())


def test_the_five_weakest_classes_stand_with_precision_and_recall(classify: tuple[dict[str, Any], dict[str, Any]]) -> None:
    report = classify[0]
    lines = [" ".join(line.split()) for line in printed(report, 100).splitlines()]
    scores = sorted((one["f1"], name, one) for name, one in report["per_class"].items())[:5]
    expected = [f"{name} {one['precision']:.1%} {one['recall']:.1%} {one['n']}".replace("%", " %") for _, name, one in scores]
    first = lines.index("Weakest classes Precision Recall Rows")
    assert lines[first + 1 : first + 6] == expected and not lines[first + 6]
    assert not any("weighted" in line.lower() for line in lines)


def test_classes_without_an_error_and_slices_that_are_alike_are_not_called_weak(
    classify: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    report = classify[0]
    for one in report["per_class"].values():
        one.update(precision=1.0, recall=1.0, f1=1.0)
    for values in report["slices"].values():
        for entry in values.values():
            entry["metrics"]["accuracy"]["value"] = 1.0
    report["verdict"]["weakest_slice"] = None
    assert "eakest" not in printed(report, 100).removeprefix(report["verdict"]["sentence"]).partition("Rows")[2]
