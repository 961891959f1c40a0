"""Pages, sitemaps and JSON APIs: only where the recipe says, politely, resumable, and with no secret told. Servers are of this machine."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from web_site import Asked, Reply, Site, page

from whet import plugins
from whet.collect.fetch import Passing, Reach, fetch, is_public
from whet.collect.robots import parse_robots
from whet.data.rows import RawRow, Reject
from whet.errors import DataError, RecipeError
from whet.protocols import Source
from whet.recipe_file import build_recipe
from whet.stages.collect import collected
from whet.stages.new import new
from whet.stages.new_source import source_of
from whet.testing.sources import check_source

KEY = "hush-4711-hush"


def web(site: Site, *paths: str, **more: object) -> Source:
    settings = {"urls": [site.url + path for path in paths], "private": True, "delay_s": 0, **more}
    return plugins.build("sources", "web", settings)


def api(site: Site, path: str = "/v1/rows", **more: object) -> Source:
    return plugins.build("sources", "json_api", {"url": site.url + path, "private": True, "delay_s": 0, **more})


def rows_of(source: Source) -> list[RawRow | Reject]:
    return [row for one in source.collect(None) for row in one.rows]


def as_json(value: object, *headers: tuple[str, str], status: int = 200) -> Reply:
    return Reply(json.dumps(value), status, (("content-type", "application/json"), *headers))


# Pages


def test_pages_become_rows_with_their_main_text(site):
    site.pages = {"/a": Reply(page(1)), "/b": Reply(page(2)), "/c": Reply("plain words", 200, (("content-type", "text/plain"),))}
    first, second, third = rows_of(web(site, "/a", "/b#part", "/c", "/a"))
    assert (first.file, first.line, first.fields["title"], first.fields["url"]) == (
        f"{site.url}/a",
        1,
        "Article 1",
        f"{site.url}/a",
    )
    assert "sentence 3 of article 1" in first.fields["text"] and "Home Menu" not in first.fields["text"]
    assert second.fields["title"] == "Article 2" and third.fields["text"] == "plain words"
    assert site.paths["/a"] == 1  # named twice


def test_web_keeps_the_laws(site):
    site.pages = {f"/{number}": Reply(page(number)) for number in range(4)} | {"/4": Reply("", 404)}
    check_source(web(site, *(f"/{number}" for number in range(5))), [KEY])


def test_what_cannot_be_a_row_is_a_reject_with_its_reason(site):
    site.pages = {
        "/empty": Reply("<html><body></body></html>"),
        "/pdf": Reply("%PDF", 200, (("content-type", "application/pdf"),)),
        "/ok": Reply(page(1)),
    }
    gone, empty, other, fine = rows_of(web(site, "/gone", "/empty", "/pdf", "/ok"))
    assert [row.reason for row in (gone, empty, other)] == [
        "answers 404",
        "a web page without a main text",
        "is application/pdf, no web page",
    ]
    assert isinstance(fine, RawRow)


def test_a_sitemap_of_sitemaps_gives_its_pages_in_order(site):
    def listed(*paths: str) -> str:
        return (
            "<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>"
            + "".join(f"<url><loc> {site.url}{one} </loc></url>" for one in paths)
            + "</urlset>"
        )

    site.pages = {
        "/sitemap.xml": Reply(f"<sitemapindex><sitemap><loc>{site.url}/one.xml.gz</loc></sitemap><sitemap><loc>{site.url}/two.txt</loc></sitemap></sitemapindex>"),
        "/one.xml.gz": Reply(gzip.compress(listed("/help/1", "/about", "/help/2").encode())),
        "/two.txt": Reply(f"{site.url}/help/3\nhttp://elsewhere.example/help/4\n"),
        **{f"/help/{number}": Reply(page(number)) for number in range(1, 5)},
    }  # fmt: skip
    source = plugins.build(
        "sources", "web", {"sitemaps": f"{site.url}/sitemap.xml", "match": "/help/", "private": True, "delay_s": 0}
    )
    assert [row.fields["title"] for row in rows_of(source)] == ["Article 1", "Article 2", "Article 3"]
    assert not [path for path in site.paths if "about" in path]
    few = plugins.build(
        "sources", "web", {"sitemaps": f"{site.url}/sitemap.xml", "match": "/help/", "private": True, "delay_s": 0, "limit": 2}
    )
    assert len(rows_of(few)) == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><urlset/>", "document type"),
        ("<urlset><url>", "broken"),
        (b"\x1f\x8bxx", "broken gzip"),
        (gzip.compress(b" " * 110_000_000), "unpacks to more"),
        ("<sitemapindex><sitemap><loc>SELF</loc></sitemap></sitemapindex>", "deep"),
    ],
)  # fmt: skip
def test_a_bad_sitemap_is_refused_in_words(site, body, said):
    text = body.replace("SELF", f"{site.url}/sitemap.xml") if isinstance(body, str) else body
    site.pages = {"/sitemap.xml": Reply(text)}
    with pytest.raises(DataError, match=said):
        rows_of(plugins.build("sources", "web", {"sitemaps": f"{site.url}/sitemap.xml", "private": True, "delay_s": 0}))


# robots.txt


def test_robots_is_obeyed(site):
    site.pages = {
        "/robots.txt": Reply("User-agent: *\nDisallow: /private\nAllow: /private/open\n"),
        "/private/open": Reply(page(1)),
        "/private/x": Reply(page(2)),
    }
    fine, closed = rows_of(web(site, "/private/open", "/private/x"))
    assert isinstance(fine, RawRow) and "robots.txt" in closed.reason
    assert site.paths["/private/x"] == 0 and site.paths["/robots.txt"] == 1


@pytest.mark.parametrize(("status", "read"), [(404, True), (401, True), (503, False)])
def test_without_robots_all_is_read_and_where_it_is_broken_nothing(site, slept, status, read):
    site.pages = {"/robots.txt": Reply("", status), "/a": Reply(page(1))}
    assert isinstance(rows_of(web(site, "/a", retries=1))[0], RawRow) is read


def test_a_redirect_to_what_robots_closes_is_no_way_in(site):
    site.pages = {
        "/robots.txt": Reply("User-agent: *\nDisallow: /closed\n"),
        "/a": Reply("", 302, (("location", "/closed"),)),
        "/closed": Reply(page(1)),
    }
    assert "robots.txt" in rows_of(web(site, "/a"))[0].reason


ROBOTS = """
User-agent: other
Disallow: /

