"""Rows become examples: the columns mean something from here on, and a row that lacks what it needs says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from whet.data.columns import is_empty, is_number, is_turn, turns_of
from whet.data.conversation import Unusable, Unwelcome, answer, conversation
from whet.data.rows import RawRow, Read, Reject
from whet.recipe_data import Data
from whet.types import Example, Message

Clean = Callable[[str], str]
YES = frozenset({"true", "1", "1.0", "yes", "good", "desirable", "chosen", "+1"})
NO = frozenset({"false", "0", "0.0", "no", "bad", "undesirable", "rejected", "-1"})


CONVERSATION = frozenset({"messages", "prompt", "response", "chosen", "rejected"})
"""Needs that are met by turns."""


def unchanged(text: str) -> str:
    """The cleaner that repairs nothing."""
    return text


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are read: the final mapping of columns, what the objective needs, and how texts are cleaned."""

    columns: Data
    needs: tuple[str, ...]
    clean: Clean = unchanged


def to_examples(
    rows: Read, columns: Data, needs: tuple[str, ...], clean: Clean = unchanged, first: int = 0
) -> Iterator[Example | Reject]:
    """Yield an Example or a Reject for each row. `columns` is the final mapping; `needs` are fields that must be there.

    Ids number the examples from `first`. A row of preferences carries the prompt and the chosen answer in `messages`, so that
    `messages[:-1]` is what both answers reply to.
    """
    shape, number = Shape(columns, needs, clean), first
    for row in rows:
        made = row if isinstance(row, Reject) else example(row, shape, number)
        number += isinstance(made, Example)
        yield made


def example(row: RawRow, shape: Shape, number: int) -> Example | Reject:
    """Return the row as an example, or why it cannot be one."""
    try:
        fields = _fields(row.fields, shape)
    except _Unwanted:
        return Reject(row.file, row.line, "an unwanted answer", "sft learns from wanted answers only.", kind="unwanted")
    except Unwelcome as error:
        return Reject(row.file, row.line, error.reason, error.remedy, kind="unwanted", by=error.by)
    except Unusable as error:
        return Reject(row.file, row.line, error.reason, error.remedy)
    where = _placing(row.fields, shape.columns)
    tags = _tags(row.fields, shape.columns.slices)
    made = Example(id=number, file=row.file, line=row.line, tags=tags, **where, **fields)  # type: ignore[arg-type]
    missing = next(
        (need for need in shape.needs if not getattr(made, need) and not _says_none(getattr(made, need), row, shape)), None
    )
    if missing is not None:
        return Reject(row.file, row.line, *_lacks(missing, shape.columns))
    return made


def question(row: RawRow, columns: Data, clean: Clean, number: int) -> Example | Reject:
    """Return what a model is asked about a row, or why it cannot be asked: no label and no answer is needed."""
    shape = Shape(columns, ("text",) if columns.text is not None else ("messages",), clean)
    tags = _tags(row.fields, columns.slices)
    try:
        if columns.text is not None:
            return Example(id=number, file=row.file, line=row.line, tags=tags, **_fields(row.fields, shape))  # type: ignore[arg-type]
        turns = _asked(row.fields, columns)
    except Unusable as error:
        return Reject(row.file, row.line, error.reason, error.remedy)
    messages = tuple(Message(turn.role, clean(turn.content)) for turn in turns)
    return Example(id=number, file=row.file, line=row.line, tags=tags, messages=messages)


class _Unwanted(Exception):
    """A KTO row whose answer is marked as unwanted."""


def _fields(fields: Mapping[str, object], shape: Shape) -> dict[str, object]:
    columns, needs = shape.columns, shape.needs
    made: dict[str, object] = {}
    if columns.text is not None and columns.token_labels is not None:
        made["text"] = " ".join(_words(_present(fields, columns.text), columns.text))
        if "token_labels" in needs:
            made["token_labels"] = _token_labels(fields, columns, str(made["text"]))
    elif columns.text is not None and ("text" in needs or "text_pair" in needs):
        made["text"] = _needed(fields, columns.text, shape)
        if columns.text_pair is not None:
            made["text_pair"] = _needed(fields, columns.text_pair, shape)
    if "value" in needs and columns.label is not None:
        made["value"] = _value(fields, columns.label)
    elif "label" in needs and "response" in needs and columns.label is not None:
        made["label"] = _judgement(fields, columns.label)
    elif "label" in needs and columns.label is not None:
        made["label"] = _label(fields, columns.label)
    if "labels" in needs and (columns.labels or columns.label) is not None:
        made["labels"] = several(fields.get(_several(columns)))
    if not CONVERSATION.isdisjoint(needs):
        if "label" not in needs and columns.label is not None and str(fields.get(columns.label)).strip().lower() in NO:
            raise _Unwanted
        made.update(_turns(fields, shape))
    return made


