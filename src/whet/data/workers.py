"""Many rows made into examples by several processes at a time. The result is that of one process, whatever their number, and in order.

They are programs of their own and no forks, so that neither threads nor locks of this process, nor the caller's script, get into them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue

from whet.data.making import Made, Maker, Making, packed_rows, unpacked_made
from whet.data.row_worker import JUDGED, LEARNT, LENGTH
from whet.data.rows import RawRow, Reject
from whet.types import Example

STRETCH = 2_000
"""Rows that are handed over at a time."""
ENOUGH = 50_000
"""Rows from which on several processes are quicker than one: each takes about half a second to begin."""
MOST_WORKERS = 8
"""Beyond, this process is what limits the pace."""
Rows = Sequence[RawRow | Reject]


def workers_for(num_rows: int, making: Making) -> int:
    """Return how many processes are worth while: one for each processor that may be used, or 1 for none but this one.

    Cleaners of the user's own run here: nobody knows what they keep in mind from row to row.
    """
    own = making.columns.clean != "auto" and any(choice.name.endswith(".py") for choice in making.columns.clean)
    return 1 if own or num_rows < ENOUGH else max(1, min(len(os.sched_getaffinity(0)), MOST_WORKERS))


@contextmanager
def making_rows(making: Making, num_workers: int) -> Iterator[Callable[[Rows, bool, int], Iterator[Made]]]:
    """Give what makes examples of rows, stretch by stretch in order. It takes what `Maker` takes."""
    with ExitStack() as stack:
        workers: SimpleQueue[_Worker] = SimpleQueue()
        if num_workers > 1:
            for _ in range(num_workers):
                workers.put(stack.enter_context(closing(_Worker(making))))
        maker = Maker(making)

        def make(rows: Rows, judged: bool, first: int) -> Iterator[Made]:
            stretches = (rows[begin : begin + STRETCH] for begin in range(0, len(rows), STRETCH))
            for some, packed in _answered(workers, stretches, judged) if num_workers > 1 else ((one, None) for one in stretches):
                made = maker(some, judged, first) if packed is None else unpacked_made(packed, first)
                first += sum(isinstance(item, Example) for item in made.items)
                yield made

        yield make


def _answered(workers: SimpleQueue[_Worker], stretches: Iterable[Rows], judged: bool) -> Iterator[tuple[Rows, bytes | None]]:
    """Yield stretches in order with what the workers answer; a few are worked on at a time."""
    num_workers = workers.qsize()
    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[tuple[Rows, Future[bytes | None]]] = deque()
        for some in stretches:
            pending.append((some, pool.submit(_asked, workers, some, judged)))
            if len(pending) > 2 * num_workers:
                done, answer = pending.popleft()
                yield done, answer.result()
        yield from ((some, answer.result()) for some, answer in pending)


def _asked(workers: SimpleQueue[_Worker], rows: Rows, judged: bool) -> bytes | None:
    """Return what a free worker answers; None where it cannot, or has ended."""
    worker = workers.get()
    try:
        return worker.answer((JUDGED if judged else LEARNT) + packed_rows(rows))
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
