"""Exports of Label Studio, Argilla and ChatGPT, as these tools write them: recognised, and every record accounted for."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from exported import argilla_records, chatgpt, label_studio_short, label_studio_tasks, task

from whet import plugins
from whet.data.accounting import ACCOUNTING
from whet.data.rows import RawRow, Reject
from whet.errors import DataError
from whet.recipe_file import load_recipe
from whet.stages.new import auto_recipe, new
from whet.stages.prepare import prepare_run


def write(path: Path, value: object, indent: int | None = None) -> Path:
    path.write_text(json.dumps(value, indent=indent))
    return path


def rows_of(name: str, *paths: Path) -> list[RawRow | Reject]:
    source = plugins.build("sources", name, {"path": [str(path) for path in paths]})
    return [row for page in source.collect(None) for row in page.rows]


def only(name: str, path: Path, record: object) -> RawRow | Reject:
    (row,) = rows_of(name, write(path, [record]))
    return row


def results(name: str, kind: str, value: dict[str, object]) -> dict[str, object]:
    return {"id": "x1", "from_name": name, "to_name": "text", "type": kind, "origin": "manual", "value": value}


@pytest.mark.parametrize(
    ("name", "records", "objective"),
    [
        ("label_studio", label_studio_tasks(40), "classify"),
        ("label_studio", label_studio_short(40), "classify"),
        ("argilla", argilla_records(40), "classify"),
        ("chatgpt", chatgpt(40), "sft"),
    ],
)
def test_an_export_is_recognised_and_prepared_with_its_places(name, records, objective, tmp_path):
    file = write(tmp_path / "export.json", records, indent=1)
    path, seen = new([file], out=tmp_path / "recipe.yaml")
    recipe = load_recipe(path)
    assert recipe.data.sources[0].name == name and recipe.objective.name == objective and seen.num_rows == len(records)
    run = prepare_run(recipe, folder=tmp_path, out=tmp_path / "run")
    said = json.loads((run.path / ACCOUNTING).read_text())["sources"]["path"]
    assert said["rows"] == len(records) == sum(said["used"].values()) + sum(said["dropped"].values())
    parts = [run.path / "data" / f"{part}.jsonl" for part in ("train", "validation", "test")]
    used = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    lines = file.read_text().splitlines()
    assert {row["file"] for row in used} == {str(file)}
    assert all(lines[row["line"] - 1].strip() == "{" for row in used)  # where its record begins


def test_label_studio_gives_a_column_for_each_kind_of_control(tmp_path):
    text = "Anna Berg lives in Bergen"
    spans = [
        results("ner", "labels", {"start": 0, "end": 9, "text": "Anna Berg", "labels": ["PER"]}),
        results("ner", "labels", {"start": 19, "end": 25, "text": "Bergen", "labels": ["LOC"]}),
    ]
    more = [
        results("sentiment", "choices", {"choices": ["Positive"]}),
        results("topic", "taxonomy", {"taxonomy": [["Travel", "Hotels"]]}),
        results("stars", "rating", {"rating": 4}),
        results("answer", "textarea", {"text": ["first line", "second line"]}),
    ]
    row = only("label_studio", tmp_path / "e.json", task(1, {"text": text}, [spans + more]))
    assert isinstance(row, RawRow)
    assert row.fields == {
        "text": text, "ner": ["B-PER", "I-PER", "O", "O", "B-LOC"], "sentiment": "Positive", "topic": "Travel / Hotels", "stars": 4,
        "answer": "first line\nsecond line",
    }  # fmt: skip


def test_a_control_that_once_has_two_labels_gives_lists_everywhere(tmp_path):
    one, two = ([results("tags", "choices", {"choices": labels})] for labels in (["a, b"], ["c", "a, b"]))
    file = write(tmp_path / "e.json", [task(1, {"text": "x"}, [one]), task(2, {"text": "y"}, [two])])
    assert [row.fields["tags"] for row in rows_of("label_studio", file) if isinstance(row, RawRow)] == [["a, b"], ["a, b", "c"]]


def test_the_majority_of_people_counts_and_a_ground_truth_more(tmp_path):
    a, b = ([results("label", "choices", {"choices": [label]})] for label in "ab")
    row = only("label_studio", tmp_path / "most.json", task(1, {"text": "x"}, [a, b, a]))
    assert isinstance(row, RawRow) and row.fields["label"] == "a"
    row = only("label_studio", tmp_path / "tie.json", task(1, {"text": "secret words"}, [a, b]))
    assert isinstance(row, Reject) and "2 people" in row.reason and "secret" not in row.sentence()
    truth = task(1, {"text": "x"}, [a, b])
    truth["annotations"][1]["ground_truth"] = True
    row = only("label_studio", tmp_path / "truth.json", truth)
    assert isinstance(row, RawRow) and row.fields["label"] == "b"
    skipped = task(1, {"text": "x"}, [a, b])
    skipped["annotations"][0]["was_cancelled"] = True
    row = only("label_studio", tmp_path / "skipped.json", skipped)
    assert isinstance(row, RawRow) and row.fields["label"] == "b"


def test_json_min_has_spans_several_choices_and_ratings(tmp_path):
    own = {"id": 1, "annotator": 1, "annotation_id": 7, "created_at": "2024-01-01", "updated_at": "2024-01-01", "lead_time": 3.2}
    span = {"start": 5, "end": 9, "text": "Rome", "labels": ["LOC"]}
    record = {"text": "I am Rome bound", "ner": [span], "topic": {"choices": ["a", "b"]}, "stars": [{"rating": 2}], **own}
    row = only("label_studio", tmp_path / "e.json", record)
    assert isinstance(row, RawRow)
    assert row.fields == {"text": "I am Rome bound", "ner": ["O", "O", "B-LOC", "O"], "topic": ["a", "b"], "stars": 2}


def test_argilla_has_three_forms_and_all_are_read_alike(tmp_path):
    shown, user = {"text": "Where is my card?"}, "0b5e4ad1-0fb8-4d2e-8e8f-000000000001"
    nested = {
        "id": "r1", "fields": shown, "metadata": {}, "suggestions": {"label": {"value": "card", "score": 0.9, "agent": "m"}},
        "responses": {"label": [{"value": "card", "user_id": user}]}, "vectors": {}, "status": "completed", "_server_id": "s1",
    }  # fmt: skip
    flat = {
        "id": "r1", "status": "completed", "_server_id": "s1", **shown, "label.responses": ["lost", "card"],
        "label.responses.users": [user, user], "label.responses.status": ["discarded", "submitted"],
        "label.suggestion": "card", "label.suggestion.score": 0.9, "label.suggestion.agent": "m",
    }  # fmt: skip
    first = {
        "fields": shown, "external_id": None, "metadata": {}, "suggestions": [], "vectors": {},
        "responses": [
            {"user_id": user, "status": "submitted", "values": {"label": {"value": "card"}}},
            {"user_id": user, "status": "draft", "values": {"label": {"value": "lost"}}},
        ],
    }  # fmt: skip
    for name, record in (("nested", nested), ("flat", flat), ("first", first)):
        row = only("argilla", tmp_path / f"{name}.json", record)
        assert isinstance(row, RawRow) and row.fields == {"text": "Where is my card?", "label": "card"}, name
        assert plugins.load("sources", "argilla").recognises(record), name


def test_argillas_spans_and_rankings_become_columns_that_can_be_learnt(tmp_path):
    spans = [{"label": "PER", "start": 0, "end": 4}, {"label": "LOC", "start": 9, "end": 14}]
    ranking = [{"value": "answer_1", "rank": 2}, {"value": "answer_2", "rank": 1}]
    record = {
        "id": "1", "fields": {"text": "Anna saw Paris"}, "metadata": {}, "suggestions": {}, "vectors": {}, "status": "completed",
        "responses": {"spans": [{"value": spans, "user_id": "u"}], "better": [{"value": ranking, "user_id": "u"}]},
    }  # fmt: skip
    row = only("argilla", tmp_path / "e.json", record)
    assert isinstance(row, RawRow)
    assert row.fields == {"text": "Anna saw Paris", "spans": ["B-PER", "O", "B-LOC"], "better": "answer_2"}


def message(role: str, *parts: object, **more: object) -> dict[str, object]:
    content = {"content_type": "text", "parts": list(parts)}
    return {
        "author": {"role": role, "name": None, "metadata": {}},
        "content": content,
        "recipient": "all",
        "metadata": {},
        **more,
    }


def tree(*nodes: tuple[str, str | None, dict[str, object] | None], last: str) -> dict[str, object]:
    mapping = {
        name: {"id": name, "message": said, "parent": parent, "children": [other for other, above, _ in nodes if above == name]}
        for name, parent, said in nodes
    }
    return {"title": "A talk", "create_time": 1700000000.5, "mapping": mapping, "current_node": last, "conversation_id": "c"}


def test_a_conversation_is_the_branch_that_was_shown_last_without_tools_and_hidden_words(tmp_path):
    talk = tree(
        ("root", None, None),
        ("s", "root", message("system", "", metadata={"is_visually_hidden_from_conversation": True})),
        ("q", "s", message("user", "What is 2 + 2?")),
        ("old", "q", message("assistant", "5")),
        ("call", "q", message("assistant", "print(2 + 2)", recipient="python")),
        ("tool", "call", message("tool", "4")),
        ("a", "tool", message("assistant", "It is 4.")),
        ("a2", "a", message("assistant", {"content_type": "audio_transcription", "text": "Really."})),
        ("open", "a2", message("user", "And 3 + 3?")),
        last="open",
    )
    row = only("chatgpt", tmp_path / "e.json", talk)
    assert isinstance(row, RawRow)
    wanted = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4.\n\nReally."}]
    assert row.fields == {"title": "A talk", "created": "2023-11-14T22:13:20+00:00", "messages": wanted}


def test_a_tree_that_bites_its_tail_ends_and_one_without_an_answer_is_told(tmp_path):
    ring = tree(("a", "b", message("user", "hello")), ("b", "a", message("assistant", "hi")), last="b")
    row = only("chatgpt", tmp_path / "ring.json", ring)
    assert isinstance(row, RawRow) and [one["role"] for one in row.fields["messages"]] == ["user", "assistant"]
    row = only("chatgpt", tmp_path / "open.json", tree(("a", None, message("user", "private question")), last="a"))
    assert isinstance(row, Reject) and "answered" in row.reason and "private" not in row.sentence()


@pytest.mark.parametrize("packed", [True, False])
def test_of_the_archive_that_chatgpt_sends_only_conversations_are_read(packed, tmp_path):
    inside = {
        "account.json": [{"id": 1}], "conversations.json": chatgpt(12), "message_feedback.json": [{"id": "f"}],
        "shared_conversations.json": [{"id": "s"}], "user.json": {"email": "me@example.org"},
    }  # fmt: skip
    place = tmp_path / "sent"
    place.mkdir()
    for name, value in inside.items():
        write(place / name, value)
    (place / "chat.html").write_text("<html></html>")
    (place / "README.txt").write_text("read me")
    if packed:
        with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
            for file in place.iterdir():
                archive.write(file, f"sent/{file.name}")
        place = tmp_path / "sent.zip"
    path, seen = new([place], out=tmp_path / "recipe.yaml")
    assert load_recipe(path).data.sources[0].name == "chatgpt" and seen.num_rows == 12 and seen.num_rejects == 0


def test_openais_preferences_for_fine_tuning_are_known(tmp_path):
    lines = [
        {
            "input": {"messages": [{"role": "user", "content": f"Question {number}?"}], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": f"A good answer, number {number}."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        for number in range(30)
    ]
    file = tmp_path / "dpo.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    path, seen = new([file], out=tmp_path / "recipe.yaml")
    wanted = {"messages": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"}
    assert seen.objective == "dpo" and seen.columns == wanted
    run = prepare_run(load_recipe(path), folder=tmp_path, out=tmp_path / "run")
    said = json.loads((run.path / ACCOUNTING).read_text())["sources"]["path"]
    assert sum(said["used"].values()) == 30


def test_what_whet_exports_for_label_studio_comes_back(tmp_path):
    """The key that whet writes into each task is no column of its own."""
    row = only(
        "label_studio",
        tmp_path / "e.json",
        task(1, {"text": "x", "whet": {"key": "k"}}, [[results("label", "choices", {"choices": ["a"]})]]),
    )
    assert isinstance(row, RawRow) and row.fields == {"text": "x", "label": "a"}


def test_auto_takes_an_export_as_test_too_and_files_of_two_kinds_are_refused(tmp_path):
    train = write(tmp_path / "train.json", label_studio_tasks(40))
    test = write(tmp_path / "test.json", label_studio_tasks(12))
    recipe, _ = auto_recipe([train], [test], None, ())
    assert recipe.data.sources[0].name == recipe.data.test_sources[0].name == "label_studio"
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"words number {n},{'ab'[n % 2]}\n" for n in range(30)))
    with pytest.raises(DataError, match=r"train\.json: an export that source 'label_studio' reads"):
        auto_recipe([other, train], (), None, ())


def test_another_file_named_in_a_recipe_is_told_record_by_record(tmp_path):
    file = write(tmp_path / "plain.json", [{"text": "secret", "label": "a"}])
    for name in ("label_studio", "argilla", "chatgpt"):
        (row,) = rows_of(name, file)
        assert isinstance(row, Reject) and row.line == 1 and "secret" not in row.sentence()


def test_the_records_used_here_have_all_their_labels():
    found = Counter(record["responses"]["label"][0]["value"] for record in argilla_records(40))
    assert set(found.values()) == {20}


ODD = [
    None,
    True,
    -1,
    1e309,
    "",
    [],
    {},
    [None],
    {"a": 1},
    [{}],
    {"value": None},
    10**30,
    "\ud800",
    [{"start": -5, "end": 10**9, "label": "x"}],
]


def places(value: object, *path: object) -> Iterator[tuple[object, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, *path, key)


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("argilla", argilla_records(3)),
        ("argilla", [{"fields": {"text": "a"}, "responses": [{"status": "submitted", "values": {"q": {"value": "x"}}}]}]),
        ("argilla", [{"fields": {"text": "a"}, "responses": {"q": [{"status": "submitted", "value": "x"}]}}]),
        ("argilla", [{"id": "1", "status": "completed", "text": "a", "q.responses": ["x"], "q.responses.status": ["submitted"]}]),
        ("chatgpt", chatgpt(3)),
        ("label_studio", label_studio_tasks(3)),
        ("label_studio", label_studio_short(3)),
    ],
)
def test_a_record_with_something_odd_anywhere_is_a_row_or_a_reject(name, records, tmp_path):
    broken = []
    for record in json.loads(json.dumps(records)):
        for path in list(places(record))[1:]:
            for odd in ODD:  # each place in turn, each value; a content_type that is an object was a TypeError
                made = json.loads(json.dumps(record))
                inner = made
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = odd
                broken.append(made)
    found = rows_of(name, write(tmp_path / "export.json", broken))
    assert len(found) == len(broken) and all(isinstance(row, RawRow | Reject) for row in found)
