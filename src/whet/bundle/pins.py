"""The packages that serving needs, each at the version that is installed here."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from whet.errors import RunError, installing

PACKAGE, TORCH = "whet", "torch"
LINUX = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
"""A bundle is for Linux, wherever it is made."""


@functools.cache
def pinned(*extras: str) -> Mapping[str, str]:
    """Return every package that whet needs with these extras, whet itself apart: name to version, by name.

    torch brings what belongs to its build (CUDA's libraries) by itself. Raises RunError where one is not installed.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, tuple[str, ...], str]] = [(PACKAGE, tuple(sorted(extras)), "")]
    asked: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, wanted, by = waiting.pop()
        if (name, wanted) in asked:
            continue
        asked.add((name, wanted))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            if by == TORCH:
                continue
            how = installing("serve") if by else "pip install .   (in a copy of the repository)"
            needed = f", which {by} needs to serve," if by else ""
            raise RunError(
                f"the package {name}{needed} is not installed here, so its version cannot be locked. Run: {how}"
            ) from None
        if name != PACKAGE:
            found[name] = str(Version(installed.version).public)
        waiting += [(canonicalize_name(one.name), tuple(sorted(one.extras)), name) for one in _needed(installed, wanted)]
    return dict(sorted(found.items()))


def _needed(installed: Distribution, extras: Sequence[str]) -> Iterator[Requirement]:
    for line in installed.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        places = [{**default_environment(), **LINUX, "extra": extra} for extra in ("", *extras)]
        if marker is None or any(marker.evaluate({key: str(value) for key, value in place.items()}) for place in places):
            yield requirement
