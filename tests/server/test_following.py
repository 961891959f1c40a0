"""A server that follows an alias: promotions under load, versions that cannot be taken, gates, memory; and `whet serve` of names."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import threading
import time
import weakref

import pytest

from whet import cli
from whet.errors import Refused, RunError
from whet.files import write_json
from whet.registry import Registry, fingerprint
from whet.stages import following
from whet.stages.serve import served_name
from whet.store.log import read_requests

QUESTION = {"model": "intent", "input": "my red card is lost"}


def wait_for(test, seconds=30.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def registry(runs, tmp_path):
    """Two versions of one name, the first the champion, in folders that a test may harm."""
    for run in ("labels", "labels_again", "chat"):
        shutil.copytree(getattr(runs, run), tmp_path / run)
    held = Registry(tmp_path / "registry")
    held.add("intent", tmp_path / "labels", who="test")
    held.add("intent", tmp_path / "labels_again", who="test")
    return held


def served(server, name="intent"):
    return server.serving.service.shelf.get(name)


def refuse(run):
    """Let the run's gate have refused it."""
    ruling = {"decision": "fail", "sentence": "Accuracy at least 99 %: failed."}
    write_json(run / "gate.json", {"passed": False, "decision": "fail", "rules": [], "rulings": [ruling]})


@pytest.mark.slow
def test_a_promotion_under_load_drops_and_mixes_nothing(registry, start, tmp_path):
    log = tmp_path / "log.sqlite"
    with start(["intent@champion"], registry=registry.folder, follow_s=0.05, log=log) as server:
        first, found, stop = served(server), [], threading.Event()

        def ask():
            while not stop.is_set():
                found.append(server.post("/v1/classify", QUESTION))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(found) > 5)
        registry.promote("intent", "2", who="test")
        wait_for(lambda: served(server) is not first)
        after = len(found)
        wait_for(lambda: len(found) > after + 10)
        registry.rollback("intent", who="test")
        wait_for(lambda: served(server).fingerprint == first.fingerprint)
        registry.promote("intent", "2", who="test")
        wait_for(lambda: served(server).fingerprint != first.fingerprint)
        after = len(found)
        wait_for(lambda: len(found) > after + 10)
        stop.set()
        for thread in threads:
            thread.join()
        assert {one.status_code for one in found} == {200}
        given = {}
        for one in found:
            given.setdefault(one.json()["system_fingerprint"], set()).add(round(one.json()["data"][0]["confidence"], 6))
        assert len(given) == 2 and all(len(values) == 1 for values in given.values()), "one answer of each version, none mixed"
        assert found[0].json()["system_fingerprint"] == f"whet-{first.fingerprint[:12]}"
        assert found[-1].json()["system_fingerprint"] == f"whet-{served(server).fingerprint[:12]}"
        assert server.metric("whet_swaps_total") == 3 and server.metric("whet_model_version") == 2
        assert server.get("/v1/models/intent").json()["version"] == 2
        num_asked = len(found)
    logged = list(read_requests(log))
    assert len(logged) == num_asked, "every request is in the log"
    hashes = {fingerprint(tmp_path / "labels"): "labels", fingerprint(tmp_path / "labels_again"): "labels_again"}
    assert all(hashes[one.fingerprint] == one.run for one in logged) and {one.run for one in logged} == set(hashes.values())


