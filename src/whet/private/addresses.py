"""The whole of an address of which a model has found a part: house numbers, postcodes, kinds of streets, and the words between."""

from __future__ import annotations

import re
from collections.abc import Sequence

from whet.private.kinds import Found

_NUMBER = (
    r"(?:[0-9]{1,6}(?:[-/][0-9]{1,5})?[A-Za-z]?|[A-Z]{1,2}[0-9][0-9A-Z]?(?: [0-9][A-Z]{2})?|"
    r"[A-Z]{1,2}-[0-9]{4,5}|[0-9]{4} [A-Z]{2}|[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9])(?![\w-])"
)
"""Of a house, or a postcode."""
_UNIT = (
    r"(?i:flat|unit|suite|apartment|apt|room|floor|level|studio|building|bldg|block|wohnung|haus|etage|appartement|bâtiment|étage|appartamento|"
    r"interno|piano|piso|puerta|depto|departamento|edif|edificio|interior|bloco|apto|lokal|mieszkanie|lgh)(?![\w])\.?"
)
_STREET = (
    r"(?:Calle|Avenida|Avda|Av|Avenue|Plaza|Paseo|Pasaje|Camino|Carretera|Ronda|Glorieta|Callejón|Calzada|Andador|Peatonal|Boulevard|Blvd|Rue|"
    r"Chemin|Place|Impasse|Allée|Quai|Via|Viale|Piazza|Corso|Vicolo|Largo|Strada|Contrada|Borgo|Stretto|Incrocio|Canale|Rotonda|Rua|Travessa|Praça|"
    r"Alameda|Rodovia|Estrada|Parque|Jardim|Vila|Aleja|Plac|Osiedle|Rondo|Am|Zum|Zur|Port|Lake|East|West|North|South|New|Old|Saint|Sainte|St|Ste|San|"
    r"Santa|Santo|São|Sant|Nueva|Nuevo|Bad|Le|La|Les|Los|Las|El|rue|avenue|chemin|impasse|allée|quai|boulevard|calle|avenida|rua|ul|al|os|pl)(?![\w])\.?"
)
"""What a street or a town begins with."""
_SMALL = (
    r"(?:de|del|della|delle|dei|degli|di|da|do|dos|das|du|des|la|las|los|le|les|el|y|e|of|the|upon|am|an|im|bei|ob|vor|von|van|der|den|het|aan|op|"
    r"ten|sur|sous|lès|en|pod|nad|na|we|w)(?![\w])"
)
_TITLED = r"[^\W\d_a-zß-öø-ÿ][\w'’.-]*"
"""A word with a capital."""
_APART = r"(?:\s*,\s*|[ \t]+|\n|\s*-\s*)"
_BETWEEN = re.compile(rf"{_APART}(?:(?:{_NUMBER}|{_UNIT}|{_SMALL}|{_TITLED}){_APART}){{0,4}}")
"""What may stand between two parts of one address."""
_BEFORE = re.compile(rf"(?<![\w.,/-])(?:{_UNIT},? {_NUMBER},? ?|{_NUMBER},?[ \n]|{_UNIT},? |{_STREET} (?:{_SMALL} ){{0,2}})\Z")
_NAMED_BEFORE = re.compile(rf"(?<![\w.,/-])(?:{_TITLED} ){{1,2}}\Z")
"""What stands before a number of a house."""
_STREET_HERE = re.compile(rf"{_STREET} ")
_STREET_BEFORE = re.compile(rf"[0-9][A-Za-z]?,? {_STREET} (?:{_SMALL} ){{0,2}}\Z")
_ENDS = re.compile(
    r"\b(?:Alley|Avenue|Ave|Bend|Boulevard|Blvd|Branch|Bridge|Brook|Burgs?|Bypass|Centers?|Chase|Circles?|Close|Common|Corners?|Course|Courts?|Coves?|Creek|"
    r"Crescent|Crest|Crossing|Crossroad|Dale|Drives?|Estates?|Extension|Falls|Field|Fields|Flats?|Ford|Fords|Forest|Forges?|Forks?|Freeway|Gardens?|Gateway|Glens?|"
    r"Greens?|Groves?|Harbors?|Haven|Heights|Highway|Hills?|Hollow|Islands?|Junctions?|Keys?|Knolls?|Lakes|Landing|Lane|Lights?|Loaf|Locks?|Lodge|Loop|Mall|Manors?|"
    r"Meadows?|Mews|Mills?|Mission|Motorway|Mount|Mountains?|Neck|Orchard|Oval|Overpass|Parks?|Parkways?|Pass|Passage|Path|Pike|Pines?|Place|Plains?|Plaza|Points?|Ports?|"
    r"Prairie|Radial|Ramp|Ranch|Rapids?|Rest|Ridges?|River|Roads?|Rd|Route|Row|Run|Shoals?|Shores?|Skyway|Springs?|Spurs?|Squares?|Station|Stravenue|Stream|Streets?|St|"
    r"Summit|Terrace|Throughway|Trace|Track|Trafficway|Trails?|Tunnel|Turnpike|Underpass|Unions?|Valleys?|Via|Viaduct|Views?|Villages?|Ville|Vista|Walks?|Wall|Ways?|"
    r"Wells?|Wynd)\Z"
)
"""What a street of an English-speaking country ends with. USPS Publication 28, appendix C1."""
_YEAR = re.compile(r"(?:19|20)[0-9]{2} \Z")
_BEHIND = re.compile(
    rf"(?:,? |, ?|\n|-)(?:{_UNIT},? {_NUMBER}|{_NUMBER}(?=\s*(?:[,.;:!?)\n]|$))|\([A-Z]{{2}}\)|{_SMALL} (?:{_SMALL} )?{_TITLED})"
)
_REACH = 40
"""Characters before and behind a part that are looked at."""


