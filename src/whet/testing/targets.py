"""The laws of a target, for the built-in ones and for your own.

A law is a function of what was bundled that raises AssertionError; `bundled` makes it of a trained run that answers in fp32.
The last law starts it, in an empty environment, as the place would.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.bundle.subject import Entry
from whet.protocols import Target
from whet.recipe_file import build_recipe
from whet.stages.deploy import BUNDLE, SMOKE, write_bundle
from whet.stages.predict import load
from whet.stages.train import train
from whet.testing.tiny import LABELS, OPENINGS, THINGS, write_tiny
from whet.types import Message

NAME = "a-run"
KEY = "a-key-for-tests-only-0123"
CANARY = "canary-7f3a9c51-never-in-a-bundle"
SECRET_VARIABLES = ("WHET_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET")
SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9]{32,}|\bghp_[A-Za-z0-9]{36}"
)
NAMED = re.compile(r"`([\w.-]+(?:/[\w.-]+)*\.(?:json|ya?ml|py|sh|md|gz|txt|service)|Dockerfile|[.]dockerignore)`")
START_S = 120.0


@dataclass(frozen=True, slots=True)
class Bundled:
    """A run that was bundled while the environment held secrets."""

    target: Target
    run: Path
    folder: Path
    entry: Entry


TargetLaw = Callable[[Bundled], None]


def tiny_run(folder: Path) -> Path:
    """Return a trained run, a classifier on a tiny encoder, in a folder: something to bundle."""
    rows = [
        {"text": opening.format(f"{colour} {thing}"), "label": label}
        for colour in ("red", "blue", "green", "old")
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {
        "model": str(write_tiny(folder / "base", "bert")),
        "data": {"path": str(file), "text": "text", "label": "label"},
        "objective": "classify",
        "train": {"max_steps": 4, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01},
    }
    return train(build_recipe(recipe, "tiny_run"), out=folder / "run").path


def check_target(target: Target, run: Path) -> None:
    """Raise AssertionError at the first law that does not hold for the bundle of a trained run."""
    with bundled(target, run) as made:
        for law in TARGET_LAWS:
            law(made)


@contextmanager
def bundled(target: Target, run: Path) -> Iterator[Bundled]:
    """Give what the laws look at; it is gone afterwards."""
    before = {name: os.environ.get(name) for name in SECRET_VARIABLES}
    named = {"name": type(target).__name__.lower(), "settings": {}}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "bundle")
        os.environ.update(dict.fromkeys(SECRET_VARIABLES, CANARY))
        try:
            entry = write_bundle(run, target, named, folder, name=NAME)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        yield Bundled(target, run, folder, entry)


def same_run_same_bytes(made: Bundled) -> None:
    """Bundled again, each file has the same bytes; and everyone may read it."""
    ours = _hashes(made.folder)
    with bundled(made.target, made.run) as again:
        theirs = _hashes(again.folder)
    differ = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    assert not differ, f"the second time, these were others: {', '.join(differ)}"
    closed = [name for name in ours if (made.folder / name).stat().st_mode & 0o444 != 0o444]
    assert not closed, f"not everyone may read {', '.join(closed)}; who serves is not who made them"


def nothing_secret_goes_along(made: Bundled) -> None:
    """Nothing of the environment is in a bundle, no key, no row of the user's, and no path of this machine."""
    here = (made.run.resolve(), made.run.resolve().parent, made.folder.parent, sys.prefix, Path.home(), Path.cwd())
    places = {str(place) for place in here if len(str(place)) > 6}
    for file, content in _contents(made.folder):
        assert CANARY.encode() not in content, f"{file} holds what a variable of this environment held"
        found = SECRETS.search(content)
        assert found is None, f"{file} holds what looks like a key: {found and found[0][:12]!r}..."
        named = next((place for place in places if place.encode() in content), None)
        assert named is None, f"{file} holds a path of this machine: {named}"
        row = re.search(r"(train|validation|test|predictions|rejects)\.jsonl$", file)
        assert row is None, f"{file} holds rows of the user's"


def the_page_tells_the_truth(made: Bundled) -> None:
    """Every file that README.md names is there, and all that is there stands in bundle.json with its hash; the smoke test is the entry's."""
    bundle, entry = made.folder, made.entry
    page = (bundle / "README.md").read_text(encoding="utf-8")
    absent = [name for name in NAMED.findall(page) if not (bundle / name).exists()]
    assert not absent, f"README.md names {', '.join(absent)}, which is not there"
    lacking = [command for command in entry.commands if command not in page]
    assert entry.commands and not lacking, f"README.md lacks what to type: {lacking}"
    manifest = json.loads((bundle / BUNDLE).read_text(encoding="utf-8"))
    hashes = {name: one["sha256"] for name, one in manifest["files"].items()}
    there = {name: digest for name, digest in _hashes(bundle).items() if name != BUNDLE}
    assert hashes == there, f"bundle.json is wrong about {sorted(hashes.items() ^ there.items())[:3]}"
    assert json.loads((bundle / SMOKE).read_text(encoding="utf-8")) == dict(entry.request), (
        "smoke.json is not the entry's request"
    )
    missing = [part for part in entry.folders.values() if not (bundle / part).exists()]
    assert not missing, f"the entry names {', '.join(missing)}, which is not there"


