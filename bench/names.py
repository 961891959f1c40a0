"""Names and addresses put into real sentences: how many a run of objective `tokens` finds as `data.redact.model`, and its false alarms.

    pip install faker
    python bench/names.py train.csv test.csv --text text

Sentences of the first file, with and without persons and addresses of Faker in them, are learnt from; those of the second are judged. Openings,
closings and two of the locales of the judged rows stand in no training row. Writes bench/results/names.json.

Whoever changes the rows that are learnt from, or the rules of `whet.private.addresses`, looks at `--develop` alone: every fifth sentence of the
first file, which is never learnt from, in openings, closings and locales of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faker

from whet.data.redact import build_redactor
from whet.recipe_data import Redact
from whet.recipe_file import build_recipe
from whet.stages.train import train

LEARNT = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL")
"""Locales of judged rows too."""
MORE = ("en_AU", "en_CA", "en_IE", "en_IN", "de_AT", "de_CH", "fr_CH", "nl_BE", "es_MX", "da_DK", "no_NO", "fi_FI", "hu_HU", "ro_RO", "tr_TR", "id_ID")  # fmt: skip
"""Locales of training rows alone."""
NEW = {"test": ("pl_PL", "pt_BR"), "develop": ("sv_SE", "hr_HR")}
"""Locales of judged rows alone."""
FORMS = {
    "train": (
        "My name is {person}. {row}", "{row} Regards, {person}", "Hi, {person} here. {row}", "{row} I live at {place}.", "I am {person} from {place}. {row}",
        "{row} Please write to {person}, {place}.", "Dear {person}, {row}", "{person} asked: {row}", "{row} The card went to {place} instead.",
        "Mr {person} and {person} have the same question: {row}", "{row} Ask {person} about it, he was at {place}.", "we moved to {place} last week. {row}",
        "{row} Yours, {person} ({place})", "Name: {person}. Address: {place}. {row}", "{row} It was stolen in {place}", "To {person}: {row}",
        "for my son {person}, {row}", "{row} The parcel for {person} went back to {place}.", "Since I came to {place}, {row}", "my boss {person} said {row}",
        "{row} The account is that of {person}, born in {place}.", "{row} I am flying to {place} tomorrow", "{row} Signed {person}\n{place}",
        "I, {person}, ask you: {row}", "{row} It came from {place} and was late.", "{row} Talk to {person} or {person}.", "In {place} they told me: {row}",
        "{row} Is there a branch near {place}?",
    ),
    "test": (
        "This is {person} speaking, {row}", "{row} Thanks a lot, {person}", "I spoke with {person} yesterday. {row}", "{row} My new address is {place}, thank you.",
        "{person}, {place}: {row}", "Send it to {place} please. {row}", "{row} My wife {person} has lost it too.", "{person}'s account is affected. {row}",
    ),
    "develop": (
        "It's {person}. {row}", "{row} Best wishes from {person}", "{row} Deliver to: {place}.", "{person} ({place}) writes: {row}", "Can you tell {person} that {row}",
        "{row} My flat is at {place}, by the way.", "{row} I had it sent to {place}!", "Our neighbour {person} wants to know: {row}", "Hello, {person} in {place} - {row}",
    ),
}  # fmt: skip
"""How names come into a sentence."""
SLOT = re.compile(r"\{(person|place|row)\}")
LABELS = {"person": "PER", "place": "LOC"}
Span = tuple[str, int, int]


def main() -> None:
    """Train, measure, print and write."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("train", type=Path)
    asked.add_argument("test", type=Path)
    asked.add_argument("--text", default="text")
    asked.add_argument(
        "--rows", type=int, default=8000, help="Rows with names that are learnt from; each sentence is learnt without one too."
    )
    asked.add_argument("--judged", type=int, default=2700)
    asked.add_argument("--clean", type=int, default=3000)
    asked.add_argument("--seed", type=int, default=20261130, help="Of the rows that are judged.")
    asked.add_argument("--show", type=int, default=0, help="Wrong ones that are printed.")
    asked.add_argument("--develop", action="store_true", help="Judge development rows, and write nothing.")
    asked.add_argument("--model", help="A model or run to judge, instead of one that is trained here.")
    asked.add_argument("--keep", type=Path, help="A new folder for the run that is trained.")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "names.json")
    options = asked.parse_args()
    draw = random.Random(0)
    first = sentences(options.train, options.text)
    carriers = [text for place, text in enumerate(first) if place % 5]
    part, judged = ("develop", first[::5]) if options.develop else ("test", sentences(options.test, options.text))
    fakes = {locale: faker.Faker(locale) for locale in (*LEARNT, *MORE, *NEW[part])}
    seed(fakes, 0)
    with tempfile.TemporaryDirectory() as place:
        model = options.model
        if model is None:
            rows = [made(draw.choice(carriers), "train", fakes[draw.choice(LEARNT + MORE)], draw) for _ in range(options.rows)]
            rows += [(text, []) for text in carriers]
            model = str(learnt(rows, options.keep or Path(place)))
        result: dict[str, Any] = {
            "faker": faker.VERSION,
            "model": options.model or f"builtin:minilm, tokens, {options.rows + len(carriers)} rows",
            "seed": options.seed,
            "locales": {},
        }
        draw = random.Random(options.seed)  # the same rows are judged whatever model is named
        seed(fakes, options.seed)
        redactor = build_redactor(Redact(model=model, kinds=("person", "place")), b"")
        for name, locales in (("learnt", LEARNT), ("new", NEW[part])):
            rows = [made(draw.choice(judged), part, fakes[draw.choice(locales)], draw) for _ in range(options.judged)]
            result["locales"][name] = recall(rows, redactor, options.show)
        clean = draw.sample(judged, min(options.clean, len(judged)))
        redactor.ahead(clean)
        wrong = [text for text in clean if redactor.find(text)]
        for text in wrong[: options.show]:
            print([text[one.start : one.end] for one in redactor.find(text)], text)
        result["clean"] = share(len(wrong), len(clean))
    print(json.dumps(result, indent=1))
    if not options.develop:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def seed(fakes: Mapping[str, Any], number: int) -> None:
    """Begin what is drawn of every locale anew."""
    for fake in fakes.values():
        fake.seed_instance(number)


