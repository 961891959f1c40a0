"""An image with Docker, and its service with Compose."""

from pathlib import Path

from pydantic import Field

from whet.bundle.image import HOME, IGNORED, STATE, BaseImage, Cpus, Device, Grace, Image, Memory, Port, base_image, dockerfile
from whet.bundle.subject import PATHS, RUN, Entry, Subject, flag, offline
from whet.plugins import plugin

SLACK_S = 10.0
"""Seconds that stopping may take beside the requests that run."""


@plugin
class Docker:
    """A Dockerfile and a compose.yaml. Compose Specification, https://github.com/compose-spec/compose-spec/blob/main/05-services.md"""

    image: Image = "auto"
    """The image's name and tag; auto: of the run's name and its model's hash."""
    base_image: BaseImage = "auto"
    """What it is built on; auto: Python's own slim image, at the version that the packages are locked for."""
    device: Device = "cpu"
    """cuda: torch's own wheels for NVIDIA, and one GPU is asked for."""
    port: Port = 8000
    """Port of the server, in the container and on this machine's own address 127.0.0.1."""
    cpus: Cpus = 2.0
    """CPU cores that it may use at most; the server takes as many threads."""
    memory_mib: Memory = "auto"
    """Memory that it may use at most, in MiB; auto: from the number of the model's weights."""
    max_requests: int = Field(default=64, ge=1)
    """Requests taken at a time; more are answered with 429."""
    grace_s: Grace = 30.0
    """Seconds that what runs may take to end when it is stopped; the container gets ten more."""

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write Dockerfile, .dockerignore and compose.yaml beside the run."""
        command = subject.serve(
            f"{HOME}/{RUN}", *flag("host", "0.0.0.0"), *flag("port", self.port), *flag("log", f"{STATE}/requests.sqlite"),
            *flag("max-requests", self.max_requests), *flag("grace", self.grace_s),
        )  # fmt: skip
        environment = offline(self.cpus)
        text = dockerfile(
            subject, command, environment,
            base=base_image(self.base_image, subject), device=self.device, port=self.port, health="/health",
        )  # fmt: skip
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        (folder / ".dockerignore").write_text(IGNORED, encoding="utf-8")
        (folder / "compose.yaml").write_text(self._compose(subject), encoding="utf-8")
        return Entry(
            command=command,
            environment=environment,
            folders={f"{HOME}/{RUN}": RUN},
            writes=(STATE,),
            secrets=("WHET_API_KEY",),
            port=self.port,
            predict=PATHS[subject.endpoint],
            request=subject.request(),
            stop_s=self.grace_s + SLACK_S,
            commands=(
                "export WHET_API_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')",
                "docker compose up --build --detach --wait",
                f'curl --fail http://127.0.0.1:{self.port}{PATHS[subject.endpoint]} -H "Authorization: Bearer $WHET_API_KEY" '
                "-H 'content-type: application/json' --data @smoke.json",
            ),
        )

    def _compose(self, subject: Subject) -> str:
        memory = subject.memory_mib if self.memory_mib == "auto" else self.memory_mib
        gpu = (
            """    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: 1
              capabilities: [gpu]
"""
            if self.device == "cuda"
            else ""
        )
        return f"""# The run {subject.run}, reachable on this machine only: put a proxy with TLS in front of it.
name: {subject.slug}
services:
  server:
    build: .
    image: "{subject.tag if self.image == "auto" else self.image}"
    environment:
      WHET_API_KEY: ${{WHET_API_KEY:?set it to a key of at least 16 characters}}
    ports:
      - "127.0.0.1:{self.port}:{self.port}"
    volumes:
      - requests:{STATE}
    read_only: true
    tmpfs:
      - /tmp
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    cpus: {self.cpus:g}
    mem_limit: {memory}m
    pids_limit: 512
    stop_grace_period: {self.grace_s + SLACK_S:g}s
    restart: unless-stopped
{gpu}volumes:
  requests: {{}}
"""
