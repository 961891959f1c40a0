"""Which run a served name stands for by now: looked at again and again, loaded beside the old one, tried, then exchanged."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from whet.errors import ServerError, WhetError
from whet.registry import FILE, FOLDER, Registry, fingerprint, is_reference
from whet.run import open_run
from whet.stages.gate import objection, respect_gate
from whet.stages.registry import resolve
from whet.types import Example

if TYPE_CHECKING:
    from whet.server.served import Served
    from whet.server.service import Service

RETRY_S = 30.0
"""How long after a failure the same version is tried again: its folder may still be on its way."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference stands for."""

    path: Path
    version: int | None
    """Of a registered name; None of a folder."""


def find(reference: str, registry: Path = FOLDER) -> Found:
    """Return what a reference stands for now. Raises RunError."""
    version = Registry(registry).find(reference).version if is_reference(reference, registry) else None
    return Found(resolve(reference, registry), version)


def check_allowed(reference: str, path: Path, registry: Path, ignore_gate: bool, say: Callable[[str], None]) -> None:
    """Raise Refused where the run's gate objects, unless that is to be ignored, or was when the version was promoted."""
    run = open_run(path)
    why = objection(run)
    if why is None:
        return
    if is_reference(reference, registry) and Registry(registry).overridden(reference):
        say(f"Warning: {why} It is served all the same, since somebody promoted it with --ignore-gate.")
        return
    respect_gate(run, "serve", ignore_gate)
    say(f"Warning: {why}")


def try_out(served: Served) -> None:
    """Ask a loaded run one question. Raises ServerError where its answer is not finite."""
    from whet.engine.continuous import answer_logprobs
    from whet.engine.machine import computing

    numbers: list[float] = []
    if served.labels:
        output = served.classify([Example(id=0, text="a question")])[0]
        numbers += [*(output.probabilities or {}).values(), *([output.value] if output.value is not None else [])]
    ids = served.reader("a question", verbose=False)["input_ids"][: max(1, served.policy.context - 1)]
    if served.writes:
        served.write(ids, 1)
        with computing(served.precision, served.policy.device):
            numbers += answer_logprobs(served.policy, ids, ids[-1:])
    if served.embeds:
        numbers += served.embed([ids])[0]
    if not all(math.isfinite(number) for number in numbers):
        raise ServerError(f"{served.run}: its answers are not finite numbers. Train it again with a lower rate.")


def check_kind(name: str, old: Mapping[str, Served], new: Mapping[str, Served]) -> None:
    """Raise ServerError where the new run cannot be asked what the old one can: its clients would be left without an answer."""
    missing = ", ".join(task or "a single one" for task in old if task not in new)
    if missing:
        raise ServerError(
            f"{next(iter(new.values())).run}: has no task that '{name}' has served ({missing}), so its clients could not be answered. "
            "Serve it under a name of its own."
        )
    for task, served in old.items():
        _check_abilities(name, served, new[task])


def _check_abilities(name: str, old: Served, new: Served) -> None:
    lost = [kind for kind in ("chats", "writes", "labels", "embeds") if getattr(old, kind) and not getattr(new, kind)]
    if lost:
        raise ServerError(
            f"{new.run}: is of another kind ('{new.objective_name}') than what '{name}' has served ('{old.objective_name}'), so its clients "
            "could not be answered. Serve it under a name of its own."
        )


@dataclass(slots=True)
class Follower:
    """Exchanges the runs of served names for those that their references stand for by now. Requests at work end on what they began with."""

    service: Service
    references: dict[str, str]
    load: Callable[[str, Path], Mapping[str, Served]]
    """Gives the run of a reference by task, checked by its gate and loaded. Raises WhetError."""
    registry: Path
    say: Callable[[str], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: tuple[int, ...] = ()
    _failed_at: float = -math.inf
    _old: list[weakref.ref[Served]] = field(default_factory=list)

    def watch(self, every_s: float, stop: threading.Event) -> None:
        """Follow the registry until stopped. Files are read only once it has changed, or while something could not be exchanged."""
        while not stop.wait(every_s):
            self._free()
            stamp = self._stamp()
            again = self.service.behind and time.monotonic() - self._failed_at > RETRY_S
            if stamp != self._seen or again:
                self._seen = stamp
                self.look({name for name, reference in self.references.items() if is_reference(reference, self.registry)})

    def look(self, names: set[str] | None = None) -> None:
        """Look at these names' references, or all, and exchange what became another run. What cannot be exchanged goes on as it was."""
        with self._lock:
            for name, reference in self.references.items():
                if names is None or name in names:
                    self._look(name, reference)

    def _look(self, name: str, reference: str) -> None:
        service, held = self.service, self.service.shelf.of_run(name)
        before = next(iter(held.values()))
        try:
            found = find(reference, self.registry)
            same = found.path.resolve().name == before.run and fingerprint(found.path) == before.fingerprint
            if not same:
                new = self.load(reference, found.path)
                for served in new.values():
                    try_out(served)
                check_kind(name, held, new)
        except Exception as error:  # a plugin of the user's raises anything, and nobody would follow if it ended this thread
            why = str(error) if isinstance(error, WhetError | OSError) else f"{type(error).__name__}: {error}"
            self._failed_at = time.monotonic()
            if service.behind.get(name) != why:
                self.say(f"{name}: goes on as it was: {why}")
                service.metrics.failed_swaps.labels(name).inc()
            service.behind[name] = why
            service.metrics.behind.labels(name).set(1)
            return
        service.behind.pop(name, None)
        service.metrics.behind.labels(name).set(0)
        service.note_version(name, found.version)
        if not same:
            service.shelf.put(name, new)
            self._old += [weakref.ref(served) for served in held.values()]
            service.metrics.swaps.labels(name).inc()
            self.say(f"{name}: now {found.path}{f', version {found.version}' if found.version else ''}.")

    def _stamp(self) -> tuple[int, ...]:
        """Return what changes with the registry's file."""
        try:
            seen = (self.registry / FILE).stat()
        except OSError:
            return ()
        return seen.st_mtime_ns, seen.st_ino, seen.st_size

    def _free(self) -> None:
        """Give back the memory of runs that nobody waits for any more."""
        if not self._old:
            return
        gc.collect()
        left = [one for one in self._old if one() is not None]
        if len(left) < len(self._old):
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        self._old = left
