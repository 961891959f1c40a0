"""The laws of an optimiser, for the built-in ones and for your own: `check_optimiser(MyOptimiser())`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.optim import Optimizer

from whet.engine.optimise import restore_state, share_rates, state_tensors
from whet.models.tensors import load_tensors, save_tensors
from whet.protocols import Optimiser
from whet.testing.steps import same_bytes

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


def without_slope_nothing_moves(optimiser: Optimiser) -> None:
    """Gradients of zero leave every bit as it is where there is no weight decay."""
    bowl = _Bowl.make(optimiser)
    before = bowl.copy()
    for _ in range(3):
        bowl.rest()
    changed = same_bytes(before, bowl.copy())
    assert not changed, f"{changed} have moved though every gradient was zero and there is no weight decay"


def decay_acts_on_matrices_only(optimiser: Optimiser) -> None:
    """With gradients of zero, weight decay makes matrices smaller and leaves vectors, which are biases and norms, as they are."""
    bowl = _Bowl.make(optimiser, weight_decay=0.1)
    before = bowl.copy()
    bowl.rest()
    for name, tensor in bowl.copy().items():
        if tensor.ndim >= 2:
            smaller = float(tensor.norm()) < float(before[name].norm())
            assert smaller, f"{name} did not become smaller by weight decay: {before[name].norm():.6f}, then {tensor.norm():.6f}"
        else:
            assert not same_bytes({name: before[name]}, {name: tensor}), f"weight decay has changed {name}, which is no matrix"


def rates_are_shared_out(optimiser: Optimiser) -> None:
    """A parameter that has a share of the rate learns at it, and the others as if there were no shares; techniques give such shares."""
    alone, shared = _Bowl.make(optimiser), _Bowl.make(optimiser)
    share_rates(shared.optimizer, shared.named, {"matrix": 0.0})
    before = shared.copy()
    for bowl in (alone, shared):
        for group in bowl.optimizer.param_groups:
            group["lr"] = RATE * group.get("lr_ratio", 1.0)
        bowl.step()
    after = shared.copy()
    assert not same_bytes({"matrix": before["matrix"]}, {"matrix": after["matrix"]}), (
        "a matrix whose share of the rate is 0 has moved"
    )
    others = same_bytes(alone.copy() | {"matrix": after["matrix"]}, after)
    assert not others, f"{others} have moved otherwise because the matrix has a share of its own"


def same_start_same_bits(optimiser: Optimiser) -> None:
    """Two trainings from the same weights over the same gradients end in the same bits."""
    ends = []
    for _ in range(2):
        bowl = _Bowl.make(optimiser, weight_decay=0.1)
        for _ in range(5):
            bowl.step()
        ends.append(bowl.copy())
    different = same_bytes(*ends)
    assert not different, (
        f"{different} end in other bits the second time; what is drawn has to come from a seed of the optimiser's own"
    )


def state_can_be_saved(optimiser: Optimiser) -> None:
    """Restored from a checkpoint's file into a new optimiser, after its first step and after later ones, it goes on to the same bits."""
    for before in (1, 5):
        whole = _Bowl.make(optimiser, weight_decay=0.1)
        for _ in range(before):
            whole.step()
        with TemporaryDirectory() as folder:
            save_tensors(state_tensors(whole.optimizer, whole.named), Path(folder) / "state.safetensors")
            saved = load_tensors(Path(folder) / "state.safetensors")
        resumed = _Bowl.make(optimiser, weight_decay=0.1)
        with torch.no_grad():
            for (_, tensor), (_, value) in zip(resumed.named, whole.named, strict=True):
                tensor.copy_(value)
        restore_state(resumed.optimizer, resumed.named, saved)
        again = state_tensors(resumed.optimizer, resumed.named)
        different = same_bytes(saved, {name: tensor.detach() for name, tensor in again.items()})
        assert not different, f"of the restored state {different} are not what was saved"
        for _ in range(5):
            whole.step()
            resumed.step()
        different = same_bytes(whole.copy(), resumed.copy())
        assert not different, (
            f"after a restored state {different} end in other bits: something is kept outside optimizer.state's tensors and numbers"
        )


OPTIMISER_LAWS = (
    it_finds_the_bottom_of_a_bowl,
    rate_zero_changes_nothing,
    without_gradient_nothing_moves,
    without_slope_nothing_moves,
    decay_acts_on_matrices_only,
    rates_are_shared_out,
    same_start_same_bits,
    state_can_be_saved,
)


@dataclass(slots=True)
class _Bowl:
    """Two matrices and a vector, each with a minimum of its own, and an optimiser over them. One matrix is large enough for 8 bits."""

    named: list[tuple[str, Tensor]]
    goals: dict[str, Tensor]
    optimizer: Optimizer

    @classmethod
    def make(cls, optimiser: Optimiser, weight_decay: float = 0.0, dtype: torch.dtype = torch.float32) -> _Bowl:
        generator = torch.Generator().manual_seed(0)
        shapes = {"large": (72, 64), "matrix": (6, 5), "vector": (7,)}
        named = [(name, torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()) for name, shape in shapes.items()]
        goals = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
        return cls(named, goals, optimiser.build(named, RATE, weight_decay))

    def step(self, skip: str = "") -> None:
        for name, tensor in self.named:
            tensor.grad = None if name == skip else (tensor - self.goals[name]).detach().clone()
        self.optimizer.step()

    def rest(self) -> None:
        """Step along gradients of zero."""
        for _, tensor in self.named:
            tensor.grad = torch.zeros_like(tensor)
        self.optimizer.step()

    def copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.named}

    def distances(self) -> dict[str, float]:
        return {name: float((tensor.detach() - self.goals[name]).norm()) for name, tensor in self.named}
