"""Augmenters that ask a model, a program or a server: laws, costs told before, secrets kept, and what goes wrong said in words."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from whet import plugins
from whet.errors import DataError, ModelError, RecipeError
from whet.recipe_file import build_recipe
from whet.stages.prepare import prepare_data
from whet.testing.augmenters import check_augmenter, rows
from whet.types import Original

KEY = "sk-hush-4711"


class Server:
    """A chat endpoint on this machine: answers the last line backwards, and does as `plan` says first."""

    def __init__(self) -> None:
        self.plan: list[tuple[int, dict[str, str]]] = []
        self.asked: list[dict[str, object]] = []
        self.keys: set[str | None] = set()
        self.answer = lambda body: body["messages"][-1]["content"].splitlines()[-1][::-1]
        self.finish = "stop"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append(body)
                outer.keys.add(self.headers["authorization"])
                status, headers = outer.plan.pop(0) if outer.plan else (200, {})
                choice = {"message": {"role": "assistant", "content": outer.answer(body)}, "finish_reason": outer.finish}
                said = (
                    {"choices": [choice]}
                    if status == 200
                    else {"error": {"type": "bad_thing", "message": json.dumps(body) + KEY}}
                )
                held = json.dumps(said).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(held)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(held)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def built(name: str, folder: Path, **settings: object) -> object:
    return plugins.build("augmenters", name, settings, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paraphrase", "new_examples"])
def test_what_asks_an_endpoint_keeps_the_laws(name, server, tmp_path):
    server.answer = lambda body: f"{body['seed']} {body['messages'][-1]['content'][-30:]}"
    check_augmenter(built(name, tmp_path, endpoint={"url": server.url, "model": "m", "at_once": 8}))


def test_back_translation_by_a_command_keeps_the_laws(tmp_path):
    way = {"command": [sys.executable, "-c", "import sys; [print(line.strip()[::-1] + '.') for line in sys.stdin]"]}
    augmenter = built("back_translation", tmp_path, there=way, back=way)
    assert list(augmenter.augment([Original("one two")])) == [".one two."]
    check_augmenter(augmenter, rows(1))


def test_back_translation_of_a_share_leaves_the_other_sentences(tmp_path):
    way = {"command": [sys.executable, "-c", "import sys; [print(line.strip().upper()) for line in sys.stdin]"]}
    text = "One thing. Two things?  Three things! Four."
    found = next(built("back_translation", tmp_path, there=way, back=way, strength=0.5).augment([Original(text, draw="1")]))
    assert found.lower() == text.lower()
    changed = [a != b for a, b in zip(re.split(r"(?<=[.!?])\s+", found), re.split(r"(?<=[.!?])\s+", text), strict=True)]
    assert sum(changed) == 2


@pytest.mark.slow
def test_back_translation_by_models_keeps_the_laws(tmp_path, tiny_folder):
    t5 = str(tiny_folder("t5"))
    check_augmenter(built("back_translation", tmp_path, there=t5, back={"model": t5, "prefix": "x: "}), rows(1)[:6])


def test_back_translation_by_an_endpoint(server, tmp_path):
    way = {"endpoint": {"url": server.url, "model": "m"}, "to": "German"}
    found = list(built("back_translation", tmp_path, there=way, back=way).augment([Original("so  it is"), Original("yes")]))
    assert found == ["so it is", "yes"]  # backwards twice
    assert "Translate into German" in server.asked[0]["messages"][1]["content"]


def test_a_masked_model_keeps_the_laws(tmp_path, tiny_folder):
    asked = [
        Original(text, draw=str(place))
        for place, text in enumerate(["my card is lost", "where is the parcel", "i need a new ticket please"])
    ]
    check_augmenter(built("masked_model", tmp_path, model=str(tiny_folder("masked-bert")), strength=0.4), asked)


def test_a_masked_model_exchanges_so_many_words(tmp_path, tiny_folder):
    text = "i am not happy about the ticket and the card please call us today"
    augmenter = built("masked_model", tmp_path, model=str(tiny_folder("masked-bert")), strength=0.3, top=30)
    for found in augmenter.augment([Original(text, draw=str(draw)) for draw in range(10)]):
        words, before = found.split(), text.split()
        assert len(words) == len(before) and words[2] == "not"
        assert 1 <= sum(a != b for a, b in zip(words, before, strict=True)) <= round(0.3 * len(before))


def test_a_model_that_cannot_is_refused_in_words(tmp_path, tiny_folder):
    way = str(tiny_folder("llama"))
    with pytest.raises(ModelError, match="does not translate"):
        list(built("back_translation", tmp_path, there=way, back=way).augment([Original("x y")]))
    with pytest.raises(ModelError, match="masked"):
        list(built("masked_model", tmp_path, model=way).augment([Original("x y")]))


@pytest.mark.parametrize(("name", "said"), [("no-such-translator", "no such program here"), ("plain.txt", "may not execute it")])
def test_a_program_that_cannot_be_started_is_told_in_words(tmp_path, name, said):
    (tmp_path / "plain.txt").write_text("cat")  # nobody may execute it, root neither
    way = {"command": [str(tmp_path / name) if "." in name else name]}
    with pytest.raises(DataError, match=said) as told:
        list(built("back_translation", tmp_path, there=way, back=way).augment([Original("x y")]))
    assert name in str(told.value) and "Errno" not in str(told.value)


def test_a_server_that_asks_to_wait_is_waited_for_and_another_is_told(server, tmp_path, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("whet.collect.fetch.time.sleep", slept.append)
    monkeypatch.setattr("whet.collect.fetch.Patience.__init__.__defaults__", (4, 1.0, slept.append))
    monkeypatch.setenv("THE_KEY", KEY)
    endpoint = {"url": server.url, "model": "m", "key": "env:THE_KEY", "at_once": 1}
    server.plan = [(429, {"retry-after": "7"}), (503, {})]
    assert list(built("paraphrase", tmp_path, endpoint=endpoint).augment([Original("abc")])) == ["cba"]
    assert slept == [7.0, 2.0] and server.keys == {f"Bearer {KEY}"}
    server.plan = [(401, {})]
    with pytest.raises(DataError, match=r"401 \(bad_thing\).*valid key") as told:
        list(built("paraphrase", tmp_path, endpoint=endpoint).augment([Original("my secret text")]))
    assert KEY not in str(told.value) and "my secret text" not in str(told.value)


def test_texts_go_to_no_host_but_the_one_that_is_named(server, tmp_path):
    other = Server()
    try:
        server.plan = [(307, {"location": f"{other.url}/chat/completions"})]  # the same body, please, elsewhere
        augmenter = built("paraphrase", tmp_path, endpoint={"url": server.url, "model": "m"})
        with pytest.raises(DataError, match="which the recipe does not name") as refused:
            list(augmenter.augment([Original("words of a row")]))
        assert not other.asked and "words of a row" not in str(refused.value)
    finally:
        other.http.shutdown()
        other.http.server_close()


@pytest.mark.parametrize(("writes", "found"), [("a\u2028b\n", "a b"), ("a\x0cb", "a b"), ("a\r\n", "a")])
def test_a_program_ends_a_line_by_a_line_end_alone(tmp_path, writes, found):
    way = {
        "command": [sys.executable, "-c", f"import sys; sys.stdout.reconfigure(encoding='utf-8'); sys.stdout.write({writes!r})"]
    }
    assert list(built("back_translation", tmp_path, there=way, back=way).augment([Original("one")])) == [found]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("while True: sys.stdout.write('x' * 65536)", r"wrote more than [\d,]+ bytes for 1 texts of 4 bytes, and was ended"),
        ("while True: print('y' * 99)", r"wrote more than [\d,]+ bytes"),
        ("sys.stdout.buffer.write(bytes([255, 10]))", "what is no UTF-8"),
        ("time.sleep(60)", "took more than 1 s"),
        ("os.close(1); time.sleep(60)", "took more than 1 s"),
        ("subprocess.Popen(['sleep', '60'])", "took more than 1 s"),  # it ends, and what it began keeps its output open
        ("sys.exit(3)", "ended with 3 and wrote 0 lines"),
    ],
)
def test_a_program_that_writes_too_much_or_never_ends_is_ended(tmp_path, program, said):
    way = {
        "command": [sys.executable, "-c", f"import os, subprocess, sys, time\n{program}"],
        "timeout_s": 1.0 if "1 s" in said else 60.0,
    }
    before = time.monotonic()
    with pytest.raises(DataError, match=said):
        list(built("back_translation", tmp_path, there=way, back=way).augment([Original("one")]))
    assert time.monotonic() - before < 60


def test_a_cut_answer_makes_no_row(server, tmp_path):
    server.finish = "length"
    assert list(built("paraphrase", tmp_path, endpoint={"url": server.url, "model": "m"}).augment([Original("abc")])) == [""]


def test_a_cost_is_told_before_and_too_much_is_refused_before_the_first_question(server, tmp_path):
    # 10 texts of 350 characters; the question has q more, both at 3.5 characters a token; answers of 350 characters: 100 tokens each
    originals = [Original("x" * 350, draw=str(n)) for n in range(10)]
    endpoint = {"url": server.url, "model": "m", "input_price": 0.0, "output_price": 1000.0, "max_tokens": 200}
    said = built("paraphrase", tmp_path, endpoint=endpoint).foretell(originals)
    assert "10 questions" in said and "likely 1.0000, at most 2.0000" in said  # 10 * 100 and 10 * 200 tokens of 1000 a million
    with pytest.raises(RecipeError, match=r"max_cost is 1\.5"):
        built("paraphrase", tmp_path, endpoint=endpoint | {"max_cost": 1.5}).foretell(originals)
    with pytest.raises(RecipeError, match="input_price"):
        built("paraphrase", tmp_path, endpoint={"url": server.url, "model": "m", "max_cost": 1.0})
    assert not server.asked


def test_a_key_is_named_and_never_written(server, tmp_path):
    with pytest.raises(RecipeError, match="named") as told:
        built("paraphrase", tmp_path, endpoint={"url": server.url, "model": "m", "key": KEY})
    assert KEY not in str(told.value)


@pytest.mark.parametrize("name", ["paraphrase", "back_translation"])
def test_nothing_is_asked_or_started_for_a_recipe_that_nobody_started(name):
    way = {"command": ["true"]}
    settings = (
        {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m"}} if name == "paraphrase" else {"there": way, "back": way}
    )
    with pytest.raises(RecipeError, match="only from a recipe that you start"):
        plugins.build("augmenters", name, settings)


def test_a_preparation_that_was_stopped_asks_only_for_the_rest(server, tmp_path):
    path = tmp_path / "rows.csv"
    texts = [
        f"{a} {b} was not here in {c} days"
        for a in ("cards", "letters", "phones")
        for b in ("and money", "or keys")
        for c in "23456789"
    ]
    path.write_text("text,label\n" + "".join(f"{text} {place},{'ab'[place % 2]}\n" for place, text in enumerate(texts)))
    augment = {"by": [{"name": "paraphrase", "endpoint": {"url": server.url, "model": "m", "at_once": 2, "retries": 0}}]}
    data = {"path": str(path), "text": "text", "label": "label", "augment": augment, "duplicates": {"near": False}}
    recipe = build_recipe({"model": "builtin:minilm", "data": data, "objective": "classify"}, "here")
    server.plan = [(200, {})] * 10 + [(500, {})] * 100
    with pytest.raises(DataError, match="start again later"):
        prepare_data(recipe, tmp_path)
    done = len(next((tmp_path / "augmented").rglob("texts.jsonl")).read_text().splitlines())
    assert 4 <= done <= 10
    server.plan, server.asked = [], []
    found = prepare_data(recipe, tmp_path)
    assert len(server.asked) == len(found.originals) - done
    assert prepare_data(recipe, tmp_path).hash == found.hash and len(server.asked) == len(found.originals) - done
    written = "".join(file.read_text() for file in (tmp_path / "augmented").rglob("*.jsonl"))
    assert KEY not in written
