"""Rows become examples: every shape, what is missing is named, and no content is repeated in a reason."""

from __future__ import annotations

import pytest

from whet.data.columns import look
from whet.data.guess import guess_classify
from whet.data.rows import RawRow, Reject
from whet.data.shapes import several, to_examples
from whet.recipe_data import Data
from whet.types import Example, Message

CLASSIFY, CHAT = ("text", "label"), ("messages",)


def one(fields: dict[str, object], needs: tuple[str, ...], **columns: object) -> Example | Reject:
    return next(to_examples([RawRow("f.csv", 7, fields)], Data(path="f.csv", **columns), needs))


def test_text_and_label_with_slices():
    made = one(
        {"t": " hello ", "l": " a  b ", "channel": "chat", "tier": None},
        CLASSIFY,
        text="t",
        label="l",
        slices=("channel", "tier"),
    )
    assert made == Example(id=0, file="f.csv", line=7, text=" hello ", label="a b", tags={"channel": "chat", "tier": "(empty)"})


@pytest.mark.parametrize(("value", "label"), [(0, "0"), (1.0, "1"), (True, "true"), ("x", "x"), (0.5, "0.5")])
def test_labels_that_are_no_text(value, label):
    made = one({"t": "hello", "l": value}, CLASSIFY, text="t", label="l")
    assert isinstance(made, Example) and made.label == label


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"t": " ", "l": "SECRET"}, "'t' is empty"),
        ({"t": None, "l": "SECRET"}, "'t' is empty"),
        ({"l": "SECRET"}, "'t' is empty"),
        ({"t": "SECRET", "l": ""}, "'l', the label, is empty"),
        ({"t": "SECRET", "l": float("nan")}, "'l', the label, is empty"),
        ({"t": ["SECRET"], "l": "a"}, "'t' is no text but a list or an object"),
    ],
)
def test_what_is_missing_is_named_and_content_is_not_repeated(fields, reason):
    made = one(fields, CLASSIFY, text="t", label="l")
    assert (
        isinstance(made, Reject)
        and made.reason == reason
        and made.sentence().startswith("f.csv:7: ")
        and "SECRET" not in made.sentence()
    )


@pytest.mark.parametrize(("value", "used"), [([], True), ([None], False), ("", False), (None, False), ("|", False)])
def test_a_list_without_labels_says_that_none_applies_and_an_empty_field_says_nothing(value, used):
    made = one({"t": "hello", "l": value}, ("text", "labels"), text="t", labels="l")
    assert isinstance(made, Example) == used and (not used or made.labels == ())


def test_a_list_without_labels_stands_for_no_text_and_is_that_of_the_column_of_labels():
    assert isinstance(one({"t": "", "l": []}, ("text", "labels"), text="t", labels="l"), Reject)
    made = one({"t": "hello", "l": []}, ("text", "labels"), text="t", label="l")
    assert isinstance(made, Example) and made.labels == ()
    made = one({"t": "hello", "l": "a", "more": []}, ("text", "labels"), text="t", labels="more", label="l")
    assert isinstance(made, Example) and made.labels == ()


@pytest.mark.parametrize("value", [["a", "b", "a", None], "a|b", "a; b ;a", "a,b"])
def test_several_labels(value):
    assert several(value) == ("a", "b")


def test_regression():
    made = one({"t": "x y", "l": "3.5"}, ("text", "value"), text="t", label="l")
    assert isinstance(made, Example) and made.value == 3.5
    zero = one({"t": "x y", "l": 0}, ("text", "value"), text="t", label="l")
    assert isinstance(zero, Example) and zero.value == 0.0
    assert isinstance(one({"t": "x y", "l": "SECRET"}, ("text", "value"), text="t", label="l"), Reject)


def test_prompt_input_and_response_become_a_conversation():
    made = one(
        {"s": "be kind", "p": "Translate.", "i": "chat", "r": "cat"}, CHAT, system="s", prompt="p", input="i", response="r"
    )
    assert isinstance(made, Example)
    assert made.messages == (Message("system", "be kind"), Message("user", "Translate.\n\nchat"), Message("assistant", "cat"))
    made = one({"p": "Translate.", "i": "", "r": ["cat", "tom"]}, CHAT, prompt="p", input="i", response="r")
    assert isinstance(made, Example) and made.messages == (Message("user", "Translate."), Message("assistant", "cat"))


