"""One stretch of training in a run: it logs, validates, saves, stops early, survives a crash, and ends with the best weights."""

from __future__ import annotations

import errno
import math
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from safetensors import SafetensorError

from whet.display import quoted
from whet.engine import checkpoint
from whet.engine.fit import NonFiniteLoss, Training, calibrate, fit, validation
from whet.engine.parallel import PeerGone, anyone, from_first, leads, wait
from whet.engine.shards import shard
from whet.errors import Interrupted, RunError, TrainingError
from whet.models.recompute import recompute_blocks
from whet.protocols import Objective
from whet.run import Run
from whet.stages.estimate import without_states
from whet.stages.job import Job
from whet.stages.keeping import keeping
from whet.stages.narrate import Bar, Narrator
from whet.stages.score import Scoring
from whet.types import Cursor, Step

SMOOTH = 20
"""Steps whose mean loss is shown."""
NAMED = 8
"""Rows named where a loss is not finite."""
LEARNT = 1e-4
"""Validation loss from which on there is nothing left to learn: nats of a row or a token that is right for certain."""


@dataclass(slots=True)
class Stopper:
    """Early stopping on validation loss, or on a metric."""

    patience: int
    """0: never stop early."""
    min_improvement: float = 0.0
    sign: int = -1
    """1 where higher is better, -1 where lower is."""
    learnt: float = -math.inf
    """Validation loss from which on nothing is left to learn."""
    best: float = -math.inf
    """Best of what is watched, times the sign."""
    best_loss: float = math.inf
    """Validation loss at that step."""
    best_step: int = 0
    misses: int = 0

    def see(self, loss: float, step: int, watched: float | None = None) -> None:
        """Take note of a validation: its loss, and what is watched where that is something else; an undefined score is no improvement."""
        value = self.sign * (loss if watched is None else watched)
        if value > self.best + self.min_improvement:
            self.best, self.best_loss, self.best_step, self.misses = value, loss, step, 0
        else:
            self.misses += 1

    @property
    def done(self) -> bool:
        return self.patience > 0 and (self.misses >= self.patience or self.best_loss <= self.learnt)

    def state(self) -> dict[str, float | None]:
        return {
            "best": None if math.isinf(self.best) else self.best,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "best_step": self.best_step,
            "misses": self.misses,
        }

    def restore(self, state: Mapping[str, float | None]) -> None:
        best, loss = state["best"], state["best_loss"]
        self.best = -math.inf if best is None else best
        self.best_loss = math.inf if loss is None else loss
        self.best_step, self.misses = int(state["best_step"] or 0), int(state["misses"] or 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a phase ended."""

    steps: int
    best_step: int
    best_loss: float | None
    stopped_early: bool
    log_bytes: int
    """Size of the run's log at its end, where a later phase goes on."""
    temperature: float = 1.0
    """What the validation rows made of the policy's temperature; a later phase on all rows has none left to fit it on."""
    temperatures: dict[str, float] = field(default_factory=dict)
    """The same of each of several tasks."""


@dataclass(slots=True)
class Flag:
    """Set by a signal handler, which does nothing else."""

    raised: bool = False
    name: str = field(default="")


@contextmanager
def stop_signals() -> Iterator[Flag]:
    """Within this, SIGINT, SIGTERM and SIGUSR1 raise a flag, on which training saves a checkpoint and stops, instead of ending the process."""
    flag = Flag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handler(number: int, frame: FrameType | None) -> None:
        flag.raised, flag.name = True, signal.Signals(number).name

    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {kind: signal.signal(kind, handler) for kind in kinds}
    try:
        yield flag
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)


def learnt_at(objective: Objective) -> float:
    """Return the validation loss from which on nothing is left to learn; of rewards that are learnt from there is none."""
    return -math.inf if objective.online else LEARNT


def trained_by(objective: Objective) -> str:
    """Return what tells how training goes: the loss says little of an objective that learns from rewards, whose validation is a mean reward."""
    return "mean reward" if objective.online else "loss"


