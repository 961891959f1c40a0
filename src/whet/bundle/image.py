"""The image of a server: its Dockerfile, and what of the bundle goes into it.

Dockerfile reference: https://docs.docker.com/reference/dockerfile/ (HEALTHCHECK, STOPSIGNAL, the exec form of ENTRYPOINT).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from whet.bundle.subject import RUN, Subject, quoted_list

HOME = "/srv/whet"
"""Where everything lies in an image."""
STATE = "/var/lib/whet"
"""Where the request log lies: a volume."""
USER = 10001
"""Nobody's number on any usual machine."""
IGNORED = "**\n!Dockerfile\n!requirements.txt\n!wheels\n!run\n"
TORCH_INDEX = {"cpu": "https://download.pytorch.org/whl/cpu", "cuda": "https://pypi.org/simple"}

Device = Literal["cpu", "cuda"]
Image = Annotated[str, Field(pattern=r"^(auto|[a-z0-9]+[a-z0-9._/:-]*[a-z0-9])$", max_length=255)]
BaseImage = Annotated[
    str, Field(pattern=r"^(auto|[a-z0-9][A-Za-z0-9._/:@-]*:[A-Za-z0-9._-]+(@sha256:[0-9a-f]{64})?)$", max_length=255)
]
Memory = Literal["auto"] | Annotated[int, Field(ge=256, le=4_194_304)]
Cpus = Annotated[float, Field(ge=0.1, le=256)]
Grace = Annotated[float, Field(ge=1, le=3600)]
Port = Annotated[int, Field(ge=1024, le=65535)]


def base_image(asked: str, subject: Subject) -> str:
    """Return the image to build on: Python's own, at exactly the version that the packages are locked for."""
    return f"python:{subject.python}-slim-bookworm" if asked == "auto" else asked


def dockerfile(
    subject: Subject,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    base: str,
    device: Device,
    port: int,
    health: str,
    with_run: bool = True,
    with_volume: bool = True,
    extra: str = "",
    as_root: str = "",
) -> str:
    """Return a Dockerfile. `as_root` is why it cannot be another user; `with_run` whether the model is in the image; `extra` is a line."""
    named = " \\\n    ".join(f"{key}={json.dumps(value)}" for key, value in environment.items())
    probe = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{health}', timeout=4)"
    state = f" \\\n    && install -d -o {USER} -g {USER} {STATE}" if with_volume else ""
    user = (
        f"# {as_root}\nUSER 0:0\n"
        if as_root
        else f"""RUN useradd --uid {USER} --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin whet{state}
USER {USER}:{USER}
"""
    )
    copied = [f"COPY {RUN} ./{RUN}" if with_run else "# the model is put into the container by the provider", extra]
    return f"""# A server for the run {subject.run}. The tag is pinned; to pin the very bytes, add the digest that your registry shows.
FROM {base}

# where torch comes from: wheels for {device}; name your own index with --build-arg TORCH_INDEX=...
ARG TORCH_INDEX={TORCH_INDEX[device]}

ENV {named}

WORKDIR {HOME}
COPY requirements.txt ./
COPY wheels ./wheels
# torch first, with what its build needs; then everything at its locked version, and nothing else
RUN pip install --no-cache-dir --index-url "${{TORCH_INDEX}}" torch=={subject.torch} \\
    && pip install --no-cache-dir --no-deps --requirement requirements.txt

{chr(10).join(line for line in copied if line)}
{user}
EXPOSE {port}
{f'VOLUME ["{STATE}"]' + chr(10) if with_volume else ""}STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \\
    CMD {quoted_list(["python", "-c", probe])}
ENTRYPOINT {quoted_list(command)}
"""
