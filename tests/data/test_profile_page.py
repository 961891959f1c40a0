"""The page of `whet prepare --profile`: figures by hand, nothing private, nothing fetched; rows of any kind."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from whet.recipe_file import build_recipe
from whet.report.cloud import bins
from whet.report.profile_questions import questions
from whet.stages.narrate import Narrator
from whet.stages.prepare import prepare_run
from whet.stages.profile import NUMBERS, PAGE, profile_run
from whet.stages.profile_rows import see, total_variation

WORDS = "river stone cloud paper window garden silver engine bottle winter candle basket market ladder bridge copper".split()


def sentence(draw: random.Random, words: int = 9) -> str:
    return " ".join(draw.choices(WORDS, k=words))


class Told(Narrator):
    """What was said, for tests."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def profiled(folder: Path, data: dict[str, object], objective: str = "classify", model: str = "builtin:minilm"):
    recipe = build_recipe({"model": model, "data": data, "objective": objective}, "recipe.yaml")
    run = prepare_run(recipe, folder=folder, out=folder / "run")
    told = Told()
    page = profile_run(run, recipe, Path("recipe.yaml"), told)
    assert page == run.path / PAGE
    return page.read_text(encoding="utf-8"), json.loads((run.path / NUMBERS).read_text(encoding="utf-8")), told.lines


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """120 rows in two files, one of which has another mixture of labels; 6 hold a mail address; 10 are copies."""
    folder, draw = tmp_path_factory.mktemp("profiled"), random.Random(1)
    topics = {"weather": "the rain and the wind of tomorrow", "money": "the bill and the debt of old ones"}
    for name, share in (("a.csv", 0.9), ("b.csv", 0.2)):
        rows = []
        for number in range(60):
            label = "weather" if number < 60 * share else "money"
            private = f" write to someone{number}@mail.example.org" if number in {3, 30} else ""
            rows.append(f"{topics[label]} {sentence(draw)}{private},{label}")
        rows += rows[:5]
        (folder / name).write_text("text,label\n" + "\n".join(rows) + "\n")
    return profiled(folder, {"path": [str(folder / "a.csv"), str(folder / "b.csv")], "text": "text", "label": "label"})


def test_counts_are_those_of_the_rows(labelled):
    _, found, _ = labelled
    assert found["rows_in"] == 130 and found["used"] == 120 and found["duplicates"]["exact"] == 10
    assert {one["name"]: one["n"] for one in found["classes"]} == {"weather": 54 + 12, "money": 6 + 48}
    assert [one["n"] for one in found["sources"]] == [60, 60]
    assert found["private"] == [{"words": "mail addresses", "rows": 6, "found": 6}]  # counted before copies leave
    (length,) = found["lengths"]["fields"]
    assert length["n"] == 120 == sum(one["n"] for one in length["bins"]) and found["lengths"]["limit"] == 512
    assert found["languages"][0] == {"name": "English", "n": 120}
    assert len(found["map"]["points"]) == 120 and {one["class"] for one in found["map"]["points"]} == {"weather", "money"}


def test_sources_that_differ_are_told_by_how_much(labelled):
    _, found, _ = labelled
    labels = [one for one in found["drift"] if one["what"] == "labels"]
    # 54 and 6 of 60 against 12 and 48 of 60: half of |0.9 - 0.2| + |0.1 - 0.8| is 0.7
    assert [one["value"] for one in labels] == [pytest.approx(0.7)] * 2 and all(one["alarm"] for one in labels)
    shares = {("90", "20"), ("20", "90"), ("10", "80"), ("80", "10")}
    assert all(re.findall(r"(\d+) % of its rows, (\d+) %", one["sentence"])[0] in shares for one in labels)
    assert not any(one["alarm"] for one in found["drift"] if one["what"] == "lengths")


def test_the_page_is_whole_and_shows_no_private_data(labelled):
    page, found, told = labelled
    written = page + json.dumps(found) + "\n".join(told)
    assert "@mail.example.org" not in written and "[mail]" in page
    assert "<script" not in page and "http://" not in page and "https://" not in page and " src=" not in page
    assert "default-src 'none'" in page and page.rstrip().endswith("</html>")
    assert len(re.findall(r'class="spot c\d"', page)) == 120


def test_questions_come_from_what_was_found(labelled):
    _, found, told = labelled
    asked = {one["question"] for one in found["questions"]}
    assert "May a model learn these private data?" in asked
    assert "Which of the sources looks like what the model will be asked?" in asked
    assert any(line.startswith("? May a model learn") for line in told)


