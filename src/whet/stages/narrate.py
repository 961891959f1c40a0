"""What a person sees while a stage works: lines, and a bar with the time left. Silent unless a verb gives it a console."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from whet.display import plain


class Terminal(Console):
    """A console that shows words of a file, and never acts on what is in them: control characters are written out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


class Bar(Protocol):
    """Progress of one piece of work."""

    def advance(self, done: float, note: str = "") -> None: ...


class Narrator:
    """Speaks to a console, or to nobody."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    def say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(plain(text), markup=False, highlight=False, soft_wrap=not self.console.is_terminal)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Bar]:
        """Show a bar where there is a terminal, and a line at each tenth of the work elsewhere."""
        if self.console is None:
            yield _Nobody()
        elif self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                yield _Live(progress, progress.add_task(title, total=total, note=""))
        else:
            yield _Lines(self, title, total)


SILENT = Narrator()


class _Nobody:
    def advance(self, done: float, note: str = "") -> None:
        """Nobody looks."""


class _Live:
    def __init__(self, progress: Progress, task: int) -> None:
        self.progress, self.task = progress, task

    def advance(self, done: float, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, narrator: Narrator, title: str, total: float) -> None:
        self.narrator, self.title, self.total, self.tenth = narrator, title, total, 0
        self.first: tuple[float, float] | None = None
        """When the first work was reported, and how much; a resumed run begins in the middle."""

    def advance(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        self.first = self.first or (now, done)
        tenth = int(10 * done / self.total) if self.total else 10
        if tenth > self.tenth:
            self.tenth = tenth
            self.narrator.say(f"{self.title}: {done:g} of {self.total:g} {note}".rstrip() + self._left(now, done))

    def _left(self, now: float, done: float) -> str:
        assert self.first is not None
        begun, before = self.first
        if not before < done < self.total:
            return ""
        seconds = (now - begun) * (self.total - done) / (done - before)
        return f", about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a time in words, roughly: '40 s', '3 min', '2 h 10 min'."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
