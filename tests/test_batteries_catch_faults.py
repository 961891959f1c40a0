"""Each law of the batteries fails on a plugin with the fault it is there for; else it would prove nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from whet.models.tensors import load_tensors, save_tensors
from whet.objectives.classify import Classify
from whet.objectives.dpo import Dpo
from whet.objectives.grpo import Grpo
from whet.objectives.ppo import Ppo
from whet.objectives.sft import Sft
from whet.plugins import build
from whet.techniques.lora import Lora
from whet.testing import cleaners, metrics, objectives, optimisers, schedules, techniques
from whet.types import Cursor, Output, StepRows

REWARDED = {"reward": {"name": "regex", "pattern": "[0-9]"}, "max_new_tokens": 2}


class MeanOfEachBatch(Sft):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        return {"lm": sums["lm"] / max(1.0, batch.weights["lm"])}, measured


class NeighboursMatter(Classify):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        places = torch.arange(len(batch.lengths)).repeat_interleave(torch.tensor(batch.lengths))  # by where a row stands
        return {"label": sums["label"] + 0.01 * (policy.hidden(batch).sum(-1) * places).sum()}, measured


class ReadsPadding(Sft):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        return {"lm": sums["lm"] * (1 if policy.ability.packs else 1.001)}, measured


class Draws(Sft):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        return {"lm": sums["lm"] * (1 + 0.1 * torch.rand(()))}, measured


class HiddenOrder(Sft):
    def steps(self, units, policy, plan, cursor, state):
        while True:  # an order that no cursor decides
            chosen = np.random.default_rng().permutation(len(units))[: plan.batch_size]
            cursor = Cursor(cursor.epoch, cursor.position + len(chosen))
            yield StepRows(tuple(units[index] for index in chosen), cursor)


class ForgetsItsPlace(Sft):
    def steps(self, units, policy, plan, cursor, state):
        yield from super().steps(units, policy, plan, Cursor(), state)


class LearnsEverything(Sft):
    def loss(self, policy, batch, state):
        supervised = (batch.positions > 0).float()
        wide = replace(batch, tokens={"supervised": supervised})
        return {"lm": -policy.logprobs(wide).sum()}, {}


class WrongGradient(Sft):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        total = sums["lm"]
        return {"lm": total.detach() + 0.5 * (total - total.detach())}, measured


class WrongWay(Sft):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        total = sums["lm"]
        return {"lm": 2 * total.detach() - total}, measured


class TakesAnything(Sft):
    def units(self, examples, policy, max_length):
        return super().units([example for example in examples if example.messages], policy, max_length)


class SameForAll(Classify):
    def outputs(self, policy, examples, max_length):
        found = list(super().outputs(policy, examples, max_length))
        return iter([replace(found[0], label=examples[0].label) for _ in found])


class MovesItsReference(Dpo):
    def loss(self, policy, batch, state):
        for parameter in policy.reference.network.parameters():
            parameter.data += 1e-4
        return super().loss(policy, batch, state)


class ForeignReference(Dpo):
    def units(self, examples, policy, max_length):
        units = super().units(examples, policy, max_length)
        return [
            tuple(
                replace(row, tokens={**row.tokens, "reference_logprobs": row.tokens["reference_logprobs"] - 0.1}) for row in unit
            )
            for unit in units
        ]


class ComparesWithItsBatch(Dpo):
    def loss(self, policy, batch, state):
        sums, measured = super().loss(policy, batch, state)
        return {"dpo": sums["dpo"] * len(batch.lengths)}, measured


class ForgetsItsRollout(Ppo):
    def steps(self, units, policy, plan, cursor, state):
        return super().steps(units, policy, plan, cursor, {})


class PrefersTheWorse(Grpo):
    def rolled_out(self, prompts, policy, sampling):
        units = super().rolled_out(prompts, policy, sampling)
        return tuple(
            tuple(replace(row, tokens={**row.tokens, "advantages": -row.tokens["advantages"]}) for row in unit) for unit in units
        )


class GoesOnSettling(Classify):
    def settle(self, policy, units, plan):
        policy.heads["classify"].weight.mul_(0.9)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (GoesOnSettling, objectives.settling_draws_nothing),
        (MovesItsReference, objectives.the_reference_stands_still),
        (ForeignReference, objectives.starts_at_its_reference),
        (ComparesWithItsBatch, objectives.cutting_changes_nothing),
        (ForgetsItsRollout, objectives.killed_and_resumed_gives_the_same_bytes),
        pytest.param(PrefersTheWorse, objectives.training_reduces_the_loss, marks=pytest.mark.slow),
        (MeanOfEachBatch, objectives.cutting_changes_nothing),
        (NeighboursMatter, objectives.row_order_changes_nothing),
        (NeighboursMatter, objectives.cutting_changes_nothing),
        (ReadsPadding, objectives.padding_changes_nothing),
        (Draws, objectives.loss_is_pure),
        (HiddenOrder, objectives.same_seed_same_steps),
        (ForgetsItsPlace, objectives.same_seed_same_steps),
        (ForgetsItsPlace, objectives.killed_and_resumed_gives_the_same_bytes),
        (HiddenOrder, objectives.killed_and_resumed_gives_the_same_bytes),
        (LearnsEverything, objectives.unsupervised_tokens_get_no_gradient),
        (WrongGradient, objectives.gradient_matches_finite_differences),
        (WrongWay, objectives.training_reduces_the_loss),
        (TakesAnything, objectives.missing_field_is_named),
        (SameForAll, objectives.outputs_do_not_depend_on_neighbours),
    ],
)
def test_a_fault_of_an_objective_is_caught(fault, law, builder, examples):
    with pytest.raises(AssertionError):
        law(fault(**(REWARDED if fault in {ForgetsItsRollout, PrefersTheWorse} else {})), builder("llama"), examples)


class StartsElsewhere(Lora):
    def attach(self, policy, seed):
        super().attach(policy, seed)
        with torch.no_grad():
            for name, parameter in policy.trainable():
                if name.endswith("up"):
                    parameter += 0.01


class StartsAnywhere(Lora):
    def attach(self, policy, seed):
        super().attach(policy, int(torch.randint(10**6, ())))


class TrainsTheBaseToo(Lora):
    def attach(self, policy, seed):
        super().attach(policy, seed)
        norm = policy.network.model.norm.weight
        for _, parameter in policy.trainable():
            parameter.register_hook(lambda gradient: _nudge(norm, gradient))


def _nudge(weight, gradient):
    with torch.no_grad():
        weight += 1e-4
    return gradient


class LeavesItsLayers(Lora):
    def detach(self, policy):
        """Nothing is taken off."""


class MergesNothing(Lora):
    def merge(self, policy):
        self.detach(policy)


class SavesTheStart(Lora):
    def save(self, policy, folder):
        super().save(policy, folder)
        tensors = load_tensors(folder / "adapter_model.safetensors")
        save_tensors({name: tensor * 0 for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")


class SizesWhatIsNamed(Lora):
    def sized(self, policy, bits):
        return {"rank": (8, "whatever the recipe says")}


class SizesWithoutAReason(Lora):
    def sized(self, policy, bits):
        return {name: (value, "") for name, (value, _) in super().sized(policy, bits).items()}


class SizesAnotherSetting(Lora):
    def sized(self, policy, bits):
        return {"alpha": (8.0, "as it likes")} if self.alpha != 8.0 else {}


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (SizesWhatIsNamed, techniques.what_follows_from_the_rows_is_its_own_setting),
        (SizesWithoutAReason, techniques.what_follows_from_the_rows_is_its_own_setting),
        (SizesAnotherSetting, techniques.what_follows_from_the_rows_is_its_own_setting),
        (StartsElsewhere, techniques.attaching_changes_no_output),
        (StartsAnywhere, techniques.same_seed_same_start),
        (TrainsTheBaseToo, techniques.only_trainable_weights_move),
        (TrainsTheBaseToo, techniques.detaching_gives_the_base_back),
        (LeavesItsLayers, techniques.detaching_gives_the_base_back),
        (MergesNothing, techniques.merging_changes_no_output),
        (SavesTheStart, techniques.saved_is_loaded),
    ],
)
def test_a_fault_of_a_technique_is_caught(fault, law, builder, examples):
    with pytest.raises(AssertionError):
        law(fault(), builder("llama"), build("objectives", "sft", {}), examples)


class Shifted:
    def factor(self, step, num_steps, num_warmup):
        return (step - 1) / num_steps


class ForgetsItsMean:
    """Momentum kept where no checkpoint sees it."""

    def build(self, named, learning_rate, weight_decay):
        optimizer = torch.optim.SGD([tensor for _, tensor in named], lr=learning_rate)
        means = {name: torch.zeros_like(tensor) for name, tensor in named}

        def step(closure=None):
            for name, tensor in named:
                if tensor.grad is not None:
                    means[name] = 0.5 * means[name] + tensor.grad
                    tensor.data.add_(means[name], alpha=-optimizer.param_groups[0]["lr"])

        optimizer.step = step
        return optimizer


class Plain:
    """Gradient descent that keeps every law; each fault below is one change of it."""

    def build(self, named, learning_rate, weight_decay):
        groups = [
            {"params": [tensor for _, tensor in named if tensor.ndim >= 2], "weight_decay": weight_decay},
            {"params": [tensor for _, tensor in named if tensor.ndim < 2], "weight_decay": 0.0},
        ]
        return self.make(groups, learning_rate)

    def make(self, groups, learning_rate):
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.5)


class DecaysEverything(Plain):
    def make(self, groups, learning_rate):
        return torch.optim.SGD([group | {"weight_decay": 0.1} for group in groups], lr=learning_rate)


class DecaysNothing(Plain):
    def make(self, groups, learning_rate):
        return torch.optim.SGD([group | {"weight_decay": 0.0} for group in groups], lr=learning_rate)


class Changed(Plain):
    """Gradient descent whose step is followed by something."""

    def make(self, groups, learning_rate):
        optimizer = super().make(groups, learning_rate)
        usual = optimizer.step

        def step(closure=None):
            usual()
            with torch.no_grad():
                self.after(optimizer, learning_rate)

        optimizer.step = step
        return optimizer


class Drifts(Changed):
    """Moves although there is no slope, as a sign that takes zero for one does."""

    def after(self, optimizer, learning_rate):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                tensor.sub_(group["lr"] * 1e-3)


class HasOneRate(Changed):
    """Takes the first group's rate for all."""

    def make(self, groups, learning_rate):
        optimizer = super().make(groups, learning_rate)
        changed = optimizer.step

        def step(closure=None):
            for group in optimizer.param_groups:
                group["lr"] = max(other["lr"] for other in optimizer.param_groups)
            changed()

        optimizer.step = step
        return optimizer

    def after(self, optimizer, learning_rate):
        pass


