"""`whet serve` as a command: what it refuses and how; and a real process from its start to its stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import openai
import pytest

import whet
from whet import cli

MISTAKES = {
    "no run": ("serve", 2, "RUN"),
    "unknown run": ("serve nosuch --no-log", 1, "nosuch", "no such run"),
    "a folder": ("serve . --no-log", 1, "not a run"),
    "another address": ("serve {run} --host 0.0.0.0 --no-log", 1, "0.0.0.0", "API key", "127.0.0.1"),
    "key file": ("serve {run} --api-key-file nosuch --no-log", 1, "nosuch", "one key on each line"),
    "names": ("serve {run} --name a --name b --no-log", 1, "2 names for 1 runs", "--name"),
    "engine": ("serve {run} --engine trch --no-log", 1, "'trch'", "Did you mean 'torch'"),
    "port": ("serve {run} --port 99999", 2, "--port", "65535"),
    "precision": ("serve {run} --precision fp8", 2, "--precision", "fp32, run"),
    "threshold": ("serve {run} --abstain-below 2", 2, "--abstain-below"),
    "log is a folder": ("serve {run} --port 0 --log .", 1, "--log"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_leaves_nothing_behind(mistake, runs, tmp_path, monkeypatch, capsys):
    line, code, *words = MISTAKES[mistake]
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.delenv("WHET_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["whet", *line.format(run=runs.labels).split()])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr()
    assert left.value.code == code and said.out == "" and "Traceback" not in said.err, said.err
    for word in words:
        assert word in said.err, f"{word!r} is not in: {said.err}"
    assert not list((tmp_path / "desk").iterdir())


def started(arguments, folder):
    """A server's process, and the JSON object that it says once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from whet.cli import main; main()", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    return process, json.loads(line)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_serves_and_stops_when_it_is_told(runs, shorten, tmp_path, number):
    served = {"labels": runs.labels, "chat": runs.chat, "shorten": shorten}
    process, said = started(["serve", *map(str, served.values()), "--port", "0", "--json"], tmp_path)
    try:
        assert said["models"] == {name: str(run) for name, run in served.items()} and said["base_url"] == f"{said['url']}/v1"
        assert httpx.get(f"{said['url']}/ready", timeout=60).status_code == 200
        answer = httpx.post(f"{said['url']}/v1/classify", json={"model": "labels", "input": "my card"}, timeout=60)
        assert answer.status_code == 200
        question = "where is the red card"
        with openai.OpenAI(base_url=said["base_url"], api_key="none", timeout=60) as client:
            told = client.chat.completions.create(model="shorten", messages=[{"role": "user", "content": question}], max_tokens=4)
        assert told.choices[0].message.content == whet.load(shorten).predict([question])[0].prediction
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert httpx.get(f"{said['url']}/ready", timeout=60).status_code == 200
    finally:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "" and "Stopping" in err and "Stopped." in err and "Traceback" not in err
    assert (tmp_path / "runs" / "requests.sqlite").is_file()
