"""The providers' contracts, over HTTP: their routes, their forms of a request and of an error, and nothing computed otherwise."""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import io
import json
import time

import pytest

import whet
from whet.engine.continuous import Continuous
from whet.errors import ServerError
from whet.server.contracts import CONTRACTS, agree
from whet.stages.serve import Options, prepare
from whet.store.log import read_requests
from whet.types import Message

TEXTS = ["my card is lost", "where is the old phone"]


@pytest.fixture(scope="module")
def sagemaker(runs, start):
    with start([runs.labels], contract="sagemaker") as found:
        yield found


@pytest.fixture(scope="module")
def writer(runs, start):
    with start([runs.chat], contract="vertex", max_requests=4) as found:
        yield found


@pytest.fixture(scope="module")
def truth(runs):
    return [(one.prediction, one.confidence) for one in whet.load(runs.labels).predict(TEXTS)]


def pairs(found):
    return [(one["label"], pytest.approx(one["confidence"], abs=1e-5)) for one in found["predictions"]]


def test_sagemaker_is_pinged_and_answers_json_as_the_run_does(sagemaker, truth):
    assert sagemaker.get("/ping").status_code == 200
    for body in ({"instances": TEXTS}, {"inputs": TEXTS}, {"instances": [{"text": text} for text in TEXTS], "parameters": {}}):
        found = sagemaker.post("/invocations", body)
        assert found.status_code == 200 and truth == pairs(found.json()), found.text
    assert truth[:1] == pairs(sagemaker.post("/invocations", {"inputs": TEXTS[0]}).json())


def test_an_answer_is_that_of_our_own_endpoint(sagemaker):
    ours = sagemaker.post("/v1/classify", {"model": "labels", "input": TEXTS}).json()["data"]
    given = sagemaker.post("/invocations", {"instances": TEXTS}).json()["predictions"]
    assert given == [{key: value for key, value in one.items() if key != "index"} for one in ours]


def raw(server, body, kind="text/csv", **headers):
    return server.http.post(f"{server.url}/invocations", content=body, headers={"content-type": kind, **headers})


def test_sagemaker_reads_and_writes_csv(sagemaker, truth):
    made = io.StringIO()
    csv.writer(made).writerows([[text + ", please"] for text in TEXTS])
    quoted = raw(sagemaker, made.getvalue())
    assert quoted.status_code == 200 and len(quoted.json()["predictions"]) == 2
    told = raw(sagemaker, "\n".join(TEXTS) + "\n", "text/csv; charset=utf-8", accept="text/csv")
    assert told.headers["content-type"].startswith("text/csv")
    rows = [(label, float(confidence)) for label, confidence in csv.reader(io.StringIO(told.text))]
    assert rows == [(label, pytest.approx(confidence, abs=1e-5)) for label, confidence in truth]


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        ("", "text/csv", 400, "no line"),
        ("a,b\nc,d\n", "text/csv", 400, "line 1 has 2 fields; this run reads 1 (text)"),
        (b"\xff\xfe", "text/csv", 400, "not CSV in UTF-8"),
        ('"open', "text/csv", 400, "not CSV"),
        ("{", "application/json", 400, "not valid JSON"),
        ("[]", "application/json", 400, "allowed: an object"),
        ("{}", "application/json", 400, "'instances' is missing"),
        ('{"instances": [], "parameters": {}}', "application/json", 400, "at least one instance"),
        ('{"instances": ["a"], "inputs": ["a"]}', "application/json", 400, "are both there"),
        ('{"instances": ["a"], "rows": 1}', "application/json", 400, "'rows' is no key that this route knows"),
        ('{"instances": [1]}', "application/json", 400, "'instances.0'"),
        ('{"instances": ["a", {"nosuch": "b"}]}', "application/json", 400, "item 2"),
        ('{"instances": ["a"], "parameters": []}', "application/json", 400, "'parameters' must be an object"),
        ('{"instances": ["a"], "parameters": {"model": "x"}}', "application/json", 400, "'parameters.model' is no parameter"),
        ('{"instances": ["a"], "parameters": {"abstain_below": 2}}', "application/json", 400, "'parameters.abstain_below' is 2"),
        ('{"instances": ["a"], "parameters": {"nosuch": 2}}', "application/json", 400, "'parameters.nosuch' is no key"),
        (json.dumps({"instances": ["a"] * 257}), "application/json", 400, "257 instances; at most 256"),
        ("text", "text/plain", 415, "application/json or text/csv"),
    ],
)
def test_what_is_wrong_is_said_in_amazons_form(body, kind, status, words, sagemaker):
    found = raw(sagemaker, body, kind)
    said = found.json()
    assert found.status_code == status == said["code"] and said["type"].endswith("Exception"), said
    assert words in said["message"], said


def test_a_body_that_is_too_large_is_refused_by_the_providers_measure(sagemaker):
    held = raw(sagemaker, b" " * (6 * 2**20 + 1), "application/json")
    assert held.status_code == 413 and "6,291,456" in held.json()["message"]


