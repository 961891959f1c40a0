"""The way in: keys, hosts, sizes, malformed requests, the page; and what starting a server refuses."""

from __future__ import annotations

import json
import re
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whet.errors import RunError, ServerError
from whet.server import schema
from whet.server.refusals import Refusal
from whet.server.served import Shelf
from whet.stages.serve import Options, prepare

KEY = "a-key-for-tests-only-0123"
BODY = {"model": "labels", "input": "my card"}
ENDPOINTS = {
    "/v1/chat/completions": schema.ChatRequest,
    "/v1/completions": schema.CompletionRequest,
    "/v1/embeddings": schema.EmbeddingRequest,
    "/v1/classify": schema.ClassifyRequest,
    "/v1/feedback": schema.FeedbackRequest,
}


def is_error(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"], response.text
    return True


def test_every_path_but_the_open_ones_needs_the_key(runs, start, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"another-key-for-tests-456\n{KEY}\n")
    with start([runs.labels], api_key_file=file) as server:
        for path in ("/", "/health", "/ready"):
            assert server.get(path).status_code == 200
        for path in ("/v1/models", "/v1/models/labels", "/metrics", "/openapi.json", "/nosuch"):
            assert server.get(path).status_code == 401
        for key in (None, "", "Bearer", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer \xe9"):
            headers = {} if key is None else {"authorization": key.encode("latin-1")}
            refused = server.post("/v1/classify", BODY, headers=headers)
            assert refused.status_code == 401 and is_error(refused) and refused.headers["www-authenticate"] == "Bearer"
            assert KEY not in refused.text
        for key in (KEY, "another-key-for-tests-456"):
            assert server.post("/v1/classify", BODY, headers={"authorization": f"Bearer {key}"}).status_code == 200
        with server.client(KEY) as client:
            assert [model.id for model in client.models.list()] == ["labels"]
    assert not any(KEY in line for line in server.said)


def test_the_key_may_come_from_the_environment(runs, start):
    with start([runs.labels], environment={"WHET_API_KEY": KEY}) as server:
        assert server.post("/v1/classify", BODY).status_code == 401
        assert server.post("/v1/classify", BODY, headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_a_page_elsewhere_cannot_reach_an_open_server_by_a_name_of_its_own(server):
    assert server.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
    assert server.get("/v1/models", headers={"host": "localhost:1234"}).status_code == 200
    assert server.post("/v1/classify", BODY, headers={"content-type": "text/plain"}).status_code == 415


def test_other_paths_and_methods_are_refused_in_the_same_shape(server):
    cases = [("GET", "/nosuch", 404), ("GET", "/v1/classify", 405), ("DELETE", "/v1/models", 405), ("GET", "/v1/models/no/such", 404),
             ("OPTIONS", "/v1/classify", 405), ("GET", "/docs", 404), ("GET", "/..%2f..%2fetc/passwd", 404)]  # fmt: skip
    for method, path, status in cases:
        found = server.http.request(method, f"{server.url}{path}")
        assert found.status_code == status and is_error(found), (method, path, found.text)
        assert re.fullmatch("[0-9a-f]{32}", found.headers["x-request-id"])


def test_what_can_be_looked_at_can_be_asked_for_its_head_alone(server):
    for path in ("/", "/health", "/ready", "/metrics", "/v1/models"):
        head, whole = server.http.head(f"{server.url}{path}"), server.get(path)
        assert head.status_code == whole.status_code == 200 and head.content == b"", path
        assert head.headers["content-type"] == whole.headers["content-type"] and "x-request-id" in head.headers


def test_a_body_that_is_too_large_is_refused_unread(server):
    found = server.post("/v1/classify", {"model": "labels", "input": "x" * 2_000_000})
    assert found.status_code == 413 and is_error(found)

    def parts():
        for _ in range(40):
            yield b"x" * 100_000

    try:
        streamed = httpx.post(f"{server.url}/v1/classify", content=parts(), headers={"content-type": "application/json"})
    except httpx.WriteError:  # the server has closed the connection before all was sent
        return
    assert streamed.status_code == 413


MALFORMED = [
    b"", b"{", b"[]", b"null", b'"x"', b"1e999", b"{}", b'{"model": NaN}', b'{"model": "labels", "input": Infinity}', b"\xff\xfe",
    b'{"model": "labels", "input": "\\ud800"}', b'{"model": "labels", "input": "\xed\xa0\x80"}', b"[" * 10_000, b'{"a":' * 5_000,
    b'{"model": "labels", "input": {"text": {"deep": 1}}}', b'{"model": ["labels"], "input": 1}', b'{"model": "labels", "input": [[[1]]]}',
    b'{"model": "\x00", "input": "x"}', b'{"model": "labels", "input": [-1]}', b'{"model": "labels", "input": [1e400]}',
    b'{"model": "labels", "input": ' + b"9" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("path", ENDPOINTS)
def test_malformed_bodies_are_mistakes_of_the_client(server, path):
    for body in MALFORMED:
        found = server.http.post(f"{server.url}{path}", content=body, headers={"content-type": "application/json"})
        assert 400 <= found.status_code < 500 and is_error(found), (body[:60], found.status_code, found.text)


def test_control_characters_in_a_text_are_text(server):
    for text in ("a\x00b", "\x1b[31m", "\u202e card", "\ufffe card", "</script> card"):
        assert server.post("/v1/classify", {"model": "labels", "input": f"my {text}"}).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def bodies(model):
    """Bodies with the endpoint's keys, some left out, with any values; and others that are nearly right."""
    names = [*model.model_fields, *sorted(schema.NEUTRAL), "surprise"]
    nearly = {
        "model": st.sampled_from(["labels", "chat", "nosuch"]),
        "messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", "x"]), "content": st.text(max_size=9)}), max_size=2),
        "input": st.text(max_size=9) | st.lists(st.text(max_size=9), max_size=3) | st.lists(st.integers(0, 200), max_size=3),
        "prompt": st.text(max_size=9) | st.lists(st.integers(0, 200), max_size=3),
        "max_tokens": st.integers(-1, 4),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=5),
        "seed": st.integers(),
    }  # fmt: skip
    field = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), nearly.get(name, JSON) | JSON))
    right = st.fixed_dictionaries({}, optional={name: value for name, value in nearly.items() if name in model.model_fields})
    return st.builds(lambda base, more: {**base, **dict(more)}, right, st.lists(field, max_size=2))


