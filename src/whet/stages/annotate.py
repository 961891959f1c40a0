"""`whet annotate`: a local page on which people label the rows of a recipe, a file or the production log."""

from __future__ import annotations

import getpass
import importlib.util
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whet.annotation.desk import Desk
from whet.annotation.guidelines import to_html
from whet.annotation.kinds import KINDS, REASONS, Job, Kind, NotAllowed, check_job
from whet.annotation.queue import ORDERS, Order, Queue, Sharing
from whet.annotation.sessions import VARIABLE, Sessions, is_name, read_password
from whet.annotation.store import Loaded, Store
from whet.data.notices import counted
from whet.display import brief, why_unread
from whet.errors import DataError, ServerError, installing
from whet.server.address import LOCAL, is_local, take, url_of
from whet.stages.annotate_rows import Rows, find_rows

NEEDED = ("fastapi", "uvicorn")
HOST, PORT = "127.0.0.1", 8010
GUIDELINES = "guidelines.md"
EVERYWHERE = frozenset({"0.0.0.0", "::"})
ANYBODY = "annotator"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of whom, in which order, and where the page is."""

    kind: Kind | None = None
    """What is asked: label, labels, spans, text, preference or rating. None: what recipe and columns suggest."""
    labels: tuple[str, ...] = ()
    """Labels to choose from, before those that stand in the files."""
    scale: tuple[int, int] = (1, 5)
    """Least and highest rating."""
    reasons: tuple[str, ...] = REASONS
    """Reasons to choose from for a preference."""
    guidelines: Path | None = None
    """Markdown that stands beside the rows; None: guidelines.md beside the recipe or file, where there is one."""
    order: Order | None = None
    """What comes first; None: suspicion where every row has a label already, else uncertainty."""
    review: bool | None = None
    """Ask about rows that have an answer in the file, too. None: where the order is suspicion, loss or disagreement, or all have one."""
    overlap: float = 0.0
    """Share of the rows that several people answer, 0..1."""
    people: int = 2
    """How many people answer those."""
    runs: tuple[Path, ...] = ()
    """Trained runs that suggest."""
    log: Path | None = None
    """A request log whose inputs are annotated."""
    suggest: bool = True
    """Learn from what people say, on embeddings of the built-in encoder."""
    annotator: str | None = None
    """Who labels, where nobody signs in; None: the user of this machine."""
    host: str = HOST
    """Address to listen on; another one than this machine's own needs a password."""
    port: int = PORT
    """0 takes any free one."""
    password_file: Path | None = None
    """File with the password; without one, the variable WHET_ANNOTATE_PASSWORD."""
    names: tuple[str, ...] = ()
    """Further names under which the page may be asked for, such as a proxy's."""
    store: Path | None = None
    """Where annotations are kept; None: beside the recipe or file."""
    sets: tuple[str, ...] = ()
    """Overrides of the recipe, such as data.text=message."""
    recipe: Path | None = None
    """The recipe beside plugin files of your own that a run uses."""


@dataclass(slots=True)
class Annotating:
    """A page that is about to be there, or is."""

    desk: Desk
    app: Any
    socket: socket.socket
    url: str
    suggester: Any

    def listen(self, on_ready: Callable[[], None], stop: threading.Event | None = None) -> None:
        """Be there until stopped."""
        from whet.annotation.listen import listen

        if self.suggester is not None:
            self.suggester.start()
        try:
            with self.socket:
                listen(self.app, self.socket, on_ready=on_ready, stop=stop)
        finally:
            self.close()

    def close(self) -> None:
        """End what works in the background, and close the file."""
        self.socket.close()
        if self.suggester is not None:
            self.suggester.stop()
        self.desk.store.close()

    def summary(self) -> dict[str, Any]:
        """Return where it is and what is asked, for programs."""
        queue = self.desk.queue
        return {
            "run": None, "url": self.url, "store": str(self.desk.store.path), "kind": self.desk.job.kind, "order": queue.order,
            "rows": len(queue.items), "labels": list(self.desk.job.labels), "notices": list(self.desk.notices),
        }  # fmt: skip


def annotate(
    target: Path | None,
    *,
    options: Options = Options(),
    say: Say = print,
    on_ready: Callable[[Annotating], None] = lambda annotating: None,
    stop: threading.Event | None = None,
) -> None:
    """Be a page on which rows are labelled, until the process is stopped. Raises WhetError before it listens."""
    annotating = prepare(target, options=options, say=say)
    annotating.listen(lambda: on_ready(annotating), stop)