def sentences(file: Path, column: str) -> list[str]:
    """Return the texts of a file, each once."""
    with file.open(encoding="utf-8", newline="") as lines:
        return list(dict.fromkeys(" ".join(row[column].split()) for row in csv.DictReader(lines)))


def made(row: str, part: str, fake: Any, draw: random.Random) -> tuple[str, list[Span]]:
    """Return a sentence with names in it, and where they stand."""
    form, text, last, spans = draw.choice(FORMS[part]), "", 0, list[Span]()
    for slot in SLOT.finditer(form):
        text += form[last : slot.start()]
        last = slot.end()
        word = row
        if slot[1] == "person":
            word = draw.choice([fake.name, fake.name, fake.first_name, fake.last_name])()
        elif slot[1] == "place":
            word = draw.choice([lambda: fake.address().replace("\n", ", "), fake.street_address, fake.city])()
        word = " ".join(word.split())
        if slot[1] != "row":
            spans.append((slot[1], len(text), len(text) + len(word)))
        text += word
    return text + form[last:], spans


def learnt(rows: Sequence[tuple[str, Sequence[Span]]], folder: Path) -> Path:
    """Return a run that labels the words of such rows."""
    lines = []
    for text, spans in rows:
        before: Span | None = None
        for word in re.finditer(r"\S+", text):
            hit = next((one for one in spans if one[1] < word.end() and word.start() < one[2]), None)
            lines.append(f"{word[0]} {'O' if hit is None else ('I-' if hit == before else 'B-') + LABELS[hit[0]]}\n")
            before = hit
        lines.append("\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.conll").write_text("".join(lines), encoding="utf-8")
    values = {"model": "builtin:minilm", "data": {"path": str(folder / "rows.conll"), "redact": False}, "objective": "tokens",
              "train": {"epochs": 1, "batch_size": 16, "max_length": 96}}  # fmt: skip
    return train(build_recipe(values, "bench"), out=folder / "run").path


def recall(rows: Sequence[tuple[str, Sequence[Span]]], redactor: Any, show: int) -> dict[str, Any]:
    """Return how many names were taken out whole, and how many at least in part, by kind; print the first `show` that were not."""
    redactor.ahead([text for text, _ in rows])
    whole, part, number = (dict.fromkeys(LABELS, 0) for _ in range(3))
    for text, spans in rows:
        gone = {place for one in redactor.find(text) for place in range(one.start, one.end)}
        for kind, start, end in spans:
            letters = {place for place in range(start, end) if text[place].isalnum()}
            number[kind] += 1
            whole[kind] += letters <= gone
            part[kind] += bool(letters & gone)
            if not letters <= gone and (show := show - 1) >= 0:
                print(kind, repr(text[start:end]), [text[one.start : one.end] for one in redactor.find(text)], repr(text))
    return {kind: {"whole": share(whole[kind], number[kind]), "in part": share(part[kind], number[kind])} for kind in LABELS}


def share(number: int, of: int) -> dict[str, float]:
    """Return a share with its 95 % interval. Wilson 1927."""
    found, spread = number / of, 1.96**2 / of
    middle, reach = found + spread / 2, 1.96 * (found * (1 - found) / of + spread / of / 4) ** 0.5
    return {
        "n": of,
        "number": number,
        "value": found,
        "low": (middle - reach) / (1 + spread),
        "high": (middle + reach) / (1 + spread),
    }


if __name__ == "__main__":
    main()