def test_a_conversation_written_as_a_text_holds_what_a_file_can_hold():
    turns = r'[{"role": "user", "content": "a \ud800"}, {"role": "assistant", "content": "b"}]'
    made = one({"chat": turns}, ("messages",), messages="chat")
    assert isinstance(made, Example) and made.messages[0].content == "a \ufffd"


def test_roles_and_parts_of_other_forms():
    turns = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "b"},
        {"role": "assistant", "content": [{"type": "text", "text": "c"}, {"type": "text", "value": "d"}]},
    ]
    made = one({"m": turns}, CHAT, messages="m")
    assert isinstance(made, Example) and made.messages is not None
    assert [(turn.role, turn.content) for turn in made.messages] == [
        ("user", "a"),
        ("assistant", "{}"),
        ("tool", "b"),
        ("assistant", "c\nd"),
    ]
    call = [
        {"role": "user", "content": "w"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ]
    made = one({"m": call}, CHAT, messages="m")
    assert (
        isinstance(made, Example) and made.messages is not None and made.messages[1].content == '{"name": "f", "arguments": "{}"}'
    )


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([{"role": "user", "content": "SECRET"}], "no assistant's turn"),
        ([{"role": "user", "content": "SECRET"}, {"role": "assistant", "content": " "}], "an empty answer"),
        ([{"role": "SECRET", "content": "x"}], "role that is not known"),
        ([{"role": "assistant", "content": [{"type": "image_url", "image_url": "SECRET"}]}], "other than text"),
        ("SECRET", "no conversation"),
        ([], "'m' is empty"),
    ],
)
def test_conversations_that_cannot_be_learnt(turns, words):
    made = one({"m": turns}, CHAT, messages="m")
    assert isinstance(made, Reject) and words in made.reason and "SECRET" not in made.sentence()


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({"p": "q", "c": "good", "r": "bad"}, {"prompt": "p"}),
        (
            {"m": [{"from": "human", "value": "q"}], "c": {"from": "gpt", "value": "good"}, "r": {"from": "gpt", "value": "bad"}},
            {"messages": "m"},
        ),
        (
            {
                "c": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
                "r": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
            },
            {},
        ),
    ],
)
def test_preferences_keep_both_answers_and_can_be_learnt_by_sft(fields, columns):
    made = one(fields, CHAT, chosen="c", rejected="r", **columns)
    assert isinstance(made, Example)
    assert (made.messages, made.chosen, made.rejected) == ((Message("user", "q"), Message("assistant", "good")), "good", "bad")


def test_unwanted_answers_are_dropped_on_purpose():
    fields = {"p": "q", "r": "a", "l": False}
    made = one(fields, CHAT, prompt="p", response="r", label="l")
    assert isinstance(made, Reject) and made.kind == "unwanted" and not made.unusable
    assert isinstance(one({**fields, "l": True}, CHAT, prompt="p", response="r", label="l"), Example)


def test_a_need_that_no_column_serves_is_named():
    made = one({"p": "q", "r": "a"}, ("messages", "rejected"), prompt="p", response="r")
    assert isinstance(made, Reject) and "'rejected'" in made.reason


def test_conversational_prompts_and_answers_of_trl():
    prompt, reply = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]
    expected = (Message("user", "q"), Message("assistant", "a"))
    for columns, needs, fields in (
        ({"messages": "p", "response": "c"}, CHAT, {"p": prompt, "c": reply}),
        ({"messages": "p", "chosen": "c", "rejected": "r"}, CHAT, {"p": prompt, "c": reply, "r": reply}),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, CHAT, {"p": "q", "c": prompt + reply, "r": prompt + reply}),
        (
            {"messages": "p", "chosen": "c", "rejected": "r"},
            CHAT,
            {"p": prompt + reply, "c": prompt + reply, "r": prompt + reply},
        ),
    ):
        made = one(fields, needs, **columns)
        assert isinstance(made, Example) and made.messages == expected


def test_a_column_that_few_rows_have_is_not_the_text_whatever_it_is_called():
    rows = [RawRow("rows.txt", n, {"column_1": f"the food was no {n} on my list", "column_2": str(n % 2)}) for n in range(40)]
    rows.append(RawRow("note.txt", 1, {"text": "These sentences were gathered for a paper by people who are named in it."}))
    assert guess_classify(look(rows), {}).columns == {"label": "column_2", "text": "column_1"}
