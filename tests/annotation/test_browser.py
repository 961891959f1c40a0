"""The page in a real Chromium, worked by keyboard alone; a server that is killed half-way loses nothing that was confirmed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from whet.annotation.store import Store

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

pytestmark = pytest.mark.slow
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None
)
LABELS = ("billing", "bug", "other")
WAIT_MS = 60_000  # of a machine that others use too
TEXTS = {
    "billing": "I was charged twice for order {}",
    "bug": "the app crashes on screen {}",
    "other": "what are your opening hours on day {}",
}


class Server:
    """`whet annotate` as a process of its own."""

    def __init__(self, file: Path, *options: str) -> None:
        command = [sys.executable, "-m", "whet", "annotate", str(file), "--annotator", "ada", "--no-suggest", "--json", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"NO_COLOR": "1"}
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended with {self.process.wait()}"
        self.told = json.loads(line)
        self.url = self.told["url"]

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[Server] = []

    def start(file: Path, *options: str) -> Server:
        started.append(Server(file, *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium (on Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A window in which nothing may go wrong unseen, and nothing may be fetched from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page, faults = context.new_page(), []
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda told: faults.append(told.text) if "Content Security Policy" in told.text else None)
    page.on(
        "request",
        lambda asked: None if "//127.0.0.1:" in asked.url or asked.url.startswith("data:") else faults.append(asked.url),
    )
    yield page
    context.close()
    assert faults == []


def tickets(folder: Path, count: int) -> Path:
    file = folder / "tickets.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        for number in range(count):
            writer.writerow([TEXTS[LABELS[number % 3]].format(number), ""])
    return file


def lines(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def shows(page, place: str, text: str | re.Pattern[str]) -> None:
    """Wait until a place of the page holds a text; by looking only, since the page's policy lets no code of ours in."""
    playwright.expect(page.locator(place)).to_contain_text(text, timeout=WAIT_MS)


def open_page(page, url: str) -> None:
    page.goto(url)
    shows(page, "#standing", "done")
    idle(page)


def idle(page) -> None:
    """Wait until the page has nothing under way."""
    playwright.expect(page.locator("body")).to_have_attribute("aria-busy", "false", timeout=WAIT_MS)


def saved(page, press: Callable[[], None], done: int) -> None:
    """Press what saves, and wait until the page says so."""
    press()
    shows(page, "#standing", re.compile(rf"^{done:,} done"))
    idle(page)


def true_label(text: str) -> str:
    return next(label for label, form in TEXTS.items() if text.startswith(form[:8]))


def answers(file: Path) -> dict[str, object]:
    """What is on the disk: by what was shown, what was said."""
    with Store(file.with_name(f"{file.name}.annotations.sqlite"), writes=False) as store:
        contents = {item.key: item.content for item in store.items()}
        return {contents[one.key]["text"]: one.value for one in store.answers() if one.action == "answer"}


def test_a_hundred_rows_by_keyboard_and_a_server_killed_half_way_loses_nothing_confirmed(tmp_path, page, serve):
    file = tickets(tmp_path, 100)
    server = serve(file, "--labels", ",".join(LABELS), "--port", "0")
    open_page(page, server.url)
    said: dict[str, object] = {}

    def label(done: int) -> None:
        text = page.inner_text("#row")
        key = str(LABELS.index(true_label(text)) + 1)
        saved(page, lambda: page.keyboard.press(key), done)
        said[text] = true_label(text)

    for number in range(1, 51):
        label(number)
    server.kill(signal.SIGKILL)
    assert answers(file) == said
    page.keyboard.press("1")  # nobody is there to take it
    page.wait_for_selector("#trouble button")
    assert "not saved" in page.inner_text("#trouble")
    assert answers(file) == said

    again = serve(file, "--labels", ",".join(LABELS), "--port", server.url.rpartition(":")[2].strip("/"))
    open_page(page, again.url)
    assert page.inner_text("#standing").startswith("50 done, 50 left")
    for number in range(51, 101):
        label(number)
    page.wait_for_selector("text=Nothing left for you")
    again.kill(signal.SIGTERM)
    assert answers(file) == said
    assert len(said) == 100
    assert all(value == true_label(text) for text, value in said.items())


def value_of(store: Path) -> object:
    with Store(store, writes=False) as held:
        (one,) = held.answers()
        return one.value


def test_several_labels_by_keyboard(tmp_path, page, serve):
    file = lines(tmp_path, "rows", [{"text": "slow and dear", "labels": ["price"]}])
    server = serve(file, "--kind", "labels", "--labels", "price,speed,look", "--review", "--port", "0")
    open_page(page, server.url)
    page.keyboard.press("2")
    saved(page, lambda: page.keyboard.press("Enter"), 1)
    server.kill(signal.SIGTERM)
    assert value_of(Path(server.told["store"])) == ["price", "speed"]


def test_spans_by_keyboard(tmp_path, page, serve):
    file = lines(tmp_path, "rows", [{"text": "Ada Lovelace met Charles Babbage in London ."}])
    server = serve(file, "--kind", "spans", "--labels", "PERSON,PLACE", "--set", "data.text=text", "--port", "0")
    open_page(page, server.url)
    for key in ("Shift+ArrowRight", "1", "ArrowRight", "Shift+ArrowRight", "1", "ArrowRight", "2"):
        page.keyboard.press(key)
    saved(page, lambda: page.keyboard.press("Enter"), 1)
    server.kill(signal.SIGTERM)
    assert value_of(Path(server.told["store"])) == [
        {"kind": "PERSON", "first": 0, "end": 2},
        {"kind": "PERSON", "first": 3, "end": 5},
        {"kind": "PLACE", "first": 6, "end": 7},
    ]


