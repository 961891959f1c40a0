"""Reads each source of the seedling corpus as clean documents.

The folder `shared` holds third-party texts that are not part of this repository; README.md says where each
of them is published.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ftfy
from chats import build_chats

Document = dict[str, object]
"""One row: `{"text": str}` or `{"messages": [{"role": str, "content": str}, ...]}`."""
HERE = Path(__file__).parent
MAX_CHARACTERS = 2000
GIRLS = [
    "Lily", "Sue", "Lucy", "Amy", "Mia", "Jill", "Ada", "Agnes", "Alice", "Anna", "Bella", "Carla", "Clara", "Dora", "Emma", "Eva", "Flora", "Grace", "Hanna",
    "Heidi", "Ida", "Ines", "Iris", "Ivy", "Jane", "Julia", "Kate", "Laura", "Lena", "Lola", "Maria", "Maya", "Mila",
    "Mina", "Molly", "Nina", "Nora", "Olga", "Paula", "Rita", "Rosa", "Ruth", "Sara", "Sofia", "Tina", "Vera",
    "Wendy", "Zoe",
]  # fmt: skip
BOYS = [
    "Tim", "Timmy", "Max", "Tom", "Bob", "Jack", "Billy", "Adam", "Alex", "Anton", "Arthur", "Ben", "Carl", "Charlie", "Dan", "David", "Eric", "Felix", "Finn", "Fred",
    "George", "Henry", "Hugo", "Ian", "Ivan", "James", "John", "Karl", "Leo", "Luke", "Mark", "Martin", "Nick",
    "Noah", "Oliver", "Oscar", "Otto", "Paul", "Peter", "Quinn", "Robert", "Sam", "Simon", "Theo", "Toby", "Victor",
    "Walter", "Will",
]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One origin of documents and the share of them that is used."""

    name: str
    origin: str
    licence: str
    share: float
    files: Callable[[Path, Path], list[Path]]
    read: Callable[[list[Path]], list[Document]]


