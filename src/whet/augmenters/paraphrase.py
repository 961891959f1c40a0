"""Texts said in other words by a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from whet.collect.chat import Endpoint, Question, asked, foretold
from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.types import Original

SYSTEM = "You rewrite texts. You answer with the rewritten text alone: no introduction, no quotes, no comment."


@plugin
class Paraphrase(Augmenter):
    """Texts said in other words by an endpoint with OpenAI's interface. The texts are sent there; its cost is said before."""

    endpoint: Endpoint
    """{url, model, key: env:NAME, temperature, max_tokens, at_once, input_price, output_price, max_cost, timeout_s, retries}: the server's base
    such as http://127.0.0.1:8000/v1, its model, where its key is; prices of a million tokens, and what may be spent at most."""
    strength: float = Field(0.6, gt=0, le=1)
    """About which share of the words is asked to be others."""
    instruction: str = ""
    """What is asked instead of our own words, before the text; {target} stands for the row's label."""

    costly: ClassVar[bool] = True

    def foretell(self, originals: Sequence[Original]) -> str:
        lengths = sum(len(one.text) for one in originals) / max(1, len(originals))
        return foretold(self.endpoint, list(map(self._question, originals)), lengths)

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        return asked(self.endpoint, list(map(self._question, originals)))

    def _question(self, one: Original) -> Question:
        still = f" It must still be a text of the class '{one.target}'." if one.target else ""
        said = (
            "Say the following text in other words, in its own language, as its writer might have. Change about "
            f"{self.strength:.0%} of its words; keep what it says, its tone, and all names, numbers and addresses.{still}"
        )
        return Question(SYSTEM, f"{self.instruction.replace('{target}', one.target) or said}\n\n{one.text}", one.draw)
