"""Names of persons, places and addresses in texts, by a model, and which of them are the same person's."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from whet.errors import RecipeError
from whet.private.addresses import whole_addresses
from whet.private.kinds import NAMED, Found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MEANT: Mapping[str, frozenset[str]] = {
    "person": _words(
        "PER PERS PERSON PERSONNAME PERSONS PEOPLE NAME FULLNAME FIRSTNAME GIVENNAME GIVENNAME1 GIVENNAME2 MIDDLENAME LASTNAME LASTNAME1 LASTNAME2 "
        "LASTNAME3 SURNAME FAMILYNAME NAMESTUDENT PATIENT DOCTOR STAFF HCW PRIVATEPERSON"
    ),
    "place": _words(
        "LOC LOCATION LOCATIONS GPE PLACE ADDRESS ADDR ADR STREET STREETNAME STREETADDRESS SECONDARYADDRESS SECADDRESS BUILDING BUILDINGNUM "
        "BUILDINGNUMBER CITY TOWN VILLAGE STATE COUNTY REGION COUNTRY ZIP ZIPCODE POSTCODE POSTALCODE FAC FACILITY PRIVATEADDRESS"
    ),
}
"""What models call persons and places, without their marks and signs: CoNLL 2003, OntoNotes, and models that find private data."""
TITLES = _words("mr mrs ms miss mx dr prof sir madam herr frau hr fr monsieur madame mme m señor señora sr sra signor signora")
KEPT = 4096
"""Texts whose names are remembered beside those that were asked about together."""
_WORDS = re.compile(r"\w+")


class Finds(Protocol):
    """What finds stretches: a `whet.models.tagger.Tagger`."""

    name: str

    @property
    def kinds(self) -> tuple[str, ...]: ...
    def find(self, texts: Sequence[str], kinds: Mapping[str, str], certainty: float) -> Sequence[Sequence[Found]]: ...


class Names:
    """Finds names, many texts at a time where it is told them beforehand."""

    def __init__(self, model: Finds, kinds: Collection[str], own: Mapping[str, str], certainty: float) -> None:
        """`own` are labels of the model with names of their own, and what they are. Raises RecipeError where nothing it finds is wanted."""
        self._model, self._certainty = model, certainty
        said = {re.sub(r"[^A-Z0-9]", "", name.upper()): kind for name, kind in own.items()}
        unknown = sorted(set(said) - set(model.kinds))
        meant = {label: kind for kind, labels in MEANT.items() for label in labels}
        self._kinds = {label: kind for label in model.kinds if (kind := said.get(label, meant.get(label, ""))) in kinds}
        if unknown or not self._kinds:
            wrong = (
                f"data.redact.labels names {', '.join(unknown)}, and"
                if unknown
                else "none of its labels is known as a person or a place:"
            )
            raise RecipeError(
                f"data.redact.model {model.name}: {wrong} it has {', '.join(model.kinds) or 'no labels'}. Say which are which: "
                f"data.redact.labels: {{{next(iter(model.kinds), 'NAME')}: {'person' if 'person' in kinds else 'place'}}}; allowed: {', '.join(NAMED)}."
            )
        self._ahead: dict[str, tuple[Found, ...]] = {}
        self._single: OrderedDict[str, tuple[Found, ...]] = OrderedDict()

    def ahead(self, texts: Collection[str]) -> None:
        """Look at texts together, which is several times as quick as one by one; those of the last time are forgotten."""
        asked = [text for text in dict.fromkeys(texts) if text.strip()]
        self._ahead = dict(zip(asked, self._found(asked), strict=True))

    def find(self, text: str) -> tuple[Found, ...]:
        """Return the names in a text."""
        known = self._ahead.get(text)
        if known is not None or not text.strip():
            return known or ()
        found = self._single.get(text)
        if found is None:
            found = self._single[text] = self._found([text])[0]
            if len(self._single) > KEPT:
                self._single.popitem(last=False)
        return found

    def clear_of(self, text: str) -> None:
        """Remember that a text was freed of its names, so that nobody looks again."""
        self._single[text] = ()
        if len(self._single) > KEPT:
            self._single.popitem(last=False)

    def _found(self, texts: Sequence[str]) -> list[tuple[Found, ...]]:
        found = self._model.find(texts, self._kinds, self._certainty)
        return [tuple(whole_addresses(text, some)) for text, some in zip(texts, found, strict=True)]


def person_key(written: str) -> str:
    """Return one text for all ways of writing a name: without titles, marks and case."""
    return " ".join(name_words(written)) or written.casefold()


def name_words(written: str) -> tuple[str, ...]:
    words = tuple(_WORDS.findall(written.casefold()))
    return tuple(word for word in words if word not in TITLES) or words


def whole_name(written: str, people: Collection[str]) -> str:
    """Return the one longer name among these that a shorter one is part of ("Berg" and "A. Berg" of "Anna Berg"); itself where none or several."""
    words = name_words(written)
    longer = {person_key(other): other for other in people if _is_part(words, name_words(other))}
    return next(iter(longer.values())) if len(longer) == 1 else written


def _is_part(words: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each word stands among the others, in order, or is the first letter of one there, and is not all of them."""
    if len(words) > len(others) or list(words) == list(others):
        return False
    left = iter(others)
    return all(any(word == other or (len(word) == 1 and other.startswith(word)) for other in left) for word in words)
