"""whet's own driver trains on the drawn rows, from the given start, and its first loss is that of transformers' own forward pass."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from pytest import approx
from transformers import AutoModel, AutoModelForCausalLM

from bench.train.drivers import whet as ours
from bench.train.meter import Meter, others_s, peak_bytes
from bench.train.models import write_model, write_start
from bench.train.rows import records, steps_of
from bench.train.task import Measured, Task
from bench.train.works import WORKS, Shape

SMALL = {
    "llama": Shape(kind="llama", vocabulary=2100, hidden=64, layers=2, heads=4, key_heads=2, inner=96),
    "qwen2": Shape(kind="qwen2", vocabulary=2100, hidden=64, layers=2, heads=4, key_heads=2, inner=96),
    "bert": Shape(kind="bert", vocabulary=3100, hidden=64, layers=2, heads=4, key_heads=4, inner=96),
}
WORK_OF = {"llama": "m15_lora_bf16", "qwen2": "q05_lora_bf16", "bert": "encoder22_full_bf16"}


@pytest.fixture(params=SMALL)
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    shape, work = SMALL[request.param], replace(WORKS[WORK_OF[request.param]], rows_per_step=3, warm=1, timed=2)
    write_model(shape, tmp_path / "model")
    if shape.decodes:
        write_start(shape, tmp_path / "start")
    (tmp_path / "rows.json").write_text(json.dumps(records(steps_of(work))))
    return Task(
        work=work.name,
        mode=work.mode,
        model=str(tmp_path / "model"),
        start=str(tmp_path / "start") if shape.decodes else None,
        rows=str(tmp_path / "rows.json"),
        scratch=str(tmp_path),
        learning_rate=1e-3,
        rank=16,
        alpha=32,
    )


def loss_of_transformers(task: Task, step: list[dict]) -> float:
    """The mean loss of a step's rows, one by one in fp32: of all supervised tokens, or of a classifier of zeros on the mean of the tokens."""
    total, count = 0.0, 0
    for row in step:
        ids = torch.tensor([row["ids"]])
        if task.start is None:
            network = AutoModel.from_pretrained(task.model)
            logits = torch.zeros(2) * network(ids).last_hidden_state.mean()
            total, count = total + float(torch.nn.functional.cross_entropy(logits, torch.tensor(row["label"]))), count + 1
            continue
        begin = row["supervised_from"]
        logits = AutoModelForCausalLM.from_pretrained(task.model)(ids).logits[0, begin - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, begin:], reduction="sum"))
        count += ids.shape[1] - begin
    return total / count


def test_the_first_loss_is_that_of_a_plain_forward_pass(task):
    measured = ours.train(task)
    assert len(measured.seconds) == len(measured.losses) == 3
    with torch.no_grad():
        assert measured.losses[0] == approx(loss_of_transformers(task, task.steps()[0]), abs=2e-3)
    assert measured.losses[-1] != measured.losses[0]


def test_steps_are_the_drawn_ones_in_their_order(task):
    job = ours.prepared(task, task.steps())
    rows = job.objective.steps(
        job.train_units, job.policy, job.plan, ours.Training.begin(job.policy, job.objective, job.plan).cursor, {}
    )
    for step in task.steps():
        assert [unit[0].ids.tolist() for unit in next(rows).units] == [row["ids"] for row in step]


def test_a_job_is_what_the_peers_train(task):
    job = ours.prepared(task, task.steps())
    assert job.plan.precision == "bf16"
    assert job.plan.schedule.factor(1, 3, job.plan.num_warmup) == 1.0
    for step in task.steps():
        supervised = {tuple(row["ids"]): len(row["ids"]) - row["supervised_from"] for row in step}
        for (unit,) in job.train_units if task.start else ():
            if tuple(unit.ids.tolist()) in supervised:
                assert int(unit.tokens["supervised"].sum()) == supervised[tuple(unit.ids.tolist())]


def test_a_meter_sees_steps_others_and_memory():
    meter = Meter()
    meter.mark()
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass
    meter.losses.append(1.0)
    meter.mark()
    measured = meter.measured(("torch",))
    assert isinstance(measured, Measured)
    assert measured.seconds[0] >= 0.05
    assert measured.losses == [1.0]
    assert measured.versions["torch"] == torch.__version__.partition("+")[0] or measured.versions["torch"] == torch.__version__
    assert 2**20 < peak_bytes() < 2**40
    assert others_s() > 0


def test_a_task_survives_its_file(task):
    assert Task(**json.loads(json.dumps(asdict(task)))) == task