def the_image_is_what_is_started(made: Bundled) -> None:
    """Where there is a Dockerfile: what it copies is there and let in, and command, port, variables and folders are the entry's."""
    bundle, entry = made.folder, made.entry
    if not (bundle / "Dockerfile").is_file():
        return
    lines = _instructions((bundle / "Dockerfile").read_text(encoding="utf-8"))
    base = next(value for name, value in lines if name == "FROM")
    assert re.search(r":[\w.-]+(@sha256:[0-9a-f]{64})?$", base) and not base.endswith(":latest"), (
        f"the base {base!r} is not pinned"
    )
    started = json.loads(next(value for name, value in lines if name == "ENTRYPOINT"))
    assert list(entry.command[: len(started)]) == started, f"the image starts {started}, the entry says {entry.command}"
    exposed = [int(value) for name, value in lines if name == "EXPOSE"]
    assert exposed == [entry.port], f"the image exposes {exposed}, the entry says {entry.port}"
    let_in = {line[1:] for line in (bundle / ".dockerignore").read_text(encoding="utf-8").split() if line.startswith("!")}
    copied, workdir = dict[str, str](), next(value for name, value in lines if name == "WORKDIR")
    for source, place in (value.split() for name, value in lines if name == "COPY"):
        assert (bundle / source).exists(), f"the image copies {source}, which is not there"
        assert source in let_in, f"the image copies {source}, which .dockerignore keeps out"
        copied[str(Path(workdir, place))] = source
    wrong = {place: part for place, part in entry.folders.items() if place.startswith(workdir) and copied.get(place) != part}
    assert not wrong, f"the image does not hold {wrong}"
    variables = dict(pair for name, value in lines if name == "ENV" for pair in _pairs(value))
    differ = {key: value for key, value in variables.items() if entry.environment.get(key) != value}
    assert not differ, f"the image sets {differ}, the entry does not"


def it_starts_answers_and_ends(made: Bundled) -> None:
    """Copied elsewhere, in an empty environment and offline: healthy, the run's own prediction, nothing written where it only reads, and exit 0."""
    entry = made.entry
    with _started(made.folder, entry) as live:
        live.wait_ready()
        assert live.ask("GET", entry.health)[0] == 200, f"GET {entry.health} is not 200 once it is ready"
        status, found = live.ask("POST", entry.predict, json.dumps(entry.request).encode())
        assert status == 200, f"POST {entry.predict} gave {status}: {str(found)[:300]}"
        _same_as_run(found, made.run, entry)
        status, said = live.ask("POST", entry.predict, b'{"nonsense": [1]}')
        assert status == 400 and len(str(said)) > 40, f"a body that is wrong gave {status}: {said}"
        begun, code = time.monotonic(), live.stop(entry.stop_s)
        assert code == 0, f"after SIGTERM it ended with code {code}: {live.said()[-500:]}"
        assert time.monotonic() - begun <= entry.stop_s, f"it took more than {entry.stop_s:g} s to end"
        allowed = tuple(str(live.root / place.lstrip("/")) for place in (*entry.writes, "/tmp"))
        beside = [file for file in sorted(live.files() - live.before) if not file.startswith(allowed)]
        assert not beside, f"it wrote {', '.join(beside)}, and the entry says {entry.writes or 'nowhere'}"


