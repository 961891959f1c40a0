"""One measurement: a process of its own, in the trainer's environment, that trains a few steps and says what it saw."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.train.environments import PEERS, ROOT, Absent, Peer, environment, own, stubs
from bench.train.figures import OURS, Timing
from bench.train.rows import Row, records
from bench.train.task import Measured, Task, write
from bench.train.works import ALPHA, GPU_SIZE, RANK, Work

LIMIT = "limit"
"""The measurement of matrix products, which is no trainer."""
MOST_S, MOST_GPU_S = 180, 900
"""Seconds after which a measurement is given up; on a GPU networks are larger, and kernels are compiled first."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and beside what is measured."""

    cache: Path
    tcmalloc: str
    machine: str
    source: str
    """Hash of whet's source."""


def source_hash() -> str:
    """Return a hash of whet's source, so that figures of another one are not mixed with these."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "src" / "whet").rglob("*")):
        if path.suffix in {".py", ".c", ".h", ".cpp"}:
            found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:12]


def key_of(name: str, work: Work, place: Place) -> str:
    """Return what a measurement is of; one of another key is not taken for it."""
    if name == LIMIT:
        return f"bf16 {GPU_SIZE}, GPU" if work.gpu else "bf16 2048"
    said = f"{work.warm}+{work.timed} steps, {work.order}"
    if name == OURS:
        return ", ".join([place.source, said, *_own_settings(work).values()])
    peer = PEERS[name]
    return f"{' '.join((*peer.packages, *peer.compiled))}, {json.dumps(peer.settings.get(work.mode, {}))}, {said}"


def measure(name: str, work: Work, steps: list[list[Row]], repeat: int, place: Place) -> Timing:
    """Return one measurement. Raises Absent where the trainer cannot be installed, fails, or is not done in time."""
    peer = PEERS.get(name)
    python = Path(sys.executable) if name == LIMIT else environment(peer or own(work.gpu), place.cache)
    model, start = folders(work, place.cache)
    settings = peer.settings.get(work.mode, {}) if peer else _own_settings(work)
    with tempfile.TemporaryDirectory(prefix="whet-bench-") as held:
        scratch = Path(held)
        (scratch / "rows.json").write_text(json.dumps(records(steps)))
        task = Task(
            work=work.name,
            mode=work.mode,
            model=str(model),
            start=str(start) if work.mode == "lora" else None,
            rows=str(scratch / "rows.json"),
            scratch=str(scratch),
            learning_rate=work.learning_rate,
            rank=RANK,
            alpha=ALPHA,
            gpu=work.gpu,
            settings=settings,
        )
        write(scratch / "task.json", task)
        measured = _run(
            peer.program if peer else name, python, scratch, _variables(peer, place, work), MOST_GPU_S if work.gpu else MOST_S
        )
    if len(measured.seconds) != len(steps) and name != LIMIT:
        raise Absent(f"made {len(measured.seconds)} steps instead of {len(steps)}")
    return Timing(
        work=work.name,
        peer=name,
        repeat=repeat,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=place.machine,
        key=key_of(name, work, place),
        beside=place.source,
        settings=settings,
        **asdict(measured),
    )


def _own_settings(work: Work) -> dict[str, str]:
    """Return what whet's recipe for a work has beside what all trainers are told."""
    return {} if work.frozen_precision == "same" else {"frozen_precision": work.frozen_precision}


def folders(work: Work, cache: Path) -> tuple[Path, Path]:
    """Return the folders of a work's network and of its adapter's first values, which are made where they are not there."""
    made = hashlib.sha256(json.dumps([asdict(work.sizes), RANK, ALPHA]).encode()).hexdigest()[:8]
    folder = cache / "models" / f"{work.shape}-{made}"
    if not (folder / "written").is_file():
        print(f"Writing the network {work.shape} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "bench.train.models", work.shape, str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (folder / "written").touch()
    return folder / "model", folder / "start"


def _variables(peer: Peer | None, place: Place, work: Work) -> dict[str, str]:
    """Return the environment variables of a measurement: nothing is asked of a hub, and peers get their allocator."""
    found = {name: value for name, value in os.environ.items() if name not in {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}}
    found |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    if not work.gpu:
        found["CUDA_VISIBLE_DEVICES"] = ""
    if peer is None:
        return found
    allocator = {} if work.gpu else {"LD_PRELOAD": place.tcmalloc}
    return found | allocator | {"PYTHONPATH": f"{stubs(peer, place.cache)}{os.pathsep}{ROOT}"}


def _run(program: str, python: Path, scratch: Path, variables: dict[str, str], most_s: int) -> Measured:
    command = [str(python), "-m", f"bench.train.drivers.{program}", str(scratch / "task.json"), str(scratch / "measured.json")]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, errors="replace", timeout=most_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Absent(f"not done after {most_s} s") from None
    if done.returncode:
        raise Absent(f"ended with {done.returncode}: {_reason(done.stderr, scratch)}")
    values: dict[str, Any] = json.loads((scratch / "measured.json").read_text())
    return Measured(**values)


def _reason(said: str, scratch: Path) -> str:
    """Return the last line of a traceback, without the folders of this machine."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = lines[-1] if lines else "nothing was said"
    return reason.replace(str(scratch), "SCRATCH").replace(str(ROOT), "").replace(str(Path.home()), "~")[:300]
