"""Preferences, judged answers and prompts without an answer become examples; what cannot be one says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whet.data.preparing import prepare
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.recipe_data import Data
from whet.types import Example, Message

PAIRS, JUDGED, ASKED = ("prompt", "chosen", "rejected"), ("prompt", "response", "label"), ("prompt",)


def one(fields: dict[str, object], needs: tuple[str, ...], **columns: object) -> Example | Reject:
    return next(to_examples([RawRow("f.jsonl", 7, fields)], Data(path="f.jsonl", **columns), needs))


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({"p": "why?", "c": "so", "r": "no"}, {"prompt": "p"}),
        ({"p": turns("why?"), "c": turns("", "so")[1:], "r": turns("", "no")[1]}, {"messages": "p"}),
        ({"c": turns("why?", "so"), "r": turns("why?", "no")}, {}),
        ({"c": "\n\nHuman: why?\n\nAssistant: so", "r": "\n\nHuman: why?\n\nAssistant: no"}, {}),
    ],
)
def test_pairs_of_every_shape_carry_prompt_and_both_answers(fields, columns):
    made = one(fields, PAIRS, chosen="c", rejected="r", **columns)
    assert isinstance(made, Example), made
    assert (made.prompt, made.response, made.chosen, made.rejected) == ((Message("user", "why?"),), "so", "so", "no")


def test_a_transcript_of_several_turns_keeps_them():
    said = "\n\nHuman: hello\n\nAssistant: hi.\n\nWhat now?\n\nHuman: why?\n\nAssistant:"
    made = one({"c": f"{said} so", "r": f"{said} no"}, PAIRS, chosen="c", rejected="r")
    assert isinstance(made, Example)
    assert made.prompt == (Message("user", "hello"), Message("assistant", "hi.\n\nWhat now?"), Message("user", "why?"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"c": turns("why?", "so"), "r": turns("how?", "no")}, "'c' and 'r' reply to different turns"),
        ({"c": turns("why?", "so"), "r": turns("why?", "so")}, "'c' and 'r' are the same answer"),
        ({"c": "so", "r": "no"}, "the field 'prompt' is missing"),
        ({"c": turns("why?", "so"), "r": None}, "'r' is empty"),
    ],
)
def test_a_pair_that_teaches_nothing_says_why(fields, reason):
    made = one(fields, PAIRS, chosen="c", rejected="r")
    assert isinstance(made, Reject) and made.reason == reason


@pytest.mark.parametrize(
    ("value", "label"),
    [(True, "good"), ("False", "bad"), (1, "good"), (0.0, "bad"), ("Good", "good"), ("undesirable", "bad")],
)
def test_judgements_of_every_spelling_are_good_or_bad(value, label):
    made = one({"p": "why?", "r": "so", "l": value}, JUDGED, prompt="p", response="r", label="l")
    assert isinstance(made, Example) and (made.label, made.response) == (label, "so")


def test_a_judgement_that_says_neither_is_no_row():
    made = one({"p": "why?", "r": "so", "l": "SECRET"}, JUDGED, prompt="p", response="r", label="l")
    assert isinstance(made, Reject) and made.reason == "'l' says neither good nor bad"
    assert "SECRET" not in made.sentence()


def test_a_prompt_needs_no_answer_where_the_answers_are_written_later():
    made = one({"p": "why?"}, ASKED, prompt="p")
    assert isinstance(made, Example) and made.response is None and made.prompt == (Message("user", "why?"),)
    compared = one({"p": "why?"}, ("prompt", "response"), prompt="p")
    assert isinstance(compared, Reject)


def test_good_and_bad_answers_to_one_prompt_are_no_conflict(tmp_path):
    rows = [{"prompt": f"say {i // 2}", "completion": f"word {i}", "label": i % 2 == 0} for i in range(40)]
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prepare(Data(path=str(file)), JUDGED, None)
    assert not found.conflicts and found.classes == ("bad", "good")
    assert sum(map(len, found.parts.values())) == 40
    parts = [{example.prompt for example in part} for part in found.parts.values()]
    assert not parts[0] & parts[1] and not parts[0] & parts[2], "a prompt's answers stay in one part"


@pytest.mark.parametrize(
    ("name", "needs", "num_used", "num_dropped"),
    [
        ("instruct/llama_factory/dpo_en_demo.json", PAIRS, 295, 5),
        ("instruct/llama_factory/kto_en_demo.json", JUDGED, 300, 0),
        ("preference/open_instruct/rlvr_test.jsonl", ("prompt", "response"), 100, 0),
    ],
)
def test_real_files_are_used_to_the_last_row(name, needs, num_used, num_dropped):
    file = Path(__file__).resolve().parents[3] / "shared" / "data" / name
    if not file.is_file():
        pytest.skip(f"needs ../shared/data/{name}, which does not come with this project")
    found = prepare(Data(path=str(file)), needs, None)
    assert sum(map(len, found.parts.values())) == num_used and sum(found.accounting.dropped.values()) == num_dropped
    for example in found.train:
        assert all(getattr(example, need) for need in needs) and example.prompt[-1].role == "user"
