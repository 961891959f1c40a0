"""The demo: a messy file becomes a judged classifier, and a small decoder learns to answer. Each command is one you can type."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

INTENT, ANSWER = Path("runs/demo-intent"), Path("runs/demo-answer")
TICKETS = Path("examples/tickets")


def whet(*arguments: str) -> str:
    """Run one command of whet, shown as it would be typed, and return what it printed for programs."""
    print(f"\n$ whet {shlex.join(arguments)}", flush=True)
    done = subprocess.run([Path(sys.executable).with_name("whet"), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return done.stdout


def report(run: Path) -> dict:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def main() -> None:
    begun = time.monotonic()
    for run in (INTENT, ANSWER):
        shutil.rmtree(run, ignore_errors=True)
    print("1. Which of ten things does a customer want? 1,855 messy rows of an invented help desk (examples/tickets).")
    whet("train", str(TICKETS / "intent.yaml"), "--out", str(INTENT))
    whet("evaluate", str(INTENT))
    answers = whet("predict", str(INTENT), str(TICKETS / "predict.csv"), "--format", "jsonl", "--abstain-below", "0.5")
    print("\n2. The same rows, another job: learn to write the answer.")
    whet("train", str(TICKETS / "answer.yaml"), "--out", str(ANSWER))
    whet("evaluate", str(ANSWER))
    print("\nFive new messages:")
    for row in map(json.loads, answers.splitlines()):
        given = row["prediction"] or "(no answer: below 50 %)"
        print(f"  {row['confidence']:4.0%}  {given:<20}  {row['message'][:90]}")
    sample = report(ANSWER)["samples"][0]
    print("\nOne message, answered before and after tuning:")
    for who, key in (("customer", "prompt"), ("before", "base"), ("after", "tuned"), ("support wrote", "reference")):
        print(f"  {who:>13}: {' '.join(sample[key].split())[:300]}")
    print("\nVerdicts:")
    for run in (INTENT, ANSWER):
        print(f"  {report(run)['verdict']['sentence']}")
    print(f"\nReports to open in a browser: {INTENT / 'report.html'} and {ANSWER / 'report.html'}")
    print(f"Took {time.monotonic() - begun:.0f} s. Now yours: .venv/bin/whet auto YOUR_FILE.csv")


if __name__ == "__main__":
    main()
