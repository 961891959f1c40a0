"""Which column is what: the usual shapes, recognised by names and by content, each guess with its reason in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from whet.data import names
from whet.data.columns import Column

Purpose = Literal["classify", "sft", "pretrain", "tokens"]
Columns = Mapping[str, Column]
TOLD, CLEARLY = 0.2, 0.1  # agreement from which texts tell a column, and by how much more than the last one
JUDGEMENTS = ({"true", "false"}, {"good", "bad"}, {"desirable", "undesirable"})
FIELDS = ("text", "text_pair", "label", "labels", "token_labels", "prompt", "input", "response", "system", "messages", "chosen", "rejected")  # fmt: skip
"""Keys of the recipe's `data` that name a column."""


@dataclass(slots=True)
class Guess:
    """A mapping from keys of `data` to columns, and why."""

    shape: str
    columns: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def take(self, key: str, column: str, why: str) -> None:
        """Map a key to a column."""
        self.columns[key] = column
        self.reasons.append(f"data.{key} is '{column}': {why}.")


def guess(columns: Columns, given: Mapping[str, str], purpose: Purpose) -> Guess:
    """Return the mapping for a purpose. `given` is the user's own, kept as it is; what cannot be guessed is left out."""
    made = {"classify": guess_classify, "sft": guess_sft, "pretrain": guess_text, "tokens": guess_tokens}[purpose](columns, given)
    made.columns = {**made.columns, **given}
    return made


def guess_classify(columns: Columns, given: Mapping[str, str]) -> Guess:
    """Return text and label (one, several, or a number)."""
    made = Guess("text and label")
    found = None if {"label", "labels"} & set(given) else _label(columns, set(given.values()))
    if found is not None:
        key, name, why = found
        made.take(key, name, why)
        made.shape = _shape(key, columns[name])
    else:
        made.shape = next(
            (_shape(key, columns[given[key]]) for key in ("labels", "label") if given.get(key) in columns), made.shape
        )
    taken = {*made.columns.values(), *given.values()}
    by_name = {names.plain(name): name for name in columns}
    for first, second in names.PAIRS:
        if (
            "text" not in given
            and "text_pair" not in given
            and {first, second} <= set(by_name)
            and not {by_name[first], by_name[second]} & taken
        ):
            made.take("text", by_name[first], "the first text of a pair, by its name")
            made.take("text_pair", by_name[second], "the second text of a pair, by its name")
            return made
    if "text" not in given and (text := _text(columns, taken)) is not None:
        made.take("text", *text)
    return made


def _shape(key: str, column: Column) -> str:
    return "text and several labels" if key == "labels" else "text and number" if column.is_continuous else "text and label"


def guess_sft(columns: Columns, given: Mapping[str, str]) -> Guess:
    """Return a conversation, or a prompt and its answer, or preferences."""
    made = Guess("prompt and answer")
    by_name = {names.plain(name): name for name in columns}
    if {"messages", "prompt", "response", "chosen"} & set(given):
        if "messages" not in given:
            _complete(columns, given, by_name, made)
        return made
    if _preferences(columns, by_name, made) or _conversation(columns, by_name, made) or _instruct(columns, by_name, made):
        _extras(columns, by_name, made)
    return made


def guess_text(columns: Columns, given: Mapping[str, str]) -> Guess:
    """Return the text to learn from as it is."""
    made = Guess("plain text")
    if "text" not in given and (text := _text(columns, set())) is not None:
        made.take("text", *text)
    return made


def guess_tokens(columns: Columns, given: Mapping[str, str]) -> Guess:
    """Return the words of a text and their labels: two columns of lists whose names say so."""
    made = Guess("words and their labels")
    by_name = {names.plain(name): name for name, column in columns.items() if column.form in {"list", "text"}}
    for key, wanted, why in (
        ("token_labels", names.TOKEN_LABELS, "a label for each word, by its name"),
        ("text", (*names.TOKENS, *names.TEXT), "the words, by its name"),
    ):
        free = {name: column for name, column in by_name.items() if column not in {*given.values(), *made.columns.values()}}
        if key not in given:
            _ = _first_named(key, wanted, free, made, why)
    return made


def label_is_evident(columns: Columns) -> bool:
    """Whether some column is a label by its name, or the only one that can be."""
    found = _label(columns, set())
    return found is not None and (
        names.plain(found[1]) in {*names.LABEL, *names.LABELS} or len(_class_columns(columns, set())) == 1
    )


def _number(column: Column) -> str:
    return f"a number with {column.num_distinct} different values: a regression"


