"""The words around a number, which say what it is a number of."""

from __future__ import annotations

import re

_OTHER = re.compile(
    r"(?i)(?:\b(?:orders?|ord|invoices?|inv|refs?|reference|ticket|case|tracking|track|parcel|shipment|consignment|serial|s/n|sku|upc|ean|gtin|"
    r"isbn(?:-1[03])?|issn|asin|doi|arxiv|pmid|part|model|article|art|item|product|prod|batch|lot|booking|reservation|confirmation|transaction|trx|"
    r"txn|policy|claim|account|acct|a/c|customer|user|member|session|request|job|process|pid|build|revision|rev|version|ver|release|issue|"
    r"bug|error|code|hash|commit|checksum|uuid|guid|timestamp|epoch|unix|barcode|license|licence|zip|postcode|population|total|sum|amount|"
    r"price|cost|worth|bestell\w*|auftrag\w*|rechnung\w*|kunden\w*|artikel\w*|sendung\w*|konto\w*|vorgang\w*|commande|facture|dossier|colis|"
    r"pedido|factura|encargo|ordine|fattura|spedizione|encomenda|fatura|bestelling|factuur|zamówieni\w*|nip|vat|ein|ids?|lines?|rows?|"
    r"pages?|chapter|section|port)\b|#)\W{0,3}(?:\b(?:no|nr|num|number|numbers|id|code|key|is|was|are|of|the|ist|war|nummer|numero|número|numéro|n[°º])\b\W{0,3}){0,3}$"
)
"""What stands before a number that belongs to a thing and not to a person."""
_UNIT_BEFORE = re.compile(r"(?:[$€£¥₹₽]|\b(?:USD|EUR|GBP|CHF|JPY|INR|BRL|Rs\.?|ISBN(?:-1[03])?:?))\s?$")
_UNIT_AFTER = re.compile(
    r"\s?(?:[$€£¥₹%°×*=^]|(?:USD|EUR|euros?|dollars?|pounds?|people|inhabitants|users|bytes|[KMGT]i?B|ms|seconds|km|kg|hits|views|rows)\b)"
)
_PHONE = re.compile(
    r"(?i)(?:\b(?:call(?:s|ed|ing|back)?|phone[ds]?|tel(?:ephone|efon\w*|éfono|efono|efone|efoon|ef)?|ph|ph\.? ?no|mob(?:ile?|iel|il)?|cell(?:phone|ulare|ular)?|"
    r"whats ?app|signal|telegram|viber|sms|txt|texts?|texting|contact\w*|reach\w*|dial\w*|ring|rings|fax|hotline|voicemail|callback|"
    r"(?:my|our|his|her|their|your|personal|work|home|office|emergency|daytime|direct) (?:new |other |old )?(?:number|no|nr|line)|landline|extension|"
    r"ruf\w*|anruf\w*|angerufen|handy\w*|mobil\w*|festnetz|erreich\w*|durchwahl|rückruf\w*|appel\w*|téléphon\w*|tél|portable|joindre|joignable|"
    r"llam\w*|móvil|celular|fijo|chiam\w*|cellulare|ligu\w*|lig(?:ar|ue)|telemóvel|bel|bellen|mobiel|zadzwo\w*|dzwoń|komórk\w*|"
    r"ringa|puhelin|telefon\w*)\b|[☎☏📞📱]|\b(?-i:[TMFPC]) ?[:.] ?$|फ़?ोन|मोबाइल|电话|手机|電話|전화|телефон\w*|звон\w*|هاتف)"
)
NATIONAL = re.compile(
    r"(?i)\b(?:(?:national|personal|identity|identification|citizen|social|government|gov|tax|insurance) ?(?:security |insurance |service )?(?:id|ids|no|nr|number|card)|"
    r"id (?:no|nr|number|card)|identity|identification|my id|passport|taxpayer)\b"
)
_SENTENCE_END = re.compile(r"(?<=\w{4})[.!?]\s")
_SUM_BEFORE = re.compile(r"[0-9)][a-z]?\s[+*×÷=−-]\s?$")
_SUM_AFTER = re.compile(r"\s[+*×÷=]\s?[0-9(]")
BEFORE, AFTER = 40, 24  # characters


def named(text: str, start: int) -> str:
    """Return 'other' where a number is said to be of a thing, 'phone' where a word before it speaks of calling; '' where neither is."""
    window = text[max(0, start - BEFORE) : start]
    if _OTHER.search(window):
        return "other"
    sentence = _SENTENCE_END.split(window)[-1]  # "... and I will call. 1234567 is my order"
    return "phone" if _PHONE.search(sentence) else ""


def follows_phone(text: str, end: int) -> bool:
    """Whether what comes after a number says that it is a phone."""
    return bool(_PHONE.search(text[end : end + AFTER]))


def is_other_number(text: str, start: int, end: int) -> bool:
    """Whether the words around a number say that it is an order's, a price, a version or the like."""
    return is_amount(text, start, end) or named(text, start) == "other"


def is_amount(text: str, start: int, end: int) -> bool:
    """Whether a currency, a unit or a sum stands beside the number."""
    before = text[max(0, start - 8) : start]
    return bool(
        _UNIT_BEFORE.search(before) or _UNIT_AFTER.match(text, end) or _SUM_AFTER.match(text, end) or _SUM_BEFORE.search(before)
    )


def says(pattern: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether words of the pattern stand near a number, before or behind it."""
    return bool(pattern.search(text[max(0, start - BEFORE) : start]) or pattern.search(text[end : end + AFTER]))
