"""Seeded texts with private data planted in them, and seeded texts that only look like it.

Written without a look at the detectors: check digits are made here by the schemes' own descriptions, in another way than they are tested.
"""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator

Draw = random.Random
FIRST = "anna ben carla david emma felix grace hugo ines jonas kofi lena marta nils olga pablo rosa sven tara uwe".split()
LAST = "meyer smith rossi garcia dubois jansen silva kumar nowak okafor larsen brown weber ivanov tanaka".split()
HOSTS = "example.com mail.example.org firma.de post.example.co.uk uni-heidelberg.de gmail.com web.de orange.fr libero.it uol.com.br company.io".split()


def digits(draw: Draw, number: int, first: str = "0123456789") -> str:
    return draw.choice(first) + "".join(draw.choices(string.digits, k=number - 1))


def grouped(text: str, sizes: tuple[int, ...], between: str) -> str:
    parts, place = [], 0
    for size in sizes:
        parts.append(text[place : place + size])
        place += size
    return between.join(part for part in [*parts, text[place:]] if part)


# --- the kinds -------------------------------------------------------------------------------------------------------


def mail(draw: Draw) -> str:
    first, last = draw.choice(FIRST), draw.choice(LAST)
    name = draw.choice(
        [
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}_{last}{draw.randint(1, 99)}",
            f"{first}+news",
            f"{last}-{first}",
            f"{first}{draw.randint(1950, 2010)}",
        ]
    )
    address = f"{name}@{draw.choice(HOSTS)}"
    return draw.choice([address, address, address, address.upper(), address.title(), f"{name}@müller-söhne.de"])


PHONES: dict[str, tuple[str, ...]] = {
    # a is a digit from 2 to 9, n any digit
    "us": ("(a1a) a3n-nnnn", "a1a-a4n-nnnn", "a0a.a2n.nnnn", "+1 a1a a2n nnnn", "+1-a1a-a4n-nnnn", "1-a0a-a3n-nnnn", "(a1a)a2n-nnnn", "+1 (a1a) a2n-nnnn x12n"),
    "gb": ("07700 900nnn", "+44 7700 900nnn", "020 7946 0nnn", "+44 20 7946 0nnn", "0161 496 0nnn", "07911nnnnnn", "+447911nnnnnn", "(0131) 496 0nnn", "+44 (0)7911 nnnnnn"),
    "de": ("030 23125 nnn", "+49 30 23125nnn", "0171 39200nn", "+49 171 39200nn", "0049 171 39200nn", "089/99998nnn", "(0221) 4710nnn", "+49 (0)221 4710-nnn", "01713920nnn"),
    "fr": ("06 39 98 nn nn", "06.39.98.nn.nn", "+33 6 39 98 nn nn", "+33639nnnnnn", "0639980nnn", "01 42 68 5n nn", "+33 (0)1 42 68 5n nn"),
    "es": ("+34 612 34n nnn", "612 34 nn nn", "+34 91 123 nn nn", "0034 612 34n nnn", "612-34n-nnn"),
    "it": ("+39 347 12n nnnn", "347 12nnnnn", "06 6982 nnnn", "+39 06 6982 nnnn", "02 7200 nnnn"),
    "nl": ("06-1234nnnn", "+31 6 1234nnnn", "020-624 nnnn", "06 12 34 nn nn", "+31 (0)20 624 nnnn"),
    "br": ("(11) 9123n-nnnn", "+55 11 9123n-nnnn", "(21) 2222-nnnn", "11 9123n-nnnn"),
    "in": ("+91 98765 4nnnn", "98765 4nnnn", "+91-98765-4nnnn", "098765 4nnnn", "+9198765nnnnn"),
    "other": ("+43 1 51234nn", "+41 44 668 nn nn", "044 668 nn nn", "+46 70 174 0n nn", "+48 512 34n nnn", "+61 4 9157 0nnn", "0491 570 nnn", "+81 90-1234-nnnn", "090-1234-nnnn",
              "+86 138 0013 nnnn", "138 0013 nnnn", "+351 912 34n nnn", "+7 916 12n-nn-nn", "8 (916) 12n-nn-nn", "+27 82 12n nnnn", "+971 50 12n nnnn", "+65 9123 nnnn"),
}  # fmt: skip
BARE_PHONES = ("a1aa4nnnnn", "98765nnnnn", "612nnnnnn", "119123nnnnn", "555-0nnn", "555-nnnn")
"""These are phones only because a word beside them says so."""