def run_phase(name: str, job: Job, run: Run, narrator: Narrator, log_bytes: int = 0, scoring: Scoring | None = None) -> Outcome:
    """Train `job` from where its last good checkpoint stands, to its end or an early stop, and leave the best weights in the policy.

    The technique must be attached; the run's log had `log_bytes` before this phase; `scoring` is watched instead of the loss. Raises Interrupted after a signal, with
    everything saved.
    """
    folder = run.checkpoints / name
    if leads():
        folder.mkdir(parents=True, exist_ok=True)
    early = job.recipe.train.early_stopping
    watching = bool(early) and bool(job.validation_units)
    sign = scoring.sign if scoring else 1 if job.objective.online else -1
    stopper = Stopper(early.patience, early.min_improvement, sign, learnt_at(job.objective)) if early and watching else Stopper(0)
    if job.recomputed:
        recompute_blocks(job.policy)
    if job.way == "fsdp":
        shard(job.policy)
    training = Training.begin(job.policy, job.objective, job.plan)
    _go_back(folder, training, stopper, run, narrator, log_bytes)
    if training.step and leads():  # killed between a checkpoint and the tidying after it
        checkpoint.retain(folder, job.recipe.train.checkpoint.keep, stopper.best_step or None)
    title = "Training" if name == "fit" else "Training on all rows"
    with keeping(job, without_states(job), narrator), stop_signals() as flag, narrator.bar(title, job.plan.num_steps) as bar:
        try:
            _loop(name, job, run, folder, training, stopper, flag, bar, scoring)
        except NonFiniteLoss as error:
            if not leads():
                raise PeerGone("The loss is not finite.") from None
            raise TrainingError(_non_finite(error, job)) from None
    early_end = training.step < job.plan.num_steps
    if stopper.best_step and stopper.best_step != training.step:
        best = checkpoint.load(folder, stopper.best_step)
        if best is None:
            raise RunError(
                f"{folder}: the best checkpoint (step {stopper.best_step}) is damaged. Train again from the recipe in {run.path}."
            )
        training.restore(best.tensors, training.step, training.cursor, training.objective_state)
    calibrate(job.policy, job.objective, job.train_units, job.validation_units, job.plan)
    loss = None if math.isinf(stopper.best_loss) else stopper.best_loss
    best_step = stopper.best_step or training.step
    narrator.say(_ending(training.step, job.plan.num_steps, stopper, scoring.name if scoring else trained_by(job.objective)))
    outcome = Outcome(training.step, best_step, loss, early_end, run.log_size(), job.policy.temperature, job.policy.temperatures)
    return from_first(outcome)


def _loop(
    name: str,
    job: Job,
    run: Run,
    folder: Path,
    training: Training,
    stopper: Stopper,
    flag: Flag,
    bar: Bar,
    scoring: Scoring | None,
) -> None:
    if stopper.done or training.step >= job.plan.num_steps:
        return
    steps = job.steps(training.cursor, training.objective_state)
    settings, recent = job.recipe.train, deque[float](maxlen=SMOOTH)
    for step in fit(job.policy, job.objective, steps, job.plan, training, job.anchor):
        run.log(_record(name, step, job))
        last = step.number == job.plan.num_steps
        validating = bool(job.validation_units) and (last or step.number % int(settings.validate_every) == 0)
        if validating:
            losses = from_first(
                validation(job.policy, job.objective, job.train_units, job.validation_units, job.plan, training.objective_state)
            )
            watched = _watched(scoring, job) if scoring else None
            rewarded = 0.0 - sum(losses.values()) if job.objective.online else None
            stopper.see(sum(losses.values()), step.number, watched if scoring else rewarded)
            run.log(
                {
                    "kind": "validation",
                    "phase": name,
                    "step": step.number,
                    "epoch": _epoch(step, job),
                    "loss": sum(losses.values()),
                }
                | ({"losses": losses} if job.recipe.tasks else {})
                | ({"metric": scoring.name, "score": _known(watched)} if scoring else {})
            )
        recent.append(step.metrics.get("reward", math.nan) if job.objective.online else sum(step.losses.values()))
        bar.advance(step.number, _note(trained_by(job.objective), sum(recent) / len(recent), stopper))
        stopping = anyone(flag.raised)
        if validating or last or stopping or step.number % int(settings.checkpoint.every) == 0:
            _save(folder, training, stopper, run, settings.checkpoint.keep)
        if stopping:
            raise Interrupted(
                f"Stopped by {flag.name or 'a signal'} after step {step.number}; everything is saved. Go on with: whet train --resume {quoted(run.path)}"
            )
        if stopper.done or last:
            return


def _watched(scoring: Scoring, job: Job) -> float:
    """Return the score that is watched. Where every device has the whole model, the first one alone computes it."""
    if job.way == "fsdp":
        return from_first(scoring(job.policy))
    return from_first(scoring(job.policy) if leads() else 0.0)


def _save(folder: Path, training: Training, stopper: Stopper, run: Run, keep: int) -> None:
    """Save the step, once for all devices, and let old checkpoints go."""
    tensors = training.tensors()
    if leads():
        state = {
            "cursor": asdict(training.cursor),
            "objective": training.objective_state,
            "stopper": stopper.state(),
            "log_bytes": run.log_size(),
        }
        checkpoint.save(folder, training.step, tensors, state)
        checkpoint.retain(folder, keep, stopper.best_step or None)
    wait()