@pytest.mark.slow
def test_a_text_that_is_being_written_ends_with_the_version_it_began_with(runs, registry, start, tmp_path):
    held = Registry(tmp_path / "writers")
    held.add("chat", tmp_path / "chat", who="test")
    shutil.copytree(tmp_path / "chat", tmp_path / "chat2")
    (tmp_path / "chat2/model/more.txt").write_text("another model")
    held.add("chat", tmp_path / "chat2", who="test")
    asked = {"model": "chat", "max_tokens": 60, "stream": True, "messages": [{"role": "user", "content": "where is the card"}]}
    with start(["chat"], registry=held.folder, follow_s=0.02) as server:
        first = served(server, "chat").fingerprint
        with server.http.stream("POST", f"{server.url}/v1/chat/completions", json=asked) as streamed:
            lines = streamed.iter_lines()
            begun = json.loads(next(line for line in lines if line)[6:])
            held.promote("chat", "2", who="test")
            wait_for(lambda: served(server, "chat").fingerprint != first)
            rest = [line[6:] for line in lines if line]
        assert rest[-1] == "[DONE]"
        assert (
            {json.loads(one)["system_fingerprint"] for one in rest[:-1]}
            == {begun["system_fingerprint"]}
            == {f"whet-{first[:12]}"}
        )
        now = server.post("/v1/chat/completions", asked | {"stream": False, "max_tokens": 4}).json()
        assert now["system_fingerprint"] != begun["system_fingerprint"]


def test_what_is_no_longer_served_gives_its_memory_back(registry, start):
    with start(["intent"], registry=registry.folder, follow_s=0.02) as server:
        network = weakref.ref(served(server).policy.network)
        assert server.post("/v1/classify", QUESTION).status_code == 200
        registry.promote("intent", "2", who="test")
        wait_for(lambda: server.metric("whet_swaps_total") == 1)
        assert server.post("/v1/classify", QUESTION).status_code == 200
        gc.collect()
        wait_for(lambda: network() is None)


def damaged(registry, folder):
    file = next((folder / "labels_again/model").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-9])


def gone(registry, folder):
    shutil.rmtree(folder / "labels_again")


def gated(registry, folder):
    refuse(folder / "labels_again")


def not_finite(registry, folder):
    from safetensors.torch import load_file, save_file

    file = folder / "labels_again/model/heads.safetensors"
    save_file({name: tensor * float("inf") for name, tensor in load_file(file).items()}, file)
    held = json.loads((registry.folder / "registry.json").read_text())
    held["models"]["intent"]["versions"][1]["model_sha256"] = fingerprint(folder / "labels_again")
    write_json(registry.folder / "registry.json", held)


def another_kind(registry, folder):
    registry.add("intent", folder / "chat", who="test")


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        pytest.param(damaged, "not the one that was registered", marks=pytest.mark.slow),
        pytest.param(gone, "is not there", marks=pytest.mark.slow),
        (gated, "its gate failed"),
        (not_finite, "finite"),
        (another_kind, "another kind"),
    ],
)
def test_a_version_that_cannot_be_taken_leaves_the_old_one_serving(harm, word, registry, start, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "RETRY_S", 0.1)
    with start(["intent"], registry=registry.folder, follow_s=0.02) as server:
        first = served(server)
        version = "3" if harm is another_kind else "2"
        if harm is gone or harm is damaged:
            registry.promote("intent", version, who="test")  # while it was whole
            wait_for(lambda: served(server) is not first)
            registry.rollback("intent", who="test")
            wait_for(lambda: served(server).fingerprint == first.fingerprint)
            first = served(server)
        harm(registry, tmp_path)
        point(registry, int(version))
        wait_for(lambda: server.serving.service.behind)
        assert server.post("/v1/classify", QUESTION).status_code == 200 and served(server) is first
        assert word in server.said[-1] and "goes on as it was" in server.said[-1]
        ready = server.get("/ready").json()
        assert ready["status"] == "ready" and ready["behind"] == 1 and word in ready["why"]["intent"]
        assert server.metric("whet_behind") == 1 and server.metric("whet_failed_swaps_total") == 1
        said = len(server.said)
        time.sleep(0.4)
        assert len(server.said) == said, "it is tried again, and said once"
        registry.rollback("intent", who="test")
        wait_for(lambda: not server.serving.service.behind)
        assert server.get("/ready").json() == {"status": "ready"} and server.metric("whet_behind") == 0


