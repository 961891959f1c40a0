"""Private data in rows made by Faker, which knows nothing of whet's detectors: false positives among clean rows, recall of each kind.

    pip install faker
    python bench/redact.py --rows 20000 --each 1000

Clean rows hold what only looks private (dates, versions, hashes, UUIDs, ISBNs, EANs, long numbers, coordinates, user agents, names, addresses)
in the words of several languages. Writes bench/results/redact.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faker

from whet.private.redact import Redactor

LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pt_BR", "pl_PL", "en_IN", "ja_JP", "ru_RU")
Make = Callable[[Any, random.Random], str]

CLEAN: dict[str, Make] = {
    "sentence": lambda fake, draw: fake.sentence(),
    "paragraph": lambda fake, draw: fake.paragraph(),
    "business": lambda fake, draw: f"{fake.company()}: {fake.catch_phrase() if hasattr(fake, 'catch_phrase') else fake.word()}",
    "job": lambda fake, draw: f"{fake.name()}, {fake.job()}",
    "address": lambda fake, draw: fake.address().replace("\n", ", "),
    "date": lambda fake, draw: f"{fake.sentence()} {fake.date(pattern=draw.choice(['%Y-%m-%d', '%d.%m.%Y', '%m/%d/%y', '%d %B %Y']))}",
    "moment": lambda fake, draw: f"{fake.iso8601()} {fake.word()} {fake.time()}",
    "agent": lambda fake, draw: fake.user_agent(),
    "uuid": lambda fake, draw: f"{fake.word()} {fake.uuid4()}",
    "bare uuid": lambda fake, draw: f"{fake.word()} {fake.uuid4().replace('-', '')}",
    "upper uuid": lambda fake, draw: f"{fake.word()} {{{fake.uuid4().upper()}}}",
    "hash": lambda fake, draw: f"{fake.word()} {draw.choice([fake.md5, fake.sha1, fake.sha256])()}",
    "isbn": lambda fake, draw: f"{fake.sentence()} {draw.choice([fake.isbn10, fake.isbn13])()}",
    "ean": lambda fake, draw: f"{fake.word()} {draw.choice([fake.ean8, fake.ean13])()}",
    "path": lambda fake, draw: fake.file_path(depth=draw.randint(1, 4)),
    "link": lambda fake, draw: f"{fake.url()}{fake.uri_path()}?page={draw.randint(1, 10**9)}",
    "colour": lambda fake, draw: f"{fake.hex_color()} {fake.color_name()}",
    "place": lambda fake, draw: f"{fake.latitude()}, {fake.longitude()}",
    "price": lambda fake, draw: f"{fake.word()} {fake.pricetag() if hasattr(fake, 'pricetag') else draw.randint(1, 9999)}",
    "mac": lambda fake, draw: f"{fake.word()} {fake.mac_address()}",
    "version": lambda fake, draw: f"{fake.word()} v{draw.randint(0, 9)}.{draw.randint(0, 99)}.{draw.randint(0, 99)}",
    "number": lambda fake, draw: f"{fake.sentence()} {draw.randint(1, 10 ** draw.randint(1, 9))}",
    "long number": lambda fake, draw: f"{fake.word()} {''.join(draw.choices('0123456789', k=draw.randint(10, 24)))} {fake.word()}",
    "epoch": lambda fake, draw: f"{fake.word()} {draw.randint(10**9, 2 * 10**9)}{draw.choice(['', '000', '.123'])}",
    "order": lambda fake, draw: f"order {fake.bothify('??-########').upper()} {fake.word()}",
    "table": lambda fake, draw: " ".join(str(draw.randint(1, 10 ** draw.randint(1, 5))) for _ in range(draw.randint(2, 9))),
    "vin": lambda fake, draw: f"{fake.word()} {faker.Faker('en_US').vin()}",
    "country": lambda fake, draw: f"{fake.country()} {fake.currency_code()} {draw.randint(1000, 10**7):,}",
}  # fmt: skip
NUMBERED = {"en_US": "us_ssn", "en_GB": "uk_nino", "nl_NL": "nl_bsn", "es_ES": "es_dni", "it_IT": "it_codice_fiscale", "fr_FR": "fr_nir", "pt_BR": "br_cpf"}  # fmt: skip
PRIVATE: dict[str, tuple[tuple[str, ...], Make]] = {
    "mail": (LOCALES, lambda fake, draw: fake.email()),
    "phone": (
        ("en_US", "en_GB", "de_DE", "fr_FR", "it_IT", "nl_NL", "pl_PL"),
        lambda fake, draw: f"my phone number is {fake.phone_number()}",
    ),
    "card": (LOCALES, lambda fake, draw: f"card {fake.credit_card_number()}"),
    "bare card": (LOCALES, lambda fake, draw: fake.credit_card_number()),
    "iban": (("de_DE", "fr_FR", "en_GB", "es_ES", "it_IT", "nl_NL", "pl_PL"), lambda fake, draw: fake.iban()),
    "ip": (LOCALES, lambda fake, draw: draw.choice([fake.ipv4_public(), fake.ipv6()])),
    "login": (LOCALES, lambda fake, draw: f"ftp://{fake.user_name()}:{fake.password(special_chars=False)}@{fake.domain_name()}/x"),
    "password": (LOCALES, lambda fake, draw: f"password: {fake.password()}"),
    "key": (
        LOCALES,
        lambda fake, draw: draw.choice(
            [f"ghp_{fake.pystr(36, 36)}", f"AKIA{fake.bothify('?' * 16).upper()}", f"api_key={fake.pystr(40, 40)}"]
        ),
    ),
    **{kind: ((locale,), lambda fake, draw: fake.nif() if hasattr(fake, "nif") else fake.ssn()) for locale, kind in NUMBERED.items()},
}  # fmt: skip
BESIDE = {"nl_bsn": "BSN "}
"""Where the check is so weak that a word must name it, as people do."""


def wilson(number: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share. Wilson 1927."""
    share, spread = number / of, z * z / of
    middle, reach = share + spread / 2, z * math.sqrt(share * (1 - share) / of + spread / of / 4)
    return max(0.0, (middle - reach) / (1 + spread)), (middle + reach) / (1 + spread)


