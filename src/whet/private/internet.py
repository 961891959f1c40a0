"""Mail addresses, IP addresses and URLs that carry a password."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

Span = tuple[int, int]
_MAIL = re.compile(r"(?<![\w.+%&'~-])[\w][\w.+%&'~-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{1,23}(?![\w@])")
_IP_MAIL = re.compile(r"(?<![\w.+-])\w[\w.+-]{0,63}@\[?(?:\d{1,3}\.){3}\d{1,3}\]?(?![\w.])")
_SPELT = re.compile(
    r"(?i)(?<![\w.+-])[\w][\w.+-]{0,63} ?(?:[\[({<] ?at ?[\])}>]| AT ) ?[\w-]{1,63}(?: ?(?:[\[({<] ?(?:dot|punkt|\.) ?[\])}>]| DOT |\.) ?[\w-]{2,24}){1,4}"
)
_HINT = re.compile(r"(?i)[\[({<] ?at ?[\])}>]| AT ")
_FILES = frozenset(
    (
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "ico",
        "js",
        "jsx",
        "tsx",
        "css",
        "scss",
        "html",
        "json",
        "xml",
        "yaml",
        "yml",
        "txt",
        "csv",
        "pdf",
    )
)
"""Ends of file names such as image@2x.png; none of them is a country's."""
_LOGIN = re.compile(r"(?i)(?<![a-z0-9])[a-z][a-z0-9+.-]{1,20}://([^\s/@:'\"<>]{0,128}:[^\s/@'\"<>]{1,256})@[^\s/@'\"<>]")
_V4 = re.compile(r"(?<![\w.-])(?<!\w[/@])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.\w)")
_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![\w:])")
_VERSION = re.compile(
    r"(?i)(?:\b(?:v|ver|versions?|release|rel|build|firmware|driver|update|upgraded?|patch|software|app|sdk|api|plugin|package|kernel|library|"
    r"runtime|framework|chrome|firefox|edge|browser|ios|android|windows|macos|linux|python|java|node|section|chapter|clause|paragraph|"
    r"article|oid|rev|revision|schema|dll|assembly|product|bios|tag|bumped|requires?|[a-z]+==|kapitel|abschnitt)\b\W{0,4}(?:is |to |from |of )?|[=~^]=?\s?|§\s?)$"
)
_ADDRESS = re.compile(
    r"(?i)\b(?:ip|ips|ipv4|ip-?adress\w*|address(?:es)?|host|hosts|server|ping|pinged|login|logins|logged|client|connect\w*|subnet|gateway|dns|"
    r"router|firewall|remote|peer|proxy|vpn|ssh|curl|dirección|adresse|indirizzo|endereço|adres|blocked|traffic|request|requests|machine|"
    r"computer|device|network|origin|source|attempts?)\b"
)
_OF_VERSIONS = re.compile(
    r"(?i)\b(?:versions?|release[sd]?|upgrad\w*|downgrad\w*|firmware|drivers?|changelog|bumped|patched|v\d+)\b"
)
SMALL = 32  # a version or the number of a section has no larger part, as a rule


def mails(text: str) -> Iterator[Span]:
    """Yield where mail addresses stand, also written as `name [at] host [dot] org`."""
    if "@" in text:
        for found in _MAIL.finditer(text):
            end = found.end() - (len(found[0]) - len(found[0].rstrip("-_")))
            name, _, host = text[found.start() : end].partition("@")
            if host.rpartition(".")[2].lower() in _FILES or (name == "git" and text[end : end + 1] == ":"):
                continue
            yield found.start(), end
        yield from (found.span() for found in _IP_MAIL.finditer(text))
    if _HINT.search(text):
        for found in _SPELT.finditer(text):
            if re.search(r"(?i)[\[({<] ?at|dot|punkt| AT .* DOT ", found[0]) and _is_spelt(found[0]):
                yield found.span()


def _is_spelt(found: str) -> bool:
    """Whether it is an address and not `look at example.com`: brackets, or both words in capitals."""
    return bool(re.search(r"(?i)[\[({<] ?at ?[\])}>]", found) or re.search(r" AT .+ DOT ", found))


def logins(text: str) -> Iterator[Span]:
    """Yield where user and password stand in a URL."""
    for found in _LOGIN.finditer(text):
        yield found.span(1)


def addresses(text: str) -> Iterator[Span]:
    """Yield where IPv4 and IPv6 addresses stand: no version, no number of a section, no address that means no machine."""
    for found in _V4.finditer(text):
        if _is_v4(text, found):
            yield found.span()
    if text.count(":") >= 2:
        for found in _V6.finditer(text):
            if _is_v6(found[0]):
                yield found.span()


def _is_v4(text: str, found: re.Match[str]) -> bool:
    parts = found[0].split(".")
    if any(int(part) > 255 or (part[0] == "0" and len(part) > 1) for part in parts):
        return False
    if parts[0] in {"0", "127", "255"}:  # of no machine in particular
        return False
    before = text[max(0, found.start() - 60) : found.start()]
    if _VERSION.search(before):
        return False
    private = found[0].startswith("192.168.") or (parts[0] == "172" and 16 <= int(parts[1]) < 32)
    if not private and _OF_VERSIONS.search(before + text[found.end() : found.end() + 30]) and not _ADDRESS.search(before):
        return False
    if max(map(int, parts)) >= SMALL:
        return True
    return bool(_ADDRESS.search(before)) or before.endswith("://") or text[found.end() : found.end() + 1] in {":", "/"}


def _is_v6(address: str) -> bool:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return False
    if "::" not in address:
        return True
    first = int(address.split(":")[0] or "0", 16)
    machine = 0x2000 <= first < 0x4000 or 0xFC00 <= first < 0xFE00 or 0xFE80 <= first < 0xFEC0
    return machine or parsed.ipv4_mapped is not None