def _filled(draw: Draw, form: str) -> str:
    return "".join(draw.choice("23456789") if one == "a" else draw.choice(string.digits) if one == "n" else one for one in form)


def phone(draw: Draw) -> str:
    form = draw.choice(PHONES[draw.choice([*PHONES])])
    number = _filled(draw, form)
    return (
        number.replace(" ", "\u00a0")
        if draw.random() < 0.03
        else number.replace("-", "\u2011")
        if draw.random() < 0.03
        else number
    )


def with_luhn(body: str) -> str:
    total = 0
    for place, one in enumerate(body[::-1]):
        doubled = int(one) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return body + str(-total % 10)


def card(draw: Draw) -> str:
    scheme = draw.choice(
        ["visa", "mastercard", "mastercard2", "amex", "discover", "diners", "jcb", "unionpay", "maestro", "visa13"]
    )
    start, length = {
        "visa": ("4", 16), "mastercard": (f"5{draw.randint(1, 5)}", 16), "mastercard2": (str(draw.randint(2221, 2720)), 16), "amex": (draw.choice(["34", "37"]), 15),
        "discover": (draw.choice(["6011", "644", "65"]), 16), "diners": (draw.choice(["300", "305", "36", "38"]), 14), "jcb": (str(draw.randint(3528, 3589)), 16),
        "unionpay": ("62", 16), "maestro": (draw.choice(["5018", "5020", "6304", "6759"]), 16), "visa13": ("4", 13),
    }[scheme]  # fmt: skip
    number = with_luhn(start + digits(draw, length - len(start) - 1))
    sizes = (4, 6, 5) if scheme in {"amex", "diners"} else (4, 4, 4, 4)
    return number if length == 13 else draw.choice([number, grouped(number, sizes, " "), grouped(number, sizes, "-")])


IBANS = {"DE": "n18", "GB": "c4n14", "FR": "n10k11n2", "ES": "n20", "IT": "u1n10k12", "NL": "c4n10", "BE": "n12", "AT": "n16", "CH": "n5k12", "PL": "n24", "PT": "n21",
         "SE": "n20", "NO": "n11", "MT": "c4n5k18", "SA": "n2k18", "BR": "n23u1k1", "TR": "n5n1k16", "LU": "n3k13"}  # fmt: skip
"""Form of the part behind the check digits: n digits, c and u capitals, k both."""


def iban(draw: Draw) -> str:
    country = draw.choice([*IBANS])
    alphabet = {
        "n": string.digits,
        "c": string.ascii_uppercase,
        "u": string.ascii_uppercase,
        "k": string.digits + string.ascii_uppercase,
    }
    body, form = "", IBANS[country]
    while form:
        kind, size = form[0], form[1:3] if form[1:3].isdigit() else form[1:2]
        body += "".join(draw.choices(alphabet[kind], k=int(size)))
        form = form[1 + len(size) :]
    value = 0
    for one in f"{body}{country}00":  # digit by digit, as on paper
        value = (value * (100 if one.isalpha() else 10) + int(one, 36)) % 97
    whole = f"{country}{98 - value:02}{body}"
    return draw.choice([whole, grouped(whole, (4,) * 9, " "), whole.lower()])


def ip(draw: Draw) -> str:
    if draw.random() < 0.7:
        while True:
            parts = [draw.randint(1, 223), *(draw.randint(0, 255) for _ in range(2)), draw.randint(1, 254)]
            if parts[0] != 127 and max(parts) > 40:
                return ".".join(map(str, parts))
    whole = [f"{draw.choice([0x2001, 0x2A02, 0x2607, 0xFD12, 0xFE80]):x}", *(f"{draw.randint(0, 0xFFFF):x}" for _ in range(7))]
    return draw.choice(
        [
            ":".join(whole),
            ":".join(whole[:3]) + "::" + ":".join(whole[5:]),
            whole[0] + "::" + whole[6] + ":" + whole[7],
            ":".join(whole).upper(),
        ]
    )


