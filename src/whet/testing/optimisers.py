"""The laws of an optimiser, for the built-in ones and for your own: `check_optimiser(MyOptimiser())`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from whet.engine.optimise import restore_state, state_tensors
from whet.testing.steps import same_bytes
from whet.types import Optimiser

RATE = 0.05


def check_optimiser(optimiser: Optimiser) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in OPTIMISER_LAWS:
        law(optimiser)


def it_finds_the_bottom_of_a_bowl(optimiser: Optimiser) -> None:
    """Two hundred steps on a sum of squares bring every parameter nearer to its minimum, in fp32 and float64."""
    for dtype in (torch.float32, torch.float64):
        bowl = _Bowl.make(optimiser, dtype=dtype)
        before = bowl.distances()
        for _ in range(200):
            bowl.step()
        for name, distance in bowl.distances().items():
            nearer = distance < 0.5 * before[name]
            assert nearer, (
                f"{name} ({dtype}) began {before[name]:.3f} from the minimum and is {distance:.3f} from it after 200 steps"
            )


def rate_zero_changes_nothing(optimiser: Optimiser) -> None:
    """With a learning rate of 0 no bit changes, weight decay or not."""
    bowl = _Bowl.make(optimiser, weight_decay=0.1)
    before = bowl.copy()
    for group in bowl.optimizer.param_groups:
        group["lr"] = 0.0
    bowl.step()
    different = same_bytes(before, bowl.copy())
    assert not different, f"a step with learning rate 0 has changed {different}; the rate is read from param_groups at each step"


def without_gradient_nothing_moves(optimiser: Optimiser) -> None:
    """A parameter without a gradient keeps its bits, whatever the weight decay."""
    bowl = _Bowl.make(optimiser, weight_decay=0.1)
    before = bowl.copy()
    bowl.step(skip="matrix")
    changed = same_bytes(before, bowl.copy())
    assert "matrix" not in changed, "a parameter without a gradient has moved"
    assert changed, "nothing has moved at all"


def state_can_be_saved(optimiser: Optimiser) -> None:
    """Restored from its tensors into a new optimiser, it goes on to the same bits."""
    whole = _Bowl.make(optimiser, weight_decay=0.1)
    for _ in range(5):
        whole.step()
    saved = {name: tensor.clone() for name, tensor in state_tensors(whole.optimizer, whole.named).items()}
    resumed = _Bowl.make(optimiser, weight_decay=0.1)
    with torch.no_grad():
        for (_, tensor), (_, value) in zip(resumed.named, whole.named, strict=True):
            tensor.copy_(value)
    restore_state(resumed.optimizer, resumed.named, saved)
    for _ in range(5):
        whole.step()
        resumed.step()
    different = same_bytes(whole.copy(), resumed.copy())
    assert not different, (
        f"after a restored state {different} end in other bits: something is kept outside optimizer.state's tensors"
    )


OPTIMISER_LAWS = (it_finds_the_bottom_of_a_bowl, rate_zero_changes_nothing, without_gradient_nothing_moves, state_can_be_saved)


@dataclass(slots=True)
class _Bowl:
    """A matrix and a vector, each with a minimum of its own, and an optimiser over them."""

    named: list[tuple[str, Tensor]]
    goals: dict[str, Tensor]
    optimizer: Optimizer

    @classmethod
    def make(cls, optimiser: Optimiser, weight_decay: float = 0.0, dtype: torch.dtype = torch.float32) -> _Bowl:
        generator = torch.Generator().manual_seed(0)
        shapes = {"matrix": (6, 5), "vector": (7,)}
        named = [(name, torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()) for name, shape in shapes.items()]
        goals = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
        return cls(named, goals, optimiser.build(named, RATE, weight_decay))

    def step(self, skip: str = "") -> None:
        for name, tensor in self.named:
            tensor.grad = None if name == skip else (tensor - self.goals[name]).detach().clone()
        self.optimizer.step()

    def copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.named}

    def distances(self) -> dict[str, float]:
        return {name: float((tensor.detach() - self.goals[name]).norm()) for name, tensor in self.named}
