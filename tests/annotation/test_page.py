"""The page lets in whom it should, and what is sent to it or shown on it does no harm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from whet.annotation.gate import MAX_BODY_BYTES, Names
from whet.annotation.sessions import MOST_FAILURES, MOST_SESSIONS, Sessions, TooManyFailures, read_password
from whet.errors import ServerError

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from whet.annotation import listen as listening
from whet.annotation.app import STATIC, build_app

PASSWORD = "correct horse battery"
LOCAL = Names(frozenset({"localhost", "127.0.0.1", "::1"}), addresses=False)
BASE = "http://127.0.0.1:8010"


class Page:
    """A browser without a screen."""

    def __init__(self, desk, password=None, names=LOCAL):
        self.sessions = Sessions(password, "ada")
        self.desk = desk
        self.client = TestClient(build_app(desk, self.sessions, names, "c"), base_url=BASE, raise_server_exceptions=False)
        self.token = ""

    def open(self):
        page = self.client.get("/")
        self.token = page.text.split('name="token" content="')[1].split('"')[0]
        return page

    def post(self, path, body, **headers):
        return self.client.post(path, json=body, headers={"x-whet-token": self.token, **headers})


@pytest.fixture
def page(make_desk):
    page = Page(make_desk())
    page.open()
    return page


def first(page):
    return page.post("/api/next", {"screen": "s"}).json()["row"]


def test_a_row_is_labelled_and_taken_back(page):
    row = first(page)
    saved = page.post("/api/save", {"key": row["key"], "action": "answer", "value": "bug", "revision": 0, "seconds": 2})
    assert saved.status_code == 200
    assert page.desk.store.answer(row["key"], "ada").value == "bug"
    assert page.post("/api/undo", {"screen": "s"}).json()["row"]["key"] == row["key"]
    assert page.client.get(f"/api/history/{row['key']}").json()["changes"][1]["undo"] is True


def test_a_stale_answer_is_answered_with_what_it_is_now(page):
    row = first(page)
    page.post("/api/save", {"key": row["key"], "action": "answer", "value": "bug", "revision": 0})
    late = page.post("/api/save", {"key": row["key"], "action": "answer", "value": "billing", "revision": 0})
    assert (late.status_code, late.json()["now"]) == (409, {"action": "answer", "value": "bug", "reason": "", "revision": 1})


@pytest.mark.parametrize("token", ["", "wrong", None])
def test_without_the_token_of_the_session_nothing_is_changed(page, token):
    headers = {} if token is None else {"x-whet-token": token}
    answered = page.client.post("/api/save", json={"key": "k", "action": "skip", "revision": 0}, headers=headers)
    assert (answered.status_code, answered.json()["error"]["code"]) == (403, "wrong_token")
    assert page.desk.store.history() == []


def test_a_token_of_another_session_does_not_count(page):
    _, other = page.sessions.begin("eve")
    assert page.post("/api/next", {"screen": "s"}, **{"x-whet-token": other.csrf}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"origin": "http://evil.example"}, "wrong_origin"),
        ({"origin": "null"}, "wrong_origin"),
        ({"origin": "http://["}, "wrong_origin"),
        ({"sec-fetch-site": "cross-site"}, "wrong_origin"),
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
    ],
)
def test_what_a_foreign_page_can_send_is_refused(page, headers, code):
    answered = page.client.post(
        "/api/next",
        content=b'{"screen": "s"}',
        headers={"content-type": "application/json", "x-whet-token": page.token, **headers},
    )
    assert answered.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8010",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[",
        "192.168.1.5",
        "evil.example@127.0.0.1",
        "127.0.0.1/x",
    ],
)
def test_a_name_that_is_not_ours_is_refused(page, host):
    assert page.client.get("/api/state", headers={"host": host}).status_code == 403
    assert page.client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8010", "127.0.0.1:1", "[::1]:8010", "LOCALHOST:8010"])
def test_our_own_names_are_taken(page, host):
    assert page.client.get("/health", headers={"host": host}).status_code == 200


def test_where_others_reach_the_machine_any_plain_address_will_do_and_no_foreign_name():
    names = Names(frozenset({"localhost"}), addresses=True)
    assert names.allow("192.168.1.5:8010")
    assert names.allow("[fe80::1]:8010")
    assert not names.allow("evil.example")


def test_nobody_gets_in_without_the_password(make_desk):
    page = Page(make_desk(), PASSWORD)
    shown = page.open()
    assert page.token == ""
    assert "rows" not in shown.text
    assert page.client.get("/api/state").status_code == 401
    wrong = page.post("/login", {"annotator": "eve", "password": "wrong horse"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "wrong_password")
    assert page.client.get("/api/state").status_code == 401
    assert page.post("/login", {"annotator": "eve", "password": PASSWORD}).status_code == 200
    page.open()
    assert page.client.get("/api/state").json()["annotator"] == "eve"
    assert page.post("/logout", {}).status_code == 200
    assert page.client.get("/api/state").status_code == 401


def test_guessing_the_password_is_stopped(make_desk):
    page = Page(make_desk(), PASSWORD)
    codes = [
        page.post("/login", {"annotator": "eve", "password": f"guess {number}"}).status_code
        for number in range(MOST_FAILURES + 2)
    ]
    assert codes == [401] * MOST_FAILURES + [429] * 2
    with pytest.raises(TooManyFailures):
        page.sessions.is_password(PASSWORD)


def test_the_password_is_nowhere_in_the_process_but_as_a_hash():
    sessions = Sessions(PASSWORD, "ada")
    assert PASSWORD not in repr(vars(sessions))
    assert sessions.is_password(PASSWORD)
    assert Sessions(PASSWORD, "ada")._password != sessions._password  # salted


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(make_desk):
    cookie = Page(make_desk()).open().headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_password_is_read_from_a_file_or_the_environment_and_must_be_long_enough(tmp_path):
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    assert read_password(file, {}) == PASSWORD
    assert read_password(None, {"WHET_ANNOTATE_PASSWORD": PASSWORD}) == PASSWORD
    assert read_password(None, {}) is None
    file.write_text("short")
    with pytest.raises(ServerError) as refused:
        read_password(file, {})
    assert "short" not in str(refused.value)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/page.css%00",
        "/static//etc/passwd",
        "/static/page.html",
        "/../x",
    ],
)
def test_no_other_file_is_read(page, path):
    answered = page.client.get(path)
    assert answered.status_code in {401, 404}
    assert "import" not in answered.text


def test_every_file_of_the_page_is_there_and_fetches_nothing_from_elsewhere(page):
    for name, kind in STATIC.items():
        answered = page.client.get(f"/static/{name}")
        assert answered.headers["content-type"].startswith(kind)
        assert "http://" not in answered.text
        assert "https://" not in answered.text


def test_the_policy_lets_nothing_run_that_is_not_ours(page):
    policy = page.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for path in ("/", "/api/state", "/static/page.js", "/nothing"):
        assert page.client.get(path).headers["x-content-type-options"] == "nosniff"


SCRIPT = "</script><img src=x onerror=alert(1)><script>alert(1)</script>"


def test_texts_labels_and_names_are_never_markup(make_desk):
    desk = make_desk(fields=[{"text": SCRIPT, "label": ""}])
    desk.title = SCRIPT
    page = Page(desk)
    page.sessions.annotator = SCRIPT
    shown = page.open()
    assert "<img" not in shown.text
    assert "alert(1)" not in shown.text.replace("alert(1)&gt;", "").replace("alert(1)&lt;", "")
    state = page.client.get("/api/state")
    assert state.headers["content-type"] == "application/json"  # with nosniff: never shown as a page
    assert first(page)["content"]["text"] == SCRIPT


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_refused(page, chunked):
    body = b'{"screen": "' + b"x" * MAX_BODY_BYTES + b'"}'
    content = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
    answered = page.client.post(
        "/api/next", content=content, headers={"content-type": "application/json", "x-whet-token": page.token}
    )
    assert (answered.status_code, answered.json()["error"]["code"]) == (413, "body_too_large")


BODIES = [
    b"", b"null", b"[]", b"{", b'{"screen": 3}', b'{"screen": "s", "more": 1}', b"\xff\xfe", b'{"screen": "\\ud800"}', b"[" * 100_000,
    b'{"screen": "s", "but": [1]}', b'{"screen": "' + b"s" * 65 + b'"}', b'{"screen": 1e999}',
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/next", "/api/save", "/api/decide", "/api/undo", "/api/label", "/login"])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_no_body_makes_it_fail(page, path, body):
    answered = page.client.post(path, content=body, headers={"content-type": "application/json", "x-whet-token": page.token})
    assert 400 <= answered.status_code < 500
    assert page.desk.store.history() == []


VALUES = [
    None,
    True,
    1e308,
    10**30,
    "x" * 300,
    [],
    {},
    [[[]]],
    {"better": {}},
    [{"kind": [], "first": 0, "end": 1}],
    {"a": {"b": 1}},
    "\x00",
]


@pytest.mark.parametrize("kind", ["label", "labels", "spans", "text", "preference", "rating"])
def test_no_value_makes_it_fail(make_desk, kind):
    page = Page(make_desk(kind, review=True))
    page.open()
    row = first(page)
    for value in VALUES:
        revision = page.desk.store.answer(row["key"], "ada").revision
        answered = page.post("/api/save", {"key": row["key"], "action": "answer", "value": value, "revision": revision})
        assert answered.status_code in {200, 400}, (value, answered.text)
    for action in ("", "none", "drop table", "answer "):
        assert page.post("/api/save", {"key": row["key"], "action": action, "revision": 0}).status_code == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_other_methods_are_refused(page, method):
    assert page.client.request(method, "/api/state").status_code == 405


def test_an_unknown_row_is_said_to_be_none(page):
    for path in ("/api/row/nothing", "/api/history/..%2f..", "/nothing", "/api/"):
        assert page.client.get(path).status_code == 404
    assert page.post("/api/save", {"key": "nothing", "action": "skip", "revision": 0}).status_code == 404


def test_a_fault_of_ours_shows_neither_paths_nor_traces(page, monkeypatch, capsys):
    said = "secret row content at /home/ada/rows.csv"  # no code of this test's, which a trace may show

    def fail(annotator):
        raise RuntimeError(said)

    monkeypatch.setattr(type(page.desk), "state", lambda desk, annotator: fail(annotator))
    answered = page.client.get("/api/state")
    assert answered.status_code == 500
    assert "secret" not in answered.text
    assert "secret" not in capsys.readouterr().err


def test_a_row_with_half_a_character_is_shown(make_desk):
    page = Page(make_desk(fields=[{"text": "half \ud83d", "label": ""}]))
    page.open()
    answered = page.post("/api/next", {"screen": "s"})
    assert json.loads(answered.content)["row"]["content"]["text"] == "half \ud83d"


def test_a_full_disk_is_told_and_the_page_goes_on_once_there_is_room(page):
    file = page.desk.store._file
    file.execute(f"PRAGMA max_page_count = {file.execute('PRAGMA page_count').fetchone()[0]}")
    row = first(page)
    full = page.post("/api/save", {"key": row["key"], "action": "skip", "revision": 0, "reason": "x" * 2000})
    for _ in range(20):
        if full.status_code == 507:
            break
        revision = page.desk.store.answer(row["key"], "ada").revision
        full = page.post("/api/save", {"key": row["key"], "action": "skip", "revision": revision, "reason": "x" * 2000})
    assert full.status_code == 507 and "full" in full.json()["error"]["message"] and "/" not in full.json()["error"]["message"]
    file.execute("PRAGMA max_page_count = 100000")
    revision = page.desk.store.answer(row["key"], "ada").revision
    assert (
        page.post("/api/save", {"key": row["key"], "action": "answer", "value": "bug", "revision": revision}).status_code == 200
    )


def test_what_nobody_foresaw_is_answered_in_json_without_a_word_of_it(page, monkeypatch, capsys):
    def broken(self, annotator):
        raise LookupError(" ".join(["charged", "twice"]))  # words of a row

    monkeypatch.setattr(type(page.desk), "state", broken)
    answered = page.client.get("/api/state")
    assert (answered.status_code, answered.json()["error"]["code"]) == (500, "internal_error")
    assert "charged twice" not in answered.text + capsys.readouterr().err
    assert page.client.get("/health").status_code == 200


def test_pictures_on_a_foreign_page_push_nobody_out(page):
    for _ in range(MOST_SESSIONS + 1):  # a browser says what it wants them for; its cookie stays behind, since they are foreign
        page.sessions.begin("eve")
        page.sessions.find(page.client.cookies["c"])
    assert page.client.get("/api/state").status_code == 200
    before = len(page.sessions._sessions)
    page.client.cookies.clear()
    assert "set-cookie" not in page.client.get("/", headers={"sec-fetch-dest": "image"}).headers
    assert len(page.sessions._sessions) == before
    assert "set-cookie" in page.client.get("/", headers={"sec-fetch-dest": "document"}).headers


@pytest.mark.parametrize("name", ["a\x00b", "\x1b[31mred", "a\x7fb", "a\x9bb"])
def test_a_label_has_no_control_characters(page, name):
    assert page.post("/api/label", {"name": name}).status_code == 400


def test_a_head_that_does_not_come_in_time_is_not_waited_for(make_desk, monkeypatch):
    monkeypatch.setattr(listening, "HEAD_TIMEOUT_S", 0.2)
    stop, ready = threading.Event(), threading.Event()
    app = build_app(make_desk(), Sessions(None, "ada"), LOCAL, "c")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = threading.Thread(target=listening.listen, args=(app, taken), kwargs={"on_ready": ready.set, "stop": stop})
        server.start()
        assert ready.wait(20)
        with socket.create_connection(taken.getsockname(), timeout=10) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
            assert slow.recv(100) == b""
        stop.set()
        server.join(20)


@pytest.mark.parametrize(("review", "said"), [
    ((), "5 rows, 3 of them with an answer in the file, which --review asks for too; asked for: label"), (("--review",), "5 rows; asked for: label"),
])  # fmt: skip
def test_rows_that_have_an_answer_in_the_file_are_counted_for_who_opens_the_page(tmp_path, review, said):
    file = tmp_path / "tickets.csv"
    file.write_text("text,label\n" + "".join(f"the text of ticket {n},{'bug' if n < 3 else ''}\n" for n in range(5)))
    command = [sys.executable, "-m", "whet", "annotate", str(file), "--no-suggest", "--port", "0", *review]
    opened = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1", "COLUMNS": "300"})
    lines = []
    while "Label at" not in "".join(lines) and (line := opened.stderr.readline()):
        lines.append(line)
    opened.terminate()
    opened.wait(timeout=60)
    opened.stderr.close()
    assert said in " ".join("".join(lines).split())