@pytest.mark.slow
def test_a_plugin_that_raises_does_not_end_the_following(registry, start, monkeypatch):
    monkeypatch.setattr(following, "RETRY_S", 0.05)
    with start(["intent"], registry=registry.folder, follow_s=0.02) as server:
        first, load = served(server), server.serving.follower.load

        def raises(reference, path):
            raise KeyError("a column of the user's own plugin")

        server.serving.follower.load = raises
        registry.promote("intent", "2", who="test")
        wait_for(lambda: server.serving.service.behind)
        assert served(server) is first and "KeyError" in server.said[-1] and "goes on as it was" in server.said[-1]
        server.serving.follower.load = load
        wait_for(lambda: not server.serving.service.behind)
        assert served(server) is not first


def point(registry, version):
    """Let champion point to a version whose run nobody looks at any more, as an older process may have done."""
    with registry._changing() as models:
        held = models["intent"].aliases["champion"]
        models["intent"].aliases["champion"] = held.model_copy(
            update={"version": version, "before": [*held.before, held.version]}
        )


def test_where_a_key_is_needed_ready_tells_nobody_else_why(registry, start):
    key = "a-key-for-tests-only-0123"
    with start(["intent"], registry=registry.folder, environment={"WHET_API_KEY": key}) as server:
        server.serving.service.behind["intent"] = "a path"
        assert server.get("/ready").json() == {"status": "ready", "behind": 1}
        assert server.get("/ready", headers={"authorization": f"Bearer {key}"}).json()["why"] == {"intent": "a path"}


def test_a_run_that_its_gate_refused_is_served_only_against_it(registry, start, tmp_path):
    refuse(tmp_path / "labels")
    for reference in ("intent", str(tmp_path / "labels")):
        with pytest.raises(Refused, match="--ignore-gate"), start([reference], registry=registry.folder):
            pass
    with start([str(tmp_path / "labels")], registry=registry.folder, ignore_gate=True) as server:
        assert "its gate failed" in server.said[0]
    manifest = json.loads((tmp_path / "labels/manifest.json").read_text())
    assert [one["verb"] for one in manifest["gate_ignored"]] == ["serve"]


def test_what_was_promoted_against_its_gate_is_served_and_said(registry, start, tmp_path):
    refuse(tmp_path / "labels_again")
    objection = following.objection(following.open_run(tmp_path / "labels_again"))
    with pytest.raises(Refused):
        registry.promote("intent", "2", objection=objection)
    registry.promote("intent", "2", objection=objection, ignore_gate=True, who="test")
    with start(["intent"], registry=registry.folder) as server:
        assert "promoted it with --ignore-gate" in server.said[0] and served(server).run == "labels_again"


def test_a_name_is_called_by_its_name(registry):
    assert served_name("intent@champion", registry.folder) == served_name("intent", registry.folder) == "intent"
    assert following.find("intent@2", registry.folder).version == 2
    with pytest.raises(RunError, match="no alias 'best'"):
        following.find("intent@best", registry.folder)


MISTAKES = {
    "no such name": ("serve intnt@champion --no-log", 1, "no model 'intnt'", "intent"),
    "no such alias": ("serve intent@best --no-log", 1, "no alias 'best'", "champion"),
    "no such version": ("serve intent@7 --no-log", 1, "no version 7"),
    "another registry": ("serve intent@champion --registry nosuch --no-log", 1, "nosuch"),
    "twice a name": ("serve intent@1 intent@2 --no-log", 1, "'intent'", "--name"),
    "how often": ("serve intent --follow -1 --no-log", 2, "--follow"),
    "refused": ("serve intent@2 --no-log", 3, "its gate failed", "--ignore-gate"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake, registry, tmp_path, monkeypatch, capsys):
    line, code, *words = MISTAKES[mistake]
    refuse(tmp_path / "labels_again")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WHET_API_KEY", raising=False)
    monkeypatch.setattr(sys, "argv", ["whet", *line.split(), "--port", "0"])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    assert left.value.code == code and said.out == "" and "Traceback" not in said.err, said.err
    for word in words:
        assert word in said.err, f"{word!r} is not in: {said.err}"
    assert sorted(tmp_path.rglob("*")) == before
