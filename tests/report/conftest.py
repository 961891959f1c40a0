"""Made-up evaluations of every kind, so that reports can be built, read and looked at without a model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from whet.report.build import Group, build_report
from whet.types import Example, Message, Output

Case = tuple[dict[str, Any], dict[str, Any]]
TOPICS = (
    "card arrival",
    "exchange rate",
    "cash withdrawal",
    "lost card",
    "pin blocked",
    "refund",
    "top up",
    "fee",
    "limits",
    "age",
)
CHANNELS = ("email", "chat", "phone", "letter")


def class_names(num_classes: int) -> list[str]:
    """Names such as "lost card" and, past ten, "lost card 3"."""
    rounds = [f"{topic} {number}" if number else topic for number in range(-(-num_classes // len(TOPICS))) for topic in TOPICS]
    return rounds[:num_classes]


def label_output(random: np.random.Generator, truth: int, accuracy: float, classes: list[str]) -> Output:
    """An answer that is right with this chance and takes a neighbour otherwise, with a probability of its own."""
    right = random.random() < accuracy
    label = truth if right else (truth + int(random.integers(1, 4))) % len(classes)
    top = float(np.clip(random.beta(9, 1.5) if right else random.beta(3, 2), 1.5 / len(classes), 1))
    rest = (1 - top) / (len(classes) - 1)
    return Output(label=classes[label], probabilities={name: top if n == label else rest for n, name in enumerate(classes)})


def classify_group(num_rows: int, num_classes: int, seed: int = 0) -> tuple[Group, list[str]]:
    """Rows of a classification whose letters are harder than the rest."""
    random, classes = np.random.default_rng(seed), class_names(num_classes)
    examples, outputs, base, majority = [], [], [], []
    for number in range(num_rows):
        truth, channel = int(random.integers(num_classes)), CHANNELS[min(int(random.exponential(1)), 3)]
        tags = {"channel": channel, "customer_tier": str(random.choice(["free", "plus", "business"]))}
        text = (
            f"Hello, I have a question about my {classes[truth]}: it has been {number % 9} days & nothing happened. Can you help?"
        )
        example = Example(id=number, file="tickets.csv", line=number + 2, text=text, label=classes[truth], tags=tags)
        examples.append(example)
        outputs.append(label_output(random, truth, 0.78 if channel == "letter" else 0.95, classes))
        base.append(label_output(random, truth, 0.72, classes))
        majority.append(Output(label=classes[0]))
    metrics = ("accuracy", "macro_f1", "weighted_f1", "calibration_error")
    baselines = {"majority_class": majority, "nearest_centroid": base}
    return Group(metrics=metrics, examples=examples, outputs=outputs, baselines=baselines), classes


def training_log(num_steps: int = 320, best: int = 240) -> list[dict[str, Any]]:
    """A run whose validation loss turns at a step."""
    random = np.random.default_rng(1)
    log: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        warm = min(step / 20, 1) * (1 - max(step - 20, 0) / num_steps)
        loss = 2.1 * np.exp(-step / 70) + 0.12 + float(random.normal()) * 0.04
        log.append({"kind": "step", "step": step, "loss": max(float(loss), 0.01), "learning_rate": 3e-4 * warm})
        if step % 40 == 0:
            log.append(
                {"kind": "validation", "step": step, "loss": 0.31 + 1.7 * float(np.exp(-step / 60)) + max(0, step - best) / 900}
            )
    return log


def context(**more: Any) -> dict[str, Any]:
    """What a run knows besides its report."""
    decisions = [
        {"key": "train.learning_rate", "value": 0.0003, "reason": "a LoRA of a small encoder; twice the value for full tuning"},
        {"key": "train.batch_size", "value": 32, "reason": "8,400 training rows give 263 steps an epoch"},
        {"key": "technique", "value": "lora", "reason": "22.7 M parameters fit, but 8,400 rows do not need all of them"},
    ]
    dropped = {"empty text": 41, "exact duplicate": 263, "no label": 12, "also in the test file": 7}
    found = {
        "run": "runs/2026-11-22-tickets",
        "recipe": {
            "model": "builtin:minilm",
            "data": {"path": ["tickets.csv"], "text": "message", "label": "intent", "slices": ["channel"]},
            "objective": {"name": "classify"},
            "technique": {"name": "lora", "rank": 16},
            "train": {"epochs": 5, "learning_rate": 0.0003, "early_stopping": {"patience": 2}},
        },
        "decisions": decisions,
        "log": training_log(),
        "data": {
            "rows_in": 12_323,
            "used": 12_000,
            "dropped": dropped,
            "splits": {"train": 8400, "validation": 520, "test": 3080},
            "cleaned": {"encoding repaired": 118, "markup removed": 64, "labels with other case": 9},
            "notices": [
                "Column 'message' was taken as the text: it is the longest.",
                "7 rows of the test file stood in training; they left.",
            ],
        },
        "preflight": [{"level": "warning", "sentence": "Class 'age' has 9 rows.", "remedy": "Collect 20 or more, or merge it."}],
        "machine": {"processor": "8 cores", "memory_bytes": 16 * 2**30, "torch": "2.13.0", "device": "cpu"},
        "timing": {"read_s": 0.8, "train_s": 221.4, "evaluate_s": 31.0, "total_s": 257.9},
    }
    return found | more


@cache
def _cached(name: str) -> Case:
    return {"classify": lambda: classify_case(10, 3080), "regression": regression_case, "sft": sft_case}[name]()


@pytest.fixture
def make_classify() -> Callable[[int, int], Case]:
    """Builds a classification of so many classes and rows."""
    return classify_case


@pytest.fixture
def classify() -> Case:
    """A classification with ten classes that tuning helped."""
    return copy.deepcopy(_cached("classify"))


def classify_case(num_classes: int, num_rows: int, resamples: int = 200) -> Case:
    """Report and context of a classification."""
    group, classes = classify_group(num_rows, num_classes)
    given = context()
    columns = ("channel", "customer_tier")
    report = build_report(
        objective="classify",
        metric="accuracy",
        groups=[group],
        classes=classes,
        slices=columns,
        resamples=resamples,
        log=given["log"],
    )
    return report, given


@pytest.fixture
def regression() -> Case:
    """A regression that tuning helped."""
    return copy.deepcopy(_cached("regression"))


def regression_case(num_rows: int = 300, resamples: int = 200) -> Case:
    """Report and context of a regression: stars from 1 to 5."""
    random = np.random.default_rng(2)
    examples, outputs, means = [], [], []
    for number in range(num_rows):
        stars = float(random.uniform(1, 5))
        tags = {"shop": str(random.choice(["north", "south", "online"]))}
        examples.append(
            Example(id=number, file="reviews.jsonl", line=number + 1, text=f"Review {number}: fine.", value=stars, tags=tags)
        )
        outputs.append(Output(value=stars + float(random.normal()) * 0.5))
        means.append(Output(value=3.0))
    metrics = ("mean_absolute_error", "root_mean_squared_error", "r2", "spearman")
    group = Group(metrics=metrics, examples=examples, outputs=outputs, baselines={"mean_value": means})
    report = build_report(objective="regress", metric=metrics[0], groups=[group], slices=("shop",), resamples=resamples)
    return report, context(preflight=[], samples=[])


@pytest.fixture
def sft() -> Case:
    """A tuned writer: loss on every test row, answers on some."""
    return copy.deepcopy(_cached("sft"))


def sft_case(resamples: int = 200) -> Case:
    """Report and context of supervised fine-tuning."""
    random = np.random.default_rng(3)
    words = ["the", "user", "wants", "to", "know", "how", "many", "days", "a", "card", "takes", "and", "what", "it", "costs"]
    examples, tuned, base = [], [], []
    for number in range(400):
        answer = " ".join(random.choice(words, size=12))
        turns = (Message("user", f"Question {number}: how long does it take?"), Message("assistant", answer))
        examples.append(Example(id=number, file="chats.jsonl", line=number + 1, messages=turns, tags={"topic": str(number % 3)}))
        length = int(random.integers(8, 30))
        nll = float(random.gamma(9, 0.14)) * length
        tuned.append(Output(nll=nll, num_tokens=length, num_characters=4 * length))
        base.append(Output(nll=nll + 1.3 * length + float(random.normal()), num_tokens=length, num_characters=4 * length))
    written = examples[:120]
    answers = [
        [" ".join(w for w in e.messages[-1].content.split() if random.random() < keep) + " ." for e in written if e.messages]
        for keep in (0.7, 0.2)
    ]
    groups = [
        Group(metrics=("loss", "perplexity"), examples=examples, outputs=tuned, baselines={"base_model": base}),
        Group(
            metrics=("rouge_l", "exact_match"),
            examples=written,
            outputs=[Output(text=text) for text in answers[0]],
            baselines={"base_model": [Output(text=text) for text in answers[1]]},
        ),
    ]
    report = build_report(objective="sft", metric="loss", groups=groups, slices=("topic",), resamples=resamples)
    samples = [
        {"prompt": e.messages[0].content, "reference": e.messages[1].content, "base": bad, "tuned": good}
        for e, good, bad in zip(written[:4], *answers, strict=False)
        if e.messages
    ]
    return report, context(samples=samples, preflight=[])
