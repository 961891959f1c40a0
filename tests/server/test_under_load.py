"""Too many requests, clients that leave, stopping, exchanging a run, a model that fails: the server goes on as it promises."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import socket
import sys
import threading
import time

import httpx
import openai
import pytest

from whet.engine.continuous import Continuous
from whet.server.listen import SWITCH_S
from whet.server.refusals import Refusal
from whet.server.worker import LONGEST_WAIT_S, Question, Worker
from whet.store.log import read_requests

pytestmark = pytest.mark.slow

QUESTION = {"messages": [{"role": "user", "content": "where is the red card"}]}
SECRET = "a text of a user"
LONG = {"model": "chat", "max_tokens": 60, **QUESTION}


class Turnstile:
    """An engine that writes a token only when it is let."""

    def __init__(self, rows=2):
        self.rows, self.open, self.let = rows, threading.Event(), threading.Semaphore(0)
        self.steps = 0
        self.fail = False

    def start(self, policy):
        turnstile = self

        class Work(Continuous):
            def step(self):
                while not turnstile.open.is_set() and not turnstile.let.acquire(timeout=0.01):
                    pass
                turnstile.steps += 1
                if turnstile.fail:
                    turnstile.fail = False
                    raise RuntimeError(SECRET)
                return super().step()

        return Work(policy, self.rows, 100)

    def score(self, policy, prompt, answer):
        return [0.0] * len(answer)


def wait_for(test, seconds=20.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def gated(runs, start):
    engine = Turnstile()
    with start([runs.chat, runs.labels], engine=engine, max_requests=4) as found:
        yield found, engine
        engine.open.set()


def test_more_than_the_queue_holds_is_refused_at_once(gated):
    server, engine = gated
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(server.post, "/v1/chat/completions", LONG) for _ in range(4)]
        wait_for(lambda: server.serving.service.worker.num_open == 4)
        begun = time.monotonic()
        refused = server.post("/v1/chat/completions", LONG)
        waited = time.monotonic() - begun
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 120
        assert refused.json()["error"]["code"] == "queue_full" and refused.json()["error"]["type"] == "rate_limit_error"
        assert waited < 2
        with server.client() as client, pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**LONG)
        assert server.get("/health").status_code == server.get("/ready").status_code == 200
        assert server.metric("whet_requests_open") == 4
        unread = server.http.post(f"{server.url}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
        assert unread.status_code == 429, "the body was read before it was refused"
        assert server.post("/v1/feedback", {"id": "chatcmpl-0", "right": True}).status_code == 400, "it takes no place"
        engine.open.set()
        assert {one.result().status_code for one in taken} == {200}
        assert len({one.result().json()["choices"][0]["message"]["content"] for one in taken}) == 1
    assert server.post("/v1/chat/completions", LONG).status_code == 200, "the queue is free again"


def test_a_crowd_is_told_to_come_back_one_after_the_other():
    # nothing has ended yet, so a job is taken to last 1 s: places for 2 in 1 s, from 1 s on, and none further away than a minute
    worker = Worker(Turnstile(), 1)
    worker.submit([Question(None, "embed", [], [], lambda found: None)])
    waits = []
    for _ in range(200):
        with pytest.raises(Refusal) as refused:
            worker.check_room()
        waits.append(refused.value.retry_after_s)
    assert waits[0] <= 2 and waits == sorted(waits) and waits[-1] == LONGEST_WAIT_S
    assert waits[40] in {21, 22}  # 1 + 40 / 2, and the part of a second that has gone by


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_row(gated, stream):
    server, engine = gated
    body = json.dumps({**LONG, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(head.encode() + body)
        wait_for(lambda: server.serving.service.worker.num_open == 1)
        engine.let.release()
        wait_for(lambda: engine.steps >= 1)
    time.sleep(0.2)  # until the server has heard of it
    done = engine.steps
    engine.let.release()
    wait_for(lambda: server.serving.service.worker.num_open == 0)
    assert engine.steps <= done + 1, "it went on for nobody"
    wait_for(lambda: 'status="499"' in server.get("/metrics").text)


def test_labels_do_not_wait_for_a_text_to_end(gated):
    server, engine = gated
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        text = pool.submit(server.post, "/v1/chat/completions", LONG)
        wait_for(lambda: server.serving.service.worker.num_open == 1)
        label = pool.submit(server.post, "/v1/classify", {"model": "labels", "input": "my card is lost"})
        wait_for(lambda: server.serving.service.worker.num_open == 2)
        for _ in range(3):
            engine.let.release()
        assert label.result(20).status_code == 200 and not text.done()
        engine.open.set()
        assert text.result(20).status_code == 200


def test_stopping_finishes_what_runs_and_refuses_what_comes(runs, start):
    engine, switching = Turnstile(), sys.getswitchinterval()
    with start([runs.chat], engine=engine) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        text = pool.submit(server.post, "/v1/chat/completions", LONG)
        wait_for(lambda: server.serving.service.worker.num_open == 1)
        assert sys.getswitchinterval() == SWITCH_S < switching
        server.stop.set()
        wait_for(lambda: server.serving.service.draining)
        refused = server.post("/v1/chat/completions", LONG)
        assert refused.status_code == 503 and "retry-after" in refused.headers
        assert refused.json()["error"]["code"] == "stopping"
        assert server.get("/ready").status_code == 503 and server.get("/health").status_code == 200
        engine.open.set()
        assert text.result(20).status_code == 200
        server.thread.join(10)
        assert not server.thread.is_alive() and sys.getswitchinterval() == switching
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_what_takes_longer_than_the_grace_is_ended_with_an_error(runs, start):
    engine = Turnstile()
    with start([runs.chat], engine=engine, grace_s=0.2) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        whole = pool.submit(server.post, "/v1/chat/completions", LONG)
        streamed = pool.submit(server.post, "/v1/chat/completions", {**LONG, "stream": True})
        wait_for(lambda: server.serving.service.worker.num_open == 2)
        engine.let.release()
        wait_for(lambda: engine.steps >= 1)
        server.stop.set()
        time.sleep(0.4)
        engine.open.set()
        assert whole.result(20).status_code == 503 and whole.result().json()["error"]["code"] == "stopping"
        lines = [line for line in streamed.result(20).text.splitlines() if line]
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "stopping"


def test_a_model_that_fails_answers_500_without_the_text_and_the_server_lives(gated, capfd):
    server, engine = gated
    engine.fail = True
    engine.open.set()
    failed = server.post("/v1/chat/completions", LONG)
    assert failed.status_code == 500 and failed.json()["error"]["type"] == "server_error"
    said = failed.text + capfd.readouterr().err
    assert SECRET not in said and "RuntimeError" in said
    assert server.post("/v1/chat/completions", LONG).status_code == 200


def test_requests_at_the_same_time_get_the_answers_they_get_alone(server):
    asked = [
        {"model": "chat", "max_tokens": 10 + 5 * number, "messages": [{"role": "user", "content": "my " * number + "card"}]}
        | ({"temperature": 1.0, "seed": number} if number % 2 else {})
        for number in range(8)
    ]

    def answer(body):
        return server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]

    alone = [answer(body) for body in asked]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, asked)) == alone


def test_a_run_is_exchanged_under_load_without_a_failed_or_mixed_answer(runs, start, tmp_path):
    current = tmp_path / "current"
    shutil.copytree(runs.labels, current)
    log = tmp_path / "log.sqlite"
    with start([current], names=["intent"], log=log) as server:
        first, found, stop = server.serving.service.shelf.get("intent"), [], threading.Event()

        def ask():
            while not stop.is_set():
                found.append(server.post("/v1/classify", {"model": "intent", "input": "my red card is lost"}))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(found) > 5)
        shutil.rmtree(current / "model")
        shutil.copytree(runs.labels_again / "model", current / "model")
        server.serving.refresh()
        before = len(found)
        wait_for(lambda: len(found) > before + 5)
        stop.set()
        for thread in threads:
            thread.join()
        second = server.serving.service.shelf.get("intent")
        assert second.fingerprint != first.fingerprint and server.metric("whet_swaps_total") == 1
        answers = {}
        for one in found:
            assert one.status_code == 200
            answers.setdefault(one.json()["system_fingerprint"], set()).add(round(one.json()["data"][0]["confidence"], 6))
        assert {key: len(values) for key, values in answers.items()} == {
            f"whet-{first.fingerprint[:12]}": 1,
            f"whet-{second.fingerprint[:12]}": 1,
        }
        server.serving.refresh()
        assert server.metric("whet_swaps_total") == 1, "what has not changed is not loaded again"
        shutil.rmtree(current / "model")
        server.serving.refresh()
        assert server.post("/v1/classify", {"model": "intent", "input": "my card"}).status_code == 200, "it goes on as it was"
        assert "goes on as it was" in server.said[-1]
    assert {one.fingerprint for one in read_requests(log)} == {first.fingerprint, second.fingerprint}