def main() -> None:
    """Measure, print and write."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--rows", type=int, default=20_000)
    asked.add_argument("--each", type=int, default=1_000)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--show", type=int, default=0, help="Wrong ones that are printed.")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "redact.json")
    options = asked.parse_args()
    fakes = {locale: faker.Faker(locale) for locale in LOCALES}
    for fake in fakes.values():
        fake.seed_instance(options.seed)
    redactor, draw = Redactor(), random.Random(options.seed)
    wrong: list[tuple[str, str, str]] = []
    for number in range(options.rows):
        kind = [*CLEAN][number % len(CLEAN)]
        text = CLEAN[kind](fakes[LOCALES[number // len(CLEAN) % len(LOCALES)]], draw)
        wrong += [(kind, one.kind, text) for one in redactor.find(text)[:1]]
    low, high = wilson(len(wrong), options.rows)
    found: dict[str, Any] = {
        "faker": faker.VERSION,
        "clean": {"rows": options.rows, "wrong": len(wrong), "low": low, "high": high, "kinds": dict(Counter(f"{a} as {b}" for a, b, _ in wrong))},
        "recall": {},
    }  # fmt: skip
    print(
        f"clean: {len(wrong)} of {options.rows:,} rows ({1000 * len(wrong) / options.rows:.2f} in 1,000); {found['clean']['kinds']}"
    )
    for kind, one, text in wrong[: options.show]:
        print("   ", kind, one, repr(text[:160]))
    for name, (locales, make) in PRIVATE.items():
        missed = []
        for number in range(options.each):
            text = make(fakes[locales[number % len(locales)]], draw)
            sentence = f"Hello, this is what you asked for: {BESIDE.get(name, '')}{text} and thank you."
            if not redactor.find(sentence):
                missed.append(sentence)
        found["recall"][name] = {"n": options.each, "found": options.each - len(missed)}
        print(f"{name}: {options.each - len(missed)} of {options.each:,}")
        for sentence in missed[: options.show]:
            print("   ", sentence)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
