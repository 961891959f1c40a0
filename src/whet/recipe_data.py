"""The section `data` of a recipe: where rows come from, what becomes of them, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from whet.recipe_parts import Auto, Choice, Names, Plugin, Plugins, Section, named

SOURCES = ("path", "validation", "test")
"""Keys of `data` that name files."""
COLLECTED = {"path": "sources", "validation": "validation_sources", "test": "test_sources"}
"""Keys of `data` that name files, and those for the same part that name sources."""


class Split(Section):
    """How rows are divided. A test or validation file of your own takes the place of its share."""

    train: float = Field(0.7, gt=0, lt=1)
    """Share of the rows that is learnt from."""
    validation: float = Field(0.15, gt=0, lt=1)
    """Share that decides when to stop."""
    test: float = Field(0.15, gt=0, lt=1)
    """Share that is only scored, once, at the end."""
    stratify: bool = True
    """Keep each class's share the same in every part."""
    seed: int = Field(0, ge=0)
    """Seed of the draw."""
    folds: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Divide into so many parts instead, of which each is the test part of one run; what is left is learnt from and stopped by."""
    fold: int = Field(0, ge=0)
    """Which of the folds is the test part, from 0."""
    frozen: str | None = None
    """A run, or its splits.json: its texts stay in the parts that they have there, and only other rows are divided."""

    @pydantic.model_validator(mode="after")
    def _sum_is_one(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares that add up to 1 (they add up to {total:g})")
        if self.fold and self.folds is None:
            raise ValueError("a fold only with folds, such as folds: 5")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"a fold from 0 to {self.folds - 1}, since there are {self.folds} folds")
        if self.folds is not None and self.frozen is not None:
            raise ValueError("either folds or frozen: folds are drawn anew, so that nothing can stay where it was")
        return self


class Duplicates(Section):
    """What becomes of rows that are nearly the same. Equal rows always leave but for the first."""

    near: Auto | Literal["drop", "keep", False] = "auto"
    """drop: of near duplicates with the same target the first stays. keep: all stay, in one part of the split. auto: drop, unless that is
    more than half of the rows, which then are variations of a few texts and stay. false: near duplicates are not looked for."""
    similarity: float = Field(0.8, ge=0.5, le=1)
    """Jaccard similarity of the character 5-grams from which on two texts are near duplicates."""
    semantic: Annotated[float, Field(ge=0.5, le=1)] | Literal[False] = False
    """Cosine similarity of builtin:minilm's embeddings from which on two texts are near duplicates too, such as 0.95; false: not asked."""


class AugmenterChoice(Choice):
    """An augmenter by name, with its settings, and how many rows it makes."""

    share: float = Field(1.0, gt=0, le=100)
    """New rows as a share of the training rows: 0.5 makes one of every other row, 2 makes two of each."""


class Augment(Section):
    """New training rows made of training rows; validation and test rows are never changed, copied or come near to."""

    by: Annotated[
        tuple[Annotated[AugmenterChoice, BeforeValidator(named, json_schema_input_type=str | AugmenterChoice)], ...],
        BeforeValidator(
            lambda value: (value,) if isinstance(value, str | dict) else value,
            json_schema_input_type=str | AugmenterChoice | tuple[AugmenterChoice, ...],
        ),
    ] = ()
    """Augmenters, such as [synonyms, {name: random_swap, strength: 0.2, share: 0.5}]. Each makes its own share of rows."""
    balance: Literal["augment", "repeat", False] = False
    """augment: classes with fewer rows than the largest get new ones by the augmenters in turn until they have as many, instead of shares of
    all; repeat: their rows come several times. Chances that the model gives are then no longer those of the data."""
    most_copies: int = Field(10, ge=1, le=1000)
    """New rows made of one row at most, where classes are balanced."""
    check: str | Literal[False] = False
    """What a new row must be understood by: a finished run with the same labels, or an encoder such as builtin:minilm, on whose embeddings a
    linear classifier is fitted to the training rows. Rows that it takes for another label are left out."""
    seed: int = Field(0, ge=0)
    """Seed of every draw."""

    @pydantic.model_validator(mode="after")
    def _makes_something(self) -> Augment:
        if not self.by and self.balance != "repeat":
            raise ValueError("at least one augmenter in `by`, or balance: repeat")
        if self.by and self.balance == "repeat":
            raise ValueError("either augmenters in `by` or balance: repeat; with both, say balance: augment")
        return self


