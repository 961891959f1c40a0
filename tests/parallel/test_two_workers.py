"""Two gloo workers make the steps of one process, whole or in shares; and how rows are shared out. Whole runs: test_parallel.py, slow."""

from __future__ import annotations

import json
import os
import traceback

import pytest
import torch
import torch.distributed as dist

from whet import plugins
from whet.engine.fit import Training, fit, validate
from whet.engine.int8_products import Int8, why_not
from whet.engine.parallel import shares
from whet.engine.shards import shard
from whet.engine.state_store import StateStore
from whet.models.blocks import outline
from whet.models.frozen import Frozen, frozen_bottom
from whet.testing.steps import ready, tiny_plan
from whet.types import Cursor, Row

STEPS = 4


def learnt(objective, policy, examples, precision="fp32"):
    """Loss and gradient norm of each step, the validation loss after them, and the sum of all weights' magnitudes."""
    plan = tiny_plan(policy, num_steps=STEPS, batch_size=5, max_tokens=40, precision=precision)
    units = objective.units(examples, policy, plan.max_length)
    training = Training.begin(policy, objective, plan)
    rows = objective.steps(units, policy, plan, Cursor(), training.objective_state)
    steps = list(fit(policy, objective, rows, plan, training))
    judged = validate(policy, objective, units, plan, training.objective_state)
    weights = sum(float(tensor.double().abs().sum()) for tensor in training.tensors().values() if tensor.is_floating_point())
    return (
        [[*step.losses.values(), step.grad_norm, step.num_rows, step.num_tokens] for step in steps],
        [*judged.values()],
        weights,
    )


def two(work, folder):
    """Do the work in two processes that have joined. Returns what each gave."""
    children = []
    for rank in range(2):
        if child := os.fork():
            children.append(child)
            continue
        try:
            dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
            (folder / f"{rank}.json").write_text(json.dumps(work()))
            dist.destroy_process_group()
        except BaseException:
            (folder / f"{rank}.txt").write_text(traceback.format_exc())
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    assert not list(folder.glob("*.txt")), next(folder.glob("*.txt")).read_text()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def assert_same(workers, alone, rel=1e-5):
    """Each worker has what `learnt` gave of one process, and both have the same to the bit, but for how their shares add up."""
    first, second = workers
    for ours, theirs in zip(first[0], alone[0], strict=True):
        assert ours == pytest.approx(theirs, rel=rel)
    assert first[1:3] == [pytest.approx(alone[1], rel=rel), pytest.approx(alone[2], rel=rel)]
    assert first[:2] == second[:2], "the workers do not agree"


@pytest.mark.parametrize(
    ("name", "architecture", "way"),
    [
        ("sft", "llama", "fsdp"),
        ("classify", "bert", "ddp"),
        pytest.param("sft", "llama", "ddp", marks=pytest.mark.slow),
        pytest.param("classify", "bert", "fsdp", marks=pytest.mark.slow),
    ],
)
def test_two_workers_have_the_loss_of_one_process(name, architecture, way, builder, examples, tmp_path):
    objective = plugins.build("objectives", name, {})
    alone = learnt(objective, ready(objective, builder(architecture), examples), examples)

    def work():
        policy = ready(objective, builder(architecture), examples)
        if way == "fsdp":
            shard(policy)
        return learnt(objective, policy, examples)

    assert_same(two(work, tmp_path), alone)
    norms = [step[1] for step in alone[0]]
    assert len(norms) == STEPS and min(norms) > 0.1, "nothing was learnt"


def test_two_workers_that_keep_states_of_frozen_blocks_have_the_loss_of_one_process_that_keeps_none(builder, examples, tmp_path):
    objective = plugins.build("objectives", "classify", {})

    def top_learns():
        policy = ready(objective, builder("bert"), examples)
        policy.network.get_submodule(outline(policy).blocks[0].name).requires_grad_(False)
        policy.network.base_model.embeddings.requires_grad_(False)
        return policy

    alone = learnt(objective, top_learns(), examples)

    def work():
        policy = top_learns()
        bottom = frozen_bottom(policy)
        rows = [row for unit in objective.units(examples, policy, 64) for row in unit]
        policy.frozen = Frozen(policy, bottom, StateStore(1 << 24), rows)
        found = learnt(objective, policy, examples)
        return [*found, policy.frozen.asked, policy.frozen.computed]

    workers = two(work, tmp_path)
    assert_same(workers, alone)
    for one in workers:
        assert one[3] > one[4] > 0, "no row came back, or none was ever computed"


@pytest.mark.skipif(why_not() is not None, reason=f"no products in int8 here: {why_not()}")
@pytest.mark.parametrize(("name", "architecture"), [("sft", "llama"), ("classify", "bert")])
def test_two_workers_with_frozen_weights_in_int8_have_the_loss_of_one_process(name, architecture, builder, examples, tmp_path):
    objective = plugins.build("objectives", name, {})

    def work(int8=True):
        policy = builder(architecture)()
        objective.prepare(policy, examples)
        plugins.build("techniques", "lora", {"rank": 2}).attach(policy, 0)
        policy.fusion.multiply(int8=int8)
        found = learnt(objective, policy, examples, precision="bf16")
        return [*found, sum(type(stack.product) is Int8 for stack in policy.fusion.form.projections.stacks.values())]

    alone, plain = work(), work(int8=False)
    workers = two(work, tmp_path)
    assert_same(workers, alone, rel=2**-7)  # gradients are rounded to bf16 as often as there are micro-batches
    for one in workers:
        assert one[0][0][0] == pytest.approx(alone[0][0][0], rel=1e-6)  # a row's product depends on nothing but the row
        assert one[3] == alone[3] > 0
    assert plain[3] == 0 and plain[0][0] != alone[0][0]


def test_units_are_shared_out_whole_and_evenly():
    units = [(Row(number, torch.zeros(length, dtype=torch.long)),) for number, length in enumerate([9, 3, 5, 7, 1, 8, 2, 6])]
    for number in (1, 2, 3, 5, 12):
        parts = shares(units, number)
        assert sorted(row.id for part in parts for unit in part for row in unit) == list(range(8))
        held = [sum(len(row.ids) for unit in part for row in unit) for part in parts]
        assert len(parts) == number and max(held) - min(held) <= 9
