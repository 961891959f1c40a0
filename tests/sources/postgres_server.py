"""A real PostgreSQL server of a test's own, as another user where the tests run as root, which PostgreSQL refuses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ADMIN, READER = "hunter2-admin", "hunter2-reader"
"""Passwords."""
QUICK = ("fsync=off", "shared_buffers=16MB", "listen_addresses=127.0.0.1")


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, user: str = "reader", database: str = "support") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: str, database: str = "support") -> list[Any]:
        """Run statements as the owner, and return the rows of the last one."""
        import psycopg

        with psycopg.connect(self.url("owner", database), password=ADMIN, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running() -> Iterator[Server]:
    """Start a server in a folder of its own, and end it. Skips where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="needs whet[postgres]")
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL (initdb and postgres; on Debian: apt-get install postgresql)")
    other: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="whet-pg-"))
    try:
        (folder / "password").write_text(ADMIN)
        if other:
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody", "nogroup")
        form = ("-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "-N", "-U", "owner", "--pwfile", folder / "password")
        subprocess.run([programs / "initdb", "-D", folder / "data", *form], check=True, capture_output=True, cwd=folder, **other)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = [word for one in QUICK for word in ("-c", one)]
        command = [programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder, *settings]
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **other) as process,
        ):
            try:
                yield _ready(Server(port, process), folder / "log")
            finally:
                process.send_signal(signal.SIGINT)  # ends the sessions, and then itself
                process.wait(60)
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """Return the folder with PostgreSQL's programs: the newest of Debian's, or of the path; None where there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    found = shutil.which("postgres")
    places += [Path(found).resolve().parent] if found else []
    return next((place for place in places if (place / "initdb").is_file() and (place / "postgres").is_file()), None)


def _ready(server: Server, log: Path) -> Server:
    import psycopg

    for _ in range(600):
        try:
            server.run(f"CREATE ROLE reader LOGIN PASSWORD '{READER}'", "CREATE DATABASE support", database="postgres")
            return server
        except psycopg.OperationalError:
            assert server.process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())
