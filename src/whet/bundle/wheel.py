"""whet itself as a wheel, made of the package that runs: the same package gives the same bytes.

Binary distribution format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import whet
from whet.errors import RunError

NAME = "whet"
TAG = "py3-none-any"
WHEEL = f"Wheel-Version: 1.0\nGenerator: whet\nRoot-Is-Purelib: true\nTag: {TAG}\n"
COPIED = ("METADATA", "entry_points.txt")
OLDEST = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold, so that no clock goes into it."""
STORED = frozenset({".safetensors", ".png"})
"""Endings of what does not get smaller."""


def build_wheel(folder: Path) -> Path:
    """Write the wheel into a folder and return its file. Raises RunError where whet was not installed as a package."""
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:
        raise RunError("whet is not installed as a package, so it cannot be put into a bundle. Run: pip install .") from None
    info = f"{NAME}-{whet.__version__}.dist-info"
    contents: dict[str, bytes] = {}
    package = Path(whet.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith("."):
            contents[f"{NAME}/{file.relative_to(package).as_posix()}"] = file.read_bytes()
    for name in COPIED:
        contents[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    contents[f"{info}/WHEEL"] = WHEEL.encode()
    contents[f"{info}/RECORD"] = _record(contents, f"{info}/RECORD").encode()
    place = folder / f"{NAME}-{whet.__version__}-{TAG}.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, OLDEST)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, so that the permissions are read
            kind = zipfile.ZIP_STORED if Path(name).suffix in STORED else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, kind)
    return place


def _record(contents: Mapping[str, bytes], own: str) -> str:
    lines = []
    for name, data in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{own},,", ""])
