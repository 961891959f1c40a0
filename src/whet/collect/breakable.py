"""SQLite that can be stopped: Python looks at signals between its own steps only, and a query may stay within C for ever."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from whet.data.rows import MAX_ROW

EVERY = 100_000
"""Steps of SQLite's machine between two looks: some milliseconds."""
LARGEST = 16 * MAX_ROW
"""Bytes of one value: pictures beside the texts are fine, and what is computed to fill the memory is not."""


@contextmanager
def breakable(database: sqlite3.Connection, most_s: float = math.inf) -> Iterator[None]:
    """Let Ctrl-C, and the time after `most_s` seconds, end what SQLite computes in the block, and no value be larger than `LARGEST`.

    Raises KeyboardInterrupt, or TimeoutError.
    """
    end = time.monotonic() + most_s
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
    database.set_progress_handler(lambda: time.monotonic() > end, EVERY)
    try:
        yield
    except sqlite3.OperationalError as error:
        if str(error) != "interrupted":
            raise
        raise (TimeoutError if time.monotonic() > end else KeyboardInterrupt) from None
    finally:
        database.set_progress_handler(None, 0)