PrivateKind = Literal[
    "mail", "phone", "card", "iban", "ip", "login", "key", "us_ssn", "uk_nino", "de_tax_id", "nl_bsn", "es_dni", "it_codice_fiscale",
    "fr_nir", "br_cpf", "in_aadhaar", "person", "place",
]  # fmt: skip
PrivateKinds = Annotated[
    tuple[PrivateKind, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=PrivateKind | tuple[PrivateKind, ...]
    ),
]


class Redact(Section):
    """Private data in the texts of the rows, taken out before anything else looks at them."""

    mode: Literal["count", "mask", "replace", "hash"] = "mask"
    """mask: [mail]. replace: an invented value of the same form, the same for the same value (a code for keys, logins and national ids).
    hash: [mail-3f2a91c4d5], a code that differs for each value. count: nothing is changed, only told."""
    kinds: Auto | PrivateKinds = "auto"
    """What is looked for; auto: everything that a pattern finds, and with a `model` persons and places."""
    keep: PrivateKinds = ()
    """Kinds that stay, such as ip."""
    model: str | None = None
    """What finds names of persons (person), places and addresses (place): a token classification model's Hugging Face id or folder, or a run of
    objective tokens. None: names stay, since no pattern tells them from other words."""
    labels: dict[str, Literal["person", "place"]] = {}
    """What the model's own labels are, where they are not called by one of the usual names: {NOM: person, RUE: place}."""
    certainty: float = Field(0.5, gt=0, lt=1)
    """Least probability that a word is part of a name, by the model. Smaller finds more, and more that is none."""
    regions: Names = (
        "US", "GB", "DE", "FR", "ES", "IT", "NL", "BR", "IN", "AU", "PL", "PT", "AT", "CH", "BE", "SE", "IE", "MX", "JP", "CN", "KR", "ZA", "TR", "RU",
    )  # fmt: skip
    """Where phone numbers without a country's prefix may be from (ISO 3166-1); those with one are found everywhere."""
    key: str | None = None
    """File with a secret for replace and hash: the same secret gives the same stand-ins for other data too. None: made of the rows, and
    stored nowhere."""

    @property
    def changes(self) -> bool:
        """Whether texts are changed, and not only told of."""
        return self.mode != "count"


