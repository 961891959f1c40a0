"""What a bundle is made of, and how what is in it is started."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Endpoint = Literal["classify", "chat", "completions", "embeddings"]
PATHS: Mapping[Endpoint, str] = {
    "classify": "/v1/classify",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
RUN = "run"
"""Folder of a bundle with the run that is served."""
SMOKE_TOKENS = 16
"""Longest text of a smoke test."""
PROCESS_MIB = 1024
"""What Python, torch and the server take beside the weights, and one batch at work."""
WEIGHTS_TIMES = 2.5
"""Weights in fp32, once more while they are read, and half of that for caches."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A trained run that is to be bundled."""

    name: str
    """What clients call it."""
    run: str
    """Name of the run that it was made of."""
    model_sha256: str
    """Hash of that run's model folder, as answers of the run itself name it in `system_fingerprint`."""
    endpoint: Endpoint
    item: str | Mapping[str, Any]
    """What the smoke test asks."""
    num_parameters: int
    python: str
    """Version of Python that the packages are locked for."""
    torch: str
    """Version of torch without what says how it was built."""
    own_files: tuple[str, ...] = ()
    """Plugin files of the user's own, which lie beside the run's recipe."""

    @property
    def slug(self) -> str:
        """The name as one of DNS (RFC 1123), of systemd and of images: `whet-` and small letters, digits and hyphens, 50 at most."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"whet-{words[:45].strip('-') or 'run'}"

    @property
    def tag(self) -> str:
        """The image's name: the same model gets the same one."""
        return f"{self.slug}:{self.model_sha256[:12]}"

    @property
    def memory_mib(self) -> int:
        """Memory that serving it needs at most, in MiB, in steps of 256."""
        weights = self.num_parameters * 4 / 2**20
        return math.ceil((PROCESS_MIB + WEIGHTS_TIMES * weights) / 256) * 256

    def request(self) -> dict[str, Any]:
        """Return the smoke test's body for the server's own endpoint."""
        asked: dict[Endpoint, dict[str, Any]] = {
            "classify": {"input": [self.item]},
            "embeddings": {"input": [self.item]},
            "chat": {"messages": [{"role": "user", "content": self.item}], "max_tokens": SMOKE_TOKENS},
            "completions": {"prompt": self.item, "max_tokens": SMOKE_TOKENS},
        }
        return {"model": self.name, **asked[self.endpoint]}

    def instances(self, key: str) -> dict[str, Any]:
        """Return the smoke test's body for a provider's route, which takes a list under a key."""
        writes = self.endpoint in {"chat", "completions"}
        return {key: [self.item], **({"parameters": {"max_tokens": SMOKE_TOKENS}} if writes else {})}

    def serve(self, place: str, *options: str) -> tuple[str, ...]:
        """Return the command that serves the run of a folder."""
        own = ("--recipe", f"{place}/recipe.yaml") if self.own_files else ()
        return ("whet", "serve", place, "--name", self.name, *own, *options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How a bundle's server is started and spoken with, at the place that the bundle is for."""

    command: tuple[str, ...]
    """Program and arguments; `whet` and `python` are those of the bundle's packages."""
    folders: Mapping[str, str]
    """Where parts of the bundle lie there: a place to a folder, file or .tar.gz of the bundle."""
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    """Folders that it writes into; everywhere else it only reads."""
    secrets: tuple[str, ...] = ()
    """Variables that the place sets and that are not in the bundle."""
    port: int
    port_variable: str = ""
    """Variable that the place sets the port in; empty: it is in the command."""
    health: str = "/health"
    ready: str = "/ready"
    predict: str
    request: Mapping[str, Any]
    """Body of the smoke test."""
    stop_s: float
    """Seconds between SIGTERM and SIGKILL at that place."""
    commands: tuple[str, ...]
    """What a person types, in the bundle's folder: to build, to start, to try."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What files of its own are for: name to words."""
    notes: tuple[str, ...] = ()
    """What else whoever runs it must know."""


def flag(name: str, value: Any) -> tuple[str, str]:
    """Return an option with its value; whole numbers without a point."""
    return f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)


def offline(cpus: float, home: str = "/tmp") -> dict[str, str]:
    """Return the environment of a server that fetches nothing, and writes caches only where nothing is kept.

    torch takes as many threads as the machine has cores, whatever share of them it may use; so their number is said.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{home}/huggingface",
        "OMP_NUM_THREADS": str(max(1, int(cpus))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def quoted_list(words: Sequence[str]) -> str:
    """Return words as a JSON list, which Dockerfiles and YAML read too."""
    return "[" + ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words) + "]"


def script(command: Sequence[str], *, takes_serve: bool = False, variable: str = "") -> str:
    """Return a program that becomes the server, so that signals reach it.

    `takes_serve`: the place starts it with the word `serve`. `variable`: the place says there in which folder, or within which, it has
    put the run; the command's own folder stands for it.
    """
    words = ",\n    ".join(json.dumps(word) for word in command[1:])
    asked = (
        """if sys.argv[1:] != ["serve"]:
    sys.exit(f"{sys.argv[0]}: takes one word, serve; found: {' '.join(sys.argv[1:]) or 'nothing'}")
"""
        if takes_serve
        else ""
    )
    found = (
        f"""place = Path(os.environ.get("{variable}", "{command[2]}"))
runs = [file.parent for depth in ("", "*/", "*/*/", "*/*/*/") for file in sorted(place.glob(f"{{depth}}manifest.json"))]
if not runs:
    sys.exit(f"{{place}}: holds no run. The variable {variable} says where it lies.")
command = [str(runs[0]) + word.removeprefix("{command[2]}") if word.startswith("{command[2]}") else word for word in COMMAND]
"""
        if variable
        else "command = COMMAND\n"
    )
    return f'''"""Starts the server: this process becomes it, so that signals reach it."""

import os
import sys
{"from pathlib import Path" + chr(10) if variable else ""}
COMMAND = [
    {words},
]

{asked}{found}os.execv(sys.executable, [sys.executable, "-m", "whet", *command])
'''
