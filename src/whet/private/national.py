"""National ids, by their layout and check digits. One whose check is weak counts only beside a word that names it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from whet.private.checksums import mod_11_10, verhoeff, weighted
from whet.private.context import NATIONAL, is_amount, is_other_number, says

Span = tuple[int, int]
_FIGURE, _FIGURES = re.compile(r"[0-9] $"), re.compile(r" [0-9]")
_BEFORE, _AFTER = r"(?<![\w.,/-])(?<![#$€£])", r"(?![\w]|[.,/-]\d|-\w)"


@dataclass(frozen=True, slots=True)
class NationalId:
    """How one country's number is written and tested."""

    layout: re.Pattern[str]
    """A layout in a group is so plain that a word must name it."""
    test: Callable[[str], bool]
    """Of the letters and digits alone, in capitals."""
    words: re.Pattern[str]
    """What names it."""
    shortest: int = 0
    """Digits below which only the words of `own_words` name it."""
    own_words: re.Pattern[str] | None = None

    def spans(self, text: str) -> Iterator[Span]:
        """Yield where such numbers stand in the text."""
        for found in self.layout.finditer(text):
            if not self.test(re.sub(r"[^0-9A-Z]", "", found[0].upper())) or is_amount(text, *found.span()):
                continue
            words = self.own_words if self.own_words and len(found[0]) < self.shortest else self.words
            named = says(words, text, *found.span())
            if (
                not named
                and " " in found[0]
                and (_FIGURE.search(text[max(0, found.start() - 2) : found.start()]) or _FIGURES.match(text, found.end()))
            ):
                continue  # one of a row of figures
            if found.lastindex is not None:
                if named or says(NATIONAL, text, *found.span()):
                    yield found.span()
            elif named or not is_other_number(text, *found.span()):
                yield found.span()


def _layout(*ways: str) -> re.Pattern[str]:
    return re.compile(rf"(?i){_BEFORE}(?:{'|'.join(ways)}){_AFTER}")


def us_ssn(number: str) -> bool:
    """Area, group and serial that are given out. Social Security Administration, POMS RM 10201.035; taxpayers' own (ITIN) begin with 9."""
    area, group, serial = number[:3], number[3:5], number[5:]
    if group == "00" or serial == "0000":
        return False
    itin = area[0] == "9" and (50 <= int(group) <= 65 or 70 <= int(group) <= 88 or 90 <= int(group) <= 92 or int(group) >= 94)
    return itin or (area not in {"000", "666"} and area[0] != "9")