def plain(**changes):
    """What is found where nothing is remarkable."""
    found = {
        "recipe": "recipe.yaml", "model": "builtin:minilm", "objective": "classify", "rows_in": 1000, "used": 1000, "dropped": {},
        "noise": [], "hidden": [], "duplicates": {"conflicts": 0}, "private": [], "redacted": False, "drift": [], "same_answer": {},
        "classes": [{"name": "a", "n": 500}, {"name": "b", "n": 500}], "languages": [{"name": "English", "n": 1000}],
        "lengths": {"limit": 512, "fields": [{"name": "text", "n": 1000, "over": 0, "empty": 0}]},
    }  # fmt: skip
    return {**found, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noise": [{"task": "", "n": 1000, "num_wrong": 90, "fraction": 0.1}]}, "90 of 1,000 labels look wrong"),
        ({"duplicates": {"conflicts": 7}}, "7 texts stand in the data with different labels"),
        ({"classes": [{"name": "a", "n": 997}, {"name": "b", "n": 3}]}, "b (3)"),
        ({"private": [{"words": "mail addresses", "rows": 5}]}, "mail addresses in 5"),
        ({"used": 40}, "40 rows are left"),
        ({"dropped": {"near duplicate": 200}}, "200 of 1,000 rows are copies"),
        (
            {"dropped": {"leak": 20, "near leak": 5}},
            "25 of 1,000 rows stand, as they are or nearly so, in a file that is judged on",
        ),
        ({"dropped": {"'text' is empty": 80}}, "80 of 1,000 rows are not used"),
        ({"lengths": {"limit": 512, "fields": [{"name": "text", "n": 1000, "over": 50, "empty": 0}]}}, "50 of 1,000 rows (text)"),
        ({"lengths": {"limit": 0, "fields": [{"name": "text", "n": 1000, "over": 0, "empty": 2}]}}, "fewer than 2 tokens"),
        ({"languages": [{"name": "English", "n": 900}, {"name": "German", "n": 100}]}, "German (100 of 1,000)"),
        ({"same_answer": {"n": 100, "of": 1000}}, "100 of 1,000 rows have the very same answer"),
        ({"hidden": ["the label stands in the text."]}, "the label stands in the text."),
    ],
)
def test_each_finding_asks_its_question_and_none_without_it(changes, said):
    assert questions(plain()) == []
    asked = questions(plain(**changes))
    assert any(said in one["because"] for one in asked) and all(one["todo"] for one in asked)


def test_text_without_labels_conversations_and_pairs_have_a_page(tmp_path):
    draw = random.Random(2)
    (tmp_path / "plain.csv").write_text("text\n" + "".join(f"{sentence(draw)}\n" for _ in range(40)))
    page, found, _ = profiled(tmp_path, {"path": str(tmp_path / "plain.csv"), "text": "text"}, "pretrain", "builtin:seedling")
    assert found["classes"] == [] and found["noise"] == [] and page.count('class="spot c0"') == 40
    (tmp_path / "chat").mkdir()
    rows = [
        {
            "messages": [
                {"role": "user", "content": sentence(draw)},
                {"role": "assistant", "content": "no" if n % 2 else sentence(draw)},
            ]
        }
        for n in range(40)
    ]
    (tmp_path / "chat" / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "chat" / "c.jsonl"), "messages": "messages"}
    _, found, _ = profiled(tmp_path / "chat", data, "sft", "builtin:seedling")
    assert [one["name"] for one in found["lengths"]["fields"]] == ["conversation", "answer"]
    assert found["same_answer"] == {"n": 20, "of": 40}
    (tmp_path / "pairs").mkdir()
    rows = [{"prompt": sentence(draw), "chosen": sentence(draw), "rejected": sentence(draw)} for _ in range(40)]
    (tmp_path / "pairs" / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "pairs" / "p.jsonl"), "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    _, found, _ = profiled(tmp_path / "pairs", data, "dpo", "builtin:seedling")
    assert [one["name"] for one in found["lengths"]["fields"]] == ["conversation", "chosen answer", "rejected answer"]


def test_a_tokenizer_that_is_not_to_be_had_is_told(tmp_path):
    draw = random.Random(3)
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{sentence(draw)},{'ab'[n % 2]}\n" for n in range(30)))
    data = {"path": str(tmp_path / "t.csv"), "text": "text", "label": "label"}
    page, found, _ = profiled(tmp_path, data, model="nobody/no-such-model")
    assert found["lengths"]["tokenizer"] == "builtin:minilm" and "nobody/no-such-model" in found["lengths"]["why"]
    assert found["lengths"]["why"] in page


def test_the_draw_does_not_depend_on_how_many_there_are_to_choose_from(tmp_path):
    draw = random.Random(4)
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{sentence(draw)},{'ab'[n % 2]}\n" for n in range(200)))
    recipe = build_recipe(
        {
            "model": "builtin:minilm",
            "data": {"path": str(tmp_path / "t.csv"), "text": "text", "label": "label"},
            "objective": "classify",
        },
        "r",
    )
    run = prepare_run(recipe, folder=tmp_path, out=tmp_path / "run")
    small, large = see(run.path, 20), see(run.path, 100)
    assert len(small.drawn) == 20 and {one.id for one in small.drawn} < {one.id for one in large.drawn}
    assert small.parts.total() == large.parts.total() == 200


def test_bins_hold_every_length_once():
    found = bins([1] * 50 + [7] * 30 + [200])
    assert sum(one["n"] for one in found) == 81 and found[0]["low"] == 0 and found[-1]["high"] > 200
    assert bins([]) == [] and sum(one["n"] for one in bins([5])) == 1


def test_total_variation_by_hand():
    # shares 0.75, 0.25 against 0.25, 0.75: half of 0.5 + 0.5
    assert total_variation(np.array([[3, 1]]), np.array([[1, 3]]))[0] == pytest.approx(0.5)
