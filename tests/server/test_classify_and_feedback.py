"""Labels with their confidence, what a person says of them later, and what of it the request log keeps."""

from __future__ import annotations

import time

import pytest

import whet
from whet.store.log import read_requests, texts_of

TEXTS = ["my red card is lost", "where is the blue parcel", "i need a new ticket please"]
MAIL = "write to me.too@example.org or call +49 170 1234567 about the red card"


def logged(server, answer_id, seconds=10.0):
    """What the log has of an answer, once it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in read_requests(server.serving.options.log):
            if one.id == answer_id.rpartition("-")[2]:
                return one
        time.sleep(0.05)
    raise AssertionError(f"{answer_id} is not in the log")


def test_labels_are_those_of_predict(server, runs):
    found = server.post("/v1/classify", {"model": "labels", "input": TEXTS}).json()
    expected = whet.load(runs.labels).predict(TEXTS)
    assert [one["label"] for one in found["data"]] == [one.prediction for one in expected]
    for one, prediction in zip(found["data"], expected, strict=True):
        assert one["confidence"] == pytest.approx(prediction.confidence, abs=1e-6)
        assert one["probabilities"][one["label"]] == one["confidence"] and not one["abstained"] and not one["truncated"]
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["usage"]["total_tokens"] > 0 and [one["index"] for one in found["data"]] == [0, 1, 2]


def test_one_text_a_row_and_a_list_are_taken_alike(server):
    asked = [TEXTS[0], {"text": TEXTS[0], "channel": "mail"}, [TEXTS[0]]]
    found = [server.post("/v1/classify", {"model": "labels", "input": one}).json()["data"] for one in asked]
    assert [len(one) for one in found] == [1, 1, 1] and found[0][0]["label"] == found[1][0]["label"] == found[2][0]["label"]


def test_below_the_threshold_there_is_no_label(server, runs, start):
    body = {"model": "labels", "input": TEXTS[0], "abstain_below": 1.0}
    (one,) = server.post("/v1/classify", body).json()["data"]
    assert one["label"] is None and one["abstained"] and one["confidence"] < 1 and one["probabilities"]
    with start([runs.labels], abstain_below=1.0) as strict:
        assert strict.post("/v1/classify", {"model": "labels", "input": TEXTS[0]}).json()["data"][0]["abstained"]
        sure = {"model": "labels", "input": TEXTS[0], "abstain_below": 0.0}
        assert not strict.post("/v1/classify", sure).json()["data"][0]["abstained"]


def test_a_long_text_is_cut_as_in_training_and_says_so(server):
    (one,) = server.post("/v1/classify", {"model": "labels", "input": "red card " * 500}).json()["data"]
    assert one["truncated"] and one["label"]


def test_the_log_has_what_the_model_was_shown_however_it_was_sent(server):
    """A row's text and not its JSON, and cleaned: else lengths would seem to drift from those of the test rows."""
    messy = f"  {TEXTS[0].replace(' ', '  ')}<br>"
    row = {"text": messy, "channel": "mail"}
    answers = [server.post("/v1/classify", {"model": "labels", "input": one}).json() for one in (TEXTS[0], messy, row)]
    for answer in answers:
        (item,) = logged(server, answer["id"]).items
        assert item.input == TEXTS[0] and item.num_characters == len(TEXTS[0])


def test_of_a_pair_the_log_has_both_texts(pair_run, start, tmp_path):
    with start([pair_run], log=tmp_path / "log", log_text=True) as server:
        answer = server.post("/v1/classify", {"model": "pairs", "input": {"a": "my card", "b": "the parcel"}}).json()
        (item,) = logged(server, answer["id"]).items
    assert texts_of(item.input) == ("my card", "the parcel") and item.num_characters == len("my card" + "the parcel")
    assert texts_of("{no json") == ("{no json", None) and texts_of('{"text": "a"}') == ('{"text": "a"}', None)


