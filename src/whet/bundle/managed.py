"""What endpoints have in common that a cloud runs: an image without the run, a machine for it, and how long stopping may take."""

from __future__ import annotations

from collections.abc import Sequence

from whet.bundle.subject import Subject

STOP_S, GRACE_S = 30.0, 20.0
"""Seconds until a place kills what it has told to stop, and those of them in which requests that run may end."""
IGNORED = "**\n!Dockerfile\n!requirements.txt\n!wheels\n!entry.py\n"
"""What of the bundle goes into an image that gets the run from elsewhere."""


def machine(subject: Subject, sizes: Sequence[tuple[float, str]], largest: str) -> str:
    """Return the smallest machine with the memory that the model needs. `sizes`: GiB that a model may take, and the machine's name."""
    return next((kind for most, kind in sizes if subject.memory_mib <= most * 1024), largest)