def cut(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """`text` in pieces of at most `max_characters`, cut after paragraphs, else after sentences, else words."""
    pieces = [""]
    for part in re.findall(r".+?(?:\n\s*\n|(?<=[.!?;])\s+|(?<=[.!?][\"')])\s+|\Z)", text, re.DOTALL):
        while len(part) > max_characters:
            border = part.rfind(" ", 0, max_characters) + 1 or max_characters
            pieces.append(part[:border])
            part = part[border:]
        full = len(pieces[-1]) + len(part) > max_characters
        at_paragraph = pieces[-1].endswith("\n") and len(pieces[-1]) > 0.8 * max_characters
        if full or at_paragraph:
            pieces.append(part)
        else:
            pieces[-1] += part
    return [piece.strip() for piece in pieces if piece.strip()]


def texts(parts: list[str]) -> list[Document]:
    """A text document for each piece of each of `parts`."""
    return [{"text": piece} for part in parts for piece in cut(part)]


def split_stories(text: str) -> list[str]:
    """The stories of the TinyStories file: one newline ends a story, an empty line ends a paragraph.

    A few stories use one newline between paragraphs; a short part that does not open like a story is
    taken as a further paragraph of the story before it.
    """
    stories: list[str] = []
    closed = True
    for part in re.split(r"(?<!\n)\n(?!\n)", text):
        if not part.strip():
            closed = True
            continue
        opens = closed or len(part) >= 300 or re.match(r"Once|One (day|night)|There (was|were)|It was", part)
        if opens or not stories:
            stories.append(part.strip())
        else:
            stories[-1] += "\n\n" + part.strip()
        closed = False
    return stories


def read_tinystories(files: list[Path]) -> list[Document]:
    """One whole story a document, with broken quotation marks repaired."""
    stories = split_stories(ftfy.fix_text(files[0].read_text(encoding="utf-8")))
    return [{"text": story} for story in stories if len(story) >= 150 and story[-1] in ".!?\"'"]


def repair_wikitext(line: str) -> str:
    """`line` as ordinary prose; sentences with an unknown word are left out."""
    sentences = re.split(r"(?<= [.!?]) ", line.strip())
    line = " ".join(s for s in sentences if "<unk>" not in s and re.search(r"[.!?][ \"]*$", s))
    line = re.sub(r" @([-,.])@ ", r"\1", line)
    line = re.sub(r"\" ([^\"]*?) \"", r'"\1"', line)
    line = re.sub(r"(?<= )' ([^']*?) '(?= )", r"'\1'", line)
    line = re.sub(r" (?=n't\b|'(?:s|re|ve|ll|d|m|t)\b)", "", line)
    line = re.sub(r" +([,.;:!?%)\]])", r"\1", line)
    line = re.sub(r"([(\[$£]) +", r"\1", line)
    line = re.sub(r"(?<=\d) ?– ?(?=\d)", "–", line)
    line = re.sub(r"(?<=\w) / (?=\w)", "/", line)
    return re.sub(r" +", " ", line).strip()


def read_wikitext(files: list[Path]) -> list[Document]:
    """Articles without headings; paragraphs of fewer than 150 characters are left out."""
    articles: list[list[str]] = [[]]
    for line in "\n".join(file.read_text(encoding="utf-8") for file in files).split("\n"):
        if re.fullmatch(r" = [^=]+ = ?", line):
            articles.append([])
        elif line.strip() and not line.startswith(" ="):
            articles[-1].append(repair_wikitext(line))
    kept = [[p for p in article if len(p) >= 150 and p.count('"') % 2 == 0] for article in articles]
    return texts(["\n\n".join(article) for article in kept if article])


def rename_heroes(story: str, telling: int) -> str:
    """`story` with every name of GIRLS and BOYS replaced by another; the same telling always gets the same names."""
    rng = random.Random(f"{telling} {story}")
    names: dict[str, str] = {}
    for group in (GIRLS, BOYS):
        names |= dict(zip(group, rng.sample(group, len(group)), strict=True))
    return re.sub(rf"\b({'|'.join(names)})\b", lambda match: names[match[0]], story)


def read_plain(files: list[Path]) -> list[Document]:
    """The files' texts, cut to documents."""
    return texts([ftfy.fix_text(file.read_text(encoding="utf-8")) for file in files])


def read_written(files: list[Path]) -> list[Document]:
    """The hand-written texts: a line of three dashes stands between documents."""
    return texts([text for file in files for text in file.read_text(encoding="utf-8").split("\n---\n")])


def read_rows(files: list[Path]) -> list[Document]:
    """The rows of JSON-lines files as they are."""
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def generate_chats(_: list[Path]) -> list[Document]:
    """The exchanges of `chats.py`."""
    return build_chats(seed=0)


SOURCES = [
    Source(
        "tinystories",
        "TinyStories (Eldan and Li 2023), the sample in github.com/s-ajaykumar/smallGPT at b8b899265a55",
        "CDLA-Sharing-1.0",
        1.0,
        lambda shared, _: [shared / "data/text/tinystories/tiny_stories.txt"],
        read_tinystories,
    ),
    Source(
        "sampled",
        "sampled by sample_teacher.py from stories260K (llama2.c), github.com/DaveBben/esp32-llm at 934dab4d242d",
        "MIT (the model)",
        1.0,
        lambda _, out: [out / "sampled.jsonl"],
        read_rows,
    ),
    Source(
        "chats",
        "generated by chats.py of this project",
        "Apache-2.0",
        1.0,
        lambda *_: sorted(HERE.glob("chat*.py")),
        generate_chats,
    ),
    Source(
        "written_chats",
        "written for this project",
        "Apache-2.0",
        1.0,
        lambda *_: [HERE / "written/chats.jsonl"],
        read_rows,
    ),
    Source(
        "written_texts",
        "written for this project",
        "Apache-2.0",
        1.0,
        lambda *_: sorted((HERE / "written").glob("*.txt")),
        read_written,
    ),
    Source(
        "wikitext2",
        "WikiText-2 validation and test, github.com/pytorch/examples at 77f55b912142",
        "CC-BY-SA-3.0",
        1.0,
        lambda shared, _: [shared / "data/text/wikitext2" / name for name in ("test.txt", "valid.txt")],
        read_wikitext,
    ),
    Source(
        "tiny_shakespeare",
        "Tiny Shakespeare, github.com/karpathy/char-rnn at 6f9487a6fe5b",
        "public domain",
        0.25,
        lambda shared, _: [shared / "data/text/tiny_shakespeare/input.txt"],
        read_plain,
    ),
    Source(
        "sotu",
        "State of the Union addresses 1790-2019, every third, github.com/stdlib-js/datasets-sotu at 3fe128bad40a",
        "public domain",
        0.12,
        lambda shared, _: sorted((shared / "data/text/sotu").glob("*.txt")),
        read_plain,
    ),
]
