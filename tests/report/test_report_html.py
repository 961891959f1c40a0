"""The page holds what the report says, escapes what rows say, fetches nothing, and is the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from whet.report.heat import heat_map
from whet.report.html import accounted, quantity, render, tied
from whet.report.svg import Axis, axis_around, element, round_step

Case = tuple[dict[str, Any], dict[str, Any]]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of turn; collects text, tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(params=["classify", "sft", "regression"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def test_the_page_is_well_formed_and_says_the_verdict(case: Case) -> None:
    report, context = case
    text = " ".join(read(render(report, context)).words)
    assert tied(report["verdict"]["sentence"]) in text


def test_the_page_fetches_nothing_and_runs_nothing(case: Case) -> None:
    page = render(*case)
    parsed = read(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
    assert not [
        name for name, _ in parsed.attributes if name in {"src", "href", "style", "srcset", "xlink:href"} or name.startswith("on")
    ]
    assert not re.search(r"url\(|@import|https?://", page)


def test_the_style_sheet_is_the_one_that_the_policy_allows(case: Case) -> None:
    page = render(*case)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    policy = re.search(r"style-src 'sha256-([^']+)'", page)
    assert style and policy and "default-src 'none'" in page
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() == policy[1]


def test_the_same_report_gives_the_same_bytes(case: Case) -> None:
    assert render(*case) == render(*case)


def test_texts_of_rows_are_escaped(make_classify: Callable[[int, int], Case]) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=y>"
    report, context = make_classify(3, 60)
    report["worst"] = [{"id": 1, "file": evil, "line": 1, "text": evil, "label": evil, "prediction": evil, "probability": 0.9}]
    report["confusion"]["labels"][0] = evil
    report["per_class"][evil] = report["per_class"].popitem()[1]
    report["slices"]["channel"][evil] = report["slices"]["channel"].popitem()[1]
    report["verdict"]["sentence"] = report["hints"][0] = evil
    context["run"] = evil
    context["samples"] = [{"prompt": evil, "reference": evil, "base": evil, "tuned": evil}]
    context["decisions"] = [{"key": evil, "value": evil, "reason": evil}]
    context["data"]["dropped"] = {evil: 3}
    context["machine"] = {evil: evil}
    page = render(report, context)
    assert "<script" not in page and "<img" not in page
    assert not {"script", "img"} & set(read(page).tags)


def test_every_part_of_the_context_is_optional(case: Case) -> None:
    report, context = case
    read(render(report, {}))
    for left_out in context:
        read(render(report, {key: value for key, value in context.items() if key != left_out}))
        read(render(report, context | {left_out: None}))


def test_parts_with_fields_missing_do_not_break_the_page(classify: Case) -> None:
    context = {
        "samples": [{"prompt": "q", "tuned": "a"}],
        "preflight": [{"sentence": "s"}],
        "decisions": [{"key": "k"}],
        "data": {"rows_in": 3},
    }
    read(render(classify[0], context))


def test_many_classes_get_a_compact_matrix_and_the_most_confused_pairs(make_classify: Callable[[int, int], Case]) -> None:
    report, context = make_classify(30, 300)
    page = render(report, context)
    assert 'class="heat compact"' in page and "Most often confused" in page and "more classes" in page


def test_the_best_step_and_the_stop_are_marked(classify: Case) -> None:
    page = render(*classify)
    assert "best: step 240" in page and "stopped after step 320" in page


def test_every_picture_has_a_title(case: Case) -> None:
    for inner in re.findall(r'<svg role="img"[^>]*>(<[^>]*>)', render(*case)):
        assert inner == "<title>"


def test_elements_escape_text_and_attributes() -> None:
    assert element("text", "a < b & c", class_='"x"') == '<text class="&#34;x&#34;">a &lt; b &amp; c</text>'


def test_ticks_are_round_and_inside() -> None:
    assert round_step(0.3) == 0.5 and round_step(2.0) == 2.0 and round_step(23) == 25
    axis = axis_around([0.72, 0.93], share=True)
    assert 0 <= axis.low < 0.72 and 0.93 < axis.high <= 1
    assert Axis(0.0, 1.0).ticks(4) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_quantities_are_read_by_their_unit() -> None:
    found = [
        quantity(221.4, "train_s"),
        quantity(3.25, "read_s"),
        quantity(7300, "x_s"),
        quantity(2**34, "memory_bytes"),
        quantity("cpu", "device"),
    ]
    assert found == ["3 min 41 s", "3.2 s", "2 h 1 min", "16.0 GiB", "cpu"]


def test_rows_are_added_up_over_sources() -> None:
    sources = {
        "path": {"rows": 10, "used": {"train": 6, "validation": 2}, "dropped": {"empty": 2}},
        "test": {"rows": 5, "used": {"test": 4}, "dropped": {"empty": 1}},
    }
    added = accounted({"sources": sources, "notices": []})
    assert added == {"rows_in": 15, "used": 12, "splits": {"train": 6, "validation": 2, "test": 4}, "dropped": {"empty": 3}}


def test_a_second_phase_of_training_does_not_bend_the_curve(classify: Case) -> None:
    report, context = classify
    log = [entry | {"phase": "fit"} for entry in context["log"]]
    again = [entry | {"phase": "refit", "loss": 9.0} for entry in context["log"] if entry["kind"] == "step"]
    assert render(report, context | {"log": log + again}) == render(report, context | {"log": log})


def test_the_names_of_the_axes_of_a_small_matrix_lie_inside_and_apart() -> None:
    page = str(heat_map({"labels": ["ham", "spam"], "counts": [[9, 1], [0, 5]]}))
    found = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(true|predicted) class<', page)
    at = {name: (float(x), float(y)) for x, y, name in found}
    ticks = [(float(x), float(y)) for x, y in re.findall(r'x="([\d.]+)" y="([\d.]+)" transform="rotate', page)]
    width = float(re.findall(r'viewBox="0 0 (\d+)', page)[0])
    assert at["true"][0] >= 65 and at["predicted"][0] + 95 <= width  # some 6.5 px for each letter
    assert len(ticks) == 2 and min(y for _, y in ticks) - 4 * 6.6 * 0.62 >= at["predicted"][1]  # the longest tick ends below


def test_a_row_to_read_is_named_by_its_file_without_folders(classify: Case) -> None:
    report, given = classify
    report["worst"][0] |= {"file": "/home/somebody/data/tickets.csv", "line": 1234}
    page = render(report, given)
    assert '<div class="where">tickets.csv<span class="tie">:1234</span></div>' in page and "somebody" not in page