def test_an_answer_is_put_right_by_keyboard(tmp_path, page, serve):
    file = lines(tmp_path, "rows", [{"prompt": "Name a colour.", "response": "blu"}])
    server = serve(file, "--kind", "text", "--review", "--port", "0")
    open_page(page, server.url)
    page.keyboard.press("e")
    page.keyboard.type("e, <b>surely</b>")
    saved(page, lambda: page.keyboard.press("Control+Enter"), 1)
    server.kill(signal.SIGTERM)
    assert value_of(Path(server.told["store"])) == "blue, <b>surely</b>"


def test_a_preference_with_reasons_by_keyboard(tmp_path, page, serve):
    file = lines(tmp_path, "rows", [{"prompt": "Say hello.", "chosen": "Go away.", "rejected": "Hello!"}])
    server = serve(file, "--kind", "preference", "--reasons", "clearer,kinder", "--review", "--port", "0")
    open_page(page, server.url)
    better = 1 + [card.inner_text() for card in page.query_selector_all(".pair button")].index(
        next(card.inner_text() for card in page.query_selector_all(".pair button") if "Hello!" in card.inner_text())
    )
    page.keyboard.press(str(better))
    page.keyboard.press("w")
    page.keyboard.press("m")
    page.keyboard.type("it greets")
    saved(page, lambda: page.keyboard.press("Enter"), 1)
    server.kill(signal.SIGTERM)
    assert value_of(Path(server.told["store"])) == {"better": "second", "reasons": ["kinder"], "note": "it greets"}


def test_a_rating_by_keyboard(tmp_path, page, serve):
    file = lines(tmp_path, "rows", [{"text": "lovely", "stars": None}])
    server = serve(file, "--kind", "rating", "--set", "data.text=text", "--set", "data.label=stars", "--port", "0")
    open_page(page, server.url)
    saved(page, lambda: page.keyboard.press("4"), 1)
    server.kill(signal.SIGTERM)
    assert value_of(Path(server.told["store"])) == 4


@pytest.mark.parametrize("width", [360, 800, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_beyond_the_edge(tmp_path, browser, serve, width, scheme):
    file = lines(tmp_path, "rows", [{"text": "a very long word: " + "x" * 400, "label": ""}])
    (tmp_path / "guidelines.md").write_text(
        "# Guidelines\n\n- **billing**: money\n- see [the rules](https://example.org/rules)\n"
    )
    server = serve(file, "--labels", "billing," + "y" * 150, "--port", "0")
    context = browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    open_page(page, server.url)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_undo_back_skip_and_flag_by_keyboard(tmp_path, page, serve):
    file = tickets(tmp_path, 6)
    server = serve(file, "--labels", ",".join(LABELS), "--order", "file", "--port", "0")
    open_page(page, server.url)
    first = page.inner_text("#row")
    saved(page, lambda: page.keyboard.press("2"), 1)
    saved(page, lambda: page.keyboard.press("u"), 0)
    assert page.inner_text("#row") == first
    saved(page, lambda: page.keyboard.press("1"), 1)
    page.keyboard.press("b")
    shows(page, "#hint", "You said billing")
    page.keyboard.press("3")  # answered anew: as many are done
    shows(page, "#said", "Saved: other")
    saved(page, lambda: page.keyboard.press("s"), 2)
    page.keyboard.press("f")
    page.wait_for_selector("dialog[open] input")
    saved(page, lambda: page.keyboard.press("3"), 3)  # the third reason
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] dl.keys")
    page.keyboard.press("Escape")
    server.kill(signal.SIGTERM)
    assert answers(file) == {first: "other"}
    with Store(tmp_path / "tickets.csv.annotations.sqlite", writes=False) as store:
        assert sorted(one.action for one in store.answers()) == ["answer", "flag", "skip"]
        assert [one.reason for one in store.answers() if one.action == "flag"] == ["the text is broken"]


def test_two_people_differ_and_a_third_settles_it_by_keyboard(tmp_path, page, serve):
    file = tickets(tmp_path, 1)
    server = serve(file, "--labels", ",".join(LABELS), "--overlap", "1", "--people", "2", "--port", "0")
    for name, key in (("ada", "1"), ("bea", "2")):
        open_page(page, server.url)
        if name != "ada":
            page.click("#who")
            page.keyboard.type(name)
            with page.expect_navigation():
                page.keyboard.press("Enter")
            shows(page, "#standing", "done")
            idle(page)
        saved(page, lambda: page.keyboard.press(key), 1)
    shows(page, "#disputes", "(1)")
    page.keyboard.press("E")
    page.wait_for_selector("#settle .opinion")
    page.keyboard.press("1")
    playwright.expect(page.locator("#disputes")).to_have_text("", timeout=WAIT_MS)
    page.keyboard.press("A")
    page.wait_for_selector("#agreement table")
    assert "ada and bea" in page.inner_text("#agreement")
    server.kill(signal.SIGTERM)
    with Store(tmp_path / "tickets.csv.annotations.sqlite", writes=False) as store:
        (settled,) = store.decisions()
        assert settled.value in {"billing", "bug"}
