"""New texts of a class, written by a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from whet.collect.chat import Endpoint, Question, asked, foretold
from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.types import Original

SYSTEM = (
    "You write example texts for a data set. You answer with one text alone: no introduction, no number, no quotes, no comment."
)
COMPANY = 5


@plugin
class NewExamples(Augmenter):
    """New texts of the row's class, written after a few of its rows by an endpoint with OpenAI's interface. The texts are sent there."""

    endpoint: Endpoint
    """{url, model, key: env:NAME, temperature, max_tokens, at_once, input_price, output_price, max_cost, timeout_s, retries}: the server's base
    such as http://127.0.0.1:8000/v1, its model, where its key is; prices of a million tokens, and what may be spent at most."""
    strength: float = Field(1.0, gt=0, le=1)
    """How far from the examples a new text may go: below 0.5 it is asked to keep to their subjects."""
    examples: int = Field(4, ge=1, le=1 + COMPANY)
    """Rows of the class that are shown, the row itself among them."""
    instruction: str = ""
    """What is asked instead of our own words, behind the texts; {target} stands for the label."""

    costly: ClassVar[bool] = True
    company: ClassVar[int] = COMPANY

    def foretell(self, originals: Sequence[Original]) -> str:
        lengths = sum(len(one.text) for one in originals) / max(1, len(originals))
        return foretold(self.endpoint, list(map(self._question, originals)), lengths)

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        return asked(self.endpoint, list(map(self._question, originals)))

    def _question(self, one: Original) -> Question:
        texts = "\n".join(f"- {' '.join(text.split())}" for text in (one.text, *one.alike)[: self.examples])
        of = f" of the class '{one.target}'" if one.target else ""
        near = "about the same subjects" if self.strength < 0.5 else "about something else"
        said = f"Write one more text{of}, {near}, in other words than these, in their language, length and tone."
        return Question(SYSTEM, f"Texts{of}:\n{texts}\n\n{self.instruction.replace('{target}', one.target) or said}", one.draw)