class Data(Section):
    """Where rows come from and which columns mean what. A column that is not named is guessed, and the guess is shown."""

    path: Names = ()
    """Files, folders or patterns such as exports/*.csv: csv, tsv, xlsx, json, jsonl, parquet, arrow, txt, conll, md, html, pdf, docx, each also
    as gz, zst or in a zip archive."""
    validation: Names = ()
    """File or files to decide when to stop by; else a share of `path`."""
    test: Names = ()
    """File or files to score on, never changed and never learnt from; else a share of `path`."""
    sources: Plugins = ()
    """Where rows come from beside `path`, or instead of it, such as `{name: sql, connection: ..., query: ...}`. They are collected once, into
    a folder `collected` beside the recipe."""
    validation_sources: Plugins = ()
    """The same for `validation`."""
    test_sources: Plugins = ()
    """The same for `test`."""
    text: str | None = None
    """Column with the text."""
    text_pair: str | None = None
    """Column with a second text, for pairs."""
    label: str | None = None
    """Column with the one label, with a number for a regression, or with good or bad for an answer (kto)."""
    labels: str | None = None
    """Column with several labels: a list (an empty one says that none applies), or words separated by | ; or ,."""
    token_labels: str | None = None
    """Column with one label for each word of `text` (tokens): a list, or labels separated by spaces; then `text` may be a list too."""
    prompt: str | None = None
    """Column with the question or instruction."""
    input: str | None = None
    """Column with material that belongs to the prompt, as alpaca files have it."""
    response: str | None = None
    """Column with the answer."""
    system: str | None = None
    """Column with the system message."""
    messages: str | None = None
    """Column with a conversation: OpenAI's or ShareGPT's form."""
    chosen: str | None = None
    """Column with the better answer."""
    rejected: str | None = None
    """Column with the worse answer."""
    slices: Names = ()
    """Columns to score by, such as channel or customer tier."""
    group: Names = ()
    """Column or columns, such as a customer or a conversation: rows that share a value of any of them are in one part."""
    time: str | None = None
    """Column with a date or time: the oldest rows are learnt from, the newest are the test part."""
    part: str | None = None
    """Column that says train, validation or test for each row. The two last are treated as files of your own are."""
    split: Split = Split()
    duplicates: Duplicates = Duplicates()
    max_leak_fraction: float = Field(0.2, ge=0, le=1)
    """Share of the training rows that may leave since they also stand, nearly or by their group, in a held-out file; above it the run is
    refused."""
    clean: Auto | tuple[Plugin, ...] = "auto"
    """Cleaners in order; auto repairs encoding, markup and spaces, and labels that differ by case or spaces only."""
    augment: Annotated[
        Augment | None,
        BeforeValidator(lambda value: {"by": value} if isinstance(value, str | list | tuple) else value),
    ] = None
    """New training rows made of the training rows, such as {by: [synonyms, random_swap]}; none: only the rows of the data."""
    label_synonyms: dict[str, str] = {}
    """Other names of labels, such as {refund: billing_refund}: rows with the one are read as rows with the other, whatever case and spaces."""
    conflicts: Literal["keep", "majority", "drop"] = "keep"
    """What becomes of rows with the same text and different labels. keep: all stay, and are told. majority: those with the commonest label stay,
    none where there is a tie. drop: none stays. A text may well deserve both, so nothing leaves unless you say so."""
    redact: Auto | bool | Redact = "auto"
    """Private data: true masks it, or a section says how. auto: it is counted and told, and nothing is changed; false: nobody looks."""
    streaming: bool = False
    """Read the files while they are learnt from, for more text than memory holds (pretrain, sft, seq2seq; text or lines of JSON): parts by a
    hash of each text, exact duplicates out, near ones not looked for, the check before training on a sample."""
    strict: bool = False
    """Stop at the first row that cannot be used, instead of putting it into rejects.jsonl."""
    max_reject_fraction: float = Field(0.05, ge=0, le=1)
    """Share of unusable rows above which the run stops. Duplicates do not count."""

    @pydantic.model_validator(mode="after")
    def _divided_in_one_way(self) -> Data:
        held = [key for key in ("validation", "test") if getattr(self, key) or getattr(self, COLLECTED[key])]
        if self.part is not None and held:
            raise ValueError(f"either data.part or data.{held[0]}: both say which rows are held out")
        other = next((key for key in (*held, "part", "time") if key in held or getattr(self, key)), None)
        if self.split.folds is not None and other is not None:
            raise ValueError(f"either data.split.folds or data.{other}: folds take their test rows from data.path in turn")
        return self

    @pydantic.model_validator(mode="after")
    def _streams_alone(self) -> Data:
        if not self.streaming:
            return self
        asked = {
            "sources": self.sources, "validation": self.validation, "test": self.test, "group": self.group, "time": self.time,
            "part": self.part, "augment": self.augment, "duplicates.semantic": self.duplicates.semantic,
            "duplicates.near": self.duplicates.near not in {"auto", False}, "split.folds": self.split.folds, "split.frozen": self.split.frozen,
            "redact": isinstance(self.redact, Redact) and self.redact.mode in {"replace", "hash"},
        }  # fmt: skip
        for key, value in asked.items():
            if value:
                raise ValueError(f"either data.streaming or data.{key}, which looks at all rows at once")
        return self

    @pydantic.model_validator(mode="after")
    def _has_rows(self) -> Data:
        if not self.path and not self.sources:
            raise PydanticCustomError("no_rows", "path")
        return self
