"""Keys, tokens and passwords: by the shapes that services give them, by the word before them, and by how random they look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

Span = tuple[int, int]
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}|"  # AWS
    r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|gl(?:pat|ptt|rt|dt|cbt|oas|soat|ft|agent)-[A-Za-z0-9_.-]{16,}|"
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,}|"
    r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}|"  # Stripe
    r"AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_.-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{30,}|"  # Google
    r"sk-(?:proj-|svcacct-|admin-|ant-|or-|lf-)?[A-Za-z0-9_-]{16,}|pk-lf-[A-Za-z0-9-]{16,}|hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|"
    r"(?:gsk|r8|xai|pplx|nvapi|fw|tgp_v1|co|csk|jina|tvly|fc|lsv2_pt|lsv2_sk)[_-][A-Za-z0-9_-]{24,}|"  # further model providers
    r"npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}|rubygems_[a-f0-9]{40,}|dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}|crates-io_[A-Za-z0-9]{20,}|"
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|(?:AC|SK)[0-9a-f]{32}|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}|"  # SendGrid, Twilio, ...
    r"shp(?:at|ca|pa|ss|ua)_[A-Fa-f0-9]{32}|sq0[a-z]{3}-[A-Za-z0-9_-]{20,}|EAAA[A-Za-z0-9_-]{50,}|dop_v1_[a-f0-9]{64}|do[or]_v1_[a-f0-9]{64}|"
    r"dapi[a-f0-9]{32}(?:-[0-9])?|hv[sbr]\.[A-Za-z0-9_-]{20,}|ATATT3[A-Za-z0-9_=-]{50,}|ATCTT3[A-Za-z0-9_=-]{50,}|figd_[A-Za-z0-9_-]{20,}|"
    r"lin_api_[A-Za-z0-9]{30,}|(?:ntn|secret)_[A-Za-z0-9]{40,}|PMAK-[a-f0-9]{20,}-[a-f0-9]{30,}|NRAK-[A-Z0-9]{25,}|sntr[yu]s?_[A-Za-z0-9_=+/]{40,}|"
    r"gl(?:sa|c)_[A-Za-z0-9_=+/]{30,}|tskey-[a-z]+-[A-Za-z0-9-]{16,}|sbp_[a-f0-9]{40}|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{30,}|"
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9]{30,}|AGE-SECRET-KEY-1[A-Z0-9]{50,}|shippo_(?:live|test)_[a-f0-9]{30,}|"
    r"[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}|[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}|AAAAAAAA[A-Za-z0-9%]{60,}|"  # Discord, Telegram, Twitter
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"  # JSON Web Token, RFC 7519
    r")(?:={1,2}(?![A-Za-z0-9]))?"
)
_NAMES = (
    r"api[ _-]?(?:key|token|secret)|(?:secret|access|account|private|auth|master|encryption|signing|license|shared[ _-]?access|storage|subscription)"
    r"[ _-]?(?:access[ _-]?)?key|"
    r"client[ _-]?secret|app[ _-]?secret|secret|(?:auth|access|refresh|bearer|bot|session|id|csrf|personal access)?[ _-]?token|sig|signature|x-amz-signature"
)
_PASSWORDS = (
    r"pass[ _-]?(?:word|phrase|code)|passwd|pwd|passwort|kennwort|zugangscode|"
    r"mot de passe|contraseña|clave|senha|parola d'ordine|wachtwoord|hasło|пароль|密码|パスワード"
)
_VALUE = r"([^\s\"'`,;<>()\[\]{}]{4,256})"
_IS = r"[\"'`]?\s{0,3}(?:=>|:=|[:=]|\b(?:is|was|ist|lautet|es|est|é|è|to)\b)\s{0,3}[\"'`]?"
_NAMED = re.compile(rf"(?i)(?<![A-Za-z])(?:{_NAMES})(?![A-Za-z]){_IS}{_VALUE}")
_PASSWORD = re.compile(rf"(?i)(?<![A-Za-z])(?:{_PASSWORDS})(?![A-Za-z]){_IS}([^\s\"'`<>]{{4,256}})")
_CALL = re.compile(r"[A-Za-z_][\w.]{2,}(?=[(\[][\w.,]*[)\]]|\($)|[^;,]{4,}?(?=[;,]\w+[=:])")
"""What stands before a bracket or the next setting: code, and not a password with such a sign."""
_VARIABLE = re.compile(r"[$%{][$%{]?[A-Za-z_][\w.]*[}%]{0,2}")
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s{1,3}([A-Za-z0-9._~+/=-]{8,})")
_RANDOM = re.compile(r"(?<![A-Za-z0-9_+/.@-])[A-Za-z0-9_+/-]{24,256}={0,2}(?![A-Za-z0-9_+/=@-])")
_NOT_SECRET = re.compile(r"(?i)(?:sha\d{1,3}[-:=]|md5[-:=]|base64,|://[^\s]{0,200}|[/?&]v=|integrity\W{1,4}|digest\W{1,4})$")
_OPAQUE = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
WORDS = (
    "pass", "pwd", "secret", "token", "key", "bearer", "basic", "kennwort", "clave", "contrase", "senha", "wachtwoord", "sig", "zugangscode",
    "parola", "hasł", "парол", "密码", "パスワード",
)  # fmt: skip
"""Parts of the words before a secret, in lower case: a text without any of them has no named secret."""


def keys(text: str, eager: bool = False) -> Iterator[Span]:
    """Yield where secrets stand. `eager` takes every value behind such a word, and every long word with letters and digits."""
    for begin in _PEM.finditer(text):
        end = _PEM_END.search(text, begin.end())
        yield begin.start(), end.end() if end else len(text)
        if end is None:
            return
    yield from (found.span() for found in _SHAPES.finditer(text))
    yield from _named(text, eager)
    for found in _RANDOM.finditer(text):
        if _is_random(found[0]) and not _NOT_SECRET.search(text[max(0, found.start() - 220) : found.start()]):
            yield found.span()
    if eager:
        for found in _OPAQUE.finditer(text):
            if any(map(str.isdigit, found[0])) and any(map(str.isalpha, found[0])):
                yield found.span()


def _named(text: str, eager: bool) -> Iterator[Span]:
    low = text.lower()
    if not any(word in low for word in WORDS):
        return
    for pattern, least in ((_PASSWORD, 5), (_NAMED, 8)):
        for found in pattern.finditer(text):
            start, end = found.span(1)
            if pattern is _PASSWORD and (code := _CALL.match(found[1])):
                end = start + len(code[0])
            end -= len(text[start:end]) - len(text[start:end].rstrip(".,:;"))
            if text[start:end].startswith("[") or (not eager and not _looks_secret(text[start:end], least)):
                continue
            yield start, end
    for found in _BEARER.finditer(text):
        if eager or (len(found[1]) >= 16 and any(map(str.isdigit, found[1]))):
            yield found.span(1)


def _looks_secret(value: str, least: int) -> bool:
    """Whether it is no word of a sentence: digits among letters, capitals within, or a sign that words do not have."""
    if len(value) < least or value.lower().startswith(("http://", "https://", "xxx", "***", "...")):
        return False
    if _VARIABLE.fullmatch(value) and not (any(map(str.isdigit, value)) and value not in {value.lower(), value.upper()}):
        return False
    digits, letters = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    capitals = value != value.lower() and value[1:] != value[1:].lower() and value != value.upper()
    signs = any(one in "!@#$%^&*+=~?" for one in value.rstrip("!?")) or (value[-1] in "!?" and digits)
    return (
        (digits and letters)
        or (capitals and least > 6 and len(value) >= 16)
        or (signs and letters)
        or (digits and least <= 6 and len(value) >= 6)
    )


def _is_random(word: str) -> bool:
    """Whether a long word was drawn: small letters, capitals and digits change places all the time. Words and names in code do not."""
    word = word.rstrip("=")
    kinds = ["d" if one.isdigit() else "u" if one.isupper() else "l" if one.islower() else "s" for one in word]
    if not {"d", "u", "l"} <= set(kinds) or kinds.count("s") > max(3, len(word) // 16):
        return False
    changes = sum(one != other for one, other in pairwise(kinds))
    return changes >= 0.4 * (len(word) - 1) and len(set(word)) >= min(12, len(word) // 2)
