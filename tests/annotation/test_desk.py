"""What the page can do, and what it may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import items_for

from whet.annotation.answers import Answer, Stale
from whet.annotation.guidelines import to_html
from whet.annotation.items import spelt_alike
from whet.annotation.kinds import Job, NotAllowed, checked, spans_of, tags_of
from whet.annotation.phrases import Phrases
from whet.annotation.queue import Sharing
from whet.annotation.store import Store
from whet.data.preparing import prepare
from whet.recipe_data import Data
from whet.stages.annotate_rows import find_rows


def save(desk, key, value, annotator="ada", action="answer", revision=0, reason="", seconds=None):
    new = Answer(key=key, annotator=annotator, revision=revision, action=action, value=value, reason=reason, seconds=seconds)
    return desk.save(new)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("label", ["billing", "bug"]),
        ("labels", [["speed", "price"], []]),
        ("spans", [[{"kind": "PERSON", "first": 0, "end": 2}, {"kind": "PLACE", "first": 6, "end": 7}], []]),
        ("text", ["A better answer."]),
        ("preference", [{"better": "second", "reasons": ["safer"], "note": "so"}, {"better": "tie", "reasons": [], "note": ""}]),
        ("rating", [1, 5]),
    ],
)
def test_every_kind_of_answer_is_taken_and_comes_back(make_desk, kind, values):
    desk = make_desk(kind, review=True)
    row = desk.next("ada", "s")["row"]
    for revision, value in enumerate(values):
        save(desk, row["key"], value, revision=revision)
        shown = desk.row(row["key"], "ada")["row"]["answer"]
        if kind == "labels":
            assert set(shown["value"]) == set(value)
        else:
            assert shown["value"] == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("label", "unheard of"), ("label", None), ("label", ["bug"]), ("labels", "price"), ("labels", ["unheard of"]),
        ("spans", [{"kind": "PERSON", "first": 0, "end": 99}]), ("spans", [{"kind": "PERSON", "first": 2, "end": 2}]),
        ("spans", [{"kind": "PERSON", "first": True, "end": 2}]), ("spans", [{"kind": "PERSON", "first": 0}]),
        ("spans", [{"kind": "PERSON", "first": 0, "end": 2}, {"kind": "PLACE", "first": 1, "end": 3}]),
        ("text", "  "), ("text", 3), ("preference", "first"), ("preference", {"better": "third"}),
        ("preference", {"better": "first", "reasons": ["because"]}), ("preference", {"better": "first", "note": 3}),
        ("rating", 0), ("rating", 6), ("rating", 2.5), ("rating", True),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_nothing_is_stored(make_desk, kind, value):
    desk = make_desk(kind, review=True)
    key = next(iter(desk.queue.items))
    with pytest.raises(NotAllowed):
        save(desk, key, value)
    assert desk.store.answers() == []
    assert desk.queue.said == {}


def test_another_window_is_not_overwritten(make_desk):
    desk = make_desk()
    key = desk.next("ada", "left")["row"]["key"]
    save(desk, key, "bug")
    with pytest.raises(Stale):
        save(desk, key, "billing")
    assert desk.row(key, "ada")["row"]["answer"]["value"] == "bug"
    save(desk, key, "billing", revision=1)


def test_undo_shows_the_row_again_as_it_was(make_desk):
    desk = make_desk()
    key = desk.next("ada", "s")["row"]["key"]
    save(desk, key, "bug", seconds=3.0)
    assert desk.next("ada", "s")["row"]["key"] != key
    back = desk.undo("ada", "s")
    assert (back["row"]["key"], back["row"]["answer"]["action"]) == (key, "none")
    assert desk.next("ada", "s")["row"]["key"] == key
    assert desk.undo("ada", "s")["row"] is None
    assert desk.undo("bob", "s")["row"] is None


def test_flagging_needs_a_reason(make_desk):
    desk = make_desk()
    key = next(iter(desk.queue.items))
    with pytest.raises(NotAllowed, match="reason"):
        save(desk, key, None, action="flag")
    save(desk, key, None, action="flag", reason="two fit")
    assert [row["said"][0]["reason"] for row in desk.disputes("bob")["rows"]] == ["two fit"]


def test_a_dispute_is_settled_once_and_leaves_the_list(make_desk):
    desk = make_desk(sharing=Sharing(fraction=1.0, people=2))
    key = next(iter(desk.queue.items))
    save(desk, key, "bug")
    save(desk, key, "billing", "bob")
    found = desk.disputes("eve")["rows"]
    assert [(one["annotator"], one["value"]) for one in found[0]["said"]] == [("ada", "bug"), ("bob", "billing")]
    desk.decide(Answer(key=key, annotator="eve", action="answer", value="bug"))
    assert desk.disputes("eve")["rows"] == []
    with pytest.raises(Stale):
        desk.decide(Answer(key=key, annotator="dan", action="answer", value="billing"))
    assert [one.subject for one in desk.store.history(key)] == ["answer", "answer", "decision"]


def test_which_answer_comes_first_depends_on_the_row_and_says_nothing_of_the_column(make_desk):
    fields = [{"prompt": f"p{number}", "chosen": "a", "rejected": "b"} for number in range(200)]
    desk = make_desk("preference", fields=fields, review=True)
    first = [desk.row(key, "ada")["row"]["content"]["answers"][0]["side"] for key in desk.queue.items]
    assert 60 < first.count("first") < 140  # four standard deviations around 100
    assert desk.row(next(iter(desk.queue.items)), "ada")["row"]["given"] is None


def test_a_new_label_is_there_after_the_page_was_closed(make_desk, tmp_path):
    desk = make_desk()
    desk.add_label("  other   things ")
    desk.store.close()
    with Store(tmp_path / "rows.annotations.sqlite", writes=False) as store:
        assert store.job.labels == ("billing", "bug", "other things")
    with pytest.raises(NotAllowed):
        desk.add_label(" ")


def test_agreement_of_two_people_by_hand(make_desk):
    desk = make_desk(sharing=Sharing(fraction=1.0, people=2), review=True)
    keys = list(desk.queue.items)
    for place, (one, two) in enumerate([("bug", "bug"), ("bug", "billing"), ("billing", "billing"), ("billing", "billing")]):
        save(desk, keys[place], one, "ada")
        save(desk, keys[place], two, "bob")
    found = desk.agreement()
    assert found["overlap"] == 1.0
    # the same in 3 of 4; by chance 2/4 * 1/4 + 2/4 * 3/4 = 1/2; kappa = (3/4 - 1/2) / (1/2) = 1/2
    assert found["pairs"] == [{"first": "ada", "second": "bob", "n": 4, "same": 0.75, "cohen_kappa": pytest.approx(0.5)}]
    assert found["confusions"] == [{"first": "billing", "second": "bug", "times": 1}]


def test_words_of_spans_are_the_units_that_are_compared(make_desk):
    desk = make_desk("spans", sharing=Sharing(fraction=1.0, people=2))
    key = next(iter(desk.queue.items))
    save(desk, key, [{"kind": "PERSON", "first": 0, "end": 2}], "ada")
    save(desk, key, [{"kind": "PERSON", "first": 0, "end": 1}], "bob")
    found = desk.agreement()
    assert (found["unit"], found["pairs"][0]["n"], found["pairs"][0]["same"]) == ("word", 7, pytest.approx(6 / 7))


@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12))
def test_tags_and_spans_are_the_same_thing(tags):
    spans = spans_of(tags)
    assert spans_of(tags_of(spans, len(tags))) == spans
    job = Job(kind="spans", labels=("A", "B"))
    assert checked(job, {"text": " ".join("w" for _ in tags)}, spans) == spans


def test_a_phrase_is_suggested_where_it_stands_again():
    rows = [
        (
            "Ada Lovelace met Babbage".split(),
            [{"kind": "PERSON", "first": 0, "end": 2}, {"kind": "PERSON", "first": 3, "end": 4}],
        ),
        ("in May it may rain".split(), [{"kind": "DATE", "first": 1, "end": 2}]),
    ]
    phrases = Phrases(rows)
    spans, sure = phrases.spans("Yesterday, Ada Lovelace (not Babbage) spoke".split())
    assert spans == [{"kind": "PERSON", "first": 1, "end": 3}, {"kind": "PERSON", "first": 4, "end": 5}]
    assert sure == 1.0
    assert phrases.spans("may I?".split()) == ([], None)  # labelled in one of its two places: not more often than not


def test_guidelines_keep_their_shape_and_let_no_markup_through():
    page = to_html(
        "# Labels\n\nUse *one*, **always**: `x<y`.\n\n- first\n  goes on\n- [site](https://a.example/?q=1&r=2)\n\n> said\n\n1. one\n2. two"
    )
    assert page == (
        "<h3>Labels</h3><p>Use <em>one</em>, <strong>always</strong>: <code>x&lt;y</code>.</p>"
        '<ul><li>first goes on</li><li><a href="https://a.example/?q=1&amp;r=2" rel="noopener noreferrer nofollow" target="_blank">site</a>'
        "</li></ul><blockquote><p>said</p></blockquote><ol><li>one</li><li>two</li></ol>"
    )


ALLOWED = {"h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "em", "strong", "code", "pre", "blockquote", "a"}


@given(st.text(alphabet="<>&\"'[]()*`#-1. \nxjavscript:http/ona=img", max_size=60))
def test_no_text_becomes_an_element_or_attribute_of_its_own(text):
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag in ALLOWED
            for name, value in attrs:
                assert name in {"href", "rel", "target"}
                assert name != "href" or value.lower().startswith(("http://", "https://", "mailto:"))

    Reader().feed(to_html(text))


def test_a_link_that_is_a_script_stays_text():
    assert to_html("[x](javascript:alert(1))") == "<p>[x](javascript:alert(1))</p>"


def test_rows_say_how_often_they_stand_in_the_file(make_desk):
    desk = make_desk(fields=[{"text": "same", "label": ""}, {"text": "same", "label": ""}])
    assert desk.next("ada", "s")["row"]["copies"] == 2
    assert len(items_for("label", [{"text": "same", "label": ""}])) == 1


def test_spellings_of_a_label_are_one_choice_as_training_reads_them(tmp_path):
    labels = ["Refund", "Refund", "refund ", "RE-FUND", "Bug", "bug", "bug"]
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"row number {n},{label}\n" for n, label in enumerate(labels)))
    rows = find_rows(path, kind="label")
    assert rows.labels == ("RE-FUND", "Refund", "bug")  # a sign within a word is no spelling: re-fund is not refund
    assert [item.given for item in rows.items] == ["Refund"] * 3 + ["RE-FUND"] + ["bug"] * 3
    assert any("2 spellings of labels shown as one" in notice and "'Bug' is 'bug'" in notice for notice in rows.notices)
    trained = prepare(Data(path=str(path), text="text", label="label", duplicates={"near": False}), ("text", "label"), None)
    assert set(trained.classes) == set(rows.labels)
    kept = find_rows(path, kind="label", labels=("Bug", "bug"))  # named by the user: these stay apart
    assert {"Bug", "bug", "Refund", "RE-FUND"} == set(kept.labels)


def test_spellings_of_several_labels_and_of_kinds_of_spans_are_one_too():
    several = items_for("labels", [{"text": "a", "labels": ["Price", "price"]}, {"text": "b", "labels": ["Price"]}])
    items, changed = spelt_alike(several, "labels", (), {})
    assert [item.given for item in items] == [["Price"], ["Price"]] and changed == {"price": "Price"}
    spans = items_for("spans", [{"text": "a b", "token_labels": ["B-Per", "B-PER"]}, {"text": "c", "token_labels": ["B-PER"]}])
    items, _ = spelt_alike(spans, "spans", (), {"PER": "person"})
    assert {span["kind"] for item in items for span in item.given} == {"person"}