@pytest.mark.parametrize("path", ENDPOINTS)
def test_no_body_makes_the_server_fail(server, path):
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(body=bodies(ENDPOINTS[path]))
    def ask(body):
        if path in {"/v1/chat/completions", "/v1/completions"}:
            body.setdefault("max_tokens", 2)
        content = json.dumps(body).encode()
        found = server.http.post(f"{server.url}{path}", content=content, headers={"content-type": "application/json"})
        assert found.status_code < 500, (body, found.text)
        if found.status_code >= 400:
            is_error(found)

    ask()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
    model=st.sampled_from(list(ENDPOINTS.values())),
)
def test_any_bytes_are_parsed_or_refused(body, model):
    try:
        parsed = schema.parse(body, model)
    except Refusal as refusal:
        json.dumps(refusal.body()).encode()
        assert 400 <= refusal.status < 500
    else:
        assert isinstance(parsed, model)


def test_the_page_brings_everything_with_it_and_may_fetch_nothing_else(server):
    page = server.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|//[a-z]|@import|url\(|\.innerHTML|document\.write|eval\(", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "'unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_metrics_count_what_was_asked(server):
    before = server.metric("whet_requests_total"), server.metric("whet_labels_total")
    server.post("/v1/classify", {"model": "labels", "input": ["my card", "my parcel"]})
    server.post("/v1/classify", {"model": "labels"})
    assert server.metric("whet_labels_total") == before[1] + 2
    page = server.get("/metrics").text
    assert 'whet_requests_total{endpoint="other",status="400"}' in page
    assert 'whet_request_seconds_count{endpoint="classify",model="labels"}' in page
    assert server.metric("whet_requests_total") >= before[0] + 2


# Before a server listens


def options(**changes):
    return Options(**{"port": 0, "log": None} | changes)


def test_a_mistake_at_the_start_is_named_and_the_address_given_back(runs, tmp_path, server):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text("123\n")
    (tmp_path / "notes.txt").write_text("no database at all, but long enough to be looked at" * 50)
    taken = int(server.url.rpartition(":")[2])
    cases = [
        ({"references": ["nosuch"]}, RunError, "no such run"),
        ({"references": [runs.labels, runs.labels]}, ServerError, "two runs have this name"),
        ({"references": [runs.labels], "names": ["a", "b"]}, ServerError, "2 names for 1 runs"),
        ({"references": [runs.labels], "names": ["../x"]}, ServerError, "letters"),
        ({"references": [runs.labels], "options": options(host="0.0.0.0")}, ServerError, "API key"),
        ({"references": [runs.labels], "options": options(port=taken)}, ServerError, "--port"),
        ({"references": [runs.labels], "options": options(host="no.such.host.invalid"), "environment": {"WHET_API_KEY": KEY}}, ServerError, "--host"),
        ({"references": [runs.labels], "options": options(api_key_file=tmp_path / "nosuch")}, ServerError, "nosuch"),
        ({"references": [runs.labels], "options": options(api_key_file=tmp_path / "empty")}, ServerError, "no API key"),
        ({"references": [runs.labels], "options": options(api_key_file=tmp_path / "short")}, ServerError, "16 characters"),
        ({"references": [runs.labels], "options": options(log=tmp_path / "notes.txt")}, ServerError, "notes.txt"),
        ({"references": [runs.labels], "options": options(log=tmp_path / "notes.txt" / "log")}, ServerError, "--log"),
        ({"references": [runs.labels], "options": options(log=server.serving.options.log)}, ServerError, "another server"),
    ]  # fmt: skip
    for arguments, kind, words in cases:
        with pytest.raises(kind, match=re.escape(words)):
            prepare(**{"environment": {}} | arguments)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RunError):
        prepare(["nosuch"], options=options(port=port), environment={})
    socket.create_server(("127.0.0.1", port)).close()


def test_another_address_is_fine_with_a_key(runs, start):
    with start([runs.labels], host="0.0.0.0", environment={"WHET_API_KEY": KEY}) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert httpx.get(f"{url}/v1/models").status_code == 401


def test_what_nobody_foresaw_is_an_error_like_any_other(runs, start, monkeypatch):
    def broken(shelf):
        raise LookupError(" ".join(["words", "of", "a", "row"]))

    with start([runs.labels]) as server:
        monkeypatch.setattr(Shelf, "names", broken)
        refused = server.get("/v1/models")
        assert refused.status_code == 500 and is_error(refused) and "words of a row" not in refused.text
        monkeypatch.undo()
        assert server.get("/v1/models").status_code == 200
