"""The language of texts, by py3langid, which carries its model: Lui and Baldwin 2012, langid.py."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

LEAST, START, ENOUGH = 40, 500, 20_000
"""Characters of each text that are looked at, the more the fewer texts there are, and about so many of all together: of texts from the first
to the last, since files are often in an order."""
FEWEST_LETTERS = 6
CERTAIN = 0.7
"""Least probability of a language that is told."""
NONE = "zxx"
"""What ISO 639 calls a text that is in no language: numbers, keys, codes."""
NAMES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian", "bn": "Bengali",
    "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "eo": "Esperanto", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian",
    "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "jv": "Javanese",
    "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "kn": "Kannada", "ko": "Korean", "ku": "Kurdish", "ky": "Kyrgyz", "la": "Latin",
    "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi",
    "ms": "Malay", "mt": "Maltese", "my": "Burmese", "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian (Nynorsk)", "no": "Norwegian",
    "pa": "Punjabi", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "si": "Sinhala",
    "sk": "Slovak", "sl": "Slovenian", "so": "Somali", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "xh": "Xhosa", "yo": "Yoruba", "yue": "Cantonese", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip
"""Names of languages by their codes; others are told by the code."""


def guess_language(texts: Iterable[str]) -> str | None:
    """Return the code of the language of all texts together (ISO 639), or None where they do not say clearly enough."""
    texts = list(texts)
    start = min(START, max(LEAST, ENOUGH // max(1, len(texts))))
    looked_at = [text[:start] for text in texts[:: max(1, len(texts) * start // ENOUGH)]]
    sample = " ".join(looked_at)
    if sum(map(str.isalpha, sample)) < FEWEST_LETTERS:
        return None
    found, probability = identifier().classify(sample)
    return found if probability >= CERTAIN and found != NONE else None


@lru_cache(maxsize=1)
def identifier() -> Any:
    """Return what tells languages apart: `classify(text)` gives a code and its probability, `labels` are all codes."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