def login(draw: Draw) -> str:
    password = "".join(draw.choices(string.ascii_letters + string.digits + "!$%_.-", k=draw.randint(5, 14)))
    scheme = draw.choice(["https", "http", "ftp", "postgresql", "mysql", "mongodb+srv", "redis", "amqp", "smtp"])
    return f"{scheme}://{draw.choice(FIRST)}:{password}@{draw.choice(['db', 'intra', 'files'])}.{draw.choice(HOSTS)}{draw.choice(['', '/', ':5432/app', '/a/b?c=d'])}"


def key(draw: Draw) -> str:
    word = string.ascii_letters + string.digits

    def some(number: int, alphabet: str = word) -> str:
        return "".join(draw.choices(alphabet, k=number))

    def encoded(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    jwt = f"{encoded(chr(123) + chr(34) + 'alg' + chr(34) + ':' + chr(34) + 'HS256' + chr(34) + chr(125))}.{encoded(chr(123) + chr(34) + 'sub' + chr(34) + ':' + str(draw.randint(1, 10**9)) + chr(125))}.{some(43)}"
    pem = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", some(64), some(64), some(40) + "==", "-----END RSA PRIVATE KEY-----"])
    return draw.choice(
        [
            f"AKIA{some(16, string.ascii_uppercase + '234567')}", f"ghp_{some(36)}", f"github_pat_{some(22)}_{some(59)}", f"xoxb-{digits(draw, 12)}-{digits(draw, 12)}-{some(24)}",
            f"sk_live_{some(24)}", f"rk_test_{some(24)}", f"AIza{some(35, word + '-_')}", f"sk-{some(48)}", f"sk-proj-{some(48, word + '-_')}", f"sk-ant-api03-{some(93, word + '-_')}",
            f"hf_{some(34)}", f"glpat-{some(20)}", f"npm_{some(36)}", f"SG.{some(22)}.{some(43)}", jwt, pem, some(40), some(32), f"pypi-AgEIcHlwaS5vcmc{some(100, word + '-_')}",
        ]
    )  # fmt: skip


def us_ssn(draw: Draw) -> str:
    area = draw.choice([one for one in range(1, 900) if one != 666])
    return draw.choice(["{}-{}-{}", "{} {} {}"]).format(f"{area:03}", f"{draw.randint(1, 99):02}", f"{draw.randint(1, 9999):04}")


def uk_nino(draw: Draw) -> str:
    prefix = draw.choice(["AB", "CE", "JG", "PW", "TX", "ZR", "SH", "LM"])
    number, end = digits(draw, 6), draw.choice("ABCD")
    return draw.choice(
        [
            f"{prefix}{number}{end}",
            f"{prefix} {grouped(number, (2, 2, 2), ' ')} {end}",
            f"{prefix}{number} {end}",
            f"{prefix}-{grouped(number, (2, 2, 2), '-')}-{end}",
        ]
    )


def de_tax_id(draw: Draw) -> str:
    while True:
        body = draw.sample(string.digits, 9)
        body.insert(draw.randint(0, 9), draw.choice(body))
        if body[0] != "0":
            break
    rest = 10
    for one in body:
        rest = (int(one) + rest) % 10 or 10
        rest = rest * 2 % 11
    number = "".join(body) + str((11 - rest) % 10)
    return draw.choice([number, grouped(number, (2, 3, 3, 3), " ")])


def nl_bsn(draw: Draw) -> str:
    while True:
        body = digits(draw, 8, "123456789")
        last = sum(int(one) * weight for one, weight in zip(body, range(9, 1, -1), strict=True)) % 11
        if last < 10:
            return draw.choice(["BSN {}", "bsn: {}", "burgerservicenummer {}", "mijn BSN is {}"]).format(
                draw.choice([body + str(last), grouped(body + str(last), (4, 2, 3), ".")])
            )


def es_dni(draw: Draw) -> str:
    letters = "TRWAGMYFPDXBNJZSQVHLCKE"
    if draw.random() < 0.3:
        first, rest = draw.randint(0, 2), digits(draw, 7)
        return f"{'XYZ'[first]}{draw.choice(['', '-'])}{rest}{draw.choice(['', '-'])}{letters[int(f'{first}{rest}') % 23]}"
    number = digits(draw, 8)
    return draw.choice([number + "{}", number + "-{}", grouped(number, (2, 3, 3), ".") + "-{}"]).format(letters[int(number) % 23])


def it_codice_fiscale(draw: Draw) -> str:
    odd = {"0": 1, "1": 0, "2": 5, "3": 7, "4": 9, "5": 13, "6": 15, "7": 17, "8": 19, "9": 21, "A": 1, "B": 0, "C": 5, "D": 7, "E": 9, "F": 13, "G": 15, "H": 17, "I": 19,
           "J": 21, "K": 2, "L": 4, "M": 18, "N": 20, "O": 11, "P": 3, "Q": 6, "R": 8, "S": 12, "T": 14, "U": 16, "V": 10, "W": 22, "X": 25, "Y": 24, "Z": 23}  # fmt: skip
    letters = "".join(draw.choices("BCDFGLMNPRSTVZ", k=6))
    body = f"{letters}{draw.randint(30, 99)}{draw.choice('ABCDEHLMPRST')}{draw.randint(1, 31):02}{draw.choice('ABCDEFGHIL')}{digits(draw, 3)}"
    total = sum(odd[one] if place % 2 == 0 else int(one) if one.isdigit() else ord(one) - 65 for place, one in enumerate(body))
    whole = body + chr(65 + total % 26)
    return draw.choice([whole, whole.lower(), grouped(whole, (3, 3, 5), " ")])


def fr_nir(draw: Draw) -> str:
    body = f"{draw.randint(1, 2)}{draw.randint(30, 99)}{draw.randint(1, 12):02}{draw.choice(['75', '13', '69', '33', '2A', '2B'])}{digits(draw, 3)}{digits(draw, 3)}"
    value = int(body.replace("2A", "19").replace("2B", "18"))
    whole = f"{body}{97 - value % 97:02}"
    return draw.choice([whole, grouped(whole, (1, 2, 2, 2, 3, 3), " ")])


def br_cpf(draw: Draw) -> str:
    body = [int(one) for one in digits(draw, 9)]
    for _ in range(2):
        rest = sum(one * weight for one, weight in zip(body, range(len(body) + 1, 1, -1), strict=True)) % 11
        body.append(0 if rest < 2 else 11 - rest)
    number = "".join(map(str, body))
    return draw.choice([number, f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"])


def in_aadhaar(draw: Draw) -> str:
    d = [
        [(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)
    ]  # the dihedral group of order 10, by its definition
    for i in range(10):
        for j in range(10):
            turn, flip = i % 5, i // 5
            d[i][j] = ((turn + (j % 5 if not flip else -(j % 5))) % 5) + 5 * ((flip + j // 5) % 2)
    p = [[*range(10)], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    while len(p) < 8:
        p.append([p[1][one] for one in p[-1]])
    body, value = digits(draw, 11, "23456789"), 0
    for place, one in enumerate(body[::-1], 1):
        value = d[value][p[place % 8][int(one)]]
    whole = body + str(next(last for last in range(10) if d[value][last] == 0))
    return draw.choice([grouped(whole, (4, 4, 4), " "), f"Aadhaar {whole}", grouped(whole, (4, 4, 4), "-")])


KINDS: dict[str, Callable[[Draw], str]] = {
    "mail": mail, "phone": phone, "card": card, "iban": iban, "ip": ip, "login": login, "key": key, "us_ssn": us_ssn, "uk_nino": uk_nino, "de_tax_id": de_tax_id,
    "nl_bsn": nl_bsn, "es_dni": es_dni, "it_codice_fiscale": it_codice_fiscale, "fr_nir": fr_nir, "br_cpf": br_cpf, "in_aadhaar": in_aadhaar,
}  # fmt: skip
FRAMES = (
    "Please use {} from now on, thanks.", "I already told you twice: {}.", "{}", "Hello, {} is what I have here, can you check?", "see {}, and reply soon", "({})", "as written: \"{}\"",
    "bitte notiert {} für mich", "Ich habe {} hinterlegt, stimmt das?", "voici {} pour le dossier de ma mère", "mi dato es {}, gracias", "ecco {} come promesso", "segue {} conforme combinado",
    "hier is {} zoals gevraagd", "Customer wrote: {} and then hung up.", "old: none; new: {}", "- {}\n- nothing else", "Name: Anna Meyer\nDetails: {}\nThanks", "<{}>", "it was {}!", "{}?",
    "यह {} है", "お客様の情報は {} です。", "données : {} ; merci",
)  # fmt: skip
PHONE_FRAMES = (
    "call me at {}",
    "my number is {}",
    "Tel. {}",
    "text {} after six",
    "WhatsApp {}",
    "reach her on {} please",
    "Handy: {}",
    "mon portable : {}",
    "mi móvil es {}",
    "phone - {}",
)


def planted(kind: str, number: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield texts with one planted value each, and the value."""
    draw = Draw(f"{kind}{seed}")
    for _ in range(number):
        if kind == "phone" and draw.random() < 0.15:
            value, frame = _filled(draw, draw.choice(BARE_PHONES)), draw.choice(PHONE_FRAMES)
        else:
            value, frame = KINDS[kind](draw), draw.choice(FRAMES)
        yield frame.format(value), value


# --- what only looks like it ------------------------------------------------------------------------------------------

CLEAN = (
    "My order {n8} has not arrived", "order number {n10} was cancelled", "Bestellung {n9} ist da", "invoice INV-{n6}-{n4} is wrong", "tracking {n12} shows nothing", "ticket #{n7} is still open",
    "version {v3} crashes, {v4} did not", "Upgrade to v{v4} failed", "Chrome/{n3}.0.{n4}.{n2} on Windows", "driver {v4} is signed", "released on {date}", "the log of {stamp} says so",
    "meeting on {date} at {time}", "it costs ${price}", "{price} € are too much", "we paid {thousand} euros", "a total of {thousand} rows", "ISBN {isbn13}", "isbn {isbn10} is out of print",
    "timestamp {epoch} or {epoch_ms}", "commit {sha1} broke it", "md5 {md5}", "sha256 is {sha256}", "colour #{hex6} on #{hex3}", "id {uuid}", "{uuid}", "see {sha7} and {sha1}",
    "{n2} + {n2} = {n3}, {n3} - {n2} = {n2}", "x = {n1}.{n6}, y = {n1}.{n8}", "pi is 3.14159265358979", "between 1990 and 2005, 1990-2005", "the score was {n1}-{n1}, then {n2}-{n2}",
    "at 52.520008, 13.404954", "room {n3}, floor {n1}, {n4} Berlin", "flight LH{n3} at {time}", "part no. {n3}-{n4}-{n5}", "SKU {n5}-{n3}", "model XJ-{n3} from {year}", "case {n4}/{n2}",
    "GET /items/{n9}?page={n2}", "https://example.com/a/{n10}/b-{n6}", "see https://docs.example.org/v{v3}/page#part", "def f(x_{n2}): return x_{n2} * {n4}", "a[{n2}:{n3}] and std::vector<int>",
    "@anna look at this", "the meeting is @ noon", "image@2x.png is missing", "the password is wrong", "token by token, a secret of hers", "I forgot my password: what now?", "api key expired, send a new one",
    "getUserAccountInformationById{n2}", "Donaudampfschifffahrtsgesellschaft", "0x{hex8} at 0x{hex8}", "size {n4}x{n4}, {n3} dpi", "{n3} {n3} {n3}", "row {n5} of {n7}", "population {thousand}",
    "section 1.2.3.4 says", "OID 1.3.6.1.4.1.{n4}", "127.0.0.1 and 0.0.0.0 are local", "12:34:56 is a time", "aa:bb:cc:dd:ee:ff", "{year}-{year} and {n2}/{n2}/{year}", "call me maybe",
    "I have {n1} cards", "flight at {time} on {date}, seat {n2}A", "error {n3} in line {n4}", "postcode SW1A {n1}AA", "EAN {ean}", "batch {n6}", "just text, with nothing at all in it",
    "Der Kunde ist unzufrieden mit Lieferung und Preis.", "Je voudrais changer mon adresse.", "¿Dónde está mi paquete?", "私の荷物はどこですか。", "{n1}. {n2}. {n3}.", "chapter {n2}, page {n3}",
    "temp 21.5 °C, {n2} %", "build {n5} of {date}", "uptime {n6} s", "weights {n1}.{n2}e-{n1}", "{n2}:{n2} in the match", "Windows 10.0.{n5}.{n4}", "bumped numpy to {v3}", "1,2,3,4,5,6,7,8,9,10",
)  # fmt: skip


def clean(number: int, seed: int = 0) -> Iterator[str]:
    """Yield texts with nothing private in them."""
    draw = Draw(f"clean{seed}")
    hexes = "0123456789abcdef"
    for _ in range(number):
        year, month, day, hour = draw.randint(1950, 2035), draw.randint(1, 12), draw.randint(1, 28), draw.randint(0, 23)
        isbn = f"978{draw.choice(['3', '0', '1'])}{digits(draw, 8)}"
        check = -sum(int(one) * (1, 3)[place % 2] for place, one in enumerate(isbn)) % 10
        ten = digits(draw, 9)
        x = sum((place + 1) * int(one) for place, one in enumerate(ten)) % 11
        ean = f"{draw.randint(40, 44)}{digits(draw, 10)}"
        values = {f"n{size}": digits(draw, size, "123456789") for size in range(1, 13)}
        values |= {f"hex{size}": "".join(draw.choices(hexes, k=size)) for size in (3, 6, 8)}
        values |= {
            name: "".join(draw.choices(hexes, k=size)) for name, size in (("sha1", 40), ("sha7", 7), ("md5", 32), ("sha256", 64))
        }
        values |= {
            "v3": f"{draw.randint(0, 30)}.{draw.randint(0, 40)}.{draw.randint(0, 99)}",
            "v4": f"{draw.randint(0, 120)}.{draw.randint(0, 40)}.{draw.randint(0, 99)}.{draw.randint(0, 250)}",
            "date": draw.choice([f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month:02}/{day:02}/{year}", f"{day}/{month}/{year % 100:02}", f"{year}{month:02}{day:02}"]),
            "stamp": draw.choice([f"{year}-{month:02}-{day:02} {hour:02}:15:09", f"{year}-{month:02}-{day:02}T{hour:02}:15:09Z", f"{day:02}.{month:02}.{year} {hour:02}:15"]),
            "time": f"{hour:02}:{draw.randint(0, 59):02}", "year": str(year), "price": draw.choice([f"{draw.randint(1, 999)}.99", f"{draw.randint(1, 9)},{digits(draw, 3)}.00", f"{draw.randint(1, 999)},50"]),
            "thousand": draw.choice([f"{draw.randint(1, 999)},{digits(draw, 3)},{digits(draw, 3)}", f"{draw.randint(1, 999)}.{digits(draw, 3)}.{digits(draw, 3)}", f"{draw.randint(1, 9)} {digits(draw, 3)} {digits(draw, 3)}"]),
            "isbn13": draw.choice([f"{isbn}{check}", f"{isbn[:3]}-{isbn[3]}-{isbn[4:6]}-{isbn[6:]}-{check}"]), "isbn10": draw.choice([ten + "0123456789X"[x], f"{ten[0]}-{ten[1:4]}-{ten[4:]}-{'0123456789X'[x]}"]),
            "epoch": str(draw.randint(10**9, 2 * 10**9)), "epoch_ms": str(draw.randint(10**12, 2 * 10**12)), "uuid": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            "ean": ean + str(-sum(int(one) * (1, 3)[place % 2] for place, one in enumerate(ean)) % 10),
        }  # fmt: skip
        yield draw.choice(CLEAN).format(**values)