def prepare(
    target: Path | None, *, options: Options = Options(), say: Say = print, environment: Mapping[str, str] = os.environ
) -> Annotating:
    """Read the rows, open the file of annotations, and take the address. Raises WhetError."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ServerError(f"annotating needs {', '.join(absent)}, not installed here. Run: {installing('annotate')}")
    from whet.annotation.app import build_app
    from whet.annotation.gate import Names

    _check(options)
    password = read_password(options.password_file, environment)
    if not is_local(options.host) and password is None:
        raise ServerError(
            f"{options.host}: others could reach the page there, and it has no password. Set {VARIABLE}, or name a file with "
            "--password-file; or listen on 127.0.0.1."
        )
    say(f"Reading {target or options.log} ...")
    rows = find_rows(target, kind=options.kind, labels=options.labels, sets=options.sets, log=options.log)
    guidelines = _guidelines(options.guidelines, rows.folder)
    store = Store(options.store or rows.store)
    taken: socket.socket | None = None
    try:
        job = agreed_job(store, rows, options)
        models = _models(options, job, say)
        job = job.with_labels([label for model in models for label in model.labels])
        check_job(job)
        loaded = store.load(rows.items, rows.sources, rows.columns)
        store.set_job(job)
        store.put_guesses(rows.guesses)
        queue = _queue(rows, job, options, store)
        desk = Desk(store, queue, job, rows.title, guidelines, _notices(rows, loaded))
        taken = take(options.host, options.port)
        port = taken.getsockname()[1]
        sessions = Sessions(password, options.annotator or _user())
        names = frozenset({*LOCAL, options.host.lower(), *(name.lower() for name in options.names), *_own_names(options.host)})
        app = build_app(desk, sessions, Names(names, addresses=options.host in EVERYWHERE), f"whet-annotate-{port}")
    except BaseException as error:
        store.close()
        if taken is not None:
            taken.close()
        if isinstance(error, NotAllowed):
            raise DataError(f"labels: {error} Mend the column, or name labels with --labels.") from None
        raise
    for notice in (*rows.columns_said, *desk.notices):
        say(f"Note: {notice}")
    return Annotating(desk, app, taken, url_of(taken), _suggester(desk, models, options))


def agreed_job(store: Store, rows: Rows, options: Options) -> Job:
    """Return what is asked: what the file of annotations has agreed on before, and what is new. Raises DataError."""
    before = store.job
    if before is not None and before.kind != rows.kind:
        raise DataError(
            f"{store.path}: holds annotations of kind '{before.kind}', and '{rows.kind}' is asked now. Ask for --kind {before.kind}, or keep "
            "these in another file with --store FILE."
        )
    low, high = options.scale
    labels = rows.labels if before is None else (*before.labels, *rows.labels)
    new = Job(kind=rows.kind, low=low, high=high, reasons=tuple(options.reasons) if rows.kind == "preference" else ())
    if before is not None and before.reasons:
        new = replace(new, reasons=tuple(dict.fromkeys((*before.reasons, *new.reasons))))
    return new.with_labels([*options.labels, *labels])


def _check(options: Options) -> None:
    """Raise DataError where an option is none."""
    if options.kind is not None and options.kind not in KINDS:
        raise DataError(f"--kind {options.kind}: allowed are {', '.join(KINDS)}.")
    if options.order is not None and options.order not in ORDERS:
        raise DataError(f"--order {options.order}: allowed are {', '.join(ORDERS)}.")
    if options.annotator is not None and not is_name(options.annotator):
        raise DataError("--annotator: a name has 1 to 64 characters, on one line.")
    if not 0 <= options.overlap <= 1 or options.people < 1:
        raise DataError("--overlap is a share from 0 to 1, and --people at least 1.")


def _models(options: Options, job: Job, say: Say) -> list[Any]:
    if not options.runs:
        return []
    from whet.stages.annotate_models import load_models

    return list(load_models(options.runs, job, options.recipe, say))


def _suggester(desk: Desk, models: Sequence[Any], options: Options) -> Any:
    """Return what works in the background; None where there is nothing to do."""
    from whet.annotation.suggest import LEARNT, Suggester

    learns = options.suggest and desk.job.kind in {*LEARNT, "spans"}
    if not learns and not models:
        return None
    from whet.stages.annotate_models import load_embedder

    return Suggester(desk, load_embedder if learns else None, models)


def _queue(rows: Rows, job: Job, options: Options, store: Store) -> Queue:
    complete = all(item.given is not None for item in rows.items)
    order: Order = options.order or _usual_order(rows, options, complete)
    review = options.review if options.review is not None else complete or order in {"suspicion", "loss", "disagreement"}
    if order == "suspicion" and job.kind != "label":
        raise DataError(f"--order suspicion: looks for wrong labels, and '{job.kind}' is asked. Allowed: {_but('suspicion')}.")
    if order == "suspicion" and not options.suggest:
        raise DataError("--order suspicion: rests on embeddings of the built-in encoder; leave --no-suggest out.")
    if order == "loss" and (not options.runs or job.kind != "label"):
        raise DataError("--order loss: is a run's loss on the labels of the file. Name a run that classifies with --run RUN.")
    queue = Queue(rows.items, job.kind, Sharing(fraction=options.overlap, people=options.people), order, review=review)
    queue.tell(store.answers(), store.decisions())
    queue.tell_guesses(guess for guess in store.guesses() if guess.key in queue.items)
    queue.arrange()
    return queue


def _usual_order(rows: Rows, options: Options, complete: bool) -> Order:
    if rows.kind == "label" and complete and options.suggest and options.log is None:
        return "suspicion"
    return "uncertainty"


def _but(order: Order) -> str:
    return ", ".join(one for one in ORDERS if one != order)


def _notices(rows: Rows, loaded: Loaded) -> list[str]:
    """Return what annotators should know of the rows."""
    notices = list(rows.notices)
    if loaded.altered:
        shown = ", ".join(brief(name) for name in loaded.altered)
        notices.append(
            f"{shown}: changed since the last time. Labels have followed their rows, which are known by their content."
        )
    if loaded.gone:
        notices.append(
            f"{counted(loaded.gone, 'row')} of the last time no longer in the files; their answers are kept, and not exported."
        )
    return notices


def _guidelines(file: Path | None, folder: Path) -> str:
    place = file or folder / GUIDELINES
    if file is None and not place.is_file():
        return ""
    try:
        return to_html(place.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{place}: the guidelines cannot be read ({why_unread(error)}). They are a text file in UTF-8.") from None


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in many containers
        return ANYBODY
    return name if is_name(name) else ANYBODY


def _own_names(host: str) -> set[str]:
    """Return what others call this machine, where it listens to others."""
    return {socket.gethostname().lower(), socket.getfqdn().lower()} if host in EVERYWHERE else set()
