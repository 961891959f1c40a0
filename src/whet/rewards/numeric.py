"""A number as the answer."""

import math
import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from whet.errors import DataError
from whet.plugins import plugin
from whet.protocols import Reward
from whet.types import Example

UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
NUMBER = re.compile(rf"(?:(?<!\d)-)?{UNSIGNED}(?:[eE][+-]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?")
"""1,234.5 or .5 or 2e3 or 3/4, with a sign."""


@plugin
class Numeric(Reward):
    """1 where the last number of the answer is the expected one, else 0. The expected one is the last of the answer in the data."""

    after: str = Field("")
    """Words behind which the answer's number must stand, such as ####; the first number behind their last place counts. Empty: the last number."""
    tolerance: float = Field(1e-9, ge=0)
    """Largest difference that still counts as right, in the number's own unit."""

    needs: ClassVar[tuple[str, ...]] = ("prompt", "response")

    def check(self, examples: Sequence[Example]) -> None:
        for example in examples:
            _expected(example)

    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        return [float(self._is_right(example, answer)) for example, answer in zip(examples, answers, strict=True)]

    def _is_right(self, example: Example, answer: str) -> bool:
        expected = _expected(example)
        if self.after:
            _, mark, rest = answer.rpartition(self.after)
            given = next(iter(numbers(rest)), None) if mark else None
        else:
            given = next(iter(reversed(numbers(answer))), None)
        return given is not None and abs(given - expected) <= self.tolerance


def numbers(text: str) -> list[float]:
    """Return the finite numbers in a text, in order; a fraction is one number."""
    found = []
    for match in NUMBER.finditer(text):
        top, _, bottom = match.group().replace(",", "").partition("/")
        value = float(top) / (float(bottom) or math.nan) if bottom else float(top)
        if math.isfinite(value):
            found.append(value)
    return found


def _expected(example: Example) -> float:
    found = numbers(example.response or "")
    if not found:
        where = f"{example.file}:{example.line}" if example.file else f"row {example.id}"
        raise DataError(
            f"{where}: the response, which is the expected answer, holds no number. Correct it, or leave the row out."
        )
    return found[-1]
