"""How one message sounds in each channel: mail, chat, a transcribed call, the form in the app."""

import re
from random import Random

from wording import (
    ALWAYS_CAPITAL,
    CHAT_CLOSERS,
    CHAT_OPENERS,
    EMAIL_CLOSINGS,
    EMAIL_GREETINGS,
    EMAIL_LAST_LINES,
    FILLERS,
    KEEP_RARE,
    PAUSE_BEFORE,
    PHONE_CLOSERS,
    PHONE_OPENERS,
    SHORT_FORMS,
)


def type_badly(text: str, random: Random, slip_rate: float = 0.025) -> str:
    """`text` as if typed in a hurry: short forms, known misspellings, and a lost or swapped letter now and then."""
    words = []
    for word in text.split(" "):
        bare = word.strip(".,?!").lower()
        if bare in SHORT_FORMS and random.random() < (0.06 if bare in KEEP_RARE else 0.3):
            word = re.sub(re.escape(bare), SHORT_FORMS[bare], word, flags=re.IGNORECASE)
        elif bare.isalpha() and len(bare) > 4 and random.random() < slip_rate:
            at = random.randrange(1, len(bare) - 2)
            swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            word = random.choice((word[:at] + word[at + 1 :], swapped))
        words.append(word)
    return " ".join(words)


def lower_keeping_codes(text: str) -> str:
    """`text` in lower case, except order numbers, error codes and words in full capitals."""
    return " ".join(w if any(c.isdigit() for c in w) or (w.isupper() and len(w) > 1) else w.lower() for w in text.split(" "))


def as_chat(text: str, random: Random) -> str:
    """`text` as a chat line: mostly lower case, loose punctuation, short forms."""
    if random.random() < 0.85:
        text = lower_keeping_codes(text)
    if random.random() < 0.5:
        text = re.sub(r"(?<=\w)'(?=\w)", "", text)
    if random.random() < 0.4:
        text = re.sub(r"[,.](?= )", "", text)
    text = type_badly(text, random)
    if random.random() < 0.7:
        text = text.rstrip(".")
    draw = random.random()
    if draw < 0.35:
        opener = random.choice(CHAT_OPENERS)
        text = opener + ("" if opener.endswith("?") else random.choice(("", ",", ""))) + " " + text
    if draw > 0.25 and random.random() < 0.35:
        text = f"{text} {random.choice(CHAT_CLOSERS)}"
    return text


def start_lower(text: str) -> str:
    """`text` with a small first letter, unless the first word is always written with a capital."""
    first = text.split(" ", 1)[0].rstrip(",.?:")
    if first in ALWAYS_CAPITAL or first.startswith(("I'", "RW-")) or (first.isupper() and first != "A"):
        return text
    return text[0].lower() + text[1:]


def as_phone_transcript(text: str, random: Random) -> str:
    """`text` as a transcribed call: an opener, fillers, a repeated word, a loose end."""
    words = text.split(" ")
    pauses = [i for i, word in enumerate(words) if i > 0 and (word in PAUSE_BEFORE or words[i - 1][-1] in ",.?:")]
    for at in sorted(random.sample(pauses, min(len(pauses), 1 + len(words) // 14)), reverse=True):
        filler = random.choice(FILLERS)
        if words[at - 1][-1] in ".?" and words[at][0].isupper():
            filler = filler.capitalize()
            words[at] = start_lower(words[at])
        words.insert(at, filler)
    if random.random() < 0.25 and len(words) > 4:
        at = random.randrange(0, 3)
        if words[at].isalpha() and words[at].lower() not in {"i", "a"}:
            words[at] = f"{words[at]}, {words[at].lower()}"
    text = " ".join(words)
    if random.random() < 0.75:
        text = start_lower(text)
        text = f"{random.choice(PHONE_OPENERS)} {text}"
    if random.random() < 0.4:
        text = f"{text} {random.choice(PHONE_CLOSERS)}"
    return text


def as_app(text: str, random: Random) -> str:
    """`text` as typed into the form of the app: no greeting, few slips."""
    draw = random.random()
    if draw < 0.2:
        text = lower_keeping_codes(text).rstrip(".")
    elif draw < 0.35:
        text = text.rstrip(".")
    if random.random() < 0.3:
        text = type_badly(text, random, slip_rate=0.015)
    if random.random() < 0.15:
        text = f"{text} {random.choice(('Thanks', 'Thank you!', 'Please help.', 'Thx', 'Please reply.'))}"
    return text


def as_email(text: str, random: Random) -> str:
    """`text` as a mail with a greeting and a name, on one line or on several."""
    gap, line = random.choice(((" ", " "), (" ", " "), ("\n\n", "\n")))
    if random.random() < 0.35:
        text = f"{text} {random.choice(EMAIL_LAST_LINES)}"
    if random.random() < 0.85:
        text = f"{random.choice(EMAIL_GREETINGS)}{gap}{text}"
    if random.random() < 0.75:
        name = random.choice(("{name}", "{name} {surname}", "{name} {surname}", "{surname}"))
        text = f"{text}{gap}{random.choice(EMAIL_CLOSINGS)}{line}{name}"
    if random.random() < 0.3:
        text = text.replace("'", "\u2019")
    return text


STYLES = {"email": as_email, "chat": as_chat, "phone_transcript": as_phone_transcript, "app": as_app}
