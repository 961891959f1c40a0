"""Texts in another language."""

from __future__ import annotations

from pydantic import Field

from whet.data.language import identifier
from whet.plugins import plugin
from whet.protocols import Unwanted


@plugin
class Language:
    """Drops rows with a text that is surely in another language. By py3langid, which carries its model: Lui and Baldwin 2012.

    Short texts stay, since nobody can tell the language of `ok`.
    """

    keep: tuple[str, ...] = Field(("en",), min_length=1)
    """Languages that stay, by ISO 639-1, such as [en, de]."""
    certainty: float = Field(0.95, gt=0.5, le=1)
    """Least probability of another language for which a text goes."""
    min_letters: int = Field(20, ge=1)
    """Letters from which on a text is looked at."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.keep) - set(identifier().labels))
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} is no language that is told apart; allowed: {', '.join(sorted(identifier().labels))}"
            )

    def clean(self, text: str) -> str:
        """Return the text as it is. Raises Unwanted."""
        if sum(map(str.isalpha, text)) < self.min_letters:
            return text
        found, probability = identifier().classify(text)
        if found not in self.keep and probability >= self.certainty:
            raise Unwanted(f"a text in another language ({found}); kept: {', '.join(self.keep)}")
        return text