def uk_nino(number: str) -> bool:
    """Prefix letters that are given out (HMRC, National Insurance Manual NIM39110), or ZZ...T, which stands for one in samples of data."""
    return number[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN"} and (number[:2] == "ZZ") == (number[-1] == "T")


def de_tax_id(number: str) -> bool:
    """One digit of the first ten stands twice or three times, the others once at most; MOD 11,10. Steuerliche Identifikationsnummer."""
    counts = Counter(number[:10])
    repeated = [times for times in counts.values() if times > 1]
    return number[0] != "0" and len(repeated) == 1 and repeated[0] <= 3 and mod_11_10(number)


def nl_bsn(number: str) -> bool:
    """The eleven-test with the last weight -1."""
    number = number.zfill(9)
    return number[1:] != "0" * 8 and weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def es_dni(number: str) -> bool:
    """The letter is the number modulo 23; X, Y, Z of foreigners (NIE) count 0, 1, 2."""
    value = int(number[:-1].translate(str.maketrans("XYZ", "012")))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[value % 23] == number[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def it_codice_fiscale(number: str) -> bool:
    """The last letter is the check of the others. Decreto ministeriale 23/12/1976."""
    total = sum(_ODD[one] for one in number[0:15:2])
    total += sum(int(one) if one.isdigit() else ord(one) - ord("A") for one in number[1:15:2])
    return chr(ord("A") + total % 26) == number[15]


def fr_nir(number: str) -> bool:
    """The key is 97 less the number modulo 97; Corsica's 2A and 2B count 19 and 18. A month that is not known is 20, 30-42 or 50-99. INSEE."""
    body = number[:13].replace("2A", "19").replace("2B", "18") if "A" in number or "B" in number else number[:13]
    month = int(number[3:5])
    known = 1 <= month <= 12 or month == 20 or 30 <= month <= 42 or month >= 50
    return known and body.isdigit() and 97 - int(body) % 97 == int(number[13:])


def br_cpf(number: str) -> bool:
    """Two check digits modulo 11. Receita Federal; eleven equal digits are none."""
    if len(set(number)) == 1:
        return False
    first = weighted(number[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(number[:10], range(11, 1, -1)) * 10 % 11 % 10
    return number[9:] == f"{first}{second}"


_BSN = r"bsn|burgerservice\w*|sofi\w*|persoonsnummer|burger\w*|citizen service"
NATIONAL_IDS = {
    "us_ssn": NationalId(
        _layout(r"[0-9]{3}-[0-9]{2}-[0-9]{4}", r"[0-9]{3} [0-9]{2} [0-9]{4}", r"([0-9]{9})"),
        us_ssn,
        re.compile(r"(?i)\b(?:ssn|social(?: security)?|soc sec|itin|taxpayer)\b"),
    ),
    "uk_nino": NationalId(
        _layout(
            r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D]",
            r"ZZ ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?T",
        ),
        uk_nino,
        re.compile(r"(?i)\b(?:nino?|national insurance|ni (?:no|number))\b"),
    ),
    "de_tax_id": NationalId(
        _layout(r"[1-9][0-9]{10}", r"[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}"),
        de_tax_id,
        re.compile(r"(?i)\b(?:steuer\w*|idnr|tin|tax id\w*|identifikationsnummer)\b"),
    ),
    "nl_bsn": NationalId(
        _layout(r"([0-9]{8,9})", r"([0-9]{3}[ .-][0-9]{3}[ .-][0-9]{3})", r"[0-9]{4}\.[0-9]{2}\.[0-9]{3}"),
        nl_bsn,
        re.compile(rf"(?i)\b(?:{_BSN}|mijn|een|het|ik|voor|niet|zoals|graag|nummer|hier|wordt|mevrouw|meneer|klant)\b"),
        shortest=9,
        own_words=re.compile(rf"(?i)\b(?:{_BSN})\b"),
    ),
    "es_dni": NationalId(
        _layout(
            r"[0-9]{8}[ -]?[A-HJ-NP-TV-Z]",
            r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-HJ-NP-TV-Z]",
            r"[XYZ][ -]?[0-9]{7}[ -]?[A-HJ-NP-TV-Z]",
        ),
        es_dni,
        re.compile(r"(?i)\b(?:dni|nie|nif|documento|identidad)\b"),
    ),
    "it_codice_fiscale": NationalId(
        _layout(r"[A-Z]{3} ?[A-Z]{3} ?[0-9L-NP-V]{2}[ABCDEHLMPRST][0-9L-NP-V]{2} ?[A-Z][0-9L-NP-V]{3} ?[A-Z]"),
        it_codice_fiscale,
        re.compile(r"(?i)\b(?:codice fiscale|cod\.? ?fisc\w*|c\.?f\.?)\b"),
    ),
    "fr_nir": NationalId(
        _layout(r"[1-478][ .-]?[0-9]{2}[ .-]?[0-9]{2}[ .-]?(?:[0-9]{2}|2[AB])[ .-]?[0-9]{3}[ .-]?[0-9]{3}[ .-]?[0-9]{2}"),
        fr_nir,
        re.compile(r"(?i)\b(?:nir|sécu\w*|securite sociale|insee|carte vitale)\b"),
    ),
    "br_cpf": NationalId(
        _layout(
            r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
            r"[0-9]{9}-?[0-9]{2}",
            r"[0-9]{3} [0-9]{3} [0-9]{3} [0-9]{2}",
        ),
        br_cpf,
        re.compile(r"(?i)\bcpf\b"),
    ),
    "in_aadhaar": NationalId(
        _layout(r"(?<![0-9][ -])[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}(?![ -][0-9])", r"([2-9][0-9]{11})"),
        verhoeff,
        re.compile(r"(?i)(?:\b(?:aadh?aar|adhar|uidai|uid)\b|आधार)"),
    ),
}
"""National ids by kind."""
