"""`whet serve`: trained runs behind OpenAI's API, until somebody stops it."""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whet import plugins
from whet.engine.targets import target_start
from whet.errors import ServerError, installing
from whet.protocols import Engine
from whet.registry import FOLDER, fingerprint, is_reference
from whet.run import RUNS
from whet.server.address import LOCAL, is_local, take, url_of
from whet.server.contracts import Agreed, agree
from whet.server.keys import VARIABLE, read_keys
from whet.stages.following import Follower, check_allowed, find
from whet.stages.predict import Predictor, load, load_tasks
from whet.store.log import RequestLog

if TYPE_CHECKING:
    from whet.server.served import Served
    from whet.server.service import Service

NEEDED = ("fastapi", "uvicorn", "prometheus_client")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
PORT = 8000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How runs are served."""

    host: str | None = None
    """Address to listen on; another one than this machine's own needs an API key. None: 127.0.0.1, and 0.0.0.0 with a contract."""
    port: int | None = None
    """0 takes any free one. None: 8000, and the provider's with a contract."""
    contract: str | None = None
    """Provider whose routes are there besides, and whose network decides who may ask: sagemaker, vertex or azureml."""
    api_key_file: Path | None = None
    """File with an API key on each line; without one, the variable WHET_API_KEY."""
    engine: str = "torch"
    precision: Literal["fp32", "run"] = "fp32"
    """In fp32 an answer does not depend on what else is asked at the same time; "run" computes as the run was trained, which may be bf16."""
    log: Path | None = RUNS / "requests.sqlite"
    """The request log; None keeps none."""
    log_text: bool = False
    """Keep texts too, with mail addresses, numbers and keys masked."""
    log_days: float = 90.0
    log_mib: float = 1024.0
    max_requests: int = 64
    """Requests that are taken at a time, at work and waiting; more are answered with 429."""
    max_new_tokens: int = 4096
    """Longest text, whatever is asked."""
    grace_s: float = 30.0
    """How long what runs may take to end when the server is stopped."""
    abstain_below: float = 0.0
    """Give no label below this confidence, where a request says nothing of it."""
    registry: Path = FOLDER
    """Where registered names stand."""
    follow_s: float = 2.0
    """Seconds between two looks at where the aliases of registered names point; 0: only at SIGHUP."""
    ignore_gate: bool = False
    """Serve runs that their gate has refused."""


@dataclass(slots=True)
class Serving:
    """A server that is about to listen, or does."""

    service: Service
    app: Any
    socket: socket.socket
    url: str
    references: dict[str, str]
    """What each name was asked to serve."""
    options: Options
    follower: Follower
    say: Say

    def listen(self, on_ready: Callable[[], None], stop: threading.Event | None = None) -> None:
        """Answer requests until stopped; then finish what runs."""
        from whet.server.listen import listen

        grace_s = self.options.grace_s

        def on_stop(left: int) -> None:
            self.say(f"Stopping: nothing new is taken, {left} at work ({grace_s:g} s at most; once more ends them now).")

        ended = threading.Event()
        follow = self.options.follow_s and any(is_reference(one, self.options.registry) for one in self.references.values())
        if follow:
            threading.Thread(
                target=self.follower.watch, args=(self.options.follow_s, ended), name="whet follower", daemon=True
            ).start()
        try:
            with self.socket:
                listen(
                    self.app, self.service, self.socket, grace_s,
                    on_ready=on_ready, on_stop=on_stop, on_hangup=self.refresh, stop=stop,
                )  # fmt: skip
        finally:
            ended.set()

    @property
    def models(self) -> dict[str, str]:
        """What clients may name, each task of a run as NAME/TASK, and the reference it stands for."""
        shelf = self.service.shelf
        return {one: reference for name, reference in self.references.items() for one in shelf.names_of(name)}

    def summary(self) -> dict[str, Any]:
        """Return where it listens and what it serves, for programs."""
        log = None if self.options.log is None else str(self.options.log)
        return {"run": None, "url": self.url, "base_url": f"{self.url}/v1", "models": self.models, "log": log}

    def refresh(self) -> None:
        """Look at each reference again, and exchange the runs that became others. Requests at work end with the run they began with."""
        self.follower.look()


def serve(
    references: Sequence[str | Path],
    *,
    names: Sequence[str] = (),
    options: Options = Options(),
    recipe: Path | None = None,
    say: Say = print,
    on_ready: Callable[[Serving], None] = lambda serving: None,
) -> None:
    """Serve runs until the process is stopped. `names` are what clients call them, in order; by default the folders' names.

    Raises ServerError, RunError, ModelError before it listens.
    """
    serving = prepare(references, names=names, options=options, recipe=recipe, say=say)
    serving.listen(lambda: on_ready(serving))


