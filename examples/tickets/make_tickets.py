"""Writes the example support tickets of the invented product Rillwatch: the same seed gives the same bytes.

    python examples/tickets/make_tickets.py [--out DIRECTORY] [--seed SEED]

The words are in `phrasings.py` and `wording.py`. This script combines them in the style of each channel
(`style_by_channel.py`) and then plants the mess that exports from real help desks have (`export_mess.py`).
"""

import argparse
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

import wording
from export_mess import FIRST_DAY, LAST_DAY, MESS, Ticket, plant_mess
from phrasings import INTENTS, Phrasing, Topic, slots
from style_by_channel import STYLES

SEED = 20260430
NUM_TICKETS = {
    "device_offline": 328,
    "billing_refund": 258,
    "login_problem": 224,
    "delivery_delay": 206,
    "installation_help": 172,
    "cancel_subscription": 155,
    "false_alarm": 138,
    "change_plan": 103,
    "feature_question": 86,
    "return_device": 55,
}
"""Tickets per intent before the mess."""

MONTHLY = {"free": "$6.99", "plus": "$6.99", "business": "$24.99"}
YEARLY = {"free": "$69", "plus": "$69", "business": "$240"}
BUSINESS_WORDS = re.compile(
    r"\b(our (books|shop|buildings?|office|site|firm|company|reception|mailroom|accountant|caretaker"
    r"|technician|cleaners|club)|my company|sites|we are closing|we ordered|costs this year)\b",
    re.IGNORECASE,
)
REMARK_SHARE = {"email": 0.6, "chat": 0.12, "phone_transcript": 0.4, "app": 0.25}
ASIDE_SHARE = 0.1
ORDER_SHARE = 0.25
MAX_OVERLAP = 0.72
"""Two tickets made from one phrasing are redrawn above this Jaccard index of their character 5-grams."""
COLUMNS = ("id", "date", "channel", "customer_tier", "message", "intent", "answer")
PREDICT = (
    ("P-1", "Hi, the money for the sensor I mailed in two weeks ago is not on my account. Can you check? Dana"),
    ("P-2", "since the power came back the box in our cellar only shows red and my phone cant see it"),
    ("P-3", "Before I order: could my sister in Leeds also get a message if something leaks at my place?"),
    ("P-4", "um, yes, I keep typing the numbers you text me and it, it just tells me they're no good"),
    ("P-5", "Not sure Plus is worth it for one little flat. Can I keep the basics and not pay?"),
)


def all_phrasings() -> list[tuple[str, Topic, Phrasing]]:
    """Every hand-written phrasing with its intent and topic."""
    return [(intent, topic, p) for intent, topics in INTENTS.items() for topic in topics for p in topic.phrasings]


def fill(text: str, values: dict[str, str], random: Random) -> str:
    """`text` with one wording chosen from each `[one|two]` and each `{slot}` replaced."""
    text = re.sub(r"\[([^\]]+\|[^\]]+)\]", lambda match: random.choice(match[1].split("|")), text)
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def draw_values(day: date, tier: str, random: Random) -> dict[str, str]:
    """A value for each slot, fitting the day and the tier of one ticket."""
    past, coming = day - timedelta(days=random.randint(3, 24)), day + timedelta(days=random.randint(3, 24))
    day_format = random.choice(("{m} {d}", "{d} {m}"))
    numbers = {"days": (4, 14), "weeks": (2, 6), "months": (3, 20), "years": (2, 5), "hours": (2, 9)}
    numbers |= {"minutes": (15, 50), "count": (2, 6), "step": (2, 7), "age": (64, 89)}
    words = {"room": wording.ROOMS, "weekday": wording.WEEKDAYS, "os": wording.SCREENS, "nth": wording.NTH}
    words |= {"code": wording.ERROR_CODES, "version": wording.VERSIONS}
    words |= {"name": wording.FIRST_NAMES, "surname": wording.LAST_NAMES}
    values = {slot: str(random.randint(*bounds)) for slot, bounds in numbers.items()}
    values |= {slot: random.choice(choices) for slot, choices in words.items()}
    return values | {
        "order": f"RW-{random.randint(20000, 89999)}",
        "plan": tier.capitalize(),
        "amount": MONTHLY[tier],
        "yearly": YEARLY[tier],
        "hour": f"{random.randint(1, 4)}:{random.choice(('05', '10', '20', '30', '40', '50'))} am",
        "month": wording.MONTHS[(day.month - 2) % 12],
        "next_month": wording.MONTHS[day.month % 12],
        "date": day_format.format(m=wording.MONTHS[past.month - 1], d=past.day),
        "next_date": day_format.format(m=wording.MONTHS[coming.month - 1], d=coming.day),
    }


def draw_day(random: Random) -> date:
    """A day of the export's 14 months; weekends get fewer tickets."""
    while True:
        day = FIRST_DAY + timedelta(days=random.randint(0, (LAST_DAY - FIRST_DAY).days))
        if day.weekday() < 5 or random.random() < 0.4:
            return day


def draw_channel(phrasing: Phrasing, random: Random) -> str:
    """The phrasing's own channel, or a drawn one."""
    if phrasing.channel != "any":
        return phrasing.channel
    return random.choices(("email", "chat", "phone_transcript", "app"), weights=(42, 17, 17, 24))[0]


def draw_tier(topic: Topic, phrasing: Phrasing, random: Random) -> str:
    """A tier that can write about the topic; Business where the wording is that of a company."""
    if "business" in topic.tiers and BUSINESS_WORDS.search(phrasing.text):
        return "business"
    weights = {"free": 38, "plus": 47, "business": 15}
    return random.choices(topic.tiers, weights=[weights[tier] for tier in topic.tiers])[0]