def _turns(fields: Mapping[str, object], shape: Shape) -> dict[str, object]:
    """Return messages, and for preferences both answers."""
    columns, clean = shape.columns, shape.clean
    made: dict[str, object] = {}
    turns = _conversation(fields, columns)
    if columns.chosen is not None:
        before, chosen = answer(_present(fields, columns.chosen), columns.chosen)
        turns = [*(before or turns), Message("assistant", chosen)]
        made["chosen"] = clean(chosen)
        if columns.rejected is not None:
            other, rejected = answer(_present(fields, columns.rejected), columns.rejected)
            made["rejected"] = clean(rejected)
            if "rejected" in shape.needs:
                pair = f"'{columns.chosen}' and '{columns.rejected}'"
                if other and before and other != before:
                    raise Unusable(f"{pair} reply to different turns", "Both must answer the same conversation.")
                if made["rejected"] == made["chosen"]:
                    raise Unusable(f"{pair} are the same answer", "Nothing is preferred; delete the row.")
    elif columns.response is not None:
        answers = _present(fields, columns.response)
        first = answers[0] if isinstance(answers, list) else answers  # of several references the first is learnt
        text = answer(answers, columns.response)[1] if turns_of(answers) or is_turn(answers) else _text(first, columns.response)
        turns.append(Message("assistant", text))
    turns = [*_system(fields, columns), *turns]
    messages = tuple(Message(turn.role, clean(turn.content)) for turn in turns)
    asked_only = not {"messages", "response", "chosen", "rejected"} & set(shape.needs)  # the answers are written later
    made["messages"] = messages if asked_only else _checked(messages, columns)
    return made


def _asked(fields: Mapping[str, object], columns: Data) -> list[Message]:
    """Return the turns up to the question: the answer that may stand behind it is left out."""
    turns = _conversation(fields, columns)
    if turns and turns[-1].role == "assistant":
        turns.pop()
    if not turns and columns.chosen is not None:
        turns = list(answer(_present(fields, columns.chosen), columns.chosen)[0])
    if not turns:
        raise Unusable("there is no question", "Name its column as data.prompt or data.messages.")
    return [*_system(fields, columns), *turns]


def _conversation(fields: Mapping[str, object], columns: Data) -> list[Message]:
    if columns.messages is not None:
        return list(conversation(_present(fields, columns.messages), columns.messages))
    return [Message("user", _prompt(fields, columns))] if columns.prompt is not None else []


def _system(fields: Mapping[str, object], columns: Data) -> list[Message]:
    if columns.system is None or is_empty(fields.get(columns.system)):
        return []
    return [Message("system", _text(fields[columns.system], columns.system))]


def _checked(turns: tuple[Message, ...], columns: Data) -> tuple[Message, ...]:
    where = columns.messages or columns.chosen or columns.response or "messages"
    if not any(turn.role == "assistant" for turn in turns):
        raise Unusable(
            f"'{where}' has no assistant's turn",
            "There must be an answer to learn from: add it, or name its column as data.response.",
        )
    if any(not turn.content.strip() for turn in turns if turn.role == "assistant"):
        raise Unusable(f"'{where}' has an empty answer", "Fill it in, or delete the row.")
    return turns


def _prompt(fields: Mapping[str, object], columns: Data) -> str:
    assert columns.prompt is not None, "only called for a prompt"
    prompt = _text(_present(fields, columns.prompt), columns.prompt)
    material = fields.get(columns.input) if columns.input is not None else None
    return prompt if is_empty(material) else f"{prompt}\n\n{_text(material, columns.input or '')}"


def _present(fields: Mapping[str, object], column: str) -> object:
    value = fields.get(column)
    if is_empty(value):
        raise _empty(column)
    return value


def _needed(fields: Mapping[str, object], column: str, shape: Shape) -> str:
    text = shape.clean(_text(_present(fields, column), column))
    if not text.strip():
        raise _empty(column)
    return text


def _empty(column: str) -> Unusable:
    return Unusable(f"'{column}' is empty", "Fill it in, or delete the row.")


def _text(value: object, column: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict | tuple):
        raise Unusable(f"'{column}' is no text but a list or an object", "Name the column that holds the text.")
    return plain(value)


