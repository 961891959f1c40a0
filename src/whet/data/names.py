"""Column names as people write them, most telling first: what recognises headers and guesses what a column is."""

from __future__ import annotations

import re
from collections.abc import Mapping

TEXT = (
    "text", "message", "sentence", "review", "utterance", "tweet", "sms", "comment", "body", "content", "email", "document",
    "article", "abstract", "description", "review_text", "review_body", "raw_text", "complaint", "feedback", "query",
    "question", "post", "summary", "headline", "title", "subject", "input", "x", "v2",
)  # fmt: skip
LABEL = (
    "label_text", "label_name", "label", "intent", "category", "class", "sentiment", "target", "topic", "emotion", "spam",
    "is_spam", "classification", "gold_label", "gold", "polarity", "type", "tag", "genre", "department", "queue", "toxic", "y",
    "output_label", "rating", "stars", "score", "priority", "urgency", "v1",
)  # fmt: skip
NUMBER = (
    "score",
    "rating",
    "stars",
    "value",
    "target",
    "y",
    "price",
    "label",
    "similarity",
    "similarity_score",
    "grade",
    "number",
)
LABELS = ("labels", "tags", "genres", "categories", "topics", "emotions", "keywords", "classes", "label", "category")
TOKEN_LABELS = ("token_labels", "ner_tags", "ner_labels", "word_labels", "bio_tags", "bio", "iob", "ner", "tags", "labels")
TOKENS = ("tokens", "words")
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("sentence_a", "sentence_b"),
    ("question1", "question2"), ("text", "text_pair"), ("text1", "text2"), ("text_a", "text_b"), ("context", "question"),
    ("question", "passage"), ("query", "passage"), ("query", "document"), ("question", "sentence"),
)  # fmt: skip
INSTRUCT = (
    ("instruction", "output"), ("instruction", "response"), ("instruction", "completion"), ("instruction", "answer"),
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "answer"), ("prompt", "output"), ("question", "answer"),
    ("question", "response"), ("question", "answers"), ("query", "response"), ("query", "answer"), ("message", "answer"),
    ("message", "reply"), ("message", "response"), ("input", "output"), ("inputs", "targets"), ("input", "target"),
    ("source", "target"), ("src", "tgt"), ("mr", "ref"), ("article", "highlights"), ("document", "summary"),
    ("dialogue", "summary"), ("text", "summary"), ("text", "response"), ("text", "answer"), ("text", "target_text"),
    ("problem", "solution"), ("human", "assistant"),
)  # fmt: skip
MATERIAL = ("input", "context", "document", "passage")
SYSTEM = ("system", "system_prompt", "system_message")
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns", "context_messages")
CHOSEN = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_response", "rejected_response"),
    ("win", "lose"),
    ("preferred_output", "non_preferred_output"),
)
PROMPT = ("prompt", "question", "instruction", "query", "input")
ANSWER = ("response", "answer", "completion", "output", "ground_truth", "reference", "solution")
ABOUT = frozenset({
    "source", "split", "lang", "language", "locale", "channel", "date", "time", "timestamp", "created", "created_at",
    "updated_at", "url", "link", "author", "user", "user_id", "username", "country", "region", "city", "tier", "customer_tier",
    "product", "dataset", "domain", "platform", "device", "version", "year", "month", "day", "customer", "gender", "age",
    "name", "model", "file", "aspect", "subset",
})  # fmt: skip
KNOWN = frozenset({
    *TEXT, *LABEL, *NUMBER, *LABELS, *CHATS, *SYSTEM, *PROMPT, *ANSWER, *MATERIAL, *ABOUT, "id", "index", "reply", "rejected",
    "chosen", *PAIRS, *INSTRUCT,
})  # fmt: skip

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr", "learn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout", "held out", "hold out"), "test"),
}
"""How parts of a split are called, by the values of a column."""


def part_named(word: str | None) -> str | None:
    """Return the part that a value stands for; none where it names no part."""
    return PARTS.get((word or "").casefold().replace("_", " ").replace("-", " ").strip())


def plain(name: str) -> str:
    """Return a column name as these lists write it: lower case, words joined by _."""
    return re.sub(r"[\s\-.]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())).lower().strip("_")


def is_identifier(name: str) -> bool:
    """Whether a column of this name numbers the rows."""
    return bool(re.search(r"(?:^|_)(?:id|idx|index|uuid|guid|hash|key|no|nr)$", plain(name))) or plain(name) in {"", "unnamed_0"}


def is_date(name: str) -> bool:
    """Whether a column of this name says when."""
    return bool(re.search(r"(?:^|_)(?:date|time|timestamp|created|updated|created_at|updated_at|day|month|year)$", plain(name)))
