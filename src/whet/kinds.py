"""The kinds of plugins and the names of those that come with the package: folders and files, of which none is loaded."""

from __future__ import annotations

from pathlib import Path

KINDS = (
    "objectives",
    "techniques",
    "optimisers",
    "schedules",
    "metrics",
    "sources",
    "cleaners",
    "augmenters",
    "compressors",
    "exporters",
    "engines",
    "rewards",
    "checks",
    "samplers",
    "pruners",
    "targets",
    "trackers",
)
PACKAGE = Path(__file__).parent


def names(kind: str) -> list[str]:
    """Return the built-in plugins of a kind, by file name. Loads nothing."""
    return sorted(path.stem for path in (PACKAGE / kind).glob("*.py") if not path.stem.startswith("_"))