def with_remarks(text: str, intent: str, channel: str, tier: str, random: Random) -> str:
    """`text` with what customers say around their question; it never changes the intent."""
    if intent in ("delivery_delay", "return_device") and "{order}" not in text and random.random() < ORDER_SHARE:
        text = f"{text} {random.choice(wording.ORDER_REMARKS)}"
    text = text if text[-1] in ".?!" else f"{text}."
    if random.random() < ASIDE_SHARE:
        other = random.choice([name for name in wording.ASIDES if name != intent])
        return f"{text} {random.choice(wording.ASIDES[other])}"
    if random.random() < REMARK_SHARE[channel]:
        remark = random.choice(wording.REMARKS + (wording.BUSINESS_REMARKS * 3 if tier == "business" else ()))
        return f"{remark} {text}" if random.random() < 0.5 else f"{text} {remark}"
    return text


def draw_answer(topic: Topic, text: str, random: Random) -> str:
    """An answer of the topic whose slots the message names, mostly one that uses them."""
    fitting = [answer for answer in topic.answers if slots(answer) <= slots(text)]
    assert fitting, f"no answer of topic {topic.name!r} fits {text!r}"
    specific = [answer for answer in fitting if slots(answer)]
    return random.choice(specific if specific and random.random() < 0.8 else fitting)


def draw_ticket(intent: str, topic: Topic, phrasing: Phrasing, random: Random) -> Ticket:
    """A clean ticket, without id, made from one phrasing."""
    day = draw_day(random)
    channel = draw_channel(phrasing, random)
    tier = draw_tier(topic, phrasing, random)
    values = draw_values(day, tier, random)
    text = with_remarks(phrasing.text, intent, channel, tier, random)
    answer = fill(draw_answer(topic, text, random), values, random)
    message = fill(STYLES[channel](fill(text, values, random), random), values, random)
    return Ticket("", day.isoformat(), channel, tier, message, intent, answer)


def overlap(one: str, two: str) -> float:
    """The Jaccard index of the character 5-grams of two texts, 0..1."""
    first, second = ({text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in (one.lower(), two.lower()))
    return len(first & second) / len(first | second)


def draw_distinct(intent: str, topic: Topic, phrasing: Phrasing, earlier: list[str], random: Random) -> Ticket:
    """A ticket that differs clearly from the `earlier` messages of the same phrasing: the best of up to 12 draws."""
    best, best_overlap = None, 2.0
    for _ in range(12):
        ticket = draw_ticket(intent, topic, phrasing, random)
        worst = max((overlap(ticket.message, message) for message in earlier), default=0.0)
        if worst < best_overlap:
            best, best_overlap = ticket, worst
        if worst <= MAX_OVERLAP:
            break
    assert best is not None
    return best


def draw_tickets(random: Random) -> list[Ticket]:
    """The clean tickets in the order of their dates, with ids; no two messages are the same."""
    tickets: list[Ticket] = []
    seen: set[str] = set()
    for intent, wanted in NUM_TICKETS.items():
        deck: list[tuple[Topic, Phrasing]] = []
        earlier: dict[Phrasing, list[str]] = {}
        num_left = wanted
        while num_left:
            if not deck:
                deck = [(topic, phrasing) for topic in INTENTS[intent] for phrasing in topic.phrasings]
                random.shuffle(deck)
            topic, phrasing = deck.pop()
            ticket = draw_distinct(intent, topic, phrasing, earlier.get(phrasing, []), random)
            key = re.sub(r"\W+", " ", ticket.message.lower()).strip()
            if key in seen:
                continue
            seen.add(key)
            earlier.setdefault(phrasing, []).append(ticket.message)
            tickets.append(ticket)
            num_left -= 1
    random.shuffle(tickets)
    tickets.sort(key=lambda ticket: ticket.date)
    return [replace(ticket, id=f"T-{10001 + i}") for i, ticket in enumerate(tickets)]


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A CSV file with a header row, quoted where needed."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def write_tickets(out: Path, seed: int) -> list[Ticket]:
    """Writes `tickets.csv`, `wrong_labels.csv` and `predict.csv` into `out`, and returns the rows of the first."""
    assert len({phrasing.text for _, _, phrasing in all_phrasings()}) >= 400, "fewer than 400 hand-written phrasings"
    assert all(15 <= len(answer.split()) <= 45 for topics in INTENTS.values() for t in topics for answer in t.answers)
    random = Random(seed)
    rows, true_intents = plant_mess(draw_tickets(random), random)
    assert not {message for _, message in PREDICT} & {row.message for row in rows}
    files = {
        "tickets.csv": csv_text(COLUMNS, ([getattr(row, column) for column in COLUMNS] for row in rows)),
        "wrong_labels.csv": csv_text(("id", "true_intent"), sorted(true_intents.items())),
        "predict.csv": csv_text(("id", "message"), PREDICT),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_bytes(text.encode("utf-8"))
    return rows


def main() -> None:
    """Writes the files and prints what is in them."""
    parser = argparse.ArgumentParser(description="Writes the example support tickets.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    rows = write_tickets(arguments.out, arguments.seed)
    distinct = {row.message for row in rows if row.message}
    print(f"{len(rows)} rows, {len(distinct)} distinct messages, {len(all_phrasings())} phrasings")
    for column in ("intent", "channel", "customer_tier"):
        counts = Counter(getattr(row, column).strip().lower() or "(empty)" for row in rows)
        print(f"{column}: " + ", ".join(f"{value} {count}" for value, count in counts.most_common()))
    print("mess: " + ", ".join(f"{kind} {count}" for kind, count in MESS.items()))


if __name__ == "__main__":
    main()
