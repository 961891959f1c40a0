"""A pattern as a reward."""

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from whet.plugins import plugin
from whet.protocols import Reward
from whet.types import Example


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"a regular expression of Python's module re ({error})") from None
    return pattern


@plugin
class Regex(Reward):
    """1 where a regular expression matches the answer, else 0."""

    pattern: Annotated[str, AfterValidator(_compiles)]
    """Regular expression, as Python's module re reads it."""
    match: Literal["anywhere", "start", "whole"] = Field("anywhere")
    """Where it must match: anywhere in the answer, at its start, or the whole of it."""

    needs: ClassVar[tuple[str, ...]] = ("prompt",)

    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        pattern = re.compile(self.pattern)
        find = {"anywhere": pattern.search, "start": pattern.match, "whole": pattern.fullmatch}[self.match]
        return [float(find(answer) is not None) for answer in answers]