def prepare(
    references: Sequence[str | Path],
    *,
    names: Sequence[str] = (),
    options: Options = Options(),
    recipe: Path | None = None,
    say: Say = print,
    environment: Mapping[str, str] = os.environ,
) -> Serving:
    """Load the runs and take the address. Raises ServerError, RunError, ModelError."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ServerError(f"serving needs {', '.join(absent)}, not installed here. Run: {installing('serve')}")
    from whet.server.app import build_app
    from whet.server.served import Shelf
    from whet.server.service import Limits, Service
    from whet.server.worker import Worker

    keys = read_keys(options.api_key_file, environment)
    agreed = None if options.contract is None else agree(options.contract, environment)
    if agreed is not None and len(references) > 1:
        raise ServerError(f"{options.contract}: has one route for predictions, and {len(references)} runs were named. Name one.")
    host, port = _address(options, agreed, guarded=bool(keys))
    named = _named(references, names, options.registry)
    engine: Engine = plugins.build("engines", options.engine, {})

    def load_allowed(reference: str, path: Path) -> dict[str, Served]:
        check_allowed(reference, path, options.registry, options.ignore_gate, say)
        return load_served_tasks(path, recipe, options.precision)

    taken = take(host, port)
    try:
        shelf, worker = Shelf(), Worker(engine, options.max_requests)
        versions: dict[str, int | None] = {}
        for name, reference in named.items():
            found = find(reference, options.registry)
            shelf.put(name, load_allowed(reference, found.path))
            versions[name] = found.version
        if agreed is not None and len(shelf.names()) > 1:
            raise ServerError(
                f"a contract serves one model, and here are {len(shelf.names())}: {', '.join(shelf.names())}. Serve a run of one task, or leave "
                "--contract out."
            )
        hosts = frozenset() if keys or agreed is not None else frozenset({*LOCAL, host.lower()})
        most = Limits().max_body_bytes if agreed is None else agreed.contract.max_body_bytes
        limits = Limits(max_body_bytes=most, max_new_tokens=options.max_new_tokens)
        service = Service(shelf, worker, keys, limits, hosts, options.abstain_below, agreed=agreed)
        service.log = None if options.log is None else _request_log(options.log, options, service, say)
    except BaseException:
        taken.close()
        raise
    for name, version in versions.items():
        service.note_version(name, version)
    service.metrics.watch("whet_requests_open", "Requests that are at work or wait.", lambda: worker.num_open)
    service.metrics.watch("whet_texts_running", "Texts that are being written.", lambda: worker.num_running)
    follower = Follower(service, named, load_allowed, options.registry, say)
    return Serving(service, build_app(service), taken, url_of(taken), named, options, follower, say)


def _address(options: Options, agreed: Agreed | None, *, guarded: bool) -> tuple[str, int]:
    """Return host and port. Raises ServerError where others could reach what no key guards."""
    host = options.host or (LOCAL[1] if agreed is None else "0.0.0.0")
    port = options.port if options.port is not None else PORT if agreed is None else agreed.port
    if not is_local(host) and not guarded and agreed is None:
        raise ServerError(
            f"{host}: others could reach the server there, and it has no API key. "
            f"Set {VARIABLE}, or name a file with --api-key-file; or listen on 127.0.0.1."
        )
    return host, port


def _request_log(file: Path, options: Options, service: Service, say: Say) -> RequestLog:
    return RequestLog(
        file,
        keep_text=options.log_text,
        max_bytes=int(options.log_mib * 2**20),
        max_days=options.log_days,
        say=say,
        on_drop=service.metrics.log_dropped.inc,
    )


def served_name(reference: str, registry: Path = FOLDER) -> str:
    """Return what clients call a run that nobody named: its registered name, or that of its folder."""
    return reference.partition("@")[0] if is_reference(reference, registry) else Path(reference).resolve().name


def load_served(path: Path, recipe: Path | None = None, precision: Literal["fp32", "run"] = "fp32") -> Served:
    """Return a run as the server needs it. Raises RunError, ModelError, and ServerError for one that has nothing to answer with."""
    return served_of(load(path, recipe), precision)


def load_served_tasks(path: Path, recipe: Path | None = None, precision: Literal["fp32", "run"] = "fp32") -> dict[str, Served]:
    """Return a run as the server needs it, under an empty name; of a run of several tasks with a head each, every task by its name.

    The tasks share the network. Otherwise as `load_served`.
    """
    predictors = load_tasks(path, recipe)
    first = next(iter(predictors.values()))
    if first.writes:  # all tasks have all weights in common
        return {"": served_of(first, precision)}
    return {name: served_of(predictor, precision) for name, predictor in predictors.items()}


def served_of(predictor: Predictor, precision: Literal["fp32", "run"] = "fp32") -> Served:
    """Return a loaded run as the server needs it. Raises ServerError for one that has nothing to answer with."""
    from whet.server.served import Served

    tuned, columns = predictor.tuned, predictor.columns
    served = Served(
        run=tuned.run.path.resolve().name,
        fingerprint=fingerprint(tuned.run.path),
        created=int(tuned.run.model.stat().st_mtime),
        objective_name=tuned.card.objective,
        policy=tuned.policy,
        objective=tuned.objective,
        precision=tuned.precision if precision == "run" else "fp32",
        max_length=tuned.card.max_length,
        examples=predictor.examples,
        clean=predictor.clean,
        slices=tuned.recipe.data.slices,
        asks=tuple(column for column in (columns.text or columns.prompt or "text", columns.text_pair) if column is not None),
        reader=copy.deepcopy(tuned.policy.tokenizer),
        num_given=len(target_start(tuned.policy)) if tuned.objective.head == "seq2seq" else 0,
    )
    if not (served.writes or served.labels or served.embeds):
        raise ServerError(
            f"{tuned.run.path}: a run of '{tuned.card.objective}' on an {tuned.policy.kind} has no endpoint here. "
            "Runs that write texts, give labels or embed can be served."
        )
    return served


def _named(references: Sequence[str | Path], names: Sequence[str], registry: Path) -> dict[str, str]:
    """Return what each name serves. Raises ServerError."""
    if names and len(names) != len(references):
        raise ServerError(
            f"{len(names)} names for {len(references)} runs. Give --name once for each run, in order, or not at all."
        )
    chosen = list(names) or [served_name(str(reference), registry) for reference in references]
    for name in chosen:
        if not NAME.fullmatch(name):
            raise ServerError(f"'{name}': a name has up to 128 letters, digits, and . _ : / -. Choose one with --name.")
        if chosen.count(name) > 1:
            raise ServerError(f"'{name}': two runs have this name. Give each its own with --name, in order.")
    return dict(zip(chosen, map(str, references), strict=True))
