"""A server under several times the requests that it takes: what is refused, how quickly, what still gets through, and its memory.

    python bench/overload.py RUN [--times 3 10] [--repeats 5] [--seconds 10] [--rude] [--out bench/results/overload.json]

RUN is a trained run that writes texts. The server runs in a process of its own, as `whet serve` starts it, the clients in this one, so both
share the machine; clients write prepared bytes, so that nearly all of it is the server's. As many clients as the server takes requests ask again
and again, which is the most that it can do; then several times as many, of which each one that is refused waits as long as Retry-After says, as
OpenAI's client does; with --rude a second whatever it says. The two are measured in turn, and compared within each turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_REQUESTS = 24
"""More than the 16 texts that are written at a time, so that some wait, as with the default of 64."""
BODY = {"model": "writer", "messages": [{"role": "user", "content": "Tell me a story about a red boat."}]}
LONGEST = 48
"""Texts of 1 to so many tokens, drawn: those of one length that begin together end together, which is another load."""
PAUSE_S = 1.0
KEPT_S = 4.0
"""How long a connection is kept while nothing is asked; the server closes it after 5."""
SETTLE_S = 4.0
"""How long clients ask before anything is counted: most have been refused once by then."""


@dataclass
class Seen:
    """What the clients of one phase saw while it was counted."""

    seconds: float
    done: list[int] = field(default_factory=list)
    """Tokens of each text that came whole."""
    refused_s: list[float] = field(default_factory=list)
    other: dict[int, int] = field(default_factory=dict)
    server_cpu_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Tokens of whole texts each second: not texts, which are short or long by the draw."""
        return sum(self.done) / self.seconds


async def ask(url: str, pid: int, num_clients: int, seconds: float, rude: bool = False) -> Seen:
    """Let so many clients ask again and again for so long."""
    seen, where = Seen(seconds), urlsplit(url)
    bodies = [json.dumps({**BODY, "max_tokens": 1 + number}).encode() for number in range(LONGEST)]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\ncontent-length: "
    asked = [head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in bodies]
    begin = time.monotonic() + SETTLE_S
    end = begin + seconds

    async def client(number: int) -> None:
        draw = random.Random(number)
        await asyncio.sleep(PAUSE_S * number / num_clients)  # clients do not know of each other
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while time.monotonic() < end:
            begun = time.monotonic()
            writer.write(draw.choice(asked))
            status, closes, wait_s, tokens = await answer(reader)
            now = time.monotonic()
            if begin <= now < end:
                note(seen, status, now - begun, tokens)
            if status == 429:
                await asyncio.sleep(min(PAUSE_S if rude else wait_s, max(0.0, end - now)))
            if closes or (status == 429 and wait_s > KEPT_S):
                writer.close()
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.close()

    async def count() -> None:
        await asyncio.sleep(SETTLE_S)
        before = cpu_s(pid)
        await asyncio.sleep(seconds)
        seen.server_cpu_s = cpu_s(pid) - before

    await asyncio.gather(count(), *map(client, range(num_clients)))
    return seen


async def answer(reader: asyncio.StreamReader) -> tuple[int, bool, float, int]:
    """Read one answer. Returns its status, whether the server closes the connection, how long it asks to wait, and the text's tokens."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    head = dict(line.split(": ", 1) for line in lines[1:] if line)
    usage = json.loads(await reader.readexactly(int(head["content-length"]))).get("usage", {})
    wait_s = float(head.get("retry-after", PAUSE_S))
    return int(lines[0].split(" ")[1]), head.get("connection") == "close", wait_s, usage.get("completion_tokens", 0)


def note(seen: Seen, status: int, took: float, tokens: int) -> None:
    if status == 200:
        seen.done.append(tokens)
    elif status == 429:
        seen.refused_s.append(took)
    else:
        seen.other[status] = seen.other.get(status, 0) + 1


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measured(pid: int, url: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure the phases in turn, so many times."""
    rounds: dict[int, list[Seen]] = {one: [] for one in (1, *given.times)}
    memory = [memory_mib(pid)]
    for _ in range(given.repeats):
        for one, kept in rounds.items():
            kept.append(asyncio.run(ask(url, pid, one * MAX_REQUESTS, given.seconds, given.rude)))
        memory.append(memory_mib(pid))
    found: dict[str, Any] = {
        "peak_server_cores": cores(rounds[1]),
        "memory_mib": [round(one) for one in memory],
        "peak_tokens_per_s": [round(one.per_s, 1) for one in rounds[1]],
    }
    for one in given.times:
        shares = [over.per_s / peak.per_s for over, peak in zip(rounds[one], rounds[1], strict=True)]
        refused = sorted(took for over in rounds[one] for took in over.refused_s)
        found[f"{one}_times"] = {
            "goodput_share": {"median": round(statistics.median(shares), 3), "all": [round(share, 3) for share in shares]},
            "tokens_per_s": [round(over.per_s, 1) for over in rounds[one]],
            "refused_per_s": round(len(refused) / sum(over.seconds for over in rounds[one]), 1),
            "refused_ms": {name: round(1000 * quantile(refused, share), 1) for name, share in (("median", 0.5), ("p99", 0.99))},
            "server_cores": cores(rounds[one]),
            "other_answers": {status: count for over in rounds[one] for status, count in over.other.items()},
        }
    return found


def cores(rounds: list[Seen]) -> float:
    return round(statistics.median(one.server_cpu_s / one.seconds for one in rounds), 2)


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=[3, 10], help="clients, over the requests that are taken")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rude", action="store_true", help="clients ask again after a second, whatever Retry-After says")
    parser.add_argument("--out", type=Path, default=Path("bench/results/overload.json"))
    given = parser.parse_args()
    line = [sys.executable, "-m", "whet", "serve", str(given.run), "--name", "writer", "--port", "0", "--no-log", "--json"]
    server = subprocess.Popen(
        [*line, "--max-requests", str(MAX_REQUESTS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        url = json.loads(server.stdout.readline())["url"]
        asyncio.run(ask(url, server.pid, MAX_REQUESTS, min(5.0, given.seconds)))  # warm
        found = measured(server.pid, url, given)
    finally:
        server.terminate()
        server.wait(60)
    head = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": given.seconds,
        "requests_taken": MAX_REQUESTS,
        "rude": given.rude,
    }
    found = {**head, "repeats": given.repeats, **found, "exit_code": server.returncode}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