User-agent: whet # us
User-agent: kin
Disallow: /a
Allow: /a/b
Disallow: /*.gif$
Disallow: /%7Ejoe/
Crawl-delay: 2.5

User-agent: *
Disallow: /some
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    # RFC 9309, section 2.2.2: the longest match decides, and of two as long the one that allows
    [("/a", False), ("/a/b", True), ("/a/bc", True), ("/some", True), ("/x.gif", False), ("/x.gif?y", True), ("/~joe/x", False), ("/", True)],
)  # fmt: skip
def test_the_longest_rule_of_our_group_decides(path, allowed):
    assert parse_robots(ROBOTS).allow(path) is allowed


def test_other_groups_do_not_count_and_the_delay_does():
    rules = parse_robots(ROBOTS)
    assert rules.delay_s == 2.5 and rules.allow("/some") and not parse_robots(ROBOTS, "somebody").allow("/some")
    assert parse_robots("Disallow: /").allow("/") and parse_robots("\x00\xff" * 50).allow("/")


# How often


def test_requests_to_a_host_are_spaced_and_its_crawl_delay_counts(site, slept):
    site.pages = {
        "/robots.txt": Reply("User-agent: *\nCrawl-delay: 3\n"),
        "/a": Reply(page(1)),
        "/b": Reply(page(2)),
        "/c": Reply(page(3)),
    }
    rows_of(web(site, "/a", "/b", "/c", delay_s=1))
    assert len(slept) == 2 and all(2 < wait <= 3 for wait in slept)


def test_waiting_grows_and_follows_the_server(site, slept):
    replies = [Reply("", 503), Reply("", 429, (("retry-after", "9"),)), Reply("", 500), Reply(page(1))]
    site.pages = {"/a": lambda asked: replies.pop(0)}
    assert isinstance(rows_of(web(site, "/a"))[0], RawRow)
    assert slept == [1.0, 9.0, 4.0]


def test_a_server_that_stays_broken_is_told_and_what_came_stays(site, slept, tmp_path):
    broken = [True]
    site.pages = {"/a": Reply(page(1)), "/b": lambda asked: Reply("", 500) if broken[0] else Reply(page(2))}
    choice = build_recipe(
        {
            "model": "m",
            "objective": "pretrain",
            "data": {
                "sources": {
                    "name": "web",
                    "urls": [f"{site.url}/a", f"{site.url}/b"],
                    "private": True,
                    "delay_s": 0,
                    "retries": 2,
                }
            },
        },
        "here",
    ).data.sources[0]
    with pytest.raises(DataError, match="answers 500, 3 times"):
        collected(choice, tmp_path)
    broken[0] = False
    file = collected(choice, tmp_path)
    assert site.paths["/a"] == 1 and len(file.read_text().splitlines()) == 3


# Where to


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fc00::1 "
    "ff02::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: fec0::1 nonsense".split(),
)
def test_addresses_of_this_machine_and_of_private_networks_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_however_they_are_written(site, host):
    port = site.http.server_port
    with pytest.raises(DataError, match="private network"):
        fetch(f"http://{host}:{port}/", Reach())
    assert not site.asked


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch):
    # DNS rebinding: the name leads to a public address first, and to this machine when asked again
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked, connected = [], []

    def resolve(host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers[len(asked) - 1]]

    def connect(address: tuple[str, int], **more: object) -> socket.socket:
        connected.append(address)
        raise OSError("not here")

    monkeypatch.setattr("whet.collect.fetch.socket.getaddrinfo", resolve)
    monkeypatch.setattr("whet.collect.fetch.socket.create_connection", connect)
    with pytest.raises(Passing):
        fetch("http://rebind.example/", Reach(frozenset({"rebind.example"})))
    assert asked == ["rebind.example"] and connected == [("93.184.216.34", 80)]
    with pytest.raises(DataError, match="private network"):  # the second time it is refused
        fetch("http://rebind.example/", Reach(frozenset({"rebind.example"})))


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr("whet.collect.fetch.socket.getaddrinfo", lambda *a, **k: both)
    with pytest.raises(DataError, match=r"10\.0\.0\.1"):
        fetch("http://two.example/", Reach())


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:1/",
        "file:///etc/passwd",
        "ftp://example.org/",
        "//evil.example/x",
        "http://u:p@127.0.0.1/",
    ],
)
def test_a_redirect_is_held_to_the_same(site, target):
    site.pages = {"/a": Reply("", 302, (("location", target),))}
    with pytest.raises(DataError, match=r"does not name|no address|user or a password"):
        rows_of(web(site, "/a"))


def test_a_page_of_a_sitemap_that_leads_elsewhere_is_left_out_and_the_others_are_read(site):
    pages = "".join(f"<url><loc>{site.url}/{name}</loc></url>" for name in ("a", "gone", "b"))
    site.pages = {
        "/sitemap.xml": Reply(f"<urlset>{pages}</urlset>", 200, (("content-type", "application/xml"),)),
        "/a": Reply(page(1)), "/b": Reply(page(2)), "/gone": Reply("", 302, (("location", "http://169.254.169.254/latest"),)),
    }  # fmt: skip
    source = plugins.build("sources", "web", {"sitemaps": f"{site.url}/sitemap.xml", "private": True, "delay_s": 0})
    rows = [row for page in source.collect(None) for row in page.rows]
    assert [type(row).__name__ for row in rows] == ["RawRow", "Reject", "RawRow"]
    assert "is redirected: http://169.254.169.254/latest: leads to 169.254.169.254" in rows[1].reason


def test_redirects_in_a_ring_end(site):
    site.pages = {"/a": Reply("", 301, (("location", "/b"),)), "/b": Reply("", 301, (("location", "/a"),))}
    with pytest.raises(DataError, match="redirects in a row"):
        rows_of(web(site, "/a"))


def test_a_host_that_is_not_named_is_not_asked(site):
    other = Site()
    try:
        other.pages = {"/x": Reply(page(7))}
        site.pages = {"/a": Reply("", 302, (("location", f"{other.url}/x"),))}
        with pytest.raises(DataError, match="which the recipe does not name"):
            rows_of(web(site, "/a"))
        assert not other.asked
        assert rows_of(web(site, "/a", hosts=[other.host]))[0].fields["title"] == "Article 7"
    finally:
        other.close()


def test_a_page_without_end_and_a_slow_one_are_given_up(site, slept):
    site.pages = {"/big": Reply("x" * 5000)}
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        rows_of(web(site, "/big", max_bytes=1000))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        with pytest.raises(Passing, match="too long"):
            fetch(url, Reach(private=True, timeout_s=0.2))


def test_a_header_cannot_be_smuggled_through_an_address():
    with pytest.raises(DataError, match="control characters"):
        fetch("http://example.org/a\r\nX-Evil: 1", Reach())


def test_a_certificate_that_is_not_valid_is_told(site):
    with pytest.raises(Passing, match=r"cannot be reached|certificate|broken"):
        fetch(f"https://{site.host}/", Reach(private=True, timeout_s=2))
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


# JSON


RECORDS = [
    {"id": number, "text": f"text of number {number}", "label": "ab"[number % 2], "more": {"deep": [number]}}
    for number in range(25)
]


def paged(how: str, site: Site) -> Callable[[Asked], Reply]:
    """An API of 25 records, ten a page, in one of the usual ways."""
    from urllib.parse import parse_qs, urlsplit

    def reply(asked: Asked) -> Reply:
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.path).query).items()}
        begin = {"page": 10 * (int(query.get("page", 1)) - 1), "offset": int(query.get("offset", 0))}.get(
            how, int(query.get("cursor", "c0")[1:])
        )
        some, after = RECORDS[begin : begin + 10], begin + 10
        there = after < len(RECORDS)
        if how == "cursor":
            return as_json({"data": {"items": some}, "meta": {"next": f"c{after}" if there else None}})
        if how == "cursor url":
            return as_json({"results": some, "next": f"{site.url}/v1/rows?cursor=c{after}&api_key={KEY}" if there else None})
        if how == "link":
            link = (
                (("link", f'<{site.url}/v1/rows?cursor=c0>; rel="first", </v1/rows?cursor=c{after}>; title="x"; rel="next"'),)
                if there
                else ()
            )
            return as_json(some, *link)
        return as_json({"rows": some})

    return reply


WAYS = {
    "cursor": {"paging": "cursor", "next": "meta.next", "records": "data.items"},
    "cursor url": {"paging": "cursor", "next": "next", "records": "results", "key_parameter": "api_key"},
    "link": {"paging": "link"},
    "page": {"paging": "page", "size": 10, "size_parameter": "per_page"},
    "offset": {"paging": "offset", "size": 10, "size_parameter": "limit"},
}


@pytest.mark.parametrize("how", WAYS)
def test_every_way_of_paging_gives_every_record_once_and_resumes(site, how, monkeypatch):
    monkeypatch.setenv("API_KEY", KEY)
    site.pages = {"/v1/rows": paged(how, site)}
    source = api(site, key="env:API_KEY", **WAYS[how])
    rows = rows_of(source)
    assert [row.fields["id"] for row in rows] == list(range(25)) and [row.line for row in rows] == list(range(1, 26))
    assert rows[3].fields["more"] == {"deep": [3]} and rows[3].file == f"{site.url}/v1/rows"
    check_source(source, [KEY])
    sent = all(one.headers.get("authorization") == f"Bearer {KEY}" or f"api_key={KEY}" in one.path for one in site.asked)
    assert sent
    assert len(rows_of(api(site, **(WAYS[how] | {"limit": 12})))) == 12


def test_a_next_page_elsewhere_is_refused_and_gets_no_key(site, monkeypatch):
    monkeypatch.setenv("API_KEY", KEY)
    other = Site()
    try:
        other.pages = {"/more": as_json([{"text": "x"}])}
        site.pages = {"/v1/rows": as_json([{"text": "y"}], ("link", f'<{other.url}/more>; rel="next"'))}
        with pytest.raises(DataError, match="does not name"):
            rows_of(api(site, paging="link", key="env:API_KEY"))
        assert not other.asked
        assert len(rows_of(api(site, paging="link", key="env:API_KEY", hosts=[other.host]))) == 2
        assert "authorization" not in other.asked[0].headers
        site.pages = {"/v1/rows": Reply("", 302, (("location", f"{other.url}/more"),))}
        rows_of(api(site, key="env:API_KEY", key_header="X-Secret", hosts=[other.host]))
        assert KEY not in str(other.asked)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("reply", "settings", "said"),
    [
        (Reply("<html>"), {}, "no JSON"),
        (as_json({"a": [1], "b": [2]}), {}, "2 lists"),
        (as_json({"a": [1]}), {"records": "c.d"}, "no list at 'c.d'"),
        (as_json({"error": "x"}, status=401), {}, "valid key"),
        (as_json({"rows": [{"a": 1}], "next": "same"}), {"paging": "cursor", "records": "rows"}, "names itself"),
        (as_json({"rows": [{"a": 1}], "next": {"x": 1}}), {"paging": "cursor", "records": "rows"}, "no mark"),
        (Reply("[" * 100_000), {}, "no JSON"),
    ],
)
def test_an_answer_of_another_form_is_told(site, reply, settings, said):
    site.pages = {"/v1/rows": reply}
    with pytest.raises(DataError, match=said):
        rows_of(api(site, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"url": f"https://example.org/?api_key={KEY}"},
        {"url": f"https://user:{KEY}@example.org/"},
        {"url": "https://example.org/", "headers": {"Authorization": f"Bearer {KEY}"}},
        {"url": "https://example.org/", "parameters": {"access_token": KEY}},
        {"url": "https://example.org/", "key": KEY},
    ],
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(settings):
    with pytest.raises(RecipeError) as told:
        plugins.build("sources", "json_api", settings)
    assert KEY not in str(told.value)


@pytest.mark.parametrize("name", ["urls", "sitemaps"])
def test_an_address_with_a_password_is_refused_and_not_repeated(name):
    with pytest.raises(RecipeError) as told:
        plugins.build("sources", "web", {name: [f"https://user:{KEY}@example.org/"]})
    assert KEY not in str(told.value) and "not repeated" in str(told.value)


def test_no_secret_is_in_what_is_collected(site, tmp_path, monkeypatch):
    monkeypatch.setenv("API_KEY", KEY)
    site.pages = {"/v1/rows": paged("cursor url", site)}
    settings = {
        "name": "json_api",
        "url": f"{site.url}/v1/rows",
        "private": True,
        "delay_s": 0,
        "key": "env:API_KEY",
        **WAYS["cursor url"],
    }
    choice = build_recipe({"model": "m", "objective": "pretrain", "data": {"sources": settings}}, "here").data.sources[0]
    collected(choice, tmp_path)
    assert KEY not in "".join(file.read_text() for file in (tmp_path / "collected").rglob("*.json*"))


# The hub, and recipes from addresses


@pytest.mark.slow
def test_a_data_set_in_a_folder_keeps_the_laws(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in RECORDS * 50))
    source = plugins.build("sources", "hub", {"dataset": str(tmp_path / "set")})
    check_source(source)
    assert len(rows_of(plugins.build("sources", "hub", {"dataset": str(tmp_path / "set"), "limit": 7}))) == 7
    with pytest.raises(DataError, match="cannot be had"):
        rows_of(plugins.build("sources", "hub", {"dataset": str(tmp_path / "set"), "split": "nowhere"}))


def test_an_address_becomes_a_recipe(site, tmp_path):
    site.pages = {"/v1/rows": paged("link", site), "/a": Reply(page(1))}
    path, seen = new([f"{site.url}/v1/rows"], out=tmp_path / "api.yaml")
    assert "name: json_api" in path.read_text() and "paging: link" in path.read_text() and seen.objective == "classify"
    assert not any("no further page" in one for one in seen.reasons)
    path, seen = new([f"{site.url}/a"], out=tmp_path / "web.yaml")
    assert "name: web" in path.read_text() and seen.columns["text"] == "text"


def test_records_below_the_top_of_an_answer_are_found_for_the_recipe(site, tmp_path):
    site.pages = {
        "/v1/rows": Reply(
            json.dumps({"meta": {"total": 2}, "data": {"items": RECORDS}}), headers=(("Content-Type", "application/json"),)
        )
    }
    path, seen = new([f"{site.url}/v1/rows"], out=tmp_path / "api.yaml")
    assert "records: data.items" in path.read_text() and seen.num_rows == len(RECORDS)
    assert any("no further page" in one and "data.sources.paging" in one for one in seen.reasons)


@pytest.mark.parametrize(
    ("answer", "records"),
    [
        (json.dumps({"data": {"items": RECORDS}}), "data.items"), (json.dumps({"data": RECORDS}), None), (json.dumps(RECORDS), None),
        (json.dumps({"data": {"v1.2": RECORDS}}), None), (json.dumps({"data": {"items": RECORDS}})[:-1], None), ("[" * 100_000, None),
    ],
)  # fmt: skip
def test_where_the_records_are_is_written_where_it_has_to_be_and_can_be(site, answer, records):
    site.pages = {"/v1/rows": Reply(answer, headers=(("Content-Type", "application/json"),))}
    assert source_of(f"{site.url}/v1/rows", []).get("records") == records


def test_a_database_becomes_a_recipe(tmp_path):
    import sqlite3

    file = tmp_path / "tickets.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE small (a TEXT)")
        database.execute("CREATE TABLE tickets (id INTEGER PRIMARY KEY, message TEXT, intent TEXT)")
        database.executemany(
            "INSERT INTO tickets (message, intent) VALUES (?, ?)", [(f"my card {n} is lost", "ab"[n % 2]) for n in range(40)]
        )
    database.close()
    path, seen = new([file], out=tmp_path / "recipe.yaml")
    text = Path(path).read_text()
    assert "name: sql" in text and "SELECT * FROM" in text and "tickets" in text and "key: id" in text
    assert seen.columns == {"text": "message", "label": "intent"} and seen.objective == "classify"
