"""The world around examples/once_round.sh: files cut from the tickets, customers who ask, people who judge, somebody who is told.

Nothing of whet is used here, and nothing but Python's own library.
"""

from __future__ import annotations

import csv
import http.server
import json
import random
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

LATE = ("delivery_delay", "false_alarm")
"""Intents that nobody has written about until the drift."""
SIZES = {"first": 760, "calm": 150, "later": 240, "sabotage": 400}


def files(tickets: str) -> None:
    """Write first.csv to learn from, calm.csv like it, later.csv with what is new, ask.csv, and sabotage.csv with wrong labels."""
    with Path(tickets).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["message"].strip() and row["intent"].strip()]
    rows = list({row["message"]: row for row in rows}.values())
    random.Random(0).shuffle(rows)
    known = [row for row in rows if _intent(row) not in LATE]
    first, calm, others = (
        known[: SIZES["first"]],
        known[SIZES["first"] :][: SIZES["calm"]],
        known[SIZES["first"] + SIZES["calm"] :],
    )
    late = [row for row in rows if _intent(row) in LATE]
    half = SIZES["later"] // 2
    later = [*late[:half], *others[: SIZES["later"] - half]]
    random.Random(1).shuffle(later)
    labels = sorted({_intent(row) for row in rows})
    turned = {label: labels[place - 1] for place, label in enumerate(labels)}
    sabotage = [
        {**row, "intent": turned[_intent(row)]} for row in [*others[SIZES["later"] - half :], *late[half:]][: SIZES["sabotage"]]
    ]
    for name, some in {"first": first, "calm": calm, "later": later, "sabotage": sabotage}.items():
        _write(f"{name}.csv", list(rows[0]), some)
    _write("ask.csv", ["id", "message"], [{"id": row["id"], "message": row["message"]} for row in calm[:5]])


def _intent(row: dict[str, str]) -> str:
    return row["intent"].strip().lower().replace(" ", "_").replace("-", "_")


def _write(name: str, columns: list[str], rows: list[dict[str, str]]) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def ask(serve: str, file: str) -> None:
    """Ask the server of serve.json about each row, and tell it afterwards what the answer should have been."""
    url = json.loads(Path(serve).read_text(encoding="utf-8"))["base_url"]
    with Path(file).open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    right = 0
    for row in rows:
        asked = {name: row[name] for name in ("message", "channel", "customer_tier")}
        answer = _post(f"{url}/classify", {"model": "tickets", "input": asked})
        right += answer["data"][0]["label"] == _intent(row)
        _post(f"{url}/feedback", {"id": answer["id"], "label": _intent(row)})
    print(f"{len(rows)} customers asked, {right} were answered rightly.")


def follow(serve: str, version: str) -> None:
    """Wait until the server answers with this version."""
    url = json.loads(Path(serve).read_text(encoding="utf-8"))["base_url"]
    for _ in range(600):
        with urllib.request.urlopen(f"{url}/models/tickets", timeout=60) as answer:
            if str(json.load(answer)["version"]) == version:
                return
        time.sleep(0.1)
    sys.exit(f"the server does not answer with version {version}")


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def listen(file: str) -> None:
    """Take alerts on a free port: the port goes into FILE.port, each alert into FILE."""

    class Taken(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with Path(file).open("ab") as opened:
                opened.write(self.rfile.read(int(self.headers["content-length"])) + b"\n")
            self.send_response(204)
            self.end_headers()

    with http.server.HTTPServer(("127.0.0.1", 0), Taken) as server:
        Path(f"{file}.port").write_text(str(server.server_address[1]), encoding="utf-8")
        server.serve_forever()


def check(file: str, claim: str) -> None:
    """Stop where a claim about the JSON of a file does not hold; `found` is what the file holds."""
    found = json.loads(Path(file).read_text(encoding="utf-8"))
    if not eval(claim, {"found": found, "Path": Path}):
        sys.exit(f"{file}: does not hold: {claim}\n{json.dumps(found)[:2000]}")
    print(f"  as it should be: {claim}")


if __name__ == "__main__":
    {one.__name__: one for one in (files, ask, follow, listen, check)}[sys.argv[1]](*sys.argv[2:])
