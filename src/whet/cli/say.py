"""What a command says: to a person on standard error, to a program on standard output."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from whet.display import finite, plain, quoted
from whet.errors import DataError, Refused

_ANSWERED: set[bool] = set()
"""Whether this command has written its JSON object."""


def begin() -> None:
    """Forget what an earlier command of this process has answered, and speak UTF-8."""
    _ANSWERED.clear()
    _speak_utf8()


def follower() -> bool:
    """Whether torchrun has started this process to follow another, which alone speaks."""
    return started_together() and os.environ.get("RANK", "0") != "0"


def started_together() -> bool:
    """Whether torchrun has started this process with others."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "LOCAL_RANK" in os.environ


def console() -> Any:
    from whet.stages.narrate import Terminal

    return Terminal(stderr=True)


def narrator() -> Any:
    from whet.stages.narrate import Narrator

    return Narrator(console())


def _speak_utf8() -> None:
    """Read and write UTF-8, whatever the terminal's own encoding, so that no text of the user's can stop a command."""
    if sys.stderr is None:  # closed: what is said to it must not go to standard output instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace" if stream is sys.stdin else "backslashreplace")


def say(text: str) -> None:
    with suppress(OSError):  # whoever cannot be told is not told
        print(plain(text), file=sys.stderr)


def show_text(text: str) -> None:
    """Write to standard output; to a terminal nothing that it would act on."""
    if sys.stdout is None:
        raise DataError("standard output is closed, so the answer cannot be written. Open it, or leave out what closes it.")
    print(plain(text) if sys.stdout.isatty() else text)


def answer(as_json: bool, values: dict[str, Any]) -> None:
    if as_json:
        _ANSWERED.add(True)
        show_text(json.dumps(finite(values), ensure_ascii=False, allow_nan=False))


def fail(kind: str, message: str, code: int) -> None:
    """Answer a program, where there is no other answer, with what went wrong."""
    if "--json" in sys.argv[1:] and not _ANSWERED and sys.stdout is not None and not follower():
        answer(True, {"run": None, "error": {"kind": kind, "message": message, "exit_code": code}})


def _of_task(report: dict[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in ("n", "verdict", "metrics", "hints", "sharing") if key in report}


def judged(run: Any, as_json: bool) -> None:
    from whet.report.terminal import show_report

    report = run.report
    if as_json:
        values = {
            "run": str(run.path),
            "n": report["n"],
            "verdict": report["verdict"],
            "metrics": report["metrics"],
            "hints": report["hints"],
            "report": str(run.results / "report.html"),
        }
        values |= {"gate": report["gate"]} if "gate" in report else {}
        values |= {"tasks": {name: _of_task(one) for name, one in report["tasks"].items()}} if "tasks" in report else {}
        answer(True, values)
        say(report["verdict"]["sentence"])
    else:
        show_report(report, console(), page=str(run.results / "report.html"))
        if report.get("gate", {}).get("decision", "pass") == "pass":
            say(f"Use it: whet predict {quoted(run.path)} FILE")
    if report.get("gate", {}).get("decision", "pass") != "pass":
        from whet.report.gate import refusals

        raise Refused(
            "\n".join([report["gate"]["sentence"], *refusals(report["gate"])]) if as_json else report["gate"]["sentence"]
        )
