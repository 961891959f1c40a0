"""Turns clean tickets into an export with the mess of a real help desk: broken text, duplicates, wrong labels."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random

import wording

FIRST_DAY, LAST_DAY = date(2025, 3, 1), date(2026, 4, 30)
MESS = {
    "empty_message": 25,
    "empty_intent": 15,
    "wrong_label": 30,
    "label_spelling": 60,
    "broken_encoding": 50,
    "html_remnant": 60,
    "contact": 120,
    "exact_duplicate": 90,
    "near_duplicate": 40,
}
"""Rows per kind of mess. No row gets two kinds; the last two add rows, the others change rows."""

CONFUSED_WITH = {
    "device_offline": ("installation_help", "login_problem"),
    "billing_refund": ("cancel_subscription", "return_device"),
    "login_problem": ("device_offline", "feature_question"),
    "delivery_delay": ("return_device", "billing_refund"),
    "installation_help": ("device_offline", "feature_question"),
    "cancel_subscription": ("change_plan", "billing_refund"),
    "false_alarm": ("device_offline", "feature_question"),
    "change_plan": ("cancel_subscription", "billing_refund"),
    "feature_question": ("installation_help", "change_plan"),
    "return_device": ("delivery_delay", "billing_refund"),
}


@dataclass(frozen=True)
class Ticket:
    """One row of the export; the fields are its columns."""

    id: str
    date: str
    channel: str
    customer_tier: str
    message: str
    intent: str
    answer: str


def break_encoding(text: str) -> str:
    """`text` with typographic apostrophes, its UTF-8 bytes read as cp1252."""
    return text.replace("'", "\u2019").encode("utf-8").decode("cp1252")


def add_html(text: str, random: Random) -> str:
    """`text` as a mail client's HTML that was not fully removed."""
    text = html.escape(text, quote=False)
    kinds = ["<p>", "&nbsp;", "<br>"] + ["&amp;"] * (" and " in text) + ["lines"] * (2 * ("\n" in text))
    kind = random.choice(kinds)
    if kind == "<p>":
        return f"<p>{text}</p>"
    if kind == "lines":
        return text.replace("\n", "<br>")
    if kind == "<br>":
        return re.sub(r"(?<=[.,?!]) ", "<br>", text, count=1) if re.search(r"[.,?!] ", text) else f"{text}<br><br>"
    if kind == "&amp;":
        return text.replace(" and ", " &amp; ", 1)
    at = random.choice([match.start() for match in re.finditer(" ", text)] or [len(text)])
    return f"{text[:at]}&nbsp;{text[at + 1 :]}"


def add_contact(ticket: Ticket, random: Random) -> Ticket:
    """`ticket` with an invented mail address or telephone number in the message."""

    def mail() -> str:
        first, last = (random.choice(names).lower() for names in (wording.FIRST_NAMES, wording.LAST_NAMES))
        plain = f"{first}{random.choice(('.', '_', ''))}{last}".encode("ascii", "ignore").decode()
        return f"{plain}{random.choice(('', '', '7', '82'))}@example.{random.choice(('com', 'org', 'net'))}"

    phone = random.choice(("555-01{:02d}", "(212) 555-01{:02d}", "+1 415 555 01{:02d}", "1-303-555-01{:02d}"))
    values = {"mail": mail(), "mail2": mail(), "phone": phone.format(random.randint(0, 99))}
    choices = wording.CHAT_CONTACTS if ticket.channel == "chat" else wording.CONTACTS
    contact = random.choice(choices).format(**values)
    lines = ticket.message.split("\n\n")
    if len(lines) == 3:
        lines[1] = f"{lines[1]} {contact}"
        return replace(ticket, message="\n\n".join(lines))
    return replace(ticket, message=f"{ticket.message} {contact}")


def misspell_label(label: str, random: Random) -> str:
    """`label` in another case or with stray spaces; stripped and in lower case it is `label` again."""
    title = "_".join(part.capitalize() for part in label.split("_"))
    spaced = (f" {label} ", f"{label} ", f" {label}", f" {title}")
    return random.choice((title, label.upper(), label.capitalize(), *spaced))


def change_slightly(text: str, random: Random) -> str:
    """`text` with one small change, as when a customer sends the same thing again."""
    swaps = [(" my ", " the "), (" is ", " is still "), ("please", "kindly"), (" and ", " & "), (" not ", " NOT ")]
    fitting = [(old, new) for old, new in swaps if old in text]
    if fitting and random.random() < 0.6:
        return text.replace(*random.choice(fitting), 1)
    return random.choice((text + "!!", text + " ...", text.replace(" ", "  ", 1), text + " ?"))


def plant_mess(tickets: list[Ticket], random: Random) -> tuple[list[Ticket], dict[str, str]]:
    """The messy export, and the true intent of each ticket id that got a wrong label."""
    rows = list(tickets)
    free = list(range(len(rows)))
    random.shuffle(free)

    def take(kind: str, fits: Callable[[Ticket], bool] = lambda ticket: True) -> list[int]:
        taken = [i for i in free if fits(rows[i])][: MESS[kind]]
        assert len(taken) == MESS[kind], f"only {len(taken)} tickets can get {kind}"
        free[:] = [i for i in free if i not in set(taken)]
        return taken

    true_intents: dict[str, str] = {}
    for i in take("broken_encoding", lambda ticket: bool(re.search(r"['\u2019]|[^\x00-\x7f]", ticket.message))):
        rows[i] = replace(rows[i], message=break_encoding(rows[i].message))
    for i in take("html_remnant", lambda ticket: ticket.channel in ("email", "app")):
        rows[i] = replace(rows[i], message=add_html(rows[i].message, random))
    for i in take("contact"):
        rows[i] = add_contact(rows[i], random)
    for i in take("wrong_label"):
        true_intents[rows[i].id] = rows[i].intent
        rows[i] = replace(rows[i], intent=random.choice(CONFUSED_WITH[rows[i].intent]))
    for i in take("label_spelling"):
        rows[i] = replace(rows[i], intent=misspell_label(rows[i].intent, random))
    for i in take("empty_message"):
        rows[i] = replace(rows[i], message="")
    for i in take("empty_intent"):
        rows[i] = replace(rows[i], intent="")
    exact = [rows[i] for i in take("exact_duplicate")]
    again = [rows[i] for i in take("near_duplicate", lambda ticket: len(ticket.message) > 30)]
    for number, ticket in enumerate(again):
        new_day = min(LAST_DAY, date.fromisoformat(ticket.date) + timedelta(days=random.randint(0, 3))).isoformat()
        message = change_slightly(ticket.message, random)
        rows.append(replace(ticket, id=f"T-{10001 + len(tickets) + number}", date=new_day, message=message))
    rows.sort(key=lambda ticket: (ticket.date, ticket.id))
    for ticket in exact:
        rows.insert(random.randint(0, len(rows)), ticket)
    return rows, true_intents
