"""A light guess at the language of texts: by script, then by the commonest words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

SCRIPTS = {
    "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru", "ARABIC": "ar", "HEBREW": "he",
    "GREEK": "el", "DEVANAGARI": "hi", "THAI": "th", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GUJARATI": "gu",
    "GEORGIAN": "ka", "ARMENIAN": "hy",
}  # fmt: skip
WORDS = {
    "en": "the and to of is in that it you for was with on this my have are be not but i what how can do",
    "de": "der die und das ist nicht ich zu mit den ein eine auf für es sie von dem wie auch sich kann",
    "fr": "le la les et est pas je un une des que pour dans ce il vous sur avec qui mon du au plus",
    "es": "el la los que de y en un una es no por para con se mi lo como más está pero me las",
    "it": "il la di che e un una non per è sono con mi si come ma del della questo ho le i",
    "pt": "o a os que de e do da em um uma não para com é se por mais meu como na no está",
    "nl": "de het een en van is niet dat ik op te in voor met zijn je er aan ook mijn maar",
    "pl": "nie to się na i w z do jest że jak co po ale mi tak mam czy jestem od za",
    "sv": "och att det är en som på för inte jag med av den har till ett om var kan min",
    "tr": "bir ve bu için ne da de çok ama mı ben var daha gibi kadar nasıl değil olarak",
}
NAMES = {
    "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "ru": "Russian", "ar": "Arabic", "he": "Hebrew", "el": "Greek", "hi": "Hindi",
    "th": "Thai", "bn": "Bengali", "ta": "Tamil", "te": "Telugu", "gu": "Gujarati", "ka": "Georgian", "hy": "Armenian",
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "pl": "Polish", "sv": "Swedish", "tr": "Turkish",
}  # fmt: skip
_VOCABULARY = {language: frozenset(words.split()) for language, words in WORDS.items()}


def guess_language(texts: Iterable[str]) -> str | None:
    """Return an ISO 639-1 code, or None where the texts do not say clearly enough."""
    scripts: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in texts:
        start = text[:500]
        scripts.update(_script(character) for character in start if character.isalpha())
        words.update(re.findall(r"\w+", start.lower()))
    if not scripts:
        return None
    commonest = scripts.most_common(1)[0][0]
    if commonest != "LATIN":
        japanese = scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * scripts.total()
        return "ja" if japanese else SCRIPTS.get(commonest)
    hits = {language: sum(words[word] for word in vocabulary) for language, vocabulary in _VOCABULARY.items()}
    best, second = sorted(hits, key=lambda language: -hits[language])[:2]
    clear = hits[best] >= 0.08 * words.total() and hits[best] > 1.2 * hits[second]
    return best if clear else None


def _script(character: str) -> str:
    if character.isascii():
        return "LATIN"
    return unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0]
