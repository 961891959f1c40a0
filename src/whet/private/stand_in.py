"""What is put in the place of private data: a mask, a code, or an invented value of the same form (a code for keys, logins and national ids)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal

from whet.private.cards import LENGTHS
from whet.private.checksums import luhn
from whet.private.kinds import KINDS, NAMED, NATIONAL
from whet.private.names import person_key
from whet.private.phones import canonical


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


Mode = Literal["mask", "replace", "hash"]
_MASKS = re.compile(rf"\[(?:{'|'.join((*KINDS, *NAMED, 'id'))})(?:-[0-9a-f]{{10}})?\]")
"""What stands in the place of private data already."""
FIRST = _words(
    "Alex Robin Kim Sascha Toni Noa Jules Remy Sam Charlie Jamie Morgan Casey Riley Quinn Rowan Skyler Taylor Jordan Avery Emery Finley Harper Hayden "
    "Jesse Kerry Logan Marlow Parker Reese Sage Tatum"
)
ONSET = _words("Bra Cel Dor Fen Gal Hav Jor Kel Lun Mar Nor Pel Quin Ros Sel Tav Ul Vel Wen Yor")
MIDDLE = _words("bri dra fa gwe ka lo mi ne po ra si te va xo zu")
ENDING = _words("dune felt gard lund mire nock quist rell stow vane wick zane")
"""Sounds of invented names, 1.7 million persons and 4,500 places; of real ones none is made of these four by chance, nearly."""
_INVENTED = re.compile(
    r"person-[0-9a-f]{10}@example\.com|\+1-555-0\d\d-\d{4}|4242 42\d\d \d{4} \d{4}|GB\d\d TEST \d{4} \d{4} \d{4} \d\d|198\.1[89]\.\d{1,3}\.\d{1,3}|"
    rf"2001:db8(?::[0-9a-f]{{4}}){{6}}|(?:(?:{'|'.join(FIRST)}) )?(?:{'|'.join(ONSET)})(?:(?:{'|'.join(MIDDLE)})){{2}}(?:{'|'.join(ENDING)}|ton)\b"
)
"""Forms of invented values that `replace` writes. They lie in ranges that nobody is given, and stay when a text is redacted again."""


class StandIns:
    """Gives the same stand-in for the same value, however it is written. Without the key none can be led back to its value."""

    def __init__(self, mode: Mode, key: bytes) -> None:
        self.mode = mode
        self._key = key

    def is_one(self, written: str) -> bool:
        """Whether a stretch of a text is an invented value already."""
        return self.mode == "replace" and _INVENTED.fullmatch(written) is not None

    def kept(self, text: str) -> list[tuple[int, int]]:
        """Return where masks, codes and invented values stand in a text, which no model is to take for names."""
        forms = (_MASKS, _INVENTED) if self.mode == "replace" else (_MASKS,)
        return [one.span() for form in forms for one in form.finditer(text)]

    def of(self, kind: str, written: str) -> str:
        """Return what stands for a value of this kind."""
        name = "id" if kind in NATIONAL else kind
        if self.mode == "mask":
            return f"[{name}]"
        code = hmac.new(self._key, f"{kind}\x1f{_same(kind, written)}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        if self.mode == "hash" or kind in {"key", "login", *NATIONAL}:
            return f"[{name}-{code.hex()[:10]}]"
        return _invented(kind, written, code)


def _same(kind: str, written: str) -> str:
    """Return one text for all ways of writing a value."""
    if kind == "phone":
        return canonical(written)
    if kind == "person":
        return person_key(written)
    if kind in {"card", "iban"} or kind in NATIONAL:
        return re.sub(r"[\W_]", "", written).upper()
    return " ".join(written.casefold().split())


def _invented(kind: str, written: str, code: bytes) -> str:
    number = int.from_bytes(code[:12], "big")
    if kind == "mail":
        return f"person-{code.hex()[:10]}@example.com"
    if kind == "phone":
        return f"+1-555-0{number % 100:02}-{number // 100 % 10_000:04}"
    if kind == "card":
        body = f"424242{number % 10**9:09}"
        digits = next(body + str(last) for last in range(10) if luhn(body + str(last)))
        return " ".join(digits[place : place + 4] for place in range(0, 16, 4))
    if kind == "iban":
        body = f"TEST{number % 10**14:014}"
        check = 98 - int("".join(str(int(one, 36)) for one in f"{body}GB00")) % 97
        whole = f"GB{check:02}{body}"
        assert len(whole) == LENGTHS["GB"], whole
        return " ".join(whole[place : place + 4] for place in range(0, len(whole), 4))
    if kind == "ip":
        if ":" in written:
            return "2001:db8:" + ":".join(code.hex()[place : place + 4] for place in range(0, 24, 4))
        return f"198.{18 + number % 2}.{number // 2 % 256}.{number // 512 % 256}"
    if kind in NAMED:
        sounds = [ONSET, MIDDLE, MIDDLE, ENDING] if kind == "person" else [ONSET, MIDDLE, MIDDLE]
        name = ""
        for some in sounds:
            number, place = divmod(number, len(some))
            name += some[place]
        return f"{FIRST[number % len(FIRST)]} {name}" if kind == "person" else f"{name}ton"
    raise AssertionError(f"no value is invented for {kind}")