MISTAKES = {
    "chat model": ({"model": "chat", "input": "x"}, 400, "model"),
    "no input": ({"model": "labels"}, 400, "input"),
    "empty list": ({"model": "labels", "input": []}, 400, "input"),
    "empty text": ({"model": "labels", "input": ["ok", "  "]}, 400, "input"),
    "no such column": ({"model": "labels", "input": {"body": "my card"}}, 400, "input"),
    "too many": ({"model": "labels", "input": ["x"] * 300}, 400, "input"),
    "threshold": ({"model": "labels", "input": "x", "abstain_below": 2}, 400, "abstain_below"),
    "not finite": ({"model": "labels", "input": "x", "top": 3}, 400, "top"),
    "unknown model": ({"model": "nosuch", "input": "x"}, 404, "model"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(server, mistake):
    body, status, param = MISTAKES[mistake]
    found = server.post("/v1/classify", body)
    assert found.status_code == status and found.json()["error"]["param"].startswith(param), found.text


def test_embeddings_refuse_what_would_not_be_honest(server):
    for body, param in (
        ({"model": "chat", "input": "x"}, "model"),
        ({"model": "labels", "input": "x", "dimensions": 8}, "dimensions"),
        ({"model": "labels", "input": ["x", ""]}, "input.1"),
        ({"model": "labels", "input": "red card " * 500}, "input.0"),
        ({"model": "labels", "input": [10**6]}, "input"),
    ):
        found = server.post("/v1/embeddings", body)
        assert found.status_code == 400 and found.json()["error"]["param"] == param, found.text


def test_feedback_joins_its_answer(server):
    answer = server.post("/v1/classify", {"model": "labels", "input": TEXTS, "metadata": {"channel": "mail", "who": "me"}}).json()
    for index, body in enumerate(({"label": "travel"}, {"right": True}, {"label": "billing"})):
        told = server.post("/v1/feedback", {"id": answer["id"], "index": index, **body})
        assert told.status_code == 200 and told.json()["stored"], told.text
    server.post("/v1/feedback", {"id": answer["id"], "index": 2, "label": "delivery"})
    found = logged(server, answer["id"])
    assert [(item.truth_kind, item.truth) for item in found.items] == [
        ("label", "travel"),
        ("right", True),
        ("label", "delivery"),
    ], "the latest one counts"
    assert [item.label for item in found.items] == [one["label"] for one in answer["data"]]
    assert [item.confidence for item in found.items] == [one["confidence"] for one in answer["data"]]
    assert {tuple(item.tags.items()) for item in found.items} == {(("channel", "mail"),)}, "only what is a slice of the run"
    assert (found.endpoint, found.name, found.run, found.status) == ("classify", "labels", "labels", 200)
    assert found.fingerprint.startswith(answer["system_fingerprint"].removeprefix("whet-")) and found.latency_s > 0


def test_feedback_that_joins_nothing_is_refused(server):
    answer = server.post("/v1/classify", {"model": "labels", "input": TEXTS[0]}).json()
    cases = [
        ({"id": "classify-0123", "label": "travel"}, 404),
        ({"id": answer["id"], "index": 1, "label": "travel"}, 404),
        ({"id": answer["id"]}, 400),
        ({"id": answer["id"], "label": "travel", "right": True}, 400),
        ({"id": answer["id"], "label": ""}, 400),
        ({"id": answer["id"], "value": 1e308}, 400),
        ({"label": "travel"}, 400),
    ]
    assert [server.post("/v1/feedback", body).status_code for body, _ in cases] == [status for _, status in cases]
    assert server.post("/v1/feedback", {"id": answer["id"]}).json()["error"]["message"] == (
        "the request's body: allowed is exactly one of label, labels, value, correction and right; found none."
    )


def test_texts_are_kept_masked_where_they_are_asked_for(server):
    answer = server.post("/v1/classify", {"model": "labels", "input": MAIL}).json()
    (item,) = logged(server, answer["id"]).items
    assert item.input == "write to [mail] or call [phone] about the red card" and item.num_characters == len(MAIL)
    chat = {"model": "chat", "messages": [{"role": "user", "content": "a@b.de"}], "max_tokens": 5}
    answer = server.post("/v1/chat/completions", chat).json()
    (item,) = logged(server, answer["id"]).items
    assert item.input == "[mail]" and item.output == answer["choices"][0]["message"]["content"]
    told = server.post("/v1/feedback", {"id": answer["id"], "correction": "ask me@example.org"})
    assert told.status_code == 200
    assert logged(server, answer["id"]).items[0].truth == "ask [mail]"


def test_no_text_is_kept_where_it_is_not_asked_for(runs, start, tmp_path):
    file = tmp_path / "log.sqlite"
    with start([runs.labels, runs.chat], log=file) as server:
        answer = server.post("/v1/classify", {"model": "labels", "input": "my zanzibar card"}).json()
        chat = {"model": "chat", "messages": [{"role": "user", "content": "zanzibar"}], "max_tokens": 5}
        written = server.post("/v1/chat/completions", chat).json()
        refused = server.post("/v1/feedback", {"id": written["id"], "correction": "zanzibar"})
        assert refused.status_code == 400 and "--log-text" in refused.json()["error"]["message"]
        assert server.post("/v1/feedback", {"id": answer["id"], "label": "travel"}).status_code == 200
    kept = list(read_requests(file))
    assert [one.endpoint for one in kept] == ["classify", "chat"]
    assert all(item.input is None and item.output is None and item.num_characters > 0 for one in kept for item in one.items)
    assert not any(b"zanzibar" in path.read_bytes() for path in tmp_path.iterdir())


def test_without_a_log_feedback_is_refused(runs, start):
    with start([runs.labels]) as server:
        told = server.post("/v1/feedback", {"id": "x", "label": "travel"})
        assert told.status_code == 400 and told.json()["error"]["code"] == "no_log"
