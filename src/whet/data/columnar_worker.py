"""A process of its own that opens files of columns: a broken one may make polars end its process, panic, or ask for endless memory.

It reads requests from standard input, a line of JSON each, and answers on standard output with a length and so many bytes: rows as an
Arrow stream, or, where the length is negative, the name of an error. It ends with its input.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import polars as pl

LENGTH = struct.Struct("<q")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    known: tuple[str, pl.LazyFrame] | None = None
    for line in requests:
        asked = json.loads(line)
        try:
            if known is None or known[0] != asked["file"]:
                known = (asked["file"], opened(Path(asked["path"]), asked["kind"]))
            out = BytesIO()
            known[1].slice(asked["start"], asked["number"]).collect().write_ipc_stream(out, compression="uncompressed")
            content, sign = out.getvalue(), 1
        except BaseException as error:  # where polars panics, it raises what is no Exception
            known, content, sign = None, type(error).__name__.encode(), -1
        answers.write(LENGTH.pack(sign * len(content)) + content)
        answers.flush()


def opened(path: Path, kind: str) -> pl.LazyFrame:
    """Return a table that is read as far as it is asked for; Arrow's streaming format is read whole."""
    if kind == "parquet":
        return pl.scan_parquet(path, glob=False)
    with path.open("rb") as file:
        streamed = file.read(6) != b"ARROW1"
    return pl.read_ipc_stream(path).lazy() if streamed else pl.scan_ipc(path, glob=False)


def main() -> None:
    """Serve standard input, within the memory that the machine has."""
    with suppress(ValueError, OSError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(
        sys.stdout.fileno(), "wb", closefd=False
    ) as whole:  # with PYTHONUNBUFFERED, standard output writes in part where it is stopped
        serve(sys.stdin.buffer, whole)


if __name__ == "__main__":
    main()
