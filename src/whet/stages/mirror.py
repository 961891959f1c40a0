"""Mirrors a run into trackers, each in a thread of its own: training waits for none of them, and goes on when one fails."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from whet import plugins
from whet.errors import Interrupted
from whet.protocols import Tracker, Tracking
from whet.recipe import Recipe
from whet.run import Run
from whet.stages.narrate import SILENT, Narrator
from whet.tracked import Measured, Tracked, measured, parameters

LONGEST_WAIT_S = 30.0
"""How long the end of a run waits for one tracker to write out what it holds."""
Ending = Literal["finished", "failed", "interrupted"]


@dataclass(slots=True)
class Mirror:
    """One tracker at work. What it is told is put into a queue, which never blocks."""

    name: str
    tracker: Tracker
    run: Tracked
    said: queue.SimpleQueue[Measured | Ending] = field(default_factory=queue.SimpleQueue)
    key: str | None = None
    place: str | None = None
    error: str | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.key = self.run.key
        self.thread = threading.Thread(target=self._work, name=f"tracker {self.name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            tracking = self.tracker.start(self.run)
            self.key, self.place = str(tracking.key), str(tracking.place)
            self._pass_on(tracking)
        except Exception as error:  # whatever a tool of others raises, the run goes on
            self.error = f"{type(error).__name__}: {_without_secrets(str(error))[:300]}"

    def _pass_on(self, tracking: Tracking) -> None:
        ending: Ending | None = None
        while ending is None:
            held = [self.said.get()]
            while not self.said.empty():
                held.append(self.said.get())
            records = [one for one in held if isinstance(one, Measured)]
            if records:
                tracking.log(records)
            ending = next((one for one in held if not isinstance(one, Measured)), None)
        tracking.finish(ending)

    @property
    def record(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        found = {"name": self.name, "key": self.key, "place": self.place, "error": self.error}
        return {key: value for key, value in found.items() if value is not None}


@contextmanager
def mirrored(
    run: Run, recipe: Recipe, folder: Path | None, narrator: Narrator = SILENT, wait_s: float = LONGEST_WAIT_S
) -> Iterator[Run]:
    """Within this, what is logged to the run that it gives goes to the recipe's trackers too. The run itself stays as without them.

    A tracker that fails is named once, with its reason, there and in the manifest. At the end each gets at most `wait_s` to finish.
    """
    if not recipe.trackers:
        yield run
        return
    mirrors = _start(run, recipe, folder)
    told: set[int] = set()
    kept: list[dict[str, Any]] = []

    def look() -> None:
        for place, mirror in enumerate(mirrors):
            if mirror.error is not None and place not in told:
                told.add(place)
                narrator.say(f"Note: tracker '{mirror.name}' failed ({mirror.error}). The run goes on without it.")
        now = [mirror.record for mirror in mirrors]
        if now != kept:
            kept[:] = now
            run.note(trackers=now)

    def pass_on(record: Mapping[str, Any]) -> None:
        numbers = measured(record)
        for mirror in mirrors if numbers else ():
            if mirror.error is None:
                mirror.said.put(numbers)  # type: ignore[arg-type]
        look()

    ending: Ending = "failed"
    try:
        yield replace(run, mirror=pass_on)
        ending = "finished"
    except (KeyboardInterrupt, Interrupted):
        ending = "interrupted"
        raise
    finally:
        for mirror in mirrors:
            mirror.said.put(ending)
        for mirror in mirrors:
            mirror.thread.join(wait_s)
            if mirror.thread.is_alive():
                mirror.error = f"it did not finish within {wait_s:g} s"
        if run.path.is_dir():
            look()


def _without_secrets(text: str) -> str:
    """Return a message on one line, whatever the environment holds as a key or password left out."""
    for name, value in os.environ.items():
        if len(value) >= 6 and re.search("KEY|TOKEN|PASSWORD|SECRET", name):
            text = text.replace(value, f"[{name}]")
    return " ".join(text.split())


def _start(run: Run, recipe: Recipe, folder: Path | None) -> list[Mirror]:
    """Start every tracker of the recipe; one that the manifest knows goes on in the same place."""
    before = [one for one in run.manifest.get("trackers", []) if isinstance(one, dict)]
    told = parameters(recipe.model_dump(mode="json", exclude_none=True))
    mirrors = []
    for place, choice in enumerate(recipe.trackers):
        known = before[place] if place < len(before) and before[place].get("name") == choice.name else {}
        tracker: Tracker = plugins.build("trackers", choice.name, choice.settings, folder)
        mirrors.append(Mirror(choice.name, tracker, Tracked(run.name, run.path, told, known.get("key"))))
    return mirrors