def whole_addresses(text: str, found: Sequence[Found]) -> list[Found]:
    """Return what a model found in a text, in order, with its places as far as they reach. Nothing else that was found is touched."""
    whole: list[Found] = []
    for place, one in enumerate(found):
        least = whole[-1].end if whole else 0
        if one.kind != "place":
            start = _begin(text, one.start, least) if _is_street(text, one, found[place + 1 : place + 2]) else one.start
            whole += [*([Found(start, one.start, "place")] if start < one.start else []), one]
            continue
        most = found[place + 1].start if place + 1 < len(found) else len(text)
        start, end = _begin(text, one.start, least), _end(text, one.end, most)
        last = whole[-1] if whole else None
        if last is not None and last.kind == "place" and start - last.end < _REACH and _joins(text[last.end : start]):
            whole[-1] = Found(last.start, end, "place")
        else:
            whole.append(Found(start, end, "place"))
    return whole


def _is_street(text: str, one: Found, behind: Sequence[Found]) -> bool:
    """Whether what a model takes for a person is of a street: a street's first or last word says so, or what comes directly behind it."""
    if _ENDS.search(text, one.start, one.end) or _STREET_BEFORE.search(text[max(0, one.start - _REACH) : one.start]):
        return True
    return any(two.kind == "place" and not text[one.end : two.start].strip(" ,\n") for two in behind)


def _joins(between: str) -> bool:
    return not between or _BETWEEN.fullmatch(between) is not None


def _begin(text: str, start: int, least: int) -> int:
    """Return where an address begins of which a part begins here."""
    while start > least and (text[start].isupper() or text[start].isdigit() or _STREET_HERE.match(text, start)):
        window = text[max(least, start - _REACH) : start]
        before = _BEFORE.search(window) or (_NAMED_BEFORE.search(window) if text[start].isdigit() else None)
        if before is None or _YEAR.fullmatch(before[0]):
            break
        start -= len(before[0])
    return start


def _end(text: str, end: int, most: int) -> int:
    """Return where an address ends of which a part ends here."""
    while end < most and (behind := _BEHIND.match(text, end, min(most, end + _REACH))):
        end = behind.end()
    return end