def _go_back(folder: Path, training: Training, stopper: Stopper, run: Run, narrator: Narrator, log_bytes: int) -> None:
    """Restore the last good checkpoint, or begin anew where there is none, and cut the log to it. All devices restore the same one."""
    found, damaged = checkpoint.load_latest(folder) if leads() else (None, [])
    latest = from_first(None if found is None else found.step)
    for step in damaged:
        narrator.say(f"The checkpoint of step {step} is torn or altered; it is not used.")
    if latest is None:
        run.cut_log(log_bytes)
        return
    found = found or _shared(folder, latest)
    state = found.state
    try:
        training.restore(found.tensors, found.step, Cursor(**state["cursor"]), state["objective"])
        stopper.restore(state["stopper"])
        log_bytes = int(state["log_bytes"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{folder}/step-{found.step}: is not a checkpoint of this run ({error}). Delete it to go on from the one before, or "
            "begin a new run."
        ) from None
    wait()
    run.cut_log(log_bytes)
    narrator.say(f"Going on after step {found.step}.")


def _shared(folder: Path, step: int) -> checkpoint.Checkpoint:
    """Return the checkpoint that the first device goes on from. Raises RunError where it is not to be read here."""
    found = checkpoint.load(folder, step)
    if found is None:
        raise RunError(
            f"{folder}/step-{step}: the first device reads this checkpoint, and this one cannot. All need the same folder of the run."
        )
    return found


def _record(name: str, step: Step, job: Job) -> dict[str, object]:
    return {
        "kind": "step",
        "phase": name,
        "step": step.number,
        "epoch": _epoch(step, job),
        "loss": sum(step.losses.values()),
        "losses": dict(step.losses),
        "metrics": dict(step.metrics),
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "rows": step.num_rows,
        "tokens": step.num_tokens,
    }


def _known(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


def _epoch(step: Step, job: Job) -> float:
    return round(step.number / job.steps_per_epoch, 4)


def _ending(step: int, num_steps: int, stopper: Stopper, watched: str) -> str:
    """Why training ended, and which weights are kept."""
    why = f"Ended after step {step:,}"
    if step < num_steps:
        left = f"{stopper.misses} validations brought no better {watched}"
        if stopper.misses < stopper.patience:
            left = "hardly anything is left to learn"
        why = f"Stopped early after step {step:,} of {num_steps:,}, since {left}"
    if not stopper.best_step:
        return f"{why}; its weights are kept."
    best = f"step {stopper.best_step:,}, where the validation {watched} was best ({stopper.sign * stopper.best:.4f})"
    return f"{why}; the weights kept are those of {best}."


def _note(name: str, value: float, stopper: Stopper) -> str:
    best = "" if math.isinf(stopper.best) else f", validation best {stopper.sign * stopper.best:.4f} at step {stopper.best_step}"
    return f"{name} {value:.4f}{best}"


def _non_finite(error: NonFiniteLoss, job: Job) -> str:
    examples = {example.id: example for example in (*job.dataset.train, *job.dataset.validation)}
    known = [row for row in dict.fromkeys(error.row_ids) if job.stream is not None or row in examples]
    places = [
        f"{examples[row].file}:{examples[row].line}" if job.stream is None else job.stream.place(row) for row in known[:NAMED]
    ]
    shown = ", ".join(places) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")
    return (
        f"Step {error.step}: the loss is not a finite number, so the update was not made. Rows of that micro-batch: {shown}. "
        f"Look at those rows, and train again with a lower rate (--set train.learning_rate={job.plan.learning_rate / 5:g}) "
        "or in --set train.precision=fp32."
    )


@contextmanager
def resumable(run: Run) -> Iterator[None]:
    """Within this, what stops a run from outside is said with the way to go on: a signal, a full disk."""
    go_on = f"run: whet train --resume {quoted(run.path)}"
    try:
        yield
    except PeerGone as error:
        raise PeerGone(f"{run.path}: {error} What was saved is whole; to go on {go_on}") from None
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped; what was saved is whole. To go on {go_on}") from None
    except (OSError, SafetensorError) as error:
        reason = "the disk is full" if _is_full(error) else getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"{run.path}: {reason}. Every checkpoint that was saved is whole; mend the disk and {go_on}"
        ) from None


def _is_full(error: OSError | SafetensorError) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return "StorageFull" in str(error) or "No space left" in str(error)