STATIC_LAWS: tuple[TargetLaw, ...] = (
    same_run_same_bytes,
    nothing_secret_goes_along,
    the_page_tells_the_truth,
    the_image_is_what_is_started,
)
TARGET_LAWS: tuple[TargetLaw, ...] = (*STATIC_LAWS, it_starts_answers_and_ends)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _contents(bundle: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a bundle, and of the archives in it."""
    for file in sorted(file for file in bundle.rglob("*") if file.is_file()):
        name = file.relative_to(bundle).as_posix()
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as archive:
                yield from (
                    (f"{name}/{inner}", archive.read(inner))
                    for inner in archive.namelist()
                    if inner.endswith(("METADATA", ".txt"))
                )
        elif name.endswith(".tar.gz"):
            with tarfile.open(file) as tar:
                for member in tar.getmembers():
                    held = tar.extractfile(member)
                    if held is not None:
                        yield f"{name}/{member.name}", held.read()
        else:
            yield name, file.read_bytes()


def _instructions(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, name and rest, in order."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def _pairs(value: str) -> list[tuple[str, str]]:
    return [(name, json.loads(quoted)) for name, quoted in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', value)]


@dataclass(slots=True)
class _Live:
    process: subprocess.Popen[bytes]
    url: str
    entry: Entry
    root: Path
    before: set[str]
    output: Path

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait_ready(self) -> None:
        end = time.monotonic() + START_S
        while True:
            assert self.process.poll() is None, f"it ended with code {self.process.returncode}: {self.said()[-800:]}"
            assert time.monotonic() < end, f"not ready within {START_S:g} s: {self.said()[-800:]}"
            with contextlib.suppress(OSError):
                if self.ask("GET", self.entry.ready)[0] == 200:
                    return
            time.sleep(0.1)

    def stop(self, seconds: float) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it had not ended {seconds:g} s after SIGTERM") from None

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def files(self) -> set[str]:
        return {str(file) for file in self.root.rglob("*") if file.is_file()}


@contextmanager
def _started(bundle: Path, entry: Entry) -> Iterator[_Live]:
    """Start an entry as its place would, in a folder that stands for the place's root; whet is the one of the bundle's wheel."""
    with tempfile.TemporaryDirectory() as held:
        root, output = Path(held) / "root", Path(held) / "output"
        for place, part in entry.folders.items():
            _put(bundle / part, root / place.lstrip("/"))
        for place in ("/tmp", *entry.writes):
            (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        packages = Path(held) / "packages"
        with zipfile.ZipFile(next((bundle / "wheels").glob("whet-*.whl"))) as archive:
            archive.extractall(packages)
        port = _free_port()
        moved = sorted(
            [*entry.folders, *entry.writes, *(str(Path(place).parent) for place in entry.folders)], key=len, reverse=True
        )
        environment = {key: _moved(value, (*moved, "/tmp"), root) for key, value in entry.environment.items()}
        environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(packages), "LC_ALL": "C.UTF-8"}
        environment |= {name: KEY for name in entry.secrets if name.isidentifier()}
        environment |= {entry.port_variable: str(port)} if entry.port_variable else {}
        for place, part in entry.folders.items():
            if part.endswith(".py"):  # what it starts lies elsewhere here
                script = root / place.lstrip("/")
                script.write_text(_here(script.read_text(encoding="utf-8"), root, port, moved), encoding="utf-8")
        command = [_moved(word, moved, root) for word in _with_port(entry.command, port)]
        outside = [word for word in command[1:] if word.startswith("/") and not Path(word).is_relative_to(root)]
        assert not outside, f"the command names {', '.join(outside)}, and the entry neither puts nor writes anything there"
        with output.open("wb") as told:
            process = subprocess.Popen(
                [*_program(command[0]), *command[1:]],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
        live = _Live(process, f"http://127.0.0.1:{port}", entry, root, set(), output)
        live.before = live.files()
        try:
            yield live
        finally:
            process.kill()
            process.wait(30)


def _put(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place)
    elif source.name.endswith(".tar.gz"):
        with tarfile.open(source) as archive:
            archive.extractall(place, filter="data")
    else:
        shutil.copyfile(source, place)


def _program(name: str) -> list[str]:
    """Return this interpreter for `whet` and `python`, wherever the place has them."""
    known = {"whet": [sys.executable, "-m", "whet"], "python": [sys.executable]}
    assert Path(name).name in known, f"an entry starts with whet or python, not with {name}"
    return known[Path(name).name]


def _moved(word: str, places: tuple[str, ...] | list[str], root: Path) -> str:
    found = next((place for place in places if word == place or word.startswith(f"{place}/")), None)
    return word if found is None else str(root / word.lstrip("/"))


def _with_port(command: tuple[str, ...], port: int) -> list[str]:
    return [str(port) if before == "--port" else word for before, word in zip(("", *command), command, strict=False)]


def _here(text: str, root: Path, port: int, places: list[str]) -> str:
    """Return a program of the bundle with its own places moved below a folder, and another port."""
    text = re.sub(r'("--port",\s*)"\d+"', rf'\g<1>"{port}"', text)
    for place in {os.path.commonpath([place]) for place in places}:
        text = text.replace(f'"{place}', f'"{root}{place}')
    return text


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def _same_as_run(found: Mapping[str, Any], run: Path, entry: Entry) -> None:
    """Compare an answer with what the run itself says to the same question."""
    request, predictor = entry.request, load(run)
    asked = next(request[key] for key in request if key not in {"model", "parameters", "max_tokens"})
    ours = found.get("predictions") or found.get("data") or found.get("choices")
    assert ours, f"the answer holds no prediction: {found}"
    if "label" in ours[0]:
        truth = predictor.predict(asked)[0]
        given, expected = ours[0]["labels"] or ours[0]["label"] or ours[0]["value"], truth.prediction
        assert given == (list(expected) if isinstance(expected, tuple) else expected), f"it says {given}, the run {expected}"
        close = truth.confidence is None or abs(ours[0]["confidence"] - truth.confidence) < 1e-4
        assert close, f"its confidence is {ours[0]['confidence']}, the run's {truth.confidence}"
    elif "embedding" in ours[0]:
        assert len(ours[0]["embedding"]) == predictor.tuned.policy.width, "the vector has another width than the run's"
    else:
        said = ours[0]["text"] if "text" in ours[0] else ours[0]["message"]["content"]
        question = asked[0] if isinstance(asked[0], str) else asked[0]["content"]
        longest = request.get("max_tokens") or request["parameters"]["max_tokens"]
        assert said == predictor.reply([Message("user", question)], max_new_tokens=longest), (
            f"it says {said!r}, the run something else"
        )
