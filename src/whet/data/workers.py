"""Many rows made into examples by several processes at a time. The result is that of one process, whatever their number, and in order.

They are programs of their own and no forks, so that neither threads nor locks of this process, nor the caller's script, get into them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue

from whet.data.making import Made, Maker, Making, unpacked_made, unpacked_rows
from whet.data.row_worker import JUDGED, LEARNT, LENGTH, two_of
from whet.data.stretch import packed_stretch
from whet.types import Example

ENOUGH = 50_000
"""Rows from which on several processes are quicker than one: each takes about half a second to begin."""
MOST_WORKERS = 8
"""Beyond, this process is what limits the pace."""
Packed = Iterable[bytes]
"""Stretches of rows (`making.packed_rows`)."""


def workers_for(num_rows: int, making: Making) -> int:
    """Return how many processes are worth while: one for each processor that may be used, or 1 for none but this one.

    Cleaners of the user's own run here: nobody knows what they keep in mind from row to row.
    """
    by_model = getattr(making.columns.redact, "model", None) is not None  # it uses every processor by itself
    alone = has_own_cleaners(making) or by_model
    return 1 if alone or num_rows < ENOUGH else max(1, min(len(os.sched_getaffinity(0)), MOST_WORKERS))


def has_own_cleaners(making: Making) -> bool:
    """Whether a cleaner is a file of the user's own."""
    return making.columns.clean != "auto" and any(choice.name.endswith(".py") for choice in making.columns.clean)


@contextmanager
def making_rows(making: Making, num_workers: int) -> Iterator[Callable[[Packed, bool, int], Iterator[Made]]]:
    """Give what makes examples of rows, stretch by stretch in order. It takes what `Maker` takes, the rows packed."""
    with _several(making, num_workers) as workers:
        maker = Maker(making)

        def make(stretches: Packed, judged: bool, first: int) -> Iterator[Made]:
            for some, answer in _answered(workers, stretches, JUDGED if judged else LEARNT):
                made = maker(unpacked_rows(some), judged, first) if answer is None else unpacked_made(answer, first)
                first += sum(isinstance(item, Example) for item in made.items)
                yield made

        yield make


@contextmanager
def making_stretches(making: Making, num_workers: int) -> Iterator[Callable[[Packed, bool], Iterator[tuple[bytes, bytes]]]]:
    """Give what makes stretches as they are kept on the disk (`stretch.packed_stretch`), in order, of rows that may be judged on.

    With each comes what its texts are compared by (`signed.signed_ahead`), where another process made it: this one leaves it for later.
    """
    with _several(making, num_workers) as workers:
        maker = Maker(making)

        def make(stretches: Packed, judged: bool) -> Iterator[tuple[bytes, bytes]]:
            for some, answer in _answered(workers, stretches, (JUDGED if judged else LEARNT).upper()):
                yield (packed_stretch(maker(unpacked_rows(some), judged)), b"") if answer is None else two_of(answer)

        yield make


@contextmanager
def _several(making: Making, num_workers: int) -> Iterator[SimpleQueue[_Worker]]:
    """Give so many processes; none where one is enough, which is this one."""
    with ExitStack() as stack:
        workers: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(num_workers if num_workers > 1 else 0):
            workers.put(stack.enter_context(closing(_Worker(making))))
        yield workers


def _answered(workers: SimpleQueue[_Worker], stretches: Packed, kind: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield stretches in order with what the workers answer; a few are worked on at a time. Where there is no worker, nobody answers."""
    num_workers = workers.qsize()
    if not num_workers:
        yield from ((some, None) for some in stretches)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[tuple[bytes, Future[bytes | None]]] = deque()
        for some in stretches:
            pending.append((some, pool.submit(_asked, workers, kind + some)))
            if len(pending) > 2 * num_workers:
                done, answer = pending.popleft()
                yield done, answer.result()
        yield from ((some, answer.result()) for some, answer in pending)


def _asked(workers: SimpleQueue[_Worker], message: bytes) -> bytes | None:
    """Return what a free worker answers; None where it cannot, or has ended."""
    worker = workers.get()
    try:
        return worker.answer(message)
    finally:
        workers.put(worker)


class _Worker:
    """One process. One that has ended answers nothing more."""

    def __init__(self, making: Making) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "whet.data.row_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._tell(pickle.dumps(making, pickle.HIGHEST_PROTOCOL))

    def answer(self, message: bytes) -> bytes | None:
        """Return what the process answers; None where it could not, or has ended."""
        assert self._process.stdout is not None
        if not self._tell(message):
            return None
        head = self._process.stdout.read(LENGTH.size)
        (length,) = LENGTH.unpack(head) if len(head) == LENGTH.size else (-1,)
        content = self._process.stdout.read(max(0, length))
        return content if length >= 0 and len(content) == length else None

    def _tell(self, message: bytes) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(LENGTH.pack(len(message)) + message)
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not yet written is of no use
                    continue