def _label(columns: Columns, taken: set[str]) -> tuple[str, str, str] | None:
    by_name = {names.plain(name): column for name, column in columns.items() if name not in taken}
    for name in names.LABELS:
        column = by_name.get(name)
        if column is not None and (column.form == "list" or _is_joined(column)):
            return "labels", column.name, "it holds several labels for each row"
    candidates = _class_columns(columns, taken)
    for name in names.LABEL:
        column = by_name.get(name)
        if column is None:
            continue
        if column.is_classes and not column.is_continuous:
            others = [other.name for other in candidates if other is not column and names.plain(other.name) in names.LABEL]
            also = f" ({' and '.join(repr(other) for other in others)} could be one too; name it to choose it)" if others else ""
            return "label", column.name, f"its name says so, and it has {column.num_classes} different values{also}"
        if column.is_continuous and name in names.NUMBER:
            return "label", column.name, _number(column)
        if (
            column.form in {"text", "number", "flag"}
            and name in {"label", "category", "class", "intent", "sentiment"}
            and column.mean_words <= 4
        ):
            return "label", column.name, "its name says so"
    number = next((by_name[name] for name in names.NUMBER if name in by_name and by_name[name].is_continuous), None)
    if number is not None and not candidates:
        return "label", number.name, _number(number)
    return _likeliest(candidates) if candidates else None


def _likeliest(candidates: Sequence[Column]) -> tuple[str, str, str]:
    """Return the column of classes that the texts tell clearly best, or else the last, where labels mostly stand."""
    last, best = candidates[-1], max(candidates, key=lambda column: column.told)
    clearly = best.told >= TOLD and best.told >= last.told + CLEARLY
    column = best if clearly else last
    why = f"the only column with few values ({column.num_classes}) that come again"
    if len(candidates) > 1:
        others = [f"'{other.name}'" for other in candidates if other is not column]
        which = "that the words of the texts tell best" if clearly else "that stands last"
        why = f"of {len(candidates)} columns with few values that come again the one {which} (it has {column.num_classes}"
        why += f"; name {' or '.join(others[:3])} to choose otherwise)"
    return "label", column.name, why


def _class_columns(columns: Columns, taken: set[str]) -> list[Column]:
    return [
        column
        for name, column in columns.items()
        if column.is_classes
        and not column.is_continuous
        and not column.is_about
        and name not in taken
        and names.plain(name) not in names.ABOUT
    ]


def _is_joined(column: Column) -> bool:
    """Whether values are words joined by | or ; or , with words that come again."""
    if column.form != "text":
        return False
    values = [(value, count) for value, count in column.counts.items() if any(mark in value for mark in "|;,")]
    words = {word.strip() for value, _ in values for mark in "|;," for word in value.split(mark) if mark in value}
    return bool(values) and 2 * len(words) <= sum(count for _, count in values) and sum(map(len, words)) <= 40 * len(words)


def _text(columns: Columns, taken: set[str]) -> tuple[str, str] | None:
    free = [column for name, column in columns.items() if name not in taken and column.form == "text" and not column.is_about]
    prose = (
        [column for column in free if column.is_prose and not column.is_classes]
        or [column for column in free if column.is_prose]
        or free
    )
    fullest = max((column.num_filled for column in prose), default=0)
    prose = [column for column in prose if 2 * column.num_filled >= fullest]  # not what only a few rows have
    named = sorted(
        (names.TEXT.index(names.plain(column.name)), column.name) for column in prose if names.plain(column.name) in names.TEXT
    )
    if named:
        return named[0][1], "its name says so"
    if not prose:
        return None
    longest = max(prose, key=lambda column: column.mean_characters)
    only = "the only column of text" if len(prose) == 1 else "the column with the longest texts"
    return longest.name, f"{only}, {longest.mean_characters:.0f} characters on average"


def _preferences(columns: Columns, by_name: Mapping[str, str], made: Guess) -> bool:
    for chosen, rejected in names.CHOSEN:
        if chosen in by_name and rejected in by_name:
            made.shape = "preferences"
            made.take("chosen", by_name[chosen], "the better answer, by its name")
            made.take("rejected", by_name[rejected], "the worse answer, by its name")
            _ = _conversation(columns, by_name, made) or _first_named("prompt", names.PROMPT, by_name, made, "what both answer")
            return True
    return False


def _conversation(columns: Columns, by_name: Mapping[str, str], made: Guess) -> bool:
    taken = set(made.columns.values())
    chats = [column for column in columns.values() if column.form == "turns" and column.name not in taken]
    chats = [column for column in chats if names.plain(column.name) not in names.ANSWER] or chats
    known = [by_name[name] for name in names.CHATS if name in by_name]
    chats.sort(key=lambda column: (not column.answered, known.index(column.name) if column.name in known else len(known)))
    if not chats:
        return False
    made.take("messages", chats[0].name, "it holds conversations")
    if made.shape == "preferences":
        return True
    made.shape = "conversations"
    forms = {"text", "number", "turns", "turn"}
    answers = [name for name in names.ANSWER if name in by_name and columns[by_name[name]].form in forms]
    if not chats[0].answered and answers:
        made.take(
            "response", by_name[answers[0]], "the conversations end with a question, and its name says that it is the answer"
        )
    return True


