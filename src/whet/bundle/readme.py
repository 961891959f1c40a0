"""The page of a bundle: what to type, what is in it, and what it does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whet.bundle.subject import RUN, Entry, Subject

SAID = {
    RUN: "the model with its tokenizer, and the base's weights where they come in no package; no rows of yours, no scores",
    "model.tar.gz": "the model with its tokenizer, and the base's weights where they come in no package; no rows of yours, no scores",
    "wheels": "whet itself, as it was when this was made",
    "requirements.txt": "every package at the version that was installed then",
    "smoke.json": "one request to try it with",
    "Dockerfile": "how the image is built",
    ".dockerignore": "what goes into the image",
    "compose.yaml": "the service, its limits and its volume",
    "kubernetes.yaml": "what the cluster runs",
    "install.sh": "copies the server to where its unit finds it",
    "entry.py": "what the container starts",
}
"""What each file of a bundle is; one that is not here is described by its target."""


def readme(subject: Subject, entry: Entry, named: Mapping[str, Any], folder: Path) -> str:
    """Return README.md for what lies in a folder."""
    said = SAID | dict(entry.files)
    listed = "\n".join(f"| `{file.name}` | {said.get(file.name, 'for this place')} |" for file in sorted(folder.iterdir()))
    settings = ", ".join(f"{key}={value}" for key, value in named["settings"].items()) or "all as they are by default"
    secrets = ", ".join(f"`{name}`" for name in entry.secrets)
    keys = (
        f"The key comes from {secrets}, which is set at that place and is not in here. Put TLS in front of it."
        if secrets
        else "It asks for no key: who may reach it is decided before it."
    )
    log = (
        f"Requests are logged to `{entry.writes[0]}`, without their texts. Nothing else is written to."
        if entry.writes
        else "No request log is kept: what such a place writes to goes with it. Watch it by the provider's own means."
    )
    notes = "".join(f"- {note}\n" for note in entry.notes)
    image = (
        "- The image is pinned by its tag. Its digest cannot be known where this was made: to pin the very bytes, pull it once and name it\n"
        "  as `NAME:TAG@sha256:DIGEST`, or make the bundle again with `--set base_image=` and that name.\n"
        if (folder / "Dockerfile").is_file()
        else ""
    )
    return f"""# {subject.name}, for {named["name"]}

The run `{subject.run}` (model {subject.model_sha256[:12]}), served by whet. Made by `whet deploy`; settings: {settings}.

## To run it

In this folder:

```sh
{chr(10).join(entry.commands)}
```

The last one asks what is in `smoke.json`. The run's own answer to it stands in `bundle.json`, under `expected`.

## What is in it

| file | holds |
|---|---|
{listed}
| `bundle.json` | which run this is of, how it is started, and the SHA-256 of every file |

## What to know

- {keys}
- {log}
- After SIGTERM it takes nothing new and ends what runs; {entry.stop_s:g} s after it, what is left is killed.
- Alive: `GET {entry.health}`. Ready: `GET {entry.ready}`. It fetches nothing when it starts: no hub, no package index.
- It is sized for this model: {subject.num_parameters:,} weights of 4 bytes, read once and held once, {subject.memory_mib:,} MiB in all.
- The packages are locked for Python {".".join(subject.python.split(".")[:2])} on Linux. Their hashes are not in here; an index of your own can hold them.
{image}{notes}"""