def test_vertex_takes_texts_and_conversations_and_answers_each(writer, runs):
    run, question = whet.load(runs.chat), "where is the red card"
    expected = run.reply([Message("user", question)], max_new_tokens=6)
    talk = {"messages": [{"role": "user", "content": question}]}
    found = writer.post("/predict", {"instances": [question, talk], "parameters": {"max_tokens": 6}})
    assert found.status_code == 200, found.text
    assert [one["text"] for one in found.json()["predictions"]] == [expected, expected]
    assert {one["finish_reason"] for one in found.json()["predictions"]} <= {"stop", "length"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [1]}, "'instances.0' must be a text"),
        ({"instances": ["a", {"messages": [{"role": "judge", "content": "b"}]}]}, "'instances.1.messages.0.role'"),
        ({"instances": [{"messages": []}]}, "'instances.0.messages'"),
        ({"instances": ["a"], "parameters": {"temperature": 9}}, "'parameters.temperature' is 9"),
        ({"instances": ["a"], "parameters": {"stream": True}}, "'parameters.stream' is no parameter"),
        ({"instances": ["a"], "parameters": {"max_tokens": 10**9}}, "do not fit"),
        ({"instances": ["a"] * 17}, "17 instances; at most 16"),
        ({"inputs": ["a"]}, "'instances' is missing"),
    ],
)
def test_what_is_wrong_is_said_in_googles_form(body, words, writer):
    found = writer.post("/predict", body)
    said = found.json()["error"]
    assert found.status_code == 400 == said["code"] and said["status"] == "INVALID_ARGUMENT", said
    assert words in said["message"], said


def test_more_than_is_taken_is_said_in_googles_form(writer):
    body = {"instances": ["where is the red card"] * 4, "parameters": {"max_tokens": 60}}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = [one.result() for one in [pool.submit(writer.post, "/predict", body) for _ in range(3)]]
    refused = [one for one in found if one.status_code != 200]
    assert all(one.status_code == 429 and one.json()["error"]["status"] == "RESOURCE_EXHAUSTED" for one in refused)
    assert any(one.status_code == 200 for one in found)


class Slow:
    """An engine that takes its time for every token."""

    def start(self, policy):
        class Work(Continuous):
            def step(self):
                time.sleep(0.05)
                return super().step()

        return Work(policy, 2, 100)

    def score(self, policy, prompt, answer):
        return [0.0] * len(answer)


def test_what_nobody_waits_for_any_longer_is_ended(runs, start):
    with start([runs.chat], contract="sagemaker", engine=Slow()) as server:
        agreed = server.serving.service.agreed
        server.serving.service.agreed = dataclasses.replace(
            agreed, contract=dataclasses.replace(agreed.contract, answer_s=0.3)
        )  # fmt: skip
        begun = time.monotonic()
        found = server.post("/invocations", {"instances": ["where is the red card"], "parameters": {"max_tokens": 60}})
        assert found.status_code == 504 and "0.3 s" in found.json()["message"], found.text
        assert time.monotonic() - begun < 2
        while server.serving.service.worker.num_open and time.monotonic() - begun < 10:
            time.sleep(0.05)
        assert server.serving.service.worker.num_open == 0, "it went on for nobody"


def test_azure_takes_either_key_and_answers_errors_as_we_do(runs, start, truth):
    with start([runs.labels], contract="azureml") as server:
        for key in ("data", "input_data"):
            assert truth == pairs(server.post("/score", {key: TEXTS}).json())
        wrong = server.post("/score", {"data": [None]})
        assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "data.0"
        assert server.get("/health").status_code == server.get("/ready").status_code == 200


def test_a_providers_own_port_and_routes_are_taken(runs, start):
    set_ = {
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/9:predict",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/9",
    }
    with start([runs.labels], contract="vertex", environment=set_) as server:
        assert server.get(set_["AIP_HEALTH_ROUTE"]).status_code == 200
        assert server.post(set_["AIP_PREDICT_ROUTE"], {"instances": TEXTS}).status_code == 200
        assert server.post("/predict", {"instances": TEXTS}).status_code == 404
    assert agree("vertex", {"AIP_HTTP_PORT": "7080"}).port == 7080
    assert agree("sagemaker", {"SAGEMAKER_BIND_TO_PORT": "9090"}).port == 9090
    assert [agree(name, {}).port for name in CONTRACTS] == [8080, 8080, 5001]


def test_an_api_key_guards_all_but_the_providers_routes(runs, start):
    with start([runs.labels], contract="sagemaker", environment={"WHET_API_KEY": "k" * 20}) as server:
        assert server.post("/invocations", {"instances": TEXTS}).status_code == 200
        assert server.post("/v1/classify", {"model": "labels", "input": TEXTS}).status_code == 401
        assert server.get("/metrics").status_code == 401


def test_predictions_stand_in_the_request_log(runs, start, tmp_path):
    with start([runs.labels], contract="sagemaker", log=tmp_path / "log.sqlite") as server:
        server.post("/invocations", {"instances": TEXTS})
        server.post("/invocations", {"instances": [1]})
    (logged,) = read_requests(tmp_path / "log.sqlite")  # what could not be asked is no request to a model
    assert logged.endpoint == "classify" and len(logged.items) == 2 and logged.status == 200


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({"contract": "aws"}, {}, "Allowed: sagemaker, vertex, azureml"),
        ({"contract": "vertex"}, {"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT is 'http'; allowed: a port"),
        ({"contract": "vertex"}, {"AIP_HTTP_PORT": "70000"}, "AIP_HTTP_PORT"),
        ({"contract": "vertex"}, {"AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE is 'predict'; allowed: a path"),
        ({"contract": "vertex"}, {"AIP_PREDICT_ROUTE": "/{a}"}, "AIP_PREDICT_ROUTE"),
        ({"contract": "vertex"}, {"AIP_PREDICT_ROUTE": "/health"}, "both routes are '/health'"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_named(options, environment, words, runs):
    with pytest.raises(ServerError, match=words.replace("{", r"\{")):
        prepare([runs.labels], options=Options(port=0, log=None, **options), environment=environment)


def test_a_contract_is_for_one_run(runs):
    with pytest.raises(ServerError, match="one route for predictions, and 2 runs"):
        prepare([runs.labels, runs.chat], options=Options(port=0, log=None, contract="azureml"), environment={})
