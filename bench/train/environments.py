"""The peers: what each is installed from, how it is set, and its environment outside the checkout, as whet has one too."""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.train.works import Mode, Work
from scripts.setup import pip_settings, uv_arguments

ROOT = Path(__file__).resolve().parents[2]
TCMALLOC = "libtcmalloc_minimal.so.4"
MINUTES_OF_INSTALLING = 20
TORCH = "torch==2.13.0"
HF = (TORCH, "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0")


BUILDING = ("einops", "ninja", "packaging", "psutil", "setuptools", "wheel")
"""What flash-attn is compiled with, which it does not say itself."""
MODES: tuple[Mode, ...] = ("lora", "full")


class Absent(Exception):  # a fact that is written down, and the others go on
    """A peer that cannot be measured here; says why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A trainer to be compared with; or whet itself, where its environment is made."""

    name: str
    title: str
    packages: tuple[str, ...]
    driver: str = ""
    """Its program in drivers/; of its own name where none is given. Peers of one driver share an environment."""
    compiled: tuple[str, ...] = ()
    """Packages that are compiled against the others, so installed after them."""
    folder: str = ""
    """Its environment, where it shares none with the others of its driver."""
    gpu: bool = False
    """It trains on a CUDA device, and not on a processor."""
    encoders: bool = False
    """It trains classifiers too."""
    settings: dict[Mode, dict[str, Any]] = field(default_factory=dict)
    """What its driver is told besides, by what learns."""
    without: tuple[str, ...] = ()
    """Packages that its own requirements bring, and that do not work beside this torch."""
    stubs: tuple[str, ...] = ()
    """Those of them that it imports all the same; an empty module stands for each."""
    whole: dict[Mode, bool] = field(default_factory=dict)
    """False where it does not train the same network on the same rows throughout, so that only its first loss can be compared."""

    @property
    def program(self) -> str:
        return self.driver or self.name

    @property
    def place(self) -> str:
        return self.folder or self.program

    def takes(self, work: Work) -> bool:
        return self.gpu == work.gpu and (work.decodes or self.encoders)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="hf",
            title="HF Trainer",
            packages=HF,
            encoders=True,
        ),
        Peer(
            name="trl",
            title="TRL",
            packages=(*HF, "trl==1.16.0"),
        ),
        Peer(
            name="trl_liger",
            title="TRL, liger-kernel, flash attention",
            packages=(*HF, "trl==1.16.0", "liger-kernel==0.8.5", *BUILDING),
            compiled=("flash-attn==2.8.3",),
            driver="trl",
            folder="trl_liger",
            gpu=True,
            settings={
                mode: {"liger": True, "attention": "flash_attention_2", "frozen": "bf16" if mode == "lora" else "fp32"}
                for mode in MODES
            },
        ),
        Peer(
            name="llamafactory",
            title="LLaMA-Factory",
            packages=(TORCH, "llamafactory==0.9.5"),
            without=("torchaudio", "torchvision"),
            stubs=("torchaudio",),
        ),
        Peer(
            name="litgpt",
            title="LitGPT",
            packages=(TORCH, "litgpt==0.5.13", "requests"),
            whole={"full": False},  # its embedding and its head are two matrices, which learn apart
        ),
    )
}


def own(gpu: bool) -> Peer:
    """Return whet, as whoever installs it has it: in an environment of its own, without what its developers have beside it."""
    asked = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:8]
    return Peer(
        name="whet", title="whet", packages=("-e", f"{ROOT}[liger]" if gpu else str(ROOT)), folder=f"whet-{asked}{'-gpu' * gpu}"
    )


def environment(peer: Peer, cache: Path) -> Path:
    """Return the Python of the peer's environment, which is made where it is not there. Raises Absent."""
    folder = cache / "environments" / peer.place
    python, done = folder / "bin" / "python", folder / "installed"
    wanted = " ".join((*peer.packages, *peer.compiled))
    if done.is_file() and done.read_text() == wanted:
        return python
    print(f"Installing {peer.title} into {folder} (once) ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], peer)
    uv = [sys.executable, "-m", "uv", "pip"]
    if subprocess.run([*uv[:-1], "--version"], check=False, capture_output=True).returncode == 0:
        places = uv_arguments(pip_settings(Path(sys.executable)))
        _run(
            [*uv, "install", "-q", "--python", str(python), "--index-strategy", "unsafe-best-match", *places, *peer.packages],
            peer,
        )
        remove = [*uv, "uninstall", "-q", "--python", str(python), *peer.without]
    else:
        _run([str(python), "-m", "pip", "install", "-q", *peer.packages], peer)
        remove = [str(python), "-m", "pip", "uninstall", "-q", "-y", *peer.without]
    if peer.without:
        _run(remove, peer)
    if peer.compiled:
        _run([str(python), "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", *peer.compiled], peer)
    for name in peer.stubs:
        stub = stubs(peer, cache) / name
        stub.mkdir(parents=True)
        (stub / "__init__.py").write_text(
            f'"""Stands for {name}, which does not work beside this torch; nothing here calls it."""\n'
        )
    done.write_text(wanted)
    return python


def stubs(peer: Peer, cache: Path) -> Path:
    """Return the folder of the modules that stand for what the peer does without."""
    return cache / "environments" / peer.place / "stubs"


def tcmalloc(named: str | None) -> str:
    """Return the allocator that peers are run with. Raises SystemExit with how to get it."""
    found = (
        named
        or next((str(place) for place in _places() if place.is_file()), None)
        or ctypes.util.find_library("tcmalloc_minimal")
    )
    if found is None or (named and not Path(named).is_file()):
        sys.exit(
            f"{named or TCMALLOC}: there is no such library, and without it the peers are up to two times slower than they can be. "
            "On Debian: apt-get install libtcmalloc-minimal4. Elsewhere name the file: --tcmalloc FILE"
        )
    return found


def _places() -> list[Path]:
    folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
    return [Path(folder) / TCMALLOC for folder in folders]


def _run(command: list[str], peer: Peer) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60 * MINUTES_OF_INSTALLING, env=environment
        )
    except subprocess.TimeoutExpired:
        raise Absent(f"could not be installed: not done after {MINUTES_OF_INSTALLING} minutes") from None
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
        raise Absent(f"could not be installed: {reason.strip()[:200]}")