class Draws(Changed):
    """Noise from torch's own stream."""

    def after(self, optimizer, learning_rate):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                tensor.add_(torch.randn_like(tensor) * group["lr"] * 1e-3)


class CountsInsideTheGroup(Changed):
    """Bias correction by a counter that no checkpoint sees."""

    def after(self, optimizer, learning_rate):
        for group in optimizer.param_groups:
            group["count"] = group.get("count", 0) + 1
            for tensor in group["params"]:
                tensor.mul_(1 - group["lr"] * 0.5 ** group["count"])


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (DecaysEverything, optimisers.decay_acts_on_matrices_only),
        (DecaysNothing, optimisers.decay_acts_on_matrices_only),
        (Drifts, optimisers.without_slope_nothing_moves),
        (HasOneRate, optimisers.rates_are_shared_out),
        (Draws, optimisers.same_start_same_bits),
        (CountsInsideTheGroup, optimisers.state_can_be_saved),
    ],
)
def test_a_fault_of_an_optimiser_is_caught(fault, law):
    optimisers.check_optimiser(Plain())
    with pytest.raises(AssertionError):
        law(fault())


class EndsAtZero:
    def factor(self, step, num_steps, num_warmup):
        if step <= num_warmup:
            return step / num_warmup
        return 1.0 if num_steps < 2 or step < num_steps else 0.0


class OrderMatters:
    higher_is_better, best, needs = True, 1.0, ("label",)

    def statistics(self, example, output: Output):
        return (float(example.label == output.label),)

    def reduce(self, statistics):
        weights = np.arange(1, len(statistics) + 1)
        return float((statistics[:, 0] * weights).sum() / weights.sum()) if len(statistics) else float("nan")


class OnceIsNotEnough:
    def clean(self, text):
        return text.replace("&amp;", "&")


class TooEager:
    def clean(self, text):
        return text.lower()


def test_faults_of_the_small_kinds_are_caught(examples):
    for check in (
        lambda: schedules.check_schedule(Shifted()),
        lambda: schedules.last_step_learns(EndsAtZero()),
        lambda: optimisers.state_can_be_saved(ForgetsItsMean()),
        lambda: metrics.order_does_not_matter(OrderMatters(), examples),
        lambda: cleaners.check_cleaner(OnceIsNotEnough()),
        lambda: cleaners.clean_text_is_unchanged(TooEager()),
    ):
        with pytest.raises(AssertionError):
            check()
