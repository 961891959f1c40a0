"""Annotations go out and come back: to training, to Label Studio, to Argilla."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import COLUMNS, items_for

from whet.annotation import argilla, label_studio, rows_out
from whet.annotation.answers import Answer, Guess
from whet.annotation.exchange import Finder, Incoming, Taken, characters, moment, records, take, when, words
from whet.annotation.queue import Sharing
from whet.annotation.store import Store
from whet.data.gather import gather
from whet.errors import DataError
from whet.stages import annotate_exchange as stage

ANSWERS = {
    "label": ["bug", "billing"],
    "labels": [["price", "look"], ["speed"]],
    "spans": [[{"kind": "PERSON", "first": 0, "end": 2}, {"kind": "PLACE", "first": 6, "end": 7}], []],
    "text": ["blue", "four, I think"],
    "preference": [{"better": "second", "reasons": ["safer"], "note": "so"}, {"better": "first", "reasons": [], "note": ""}],
    "rating": [4, 2],
}


def answered(make_desk, kind):
    """A desk whose first two rows are answered, by Ada, and the first by Bob too."""
    desk = make_desk(kind, review=True, sharing=Sharing(fraction=1.0, people=2))
    keys = list(desk.queue.items)
    for key, value in zip(keys, ANSWERS[kind], strict=False):
        desk.save(Answer(key=key, annotator="ada", action="answer", value=value, seconds=2.5))
    desk.save(Answer(key=keys[0], annotator="bob", action="answer", value=ANSWERS[kind][0], seconds=1.0))
    return desk


def fresh(tmp_path, kind, desk):
    store = Store(tmp_path / "fresh.sqlite")
    store.load(items_for(kind), {}, COLUMNS[kind])
    store.set_job(desk.job)
    return store


def state(store, seconds=True):
    return {
        (one.key, one.annotator, one.action, json.dumps(one.value), one.reason, one.seconds if seconds else None)
        for one in store.answers()
    }


@pytest.mark.parametrize("kind", ANSWERS)
def test_label_studio_and_back_gives_the_same_answers(make_desk, tmp_path, kind):
    desk = answered(make_desk, kind)
    key = list(desk.queue.items)[1]
    desk.save(Answer(key=key, annotator="eve", action="flag", reason="odd"))
    desk.save(Answer(key=key, annotator="dan", action="skip"))
    found = json.loads(json.dumps(label_studio.tasks(records(desk.store), desk.job)))
    with fresh(tmp_path, kind, desk) as store:
        taken = Taken()
        incoming = list(label_studio.read_tasks(found, desk.job, Finder(store.items()), taken, "f.json"))
        take(store, desk.job, incoming, "f.json", taken, replace=False)
        assert state(store) == state(desk.store)
        assert (taken.unknown, taken.wrong, taken.kept) == (0, 0, 0)
        assert {one.source for one in store.history()} == {"f.json"}
        theirs = {(one.key, one.annotator): one.time for one in store.answers()}
        assert all(theirs[one.key, one.annotator] == pytest.approx(one.time, abs=1e-3) for one in desk.store.answers())


@pytest.mark.parametrize("kind", ANSWERS)
def test_argilla_and_back_gives_the_same_answers(make_desk, tmp_path, kind):
    desk = answered(make_desk, kind)
    found = json.loads(json.dumps(argilla.to_records(records(desk.store), desk.job)))
    with fresh(tmp_path, kind, desk) as store:
        taken = Taken()
        incoming = list(argilla.read_records(found, desk.job, Finder(store.items()), taken, "f.json"))
        take(store, desk.job, incoming, "f.json", taken, replace=False)
        assert state(store, seconds=False) == state(desk.store, seconds=False)


# what Label Studio 1.x itself writes of a text with choices (labelstud.io/guide/task_format), shortened
FOREIGN_STUDIO = [
    {
        "id": 7,
        "data": {"text": "I was charged twice"},
        "annotations": [
            {
                "id": 1001, "completed_by": {"id": 3, "email": "ada@example.org"}, "was_cancelled": False, "ground_truth": False,
                "created_at": "2024-03-09T22:16:08.728353Z", "lead_time": 4.288,
                "result": [{"value": {"choices": ["refund"]}, "id": "x", "from_name": "sentiment", "to_name": "text", "type": "choices", "origin": "manual"}],
            }
        ],
        "predictions": [],
    },
    {"id": 8, "data": {"text": "a row from elsewhere"}, "annotations": []},
]  # fmt: skip
FOREIGN_ARGILLA = [
    {
        "id": "0b1", "fields": {"review": "the app crashes"}, "metadata": {}, "suggestions": {"topic": {"value": "x", "score": None, "agent": "m"}},
        "responses": {"topic": [{"value": "billing", "user_id": "6e3edb87-0ccc-47ff-bd61-3ed0e68b20de"}]}, "vectors": {}, "status": "completed",
    }
]  # fmt: skip


def test_an_export_that_label_studio_made_is_read(make_desk):
    desk, taken = make_desk(), Taken()
    incoming = list(label_studio.read_tasks(FOREIGN_STUDIO, desk.job, Finder(desk.store.items()), taken, "f"))
    job = take(desk.store, desk.job, incoming, "f", taken, replace=False)
    (one,) = desk.store.answers()
    assert (one.annotator, one.value, one.seconds) == ("label-studio ada@example.org", "refund", 4.288)
    assert "refund" in job.labels
    assert (taken.new, taken.unknown) == (1, 1)


def test_an_export_that_argilla_made_is_read(make_desk):
    desk, taken = make_desk(), Taken()
    incoming = list(argilla.read_records(FOREIGN_ARGILLA, desk.job, Finder(desk.store.items()), taken, "f"))
    take(desk.store, desk.job, incoming, "f", taken, replace=False)
    (one,) = desk.store.answers()
    assert (one.annotator, one.value) == ("argilla 6e3edb87-0ccc-47ff-bd61-3ed0e68b20de", "billing")


def test_an_import_overwrites_nothing_unless_told_so(make_desk):
    desk = answered(make_desk, "label")
    key = next(iter(desk.queue.items))
    found = [one for one in label_studio.tasks(records(desk.store), desk.job) if one["data"]["whet"]["key"] == key]
    desk.save(Answer(key=key, annotator="ada", action="answer", value="billing", revision=1))

    def bring(replace):
        taken = Taken()
        incoming = list(label_studio.read_tasks(found, desk.job, Finder(desk.store.items()), taken, "f"))
        take(desk.store, desk.job, incoming, "f", taken, replace=replace)
        return taken

    assert (bring(False).kept, desk.store.answer(key, "ada").value) == (1, "billing")
    assert (bring(True).replaced, desk.store.answer(key, "ada").value) == (1, "bug")
    assert [one.after["value"] for one in desk.store.history(key) if one.annotator == "ada"] == ["bug", "billing", "bug"]


def exported(desk, tmp_path, form, **more):
    path = desk.store.path
    desk.store.close()
    out = tmp_path / f"labelled.{form}"
    made = stage.export(path, out, store=path, **more)
    return out, made


NEEDS = {
    "label": ("text", "label"),
    "labels": ("text", "labels"),
    "rating": ("text", "value"),
    "spans": ("text", "token_labels"),
    "text": ("messages",),
}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_what_is_exported_is_what_training_reads(make_desk, tmp_path, kind, form):
    desk = answered(make_desk, kind)
    contents = [item.content for item in desk.queue.items.values()]
    out, made = exported(desk, tmp_path, form)
    needs = NEEDS.get(kind, ("messages", "chosen", "rejected"))
    columns = COLUMNS[kind].model_copy(update={"path": (str(out),)})
    work = gather(columns, needs, None)
    assert work.rejects["path"] == []
    read = work.examples["path"]
    assert len(read) == made["rows"]
    first = read[0]
    if kind == "label":
        assert [(one.text, one.label) for one in read] == [
            ("I was charged twice", "bug"), ("the app crashes", "billing"), ("where is my refund?", "billing")
        ]  # fmt: skip
    elif kind == "labels":
        assert [one.labels for one in read] == [("price", "look"), ("speed",)]
    elif kind == "rating":
        assert [one.value for one in read] == [4.0, 2.0]
    elif kind == "spans":
        assert first.token_labels == ("B-PERSON", "I-PERSON", "O", "O", "O", "O", "B-PLACE")
    elif kind == "text":
        assert [one.response for one in read] == ANSWERS["text"]
    else:
        assert [(one.chosen, one.rejected) for one in read] == [("No.", "Hello!"), ("Go.", "Goodbye!")]
    assert len(contents) >= len(read)


def test_provenance_and_history_go_with_the_rows(make_desk, tmp_path):
    desk = answered(make_desk, "label")
    out, made = exported(desk, tmp_path, "jsonl")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row[rows_out.BY] for row in rows] == ["ada; bob", "ada", ""]
    assert [row[rows_out.HOW] for row in rows] == ["agreed", "single", "file"]
    assert [row[rows_out.FROM] for row in rows] == ["rows.csv:2", "rows.csv:3", "rows.csv:4"]
    assert [row["channel"] for row in rows] == ["email", "chat", "chat"]
    assert made["left_out"] == {"open": 1}
    lines = [json.loads(line) for line in (tmp_path / "labelled.history.jsonl").read_text().splitlines()]
    assert [(line["who"], line["before"]["value"], line["after"]["value"], line["row"]) for line in lines] == [
        ("ada", None, "bug", "rows.csv:2"), ("ada", None, "billing", "rows.csv:3"), ("bob", None, "bug", "rows.csv:2")
    ]  # fmt: skip


def test_only_annotated_leaves_out_what_the_file_said(make_desk, tmp_path):
    _, made = exported(answered(make_desk, "label"), tmp_path, "csv", only_annotated=True)
    assert made["used"] == {"agreed": 1, "single": 1}


def test_disputed_and_flagged_rows_are_left_out_until_they_are_settled(make_desk, tmp_path):
    desk = answered(make_desk, "label")
    first, second, *_ = desk.queue.items
    desk.save(Answer(key=first, annotator="bob", action="answer", value="billing", revision=1))
    desk.save(Answer(key=second, annotator="bob", action="flag", reason="odd"))
    path = desk.store.path
    desk.decide(Answer(key=first, annotator="eve", action="answer", value="bug"))
    _, made = exported(desk, tmp_path, "csv")
    assert made["used"] == {"decided": 1, "file": 1}
    assert made["left_out"] == {"flagged": 1, "open": 1}
    assert path.exists()


@pytest.mark.parametrize("label", ["a, b", "a; b", "plain"])
def test_one_of_several_labels_with_a_comma_is_read_back_whole(make_desk, tmp_path, label):
    desk = make_desk("labels", review=True)
    desk.add_label(label)
    for key in desk.queue.items:
        desk.save(Answer(key=key, annotator="ada", action="answer", value=[label]))
    desk.save(Answer(key=next(iter(desk.queue.items)), annotator="ada", action="answer", value=["price"], revision=1))
    out, _ = exported(desk, tmp_path, "csv")
    read = gather(COLUMNS["labels"].model_copy(update={"path": (str(out),)}), ("text", "labels"), None).examples["path"]
    assert [one.labels for one in read] == [("price",), (label,)]


def test_our_own_file_comes_back_with_the_people_in_it(make_desk, tmp_path):
    desk = answered(make_desk, "label")
    before = {(one.key, one.annotator, one.value) for one in desk.store.answers()}
    job = desk.job
    out, _ = exported(desk, tmp_path, "csv")
    with fresh(tmp_path, "label", desk) as store:
        store.set_job(job)
        path = store.path
    made = stage.import_from(path, out, store=path)
    assert (made["new"], made["unknown_rows"]) == (3, 0)
    with Store(path, writes=False) as store:
        assert {(one.key, one.annotator, one.value) for one in store.answers()} == before
    assert stage.import_from(path, out, store=path)["same"] == 3


def test_predictions_go_out_too(make_desk):
    desk = make_desk()
    key = next(iter(desk.queue.items))
    desk.store.put_guesses([Guess(key, "run-1", "bug", 0.75)])
    task = label_studio.tasks(records(desk.store), desk.job)[0]
    assert task["predictions"][0]["score"] == 0.75
    assert task["predictions"][0]["result"][0]["value"] == {"choices": ["bug"]}
    record = argilla.to_records(records(desk.store), desk.job)[0]
    assert record["suggestions"] == {"label": {"value": "bug", "score": 0.75, "agent": "run-1"}}


def test_the_interface_for_label_studio_is_xml_with_every_label(make_desk):
    from xml.etree import ElementTree

    desk = make_desk()
    desk.add_label('<odd> & "quoted"')
    for kind in ANSWERS:
        tree = ElementTree.fromstring(
            label_studio.config(desk.job if kind == "label" else make_desk(kind, path=desk.store.path.with_name(kind)).job)
        )
        assert tree.tag == "View"
    names = [one.get("value") for one in ElementTree.fromstring(label_studio.config(desk.job)).iter("Choice")]
    assert names == list(desk.job.labels)


@given(
    st.lists(st.sampled_from(["a", "bc", "Ünï", "d,"]), min_size=1, max_size=8),
    st.lists(st.sampled_from([" ", "  ", "\n"]), min_size=9, max_size=9),
    st.data(),
)
def test_words_and_characters_are_the_same_span(names, gaps, data):
    text = gaps[0] + "".join(name + gap for name, gap in zip(names, gaps[1:], strict=False))
    first = data.draw(st.integers(0, len(names) - 1))
    end = data.draw(st.integers(first + 1, len(names)))
    begin, stop = characters(text, first, end)
    assert text[begin:stop].split() == names[first:end]
    assert words(text, begin, stop) == (first, end)


def test_times_are_in_utc_to_the_millisecond():
    assert when(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert moment("2023-11-14T22:13:20.250Z") == 1_700_000_000.25
    assert moment("yesterday") == moment(None) == 0.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "neither an export"),
        ("[1]", "neither an export"),
        ("[{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('[{"data": 3}]', "no export of Label Studio"),
        ('[{"fields": []}]', "no export of Argilla"),
    ],
)
def test_what_is_no_export_is_said_to_be_none(make_desk, tmp_path, content, said):
    desk = make_desk()
    path = desk.store.path
    desk.store.close()
    file = tmp_path / "f.json"
    file.write_text(content)
    with pytest.raises(DataError, match=said):
        stage.import_from(path, file, store=path)


def test_nothing_is_written_where_nothing_was_said(make_desk, tmp_path):
    desk = make_desk(fields=[{"text": "a", "label": ""}, {"text": "b", "label": ""}])
    with pytest.raises(DataError, match="no row has an answer"):
        exported(desk, tmp_path, "csv")
    assert not (tmp_path / "labelled.csv").exists()


def kept(folder):
    """What lies in a folder, but for the files in which SQLite notes who reads."""
    return {one: one.read_bytes() for one in folder.iterdir() if "sqlite-" not in one.name}


def test_what_was_annotated_is_not_written_over(make_desk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    desk, file = answered(make_desk, "label"), Path("rows.csv")
    file.write_text("text,label\n")
    recipe, config = Path("rows.yaml"), Path("rows.config.xml")
    recipe.write_text("objective: classify\n")
    for target, out, form in (
        (file, file, "csv"),
        (recipe, recipe, "csv"),
        (recipe, file, "jsonl"),
        (config, Path("rows.json"), "label-studio"),
    ):
        target.touch()
        before = kept(tmp_path)
        with pytest.raises(DataError, match="not written over"):
            stage.export(target, out, form=form, store=desk.store.path)
        assert before == kept(tmp_path)


def test_a_place_where_no_export_can_be_is_named(make_desk, tmp_path):
    desk = answered(make_desk, "label")
    with pytest.raises(DataError, match=re.escape(f"there is no folder {tmp_path / 'no'}. Name a file in a folder that exists.")):
        stage.export(tmp_path / "rows.csv", tmp_path / "no" / "out.csv", store=desk.store.path)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "", 5, None, "9999-99-99"])
def test_a_time_that_cannot_be_is_none_and_the_export_goes_on(make_desk, time):
    assert moment(time) == 0.0
    task = {"data": {"text": "the app crashes"}, "annotations": [{"created_at": time, "result": [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["bug"]}}]}]}  # fmt: skip
    desk, taken = make_desk("label"), Taken()
    incoming = list(label_studio.read_tasks([task], desk.job, Finder(desk.store.items()), taken, "x.json"))
    take(desk.store, desk.job, incoming, "x.json", taken, replace=False)
    assert taken.new == 1 and list(rows_out.history_lines(desk.store, desk.store.history()))


def test_an_import_that_ends_half_way_has_taken_nothing(make_desk):
    desk = make_desk("label")
    keys = list(desk.queue.items)

    def ending():
        yield Incoming(key=keys[0], annotator="eve", action="answer", value="new label")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(desk.store, desk.job, ending(), "x.json", Taken(), replace=False)
    assert desk.store.answers() == [] and desk.store.history() == []


ODD = [None, True, -1, 10**400, float("inf"), float("nan"), "", "\x00", "9999-12-31T23:59:59-23:59", "y" * 1000, [], [None], [[]], {}, {"value": None}]  # fmt: skip


def places(value, here=()):
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*here, name))


def put(value, place, new):
    if not place:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    made[place[0]] = put(value[place[0]], place[1:], new)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("tool", [(label_studio.tasks, label_studio.read_tasks), (argilla.to_records, argilla.read_records)])
@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_stands_anywhere_in_an_export_of_another_tool_does_no_harm(make_desk, tmp_path, kind, tool):
    write, read = tool
    desk = answered(make_desk, kind)
    key = next(iter(desk.queue.items))
    desk.save(Answer(key=key, annotator="eve", action="flag", reason="odd"))
    whole = json.loads(json.dumps(write(records(desk.store), desk.job)[:1]))
    with fresh(tmp_path, kind, desk) as store:
        store._file.execute("PRAGMA synchronous = OFF")
        for place in places(whole):
            for odd in ODD:
                store._file.executescript("DELETE FROM answers; DELETE FROM history;")
                try:
                    finder, taken = Finder(store.items()), Taken()
                    incoming = list(read(put(whole, place, odd), desk.job, finder, taken, "x.json"))
                    job = take(store, desk.job, incoming, "x.json", taken, replace=False)
                except DataError:
                    continue
                assert all(one.annotator.isprintable() and len(one.annotator) < 400 for one in store.answers())
                json.dumps([one.seconds for one in store.answers()], allow_nan=False)
                write(records(store), job)
                rows_out.collect(store, job, COLUMNS[kind], only_annotated=False)
                list(rows_out.history_lines(store, store.history()))


def test_half_a_character_in_an_export_of_another_tool_becomes_a_mark(make_desk, tmp_path):
    desk = make_desk("label")
    desk.store.close()
    task = {"data": {"text": "the app crashes"}, "annotations": [{"completed_by": "\ud800", "result": [{"from_name": "label", "type": "choices", "value": {"choices": ["bug\udfff"]}}]}]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps([task]))
    made = stage.import_from(tmp_path / "rows.csv", tmp_path / "x.json", store=desk.store.path)
    assert made["new"] == 1
    stage.export(tmp_path / "rows.csv", tmp_path / "out.jsonl", store=desk.store.path)
    assert '"bug?"' in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
