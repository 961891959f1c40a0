"""Misspelt English words."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any

from pydantic import Field

from whet.errors import RecipeError, installing
from whet.plugins import plugin

_CHUNK = re.compile(r"\S+")
_WORD = re.compile(r"(?:(?<=^)|(?<=[(\"'“‘*-]))[a-z]{4,24}(?=$|[.,;:!?)\"'”’*…-])")
_NOT_PROSE = re.compile(r"[\d@#_/\\=<>{}\[\]$%^&|~`+]|[a-z][A-Z]|\.\w|[^\x00-\x7f“”‘’…–—]|'\w")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|^(?: {4}|\t).*$", re.DOTALL | re.MULTILINE)


@plugin
class Spelling:
    """Corrects misspelt English words one by one, where one word of the dictionary is clearly meant. By symspellpy's word list.

    Only words in small letters between spaces: no names, abbreviations, code, numbers, addresses, and no word next to a sign that prose has
    not. A word of your field that the dictionary lacks may be taken for another: name it in `keep`, and look at `whet prepare --preview`.
    """

    lead: float = Field(10.0, ge=1)
    """How many times commoner than the next possible word the meant one has to be."""
    keep: tuple[str, ...] = ()
    """Words that stay, in small letters."""

    def __post_init__(self) -> None:
        _dictionary()

    def clean(self, text: str) -> str:
        """Return the text with misspelt words corrected; all else stays as it stands, spaces too."""
        parts, last = [], 0
        for code in _CODE.finditer(text):
            parts += [self._prose(text[last : code.start()]), code[0]]
            last = code.end()
        return "".join([*parts, self._prose(text[last:])])

    def _prose(self, text: str) -> str:
        return _CHUNK.sub(lambda chunk: chunk[0] if _NOT_PROSE.search(chunk[0]) else _WORD.sub(self._correct, chunk[0]), text)

    def _correct(self, found: re.Match[str]) -> str:
        return found[0] if found[0] in self.keep else _meant(found[0], self.lead)


@lru_cache(maxsize=100_000)
def _meant(word: str, lead: float) -> str:
    """Return the one word that is clearly meant; the word itself where it is one, or where several could be."""
    from symspellpy import Verbosity

    dictionary = _dictionary()
    if word in dictionary.words:
        return word
    found = dictionary.lookup(word, Verbosity.CLOSEST, max_edit_distance=1 if len(word) < 8 else 2)
    if not found or (len(found) > 1 and found[0].count < lead * found[1].count):
        return word
    meant = str(found[0].term)
    return meant if meant.isascii() and meant.isalpha() and meant[0] == word[0] else word


@lru_cache(maxsize=1)
def _dictionary() -> Any:
    try:
        from symspellpy import SymSpell
    except ImportError:
        raise RecipeError(f"data.clean: spelling needs the package symspellpy. Install it with: {installing('clean')}") from None
    made = SymSpell(max_dictionary_edit_distance=2)
    with resources.as_file(resources.files("symspellpy") / "frequency_dictionary_en_82_765.txt") as file:
        made.load_dictionary(file, term_index=0, count_index=1, encoding="utf-8-sig")
    return made
