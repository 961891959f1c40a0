"""Trains the same networks on the same rows by whet and by its peers, in turn, and writes how they compare.

    python -m bench.train [--gpu] [--work WORK ...] [--peers PEER ...] [--repeats 5] [--quick] [--for SECONDS] [--cache DIR]

Each measurement is a process of its own of well below three minutes, in its trainer's environment; of a round, whet and the peers follow
each other. One during which others took the machine is dropped and made again. Finished ones are kept in the cache folder, so that the same
command goes on where it was stopped; those of another machine, release or source do not count. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import whet
from bench.train.environments import PEERS, ROOT, Absent, Peer, environment, own, tcmalloc
from bench.train.figures import OURS, Timing, is_disturbed
from bench.train.measure import LIMIT, Place, key_of, measure, source_hash
from bench.train.plot import draw
from bench.train.result import build, disagreements, warm_steps
from bench.train.rows import Row, steps_of
from bench.train.store import Store
from bench.train.works import GPU_WORKS, WORKS, Work
from whet.engine import liger
from whet.engine.machine import describe
from whet.files import write_json, write_whole

RESULT = ROOT / "bench" / "results" / "train.json"
GPU_RESULT = ROOT / "bench" / "results" / "train_gpu.json"
PLOT = ROOT / "docs" / "images" / "training-speed.svg"
CACHE = Path("~/.cache/whet-bench")
ATTEMPTS = 3
"""How often a measurement that others disturb is made before the round goes on without it."""
EXPECTED_S = 60.0
"""How long a measurement is taken to last that was never made."""


def main() -> int:
    asked = arguments()
    known = GPU_WORKS if asked.gpu else WORKS
    works = [_quick(known[name]) if asked.quick else known[name] for name in asked.work or known]
    cache = asked.cache.expanduser().resolve()
    allocator = "" if asked.gpu else tcmalloc(asked.tcmalloc)
    asked.peers = [name for name in asked.peers if PEERS[name].gpu == asked.gpu]
    if asked.gpu and not asked.report:
        _check_gpu()
    if asked.install:
        return _install([own(asked.gpu), *(PEERS[name] for name in asked.peers)], cache)
    machine = describe()
    if asked.gpu and torch.cuda.is_available():
        machine |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    named = f"{gpu}{machine['processor']}, {machine['threads']} threads, {machine['memory_gib']} GiB"
    place = Place(cache=cache, tcmalloc=allocator, machine=named, source=source_hash())
    bench = Bench(place, Store(cache / ("quick" if asked.quick else "timings")), {work.name: steps_of(work) for work in works})
    if not asked.report:
        bench.run(works, asked.peers, 1 if asked.quick else asked.repeats, asked.for_s)
    result = bench.result(works, {"machine": machine | {"commit": _commit()}, "whet": whet.__version__})
    if asked.report and not any(row["peer"] == OURS for row in result["rows"]):
        sys.exit(f"--report: of these sources of whet nothing was measured with --cache {asked.cache}, so nothing is written.")
    out = asked.out or (cache / "quick.json" if asked.quick else GPU_RESULT if asked.gpu else RESULT)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    if out == RESULT:
        write_whole(PLOT, draw(result))
    _say(result, out)
    apart = disagreements(result)
    print("\n".join(apart), file=sys.stderr)
    return 1 if apart else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help=f"on a CUDA device: {', '.join(GPU_WORKS)}")
    parser.add_argument("--work", nargs="+", default=[], metavar="WORK", help=f"of {', '.join(WORKS)}; all where none is named")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[*PEERS], metavar="PEER", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that there shall be, with those that are there already")
    parser.add_argument("--quick", action="store_true", help="one round of two steps each, kept apart; to see that all works")
    parser.add_argument(
        "--for", dest="for_s", type=float, default=float("inf"), help="seconds after which nothing is begun any more"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"environments, networks and measurements; default {CACHE}")
    parser.add_argument("--tcmalloc", help="the allocator that peers run with; found by itself where Debian has it")
    parser.add_argument("--out", type=Path, help=f"default {RESULT.relative_to(ROOT)}")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the result of what is there")
    asked = parser.parse_args()
    if unknown := [name for name in asked.work if name not in (GPU_WORKS if asked.gpu else WORKS)]:
        parser.error(f"--work {unknown[0]} is none of {', '.join(GPU_WORKS if asked.gpu else WORKS)}{' on a GPU' * asked.gpu}")
    return asked


class Bench:
    """The works that are measured, and what is known of them."""

    def __init__(self, place: Place, store: Store, steps: dict[str, list[list[Row]]]) -> None:
        self.place, self.store, self.steps = place, store, steps

    def run(self, works: list[Work], peers: list[str], repeats: int, most_s: float) -> None:
        """Measure what is missing of these rounds, in turn; begin nothing that would end after `most_s` seconds."""
        end, absent = time.monotonic() + most_s, set[tuple[str, str]]()
        for work in works:
            for repeat in range(1, repeats + 1):
                for name in (LIMIT, OURS, *(peer for peer in peers if PEERS[peer].takes(work))):
                    if (work.name, name) in absent or self._known(work, name, repeat):
                        continue
                    if time.monotonic() + self._expected_s(work, name) > end:
                        print("The time that --for gives is used up; the same command goes on.", file=sys.stderr)
                        return
                    if not self._measure(work, name, repeat):
                        absent.add((work.name, name))

    def result(self, works: list[Work], about: dict[str, Any]) -> dict[str, Any]:
        machine = self.place.machine
        return build(
            self.store.timings(machine), self.store.failures(machine), works, self.steps, self.place.source, self._key, about
        )

    def _measure(self, work: Work, name: str, repeat: int) -> bool:
        """Measure once, again while others disturb it. Returns False where the trainer cannot be measured at all."""
        for _ in range(ATTEMPTS):
            print(f"{work.name}, round {repeat}: {name} ...", file=sys.stderr, end="", flush=True)
            try:
                timing = measure(name, work, self.steps[work.name], repeat, self.place)
            except Absent as reason:
                print(f" {reason}", file=sys.stderr, flush=True)
                self.store.fail(work.name, name, self.place.machine, self._key(name, work), str(reason))
                return False
            self.store.add(timing)
            share = timing.foreign(warm_steps(timing, work))
            print(f" {timing.timed_s(0):.1f} s, others {share:.2f}", file=sys.stderr, flush=True)
            if not is_disturbed(share):
                return True
        return True

    def _known(self, work: Work, name: str, repeat: int) -> bool:
        return any(one.repeat == repeat and one.beside == self.place.source for one in self._calm(work, name))

    def _calm(self, work: Work, name: str) -> list[Timing]:
        key = self._key(name, work)
        timings = self.store.timings(self.place.machine)
        own = [one for one in timings if (one.work, one.peer, one.key) == (work.name, name, key)]
        return [one for one in own if not is_disturbed(one.foreign(warm_steps(one, work)))]

    def _expected_s(self, work: Work, name: str) -> float:
        known = self._calm(work, name)
        return 20.0 + known[-1].timed_s(0) if known else EXPECTED_S

    def _key(self, name: str, work: Work) -> str:
        return key_of(name, work, self.place)


def _quick(work: Work) -> Work:
    return replace(work, warm=1, timed=2)


def _check_gpu() -> None:
    """Raises SystemExit with what is missing here for measurements on a GPU."""
    if not torch.cuda.is_available():
        sys.exit("--gpu: torch finds no CUDA device here. Run it on a machine with one, with torch's wheels for CUDA in .venv.")
    if (reason := liger.why_not()) is not None:
        sys.exit(f"--gpu: whet is measured with liger-kernel, as its peer is, and {reason}")


def _install(peers: list[Peer], cache: Path) -> int:
    failed = 0
    for peer in peers:
        try:
            environment(peer, cache)
        except Absent as reason:
            print(f"{peer.title} {reason}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def _commit() -> str:
    """Return the checkout's commit; with `+` where files of it are changed."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def _say(result: dict[str, Any], out: Path) -> None:
    """Print the figures of each work, a line each."""
    for work, rates in result.get("tokens_per_s", {}).items():
        shown = ", ".join(f"{peer} {rate:,.0f}" for peer, rate in sorted(rates.items(), key=lambda item: -item[1]))
        line = f"{work}: {shown} tokens/s"
        if work in result.get("ratio", {}):
            low, high = result["ratio_interval"][work]
            line += f"; {result['ratio'][work]:.2f} times {result['best_peer'][work]} ({low:.2f} to {high:.2f}, {result['rounds'][work]} rounds)"
            line += f", memory {result['peak_ratio'][work]:.2f}"
        if work in result.get("of_limit", {}):
            line += f", {100 * result['of_limit'][work]:.0f} % of the limit"
        print(line)
    for one in result["failed"]:
        print(f"{one['work']}: {one['peer']} {one['reason']}")
    print(f"Written to {os.path.relpath(out)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
