"""Started with the failing library preloaded: forks a process for each case, lets one call of it fail, and says what is left.

`driver.py checkpoint FOLDER`, `driver.py run FOLDER RECIPE` and `driver.py prepare FOLDER RECIPE`, with cases as JSON on standard input; the answer is JSON on standard output.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError

from whet.engine import checkpoint
from whet.errors import WhetError

KINDS = {"EIO once": (1, errno.EIO), "EIO for good": (2, errno.EIO), "ENOSPC for good": (2, errno.ENOSPC), "short write": (3, 0),
         "half, then ENOSPC": (4, errno.ENOSPC), "killed": (5, 0), "count": (1, 0)}  # fmt: skip
shim = ctypes.CDLL(None)
shim.whet_counted.restype = ctypes.c_long


def fail_at(folder: Path, number: int, kind: str) -> None:
    what, error = KINDS[kind]
    shim.whet_fail_at(str(folder).encode(), ctypes.c_long(number), what, error)


def forked(work, folder: Path, number: int, kind: str) -> tuple[int, str, int]:
    """Do the work in a process of its own. Returns its exit code, what it said, and the calls that were counted."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        said, code = io.StringIO(), 0
        sys.stderr = said
        try:
            fail_at(folder, number, kind)
            code = work() or 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except (OSError, SafetensorError, WhetError) as error:
            code, _ = 1, said.write(repr(error))
        except BaseException as error:
            code, _ = 99, said.write(f"unexpected: {error!r}")
        counted = shim.whet_counted()
        shim.whet_fail_at(b"", ctypes.c_long(0), 1, 0)
        os.write(writing, json.dumps([code, said.getvalue(), counted]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return tuple(json.loads(told)) if told else (-os.waitstatus_to_exitcode(status), "", 0)


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"model/a": torch.full((40, 50), float(step)), "optimiser/a/step": torch.tensor(step)}


def save(folder: Path, step: int) -> None:
    checkpoint.save(folder, step, tensors(step), {"step": step})


def saved_over(folder: Path, best: int | None) -> None:
    save(folder, 3)
    checkpoint.retain(folder, 1, best)


def found_in(folder: Path) -> dict[str, object]:
    """What is to be found: the latest good checkpoint, whether it holds what was saved, those that are damaged, and whether the best is whole."""
    latest, damaged = checkpoint.load_latest(folder)
    whole = latest is not None and latest.state == {"step": latest.step}
    whole = whole and all(torch.equal(latest.tensors[name], value) for name, value in tensors(latest.step).items())
    best = checkpoint.load(folder, 1)
    return {"latest": latest and latest.step, "whole": whole, "damaged": damaged, "best": best is not None}


def checkpoint_case(root: Path, number: int, kind: str) -> dict[str, object]:
    """Save step 3 beside step 1, which is the best, and 2, the last; let 2 go. One call fails."""
    folder = root / f"{kind}-{number}".replace(" ", "-")
    save(folder, 1)
    save(folder, 2)
    code, said, counted = forked(lambda: saved_over(folder, best=1), folder, number, kind)
    found = found_in(folder)
    save(folder, 4)
    checkpoint.retain(folder, 1, 1)
    after = found_in(folder)
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    shutil.rmtree(folder)
    return {
        "code": code,
        "said": said,
        "counted": counted,
        **found,
        "after": after["latest"] == 4 and after["whole"],
        "left": left,
    }


def end(run: Path) -> dict[str, str]:
    files = [run / "log.jsonl", *(run / "model").rglob("*"), *(run / "checkpoints").rglob("*")]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def whet(*line: str) -> int:
    from whet import cli  # the cases of a checkpoint alone do without

    torch.set_num_threads(1)
    sys.argv, sys.stdin = ["whet", *line], io.StringIO()
    cli.main()
    return 0


def run_case(root: Path, recipe: str, number: int, kind: str) -> dict[str, object]:
    """Train with one call failing, and go on without."""
    from transformers.models.llama import modeling_llama  # noqa: F401 - with what training loads, once for all cases

    from whet import cli, objectives, techniques  # noqa: F401
    from whet.stages import train  # noqa: F401

    place = root / f"{kind}-{number}".replace(" ", "-")
    place.mkdir()
    run = place / "run"
    code, said, counted = forked(lambda: whet("train", recipe, "--out", str(run)), place, number, kind)
    line = ("train", "--resume", str(run)) if run.exists() else ("train", recipe, "--out", str(run))
    again, more, _ = forked(lambda: whet(*line), place, 0, "count")
    left = sorted(str(path.relative_to(place)) for path in place.rglob(".*") if path.name != ".lock")
    found = {"code": code, "said": said, "counted": counted, "again": again, "more": more, "end": end(run), "left": left}
    shutil.rmtree(place)
    return found


def prepare_case(root: Path, recipe: str, number: int, kind: str) -> dict[str, object]:
    """Prepare rows on the disk with one call failing, and go on without. All that is written lies in one folder: run, rows, raw rows."""
    from whet import cli  # noqa: F401 - with what the verb loads, once for all cases
    from whet.data import raw
    from whet.stages import prepare, shelving  # noqa: F401

    raw.STRETCH, shelving.LARGE = 10, 0
    place = root / f"{kind}-{number}".replace(" ", "-")
    place.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    line = ("prepare", recipe, "--out", str(place / "run"))
    code, said, counted = forked(lambda: whet(*line), place, number, kind)
    made = (place / "run").exists()
    again, more, _ = (0, "", 0) if made else forked(lambda: whet(*line), place, 0, "count")
    files = [file for file in (place / "run").rglob("*") if file.is_file() and file.name not in {"manifest.json", ".lock"}]
    held = {str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    left = sorted(str(path.relative_to(place)) for path in (place / "cache").rglob("*") if path.name not in {"whet", "prepare"})
    left += sorted(path.name for path in place.iterdir() if path.name not in {"cache", "run"})
    shutil.rmtree(place)
    return {"code": code, "said": said, "counted": counted, "again": again, "more": more, "end": held, "left": left, "made": made}


def main() -> None:
    what, folder, *more = sys.argv[1:]
    cases = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(2, 1)
    do = {"checkpoint": checkpoint_case, "run": run_case, "prepare": prepare_case}[what]
    found = [do(Path(folder), *more, *case) for case in cases]
    with os.fdopen(answer, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
