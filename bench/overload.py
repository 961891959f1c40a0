"""A server under ten times the requests that it takes: what is refused, how quickly, what still gets through, and its memory.

    python bench/overload.py RUN [--seconds 20] [--out bench/results/overload.json]

RUN is a trained run that writes texts. The server runs in a process of its own, the clients in this one, so both share the
machine. First as many clients ask as the server takes requests at a time, which gives the peak; then ten times as many, each of
which waits a second after a refusal, the least that Retry-After asks for.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

MAX_REQUESTS = 8
BODY = {"model": "writer", "messages": [{"role": "user", "content": "Tell me a story about a red boat."}], "max_tokens": 24}
PAUSE_S = 1.0


@dataclass
class Seen:
    """What the clients of one phase saw."""

    seconds: float
    done: int = 0
    refused_s: list[float] = field(default_factory=list)
    other: dict[int, int] = field(default_factory=dict)


def ask(url: str, num_clients: int, seconds: float) -> Seen:
    """Let so many clients ask again and again for so long."""
    seen, lock, end = Seen(seconds), threading.Lock(), time.monotonic() + seconds

    def client() -> None:
        with httpx.Client(timeout=120, trust_env=False) as http:
            while time.monotonic() < end:
                begun = time.monotonic()
                status = http.post(f"{url}/v1/chat/completions", json=BODY).status_code
                took = time.monotonic() - begun
                with lock:
                    if status == 200:
                        seen.done += time.monotonic() < end
                    elif status == 429:
                        seen.refused_s.append(took)
                    else:
                        seen.other[status] = seen.other.get(status, 0) + 1
                if status == 429:
                    time.sleep(PAUSE_S)

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("bench/results/overload.json"))
    given = parser.parse_args()
    line = [sys.executable, "-m", "whet", "serve", str(given.run), "--name", "writer", "--port", "0", "--no-log", "--json"]
    server = subprocess.Popen(
        [*line, "--max-requests", str(MAX_REQUESTS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        url = json.loads(server.stdout.readline())["url"]
        ask(url, MAX_REQUESTS, min(5.0, given.seconds))  # warm
        before = memory_mib(server.pid)
        peak = ask(url, MAX_REQUESTS, given.seconds)
        between = memory_mib(server.pid)
        overload = ask(url, 10 * MAX_REQUESTS, given.seconds)
        after = memory_mib(server.pid)
    finally:
        server.terminate()
        server.wait(60)
    refused = sorted(overload.refused_s)
    found = {
        "machine": platform.processor() or platform.machine(),
        "seconds": given.seconds,
        "requests_taken": MAX_REQUESTS,
        "peak_per_s": round(peak.done / peak.seconds, 2),
        "overload_per_s": round(overload.done / overload.seconds, 2),
        "goodput_share": round(overload.done / max(1, peak.done), 3),
        "refused": len(refused),
        "refused_ms": {
            "median": round(1000 * statistics.median(refused), 1) if refused else None,
            "p99": round(1000 * refused[int(0.99 * len(refused))], 1) if refused else None,
        },
        "other_answers": {**peak.other, **overload.other},
        "memory_mib": {"before": round(before), "after_peak": round(between), "after_overload": round(after)},
        "exit_code": server.returncode,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