def plain(value: object) -> str:
    """Return a field that is no text as one: 1.0 as 1, true as true."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _label(fields: Mapping[str, object], column: str) -> str:
    value = fields.get(column)
    if is_empty(value):
        raise Unusable(f"'{column}', the label, is empty", "Fill it in, or delete the row.")
    if isinstance(value, list | dict):
        raise Unusable(
            f"'{column}', the label, is a list or an object", "For several labels a row, name the column as data.labels."
        )
    return " ".join(_text(value, column).split())


def several(value: object) -> tuple[str, ...]:
    """Return the labels in a list, or in a text that joins them with | ; or , (the first of these that stands in it)."""
    if isinstance(value, list | tuple):
        found = [plain(item).strip() for item in value if not is_empty(item)]
    else:
        text = "" if is_empty(value) else plain(value)
        mark = next((mark for mark in "|;," if mark in text), None)
        found = [part.strip() for part in (text.split(mark) if mark else [text])]
    return tuple(dict.fromkeys(label for label in found if label))


def _judgement(fields: Mapping[str, object], column: str) -> str:
    """Return whether an answer is good or bad."""
    word = _label(fields, column).lower()
    if word in YES | NO:
        return "good" if word in YES else "bad"
    raise Unusable(
        f"'{column}' says neither good nor bad", "Write good or bad; true and false, 1 and 0, desirable and undesirable do too."
    )


def _words(value: object, column: str) -> list[str]:
    """Return the words of a list, or of a text that spaces divide. They are not cleaned: each has a label of its own."""
    if not isinstance(value, list | tuple):
        return _text(value, column).split()
    found = [_text(item, column).strip() for item in value]
    if any(len(word.split()) != 1 for word in found):
        raise Unusable(f"'{column}' has a word that is empty or has a space in it", "Divide it, and give each part its label.")
    return found


def _token_labels(fields: Mapping[str, object], columns: Data, text: str) -> tuple[str, ...]:
    column = columns.token_labels or ""
    labels = tuple(_words(_present(fields, column), column))
    if any(not re.fullmatch(r"O|[BI]-\S+", label) for label in labels):
        raise Unusable(
            f"'{column}' has what is no label of a word",
            "Write O, B-KIND where an entity begins, and I-KIND inside; not numbers.",
        )
    if len(labels) != len(text.split()):
        raise Unusable(
            f"'{columns.text}' has {len(text.split())} words, and '{column}' {len(labels)} labels",
            "Each word needs one; mend the row.",
        )
    return labels


def _value(fields: Mapping[str, object], column: str) -> float:
    value = fields.get(column)
    if is_empty(value):
        raise Unusable(f"'{column}', the label, is empty", "Fill in a number, or delete the row.")
    if not is_number(value):
        raise Unusable(f"'{column}', the label, is no number", "Write it with digits and a point.")
    return float(str(value))


def _tags(fields: Mapping[str, object], slices: Sequence[str]) -> dict[str, str]:
    return {name: "(empty)" if is_empty(fields.get(name)) else plain(fields[name]).strip() for name in slices}


def _placing(fields: Mapping[str, object], columns: Data) -> dict[str, object]:
    """Return what decides about the part that a row stands in; an empty field decides nothing."""
    if not columns.group and columns.time is None and columns.part is None:
        return {}
    groups = tuple(f"{name}={plain(fields[name]).strip()}" for name in columns.group if not is_empty(fields.get(name)))
    single = {"time": columns.time, "part": columns.part}
    said = {
        key: plain(fields[name]).strip() for key, name in single.items() if name is not None and not is_empty(fields.get(name))
    }
    return {**said, **({"group": groups} if groups else {})}


def _says_none(value: object, row: RawRow, shape: Shape) -> bool:
    """Whether a value that holds nothing says something: the number 0, or of several labels, by a list without any, that none applies."""
    return value == 0.0 if isinstance(value, float) else value == () and row.fields.get(_several(shape.columns)) == []


def _several(columns: Data) -> str:
    """Return the column of several labels."""
    return columns.labels or columns.label or ""


def _lacks(need: str, columns: Data) -> tuple[str, str]:
    instead = {"value": columns.label, "messages": columns.messages or columns.response}
    instead |= {"prompt": columns.prompt or columns.messages, "response": columns.response or columns.messages}
    named = instead.get(need, getattr(columns, need, None))
    if named is None:
        return f"the field '{need}' is missing", f"Name its column as data.{'label' if need == 'value' else need}."
    return f"'{named}' is empty", "Fill it in, or delete the row."
