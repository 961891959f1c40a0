"""A service of systemd, without containers."""

import ipaddress
from pathlib import Path

from pydantic import Field

from whet.bundle.image import TORCH_INDEX, Cpus, Device, Grace, Memory, Port
from whet.bundle.subject import PATHS, RUN, Entry, Subject, flag, offline
from whet.errors import RecipeError
from whet.plugins import plugin

SLACK_S = 10.0


@plugin
class Systemd:
    """A hardened unit and the script that installs it. systemd.exec(5), systemd.service(5), systemd.resource-control(5); systemd 247 or later.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
    """

    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs a file with API keys, which the unit reads as a credential."""
    port: Port = 8000
    """Port to listen on."""
    device: Device = "cpu"
    """cuda: torch's wheels for NVIDIA, and the service sees the machine's devices."""
    cpus: Cpus = 2.0
    """CPU cores that it may use at most; the server takes as many threads."""
    memory_mib: Memory = "auto"
    """Memory that it may use at most, in MiB; auto: from the number of the model's weights."""
    max_requests: int = Field(default=64, ge=1)
    """Requests taken at a time; more are answered with 429."""
    grace_s: Grace = 30.0
    """Seconds that what runs may take to end when it is stopped; the unit gets ten more."""

    def __post_init__(self) -> None:
        try:
            found = ipaddress.ip_address(self.host)
            if "%" in str(found):  # a zone is any text, and would be a line of the unit
                raise ValueError
        except ValueError:
            raise RecipeError(
                f"targets 'systemd': 'host' is {self.host[:80]!r}; allowed: an address such as 127.0.0.1, 0.0.0.0 or ::."
            ) from None

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write the unit and install.sh beside the run."""
        name, place, state = subject.slug, f"/opt/{subject.slug}", f"/var/lib/{subject.slug}"
        key = () if self._is_local else ("--api-key-file", "${CREDENTIALS_DIRECTORY}/api-keys")
        _, verb, *rest = subject.serve(
            f"{place}/{RUN}", *flag("host", self.host), *flag("port", self.port), *flag("log", f"{state}/requests.sqlite"),
            *flag("max-requests", self.max_requests), *flag("grace", self.grace_s), *key,
        )  # fmt: skip
        command, environment = (f"{place}/venv/bin/whet", verb, *rest), offline(self.cpus)
        (folder / f"{name}.service").write_text(self._unit(subject, command, environment), encoding="utf-8")
        script = folder / "install.sh"
        script.write_text(self._install(subject, place), encoding="utf-8")
        script.chmod(0o755)
        bearer = "" if self._is_local else f' -H "Authorization: Bearer $(sudo head -n 1 /etc/{name}/api-keys)"'
        keys = (
            ()
            if self._is_local
            else (
                f"sudo install -d -m 0700 /etc/{name} && python3 -c 'import secrets; print(secrets.token_urlsafe(32))' "
                f"| sudo install -m 0600 /dev/stdin /etc/{name}/api-keys",
            )
        )
        return Entry(
            command=command,
            environment=environment,
            folders={f"{place}/{RUN}": RUN},
            writes=(state,),
            secrets=() if self._is_local else (f"/etc/{name}/api-keys",),
            port=self.port,
            predict=PATHS[subject.endpoint],
            request=subject.request(),
            stop_s=self.grace_s + SLACK_S,
            commands=(
                "sudo ./install.sh",
                *keys,
                f"sudo systemctl enable --now {name}",
                f"curl --fail --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:{self.port}{PATHS[subject.endpoint]}{bearer} "
                "-H 'content-type: application/json' --data @smoke.json",
            ),
        )

    @property
    def _is_local(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def _unit(self, subject: Subject, command: tuple[str, ...], environment: dict[str, str]) -> str:
        name = subject.slug
        memory = subject.memory_mib if self.memory_mib == "auto" else self.memory_mib
        named = "".join(f"Environment={key}={value}\n" for key, value in environment.items())
        credential = "" if self._is_local else f"LoadCredential=api-keys:/etc/{name}/api-keys\n"
        devices = "# PrivateDevices is off: the GPU is a device\n" if self.device == "cuda" else "PrivateDevices=yes\n"
        return f"""[Unit]
Description=whet serving {subject.run}
Documentation=file:///opt/{name}/README.md
After=network.target

[Service]
Type=exec
ExecStart={" ".join(command)}
ExecReload=kill -HUP $MAINPID
WorkingDirectory=/opt/{name}
{named}{credential}
# stopping: requests at work may end
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec={self.grace_s + SLACK_S:g}
Restart=on-failure
RestartSec=2

# what it may use
MemoryMax={memory}M
CPUQuota={round(self.cpus * 100)}%
TasksMax=512
OOMPolicy=stop

# who it is, and what it may touch: its log, and nothing else
DynamicUser=yes
StateDirectory={name}
StateDirectoryMode=0700
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{devices}ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=all
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# MemoryDenyWriteExecute is off: torch compiles kernels while it runs

[Install]
WantedBy=multi-user.target
"""

    def _install(self, subject: Subject, place: str) -> str:
        major, minor, *_ = subject.python.split(".")
        index = TORCH_INDEX[self.device]
        return f"""#!/bin/sh
# Installs the server into {place} and its unit into /etc/systemd/system. Run again, it replaces both; the log stays.
set -eu
cd "$(dirname "$0")"
python=${{PYTHON:-python{major}.{minor}}}
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != ({major}, {minor}))'; then
    echo "$python is not Python {major}.{minor}, which the packages are locked for. Install it, or name it: PYTHON=/path/to/python $0" >&2
    exit 1
fi
install -d -m 0755 {place}
"$python" -m venv {place}/venv
{place}/venv/bin/pip install --no-cache-dir --index-url "${{TORCH_INDEX:-{index}}}" torch=={subject.torch}
{place}/venv/bin/pip install --no-cache-dir --no-deps --requirement requirements.txt
rm -rf {place}/{RUN}
cp -R {RUN} README.md {place}/
chmod -R a+rX {place}
install -m 0644 {subject.slug}.service /etc/systemd/system/{subject.slug}.service
systemctl daemon-reload
echo "Installed. Start it with: systemctl enable --now {subject.slug}"
"""
