"""Invented questions to a shop with polite and rude answers, and a tiny untrained model: what the recipes beside this file learn from.

python examples/chain/make.py chain
"""

import json
import random
import sys
from pathlib import Path

from whet.testing import write_tiny

THINGS = (
    "parcel card coat lamp phone ticket chair book shoe clock bag cup hat desk ring kettle scarf tent drum rug vase fork sofa kite"
).split()
QUESTIONS = (
    "where is my {}?",
    "my {} is lost",
    "the {} is broken",
    "can i return the {}?",
    "is the {} in stock?",
    "i want a new {}",
)
POLITE = ("sorry, we look now.", "sorry, we call you.", "sorry, one moment.")
RUDE = ("not my job, ask them.", "no idea.", "go and ask others.")
POLITE_FRACTION = 0.25
"""Of the answers that the first model imitates: by itself it is more often rude."""


def main(folder: Path) -> None:
    """Write the files and the model."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    asked = [question.format(thing) for thing in THINGS for question in QUESTIONS]
    answers, pairs, judged = [], [], []
    for prompt in asked:
        polite, rude = draw.choice(POLITE), draw.choice(RUDE)
        answers.append({"prompt": prompt, "response": polite if draw.random() < POLITE_FRACTION else rude})
        pairs.append({"prompt": prompt, "chosen": polite, "rejected": rude})
        good = draw.random() < 0.5
        judged.append({"prompt": prompt, "response": polite if good else rude, "label": "good" if good else "bad"})
    write(folder / "answers.jsonl", answers)
    write(folder / "pairs.jsonl", pairs)
    write(folder / "judged.jsonl", judged)
    write(folder / "asked.jsonl", [{"prompt": prompt} for prompt in asked])
    write_tiny(folder / "model", "llama")


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as lines of JSON."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