def _instruct(columns: Columns, by_name: Mapping[str, str], made: Guess) -> bool:
    def usable(name: str) -> bool:
        return name in by_name and columns[by_name[name]].form in {"text", "number", "flag", "list"}

    for prompt, response in names.INSTRUCT:
        if usable(prompt) and usable(response):
            made.take("prompt", by_name[prompt], "by its name")
            made.take("response", by_name[response], "by its name")
            return True
    return False


def _extras(columns: Columns, by_name: Mapping[str, str], made: Guess) -> None:
    taken = set(made.columns.values())
    free = {
        name: column
        for name, column in by_name.items()
        if column not in taken and columns[column].form in {"text", "number", "empty"}
    }
    if "prompt" in made.columns and names.plain(made.columns["prompt"]) in {"instruction", "prompt", "question"}:
        _ = _first_named("input", names.MATERIAL, free, made, "material that belongs to the prompt, by its name")
    _ = _first_named("system", names.SYSTEM, free, made, "by its name")
    for name in ("label", "kto_tag"):
        if (
            "chosen" not in made.columns
            and name in by_name
            and {value.lower() for value in columns[by_name[name]].counts} in JUDGEMENTS
        ):
            made.take("label", by_name[name], "good or bad for each answer: kto learns from both, sft from the good ones only")


def _complete(columns: Columns, given: Mapping[str, str], by_name: Mapping[str, str], made: Guess) -> None:
    """Guess what is missing beside the prompt or the answer that the user named."""
    free = {name: column for name, column in by_name.items() if column not in set(given.values())}
    if "chosen" in given:
        chats = [column for column in columns.values() if column.form == "turns" and column.name not in set(given.values())]
        if "rejected" not in given:
            _ = _first_named("rejected", [pair[1] for pair in names.CHOSEN], free, made, "the worse answer, by its name")
        if chats and "prompt" not in given:
            made.take("messages", chats[0].name, "it holds conversations")
            return
    elif "response" not in given:
        _ = _first_named("response", names.ANSWER, free, made, "the answer, by its name")
    if "prompt" not in given:
        _ = _first_named("prompt", [*names.PROMPT, *names.TEXT], free, made, "the prompt, by its name")


def _first_named(key: str, wanted: Sequence[str], by_name: Mapping[str, str], made: Guess, why: str) -> bool:
    for name in wanted:
        if name in by_name and by_name[name] not in made.columns.values():
            made.take(key, by_name[name], why)
            return True
    return False


def slices_of(columns: Iterable[Column], taken: set[str], num_rows: int) -> list[str]:
    """Return up to three columns by whose values scores are worth splitting."""
    found = [
        column
        for column in columns
        if column.name not in taken
        and column.form in {"text", "flag"}
        and not column.is_about
        and not column.says_part
        and 2 <= column.num_distinct <= 20
        and column.num_filled >= 0.8 * num_rows
        and column.num_filled >= 5 * column.num_distinct
        and column.mean_words <= 4
    ]
    return [
        column.name
        for column in sorted(found, key=lambda column: (names.plain(column.name) not in names.ABOUT, column.num_distinct))[:3]
    ]


def why_others(columns: Iterable[Column], taken: set[str], slices: Sequence[str]) -> list[str]:
    """Return what becomes of the columns that nothing is learnt from: slices, or not used and why."""
    said = []
    if slices:
        several = "s that repeat their" if len(slices) > 1 else " that repeats its"
        said.append(f"Scores are also shown by {_quoted(slices)} (data.slices): column{several} few values.")
    unused = [column for column in columns if column.name not in taken and column.name not in slices]
    if unused:
        said.append("Not used: " + "; ".join(f"'{column.name}', {_why_unused(column)}" for column in unused) + ".")
    return said


def _quoted(those: Sequence[str]) -> str:
    *first, last = (f"'{name}'" for name in those)
    return f"{', '.join(first)} and {last}" if first else last


def _why_unused(column: Column) -> str:
    if column.says_part:
        return f"since rows are divided by data.split (to follow what it says: data.part: {column.name})"
    if column.form == "empty":
        return "which is empty"
    if column.is_about:
        return "which numbers or dates the rows"
    if column.form == "text" and column.is_links:
        return "which holds links"
    if column.is_classes:
        return "whose few values could be a label too"
    kinds = {"text": "another text", "number": "which holds numbers", "flag": "which holds true or false"}
    return kinds.get(column.form, "which holds no plain text")
