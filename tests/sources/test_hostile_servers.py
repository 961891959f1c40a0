"""Servers that mean harm: answers that never end or never come, packed bombs, pages that lead back, rules that take for ever to read."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from web_site import Reply, Site

from whet import plugins
from whet.collect import fetch as fetching
from whet.collect.fetch import Passing, Reach, fetch
from whet.collect.robots import parse_robots
from whet.data.rows import RawRow, Reject
from whet.errors import DataError
from whet.protocols import Source
from whet.stages.new_source import source_of

KEY = "hush-4711-hush"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def api(site: Site, **more: object) -> Source:
    return plugins.build("sources", "json_api", {"url": f"{site.url}/v1/rows", "private": True, "delay_s": 0, **more})


def rows_of(source: Source) -> list[RawRow | Reject]:
    return [row for one in source.collect(None) for row in one.rows]


def endless(first: bytes, again: bytes, pause_s: float) -> Iterator[bytes]:
    yield first
    while True:
        yield again
        time.sleep(pause_s)


@pytest.mark.parametrize(
    ("first", "again", "pause_s"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x", 0.02),  # a head, byte by byte
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),  # go on, go on
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"0", 0.02),  # the size of a chunk
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"a: b\r\n", 0.0),  # what follows the last chunk
        (HEAD + b"\r\n[]", b" ", 0.02),  # a body without a length, whose cut end is no end
    ],
)  # fmt: skip
def test_an_answer_that_never_ends_is_left_at_its_time(first, again, pause_s):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                try:
                    for piece in endless(first, again, pause_s):
                        connection.sendall(piece)
                except OSError:
                    return  # the other side has gone

        threading.Thread(target=serve, daemon=True).start()
        begin = time.monotonic()
        with pytest.raises(Passing, match="took too long"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", Reach(private=True, timeout_s=0.5))
        assert time.monotonic() - begin < 5
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_key_does_not_follow_from_https_to_http_of_the_same_host(monkeypatch):
    sent = []

    def once(parts, reach, deadline, method, headers, body):
        sent.append((parts.scheme, "authorization" in headers))
        location = {} if parts.scheme == "http" else {"location": "http://api.example/rows"}
        return fetching.Answer(302 if location else 200, parts.geturl(), location, b"[]")

    monkeypatch.setattr(fetching, "_once", once)
    fetch("https://api.example/rows", Reach(frozenset({"api.example"})), headers={"authorization": f"Bearer {KEY}"})
    assert sent == [("https", True), ("http", False)]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_comes_packed_unasked_is_unpacked_within_the_bound(site, pack, coding):
    def packed(body: bytes) -> Reply:
        return Reply(pack(body), 200, (("content-type", "application/json"), ("content-encoding", coding)))

    site.pages = {"/v1/rows": packed(json.dumps([{"text": "a"}]).encode())}
    assert [row.fields for row in rows_of(api(site))] == [{"text": "a"}]
    site.pages = {"/v1/rows": packed(b" " * 2_000_000)}
    with pytest.raises(DataError, match="more than 1,000,000 bytes"):
        rows_of(api(site, max_bytes=1_000_000))


def test_another_packing_is_named_and_a_broken_one_tried_again(site, slept):
    site.pages = {"/v1/rows": Reply(b"xyz", 200, (("content-encoding", "br"),))}
    with pytest.raises(DataError, match="packed as 'br'"):
        rows_of(api(site))
    for broken in (b"no gzip", gzip.compress(b"[]" * 500)[:-9]):
        site.pages = {"/v1/rows": Reply(broken, 200, (("content-encoding", "gzip"),))}
        with pytest.raises(DataError, match=r"broken \(packing.* 2 times"):
            rows_of(api(site, retries=1))


def test_an_api_that_leads_back_or_nowhere_is_left(site):
    site.pages = {
        "/v1/rows": lambda asked: Reply(json.dumps({"rows": [{"text": "x"}], "next": "B" if "=A" in asked.path else "A"}))
    }
    with pytest.raises(DataError, match="leads back to a page"):
        rows_of(api(site, paging="cursor", records="rows"))
    assert len(site.asked) == 3  # the beginning, A, B
    site.pages = {"/v1/rows": lambda asked: Reply(json.dumps({"rows": [], "next": f"n{len(site.asked)}"}))}
    with pytest.raises(DataError, match="101 pages without a record"):
        rows_of(api(site, paging="cursor", records="rows"))


@pytest.mark.parametrize("depth", [101, 900])
def test_a_record_nested_without_bounds_is_a_reject(site, depth):
    deep = "[" * depth + "]" * depth
    site.pages = {"/v1/rows": Reply(f'[{{"text": "fine"}}, {{"text": "x", "more": {deep}}}]')}
    fine, wrong = rows_of(api(site))
    assert isinstance(fine, RawRow) and isinstance(wrong, Reject) and "nested deeper than 100" in wrong.reason


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY}\r", f"“{KEY}”", f"{KEY}\x00"])
def test_a_key_that_no_header_holds_is_refused_without_a_word_of_it(site, monkeypatch, tmp_path, key):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    if "\x00" not in key and key.strip() != KEY:
        monkeypatch.setenv("API_KEY", key)
        with pytest.raises(DataError, match="Copy it again") as refused:
            rows_of(api(site, key="env:API_KEY"))
        assert "hush" not in str(refused.value) and refused.value.__suppress_context__ == (refused.value.__context__ is not None)
    if "\n" not in key and key.strip() != KEY:
        with pytest.raises(DataError, match="Copy it again") as refused:
            rows_of(api(site, key=f"file:{tmp_path / 'key'}"))
        assert "hush" not in str(refused.value)
    assert not site.asked


def test_rules_made_to_take_for_ever_are_read_at_once():
    rules = parse_robots("User-agent: *\nDisallow: /" + "*a" * 30 + "b$\nDisallow: /x*y*z$\nDisallow: /end$\nDisallow: /q*$")
    begin = time.monotonic()
    assert rules.allow("/" + "a" * 5000)
    assert time.monotonic() - begin < 1
    assert not rules.allow("/" + "a" * 40 + "b") and rules.allow("/" + "a" * 29 + "b")
    assert not rules.allow("/x1y2z") and rules.allow("/x1y2z3") and rules.allow("/xz") and not rules.allow("/xyzz")
    assert not rules.allow("/end") and rules.allow("/end/") and not rules.allow("/q") and not rules.allow("/q/r")


def test_a_name_that_begins_like_an_address_of_this_machine_is_none(monkeypatch):
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr("whet.collect.fetch.socket.getaddrinfo", lambda *a, **k: here)
    with pytest.raises(DataError, match="private network"):
        source_of("http://127.0.0.1.evil.example/rows", [])


def test_tls_is_cut_off_too():
    context = ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as server:
        begin = time.monotonic()
        with pytest.raises(Passing, match="took too long"):  # it says nothing at all
            fetch(f"https://127.0.0.1:{server.getsockname()[1]}/", Reach(private=True, timeout_s=0.3))
        assert time.monotonic() - begin < 5 and context.check_hostname
