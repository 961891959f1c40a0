"""The kinds of private data that can be found, and what a stretch of a text that was found is."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "mail": "mail address",
    "phone": "phone number",
    "card": "card number",
    "iban": "bank account (IBAN)",
    "ip": "IP address",
    "login": "URL with user and password",
    "key": "key, token or password",
    "us_ssn": "US social security number",
    "uk_nino": "UK national insurance number",
    "de_tax_id": "German tax id",
    "nl_bsn": "Dutch citizen number (BSN)",
    "es_dni": "Spanish DNI or NIE",
    "it_codice_fiscale": "Italian codice fiscale",
    "fr_nir": "French social security number (NIR)",
    "br_cpf": "Brazilian CPF",
    "in_aadhaar": "Indian Aadhaar number",
}
"""Kind to what it is, in words; a pattern finds them."""
NAMED = {"person": "name of a person", "place": "place or address"}
"""Kinds that only a model finds."""
NATIONAL = tuple(kind for kind in KINDS if kind[2:3] == "_")
"""Kinds that are national ids; all are masked as [id]."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text that is private."""

    start: int
    end: int
    kind: str


def plural(kind: str, number: int) -> str:
    """Return what a kind is in words, for this many."""
    words = {**KINDS, **NAMED}[kind]
    if number == 1:
        return words
    head, bracket, rest = words.partition(" (")
    for singular, several in (("address", "addresses"), ("URL with", "URLs with")):
        if singular in head and kind != "place":
            return head.replace(singular, several) + bracket + rest
    return {
        "name of a person": "names of persons",
        "place or address": "places or addresses",
        "key, token or password": "keys, tokens or passwords",
        "Spanish DNI or NIE": "Spanish DNIs or NIEs",
        "Italian codice fiscale": "Italian codici fiscali",
    }.get(words, f"{head}s{bracket}{rest}")
