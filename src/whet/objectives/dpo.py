"""Direct preference optimisation."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from whet.engine.answers import answer_row, both, likelihood_margins, log_ratios, with_reference
from whet.engine.fields import require
from whet.engine.generate import generate
from whet.engine.measure import likelihoods
from whet.engine.order import shuffled
from whet.models.policy import Policy
from whet.models.reference import keep_reference
from whet.models.template import prompt_ids, stop_ids
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit


@plugin
class Dpo(Objective):
    """Direct preference optimisation from pairs of answers. Rafailov et al. 2023 (arXiv:2305.18290), eq. 7.

    IPO: Azar et al. 2023 (arXiv:2310.12036), eq. 17, with log-ratios as means over tokens, as its authors train it.
    """

    beta: float = Field(0.1, gt=0)
    """Regularisation toward the reference. Larger stays closer."""
    loss_type: Literal["sigmoid", "ipo"] = Field("sigmoid")
    """sigmoid: DPO's own; ipo: a squared distance to the margin 1 / (2 beta), which does not grow without end."""

    needs: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    reference: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("pair_accuracy", "loss")
    written_metrics: ClassVar[tuple[str, ...]] = ("rouge_l",)

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        keep_reference(policy)

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Pairs with the reference's log-probabilities: the chosen answer's row, then the rejected one's."""
        require(examples, self.needs)
        rows = [answer_row(example, answer, policy, max_length) for example in examples for answer in both(example)]
        rows = with_reference(rows, policy)
        return [_pair(chosen, rejected) for chosen, rejected in zip(rows[0::2], rows[1::2], strict=True)]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        ratios, counts = log_ratios(policy, batch)  # [2P] each
        whole = (counts[0::2] > 0) & (counts[1::2] > 0)  # [P]: neither answer was cut away
        if self.loss_type == "ipo":
            means = ratios / counts.clamp(min=1)
            losses = (means[0::2] - means[1::2] - 1 / (2 * self.beta)).square()
        else:
            losses = -logsigmoid(self.beta * (ratios[0::2] - ratios[1::2]))
        chosen, rejected = (self.beta * ratios[side::2] * whole for side in (0, 1))
        measured = {  # per row, and a pair is two
            "reward_accuracy": 2 * (chosen > rejected).to(ratios.dtype).sum(),
            "reward_margin": 2 * (chosen - rejected).sum(),
            "chosen_reward": 2 * chosen.sum(),
            "rejected_reward": 2 * rejected.sum(),
        }
        return {"dpo": (losses * whole).sum()}, measured

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """Which answer the policy finds likelier, whatever its reference says, and the likelihood of the chosen one."""
        require(examples, self.needs)
        margins = likelihood_margins(policy, examples, max_length)
        rows = [answer_row(example, both(example)[0], policy, max_length) for example in examples]
        found = likelihoods(policy, [(row,) for row in rows])
        for example, margin in zip(examples, margins, strict=True):
            nll, tokens = found[example.id]
            yield Output(margin=margin, nll=nll, num_tokens=tokens)

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """Answer each prompt, greedily."""
        prompts = [prompt_ids(policy.tokenizer, example.prompt or ()) for example in examples]
        for ids in generate(policy, prompts, max_new_tokens, stop_ids(policy.tokenizer)):
            yield Output(text=policy.tokenizer.decode(ids, skip_special_tokens=True).strip())


def _pair(chosen: Row, rejected: Row) -> Unit:
    weight = float(all(row.tokens["supervised"].any() for row in (chosen, rejected)))
    return _weighing(chosen, weight), _weighing(rejected, 0.0)


def _weighing(row: Row, weight: float) -> Row:
    return Row(row.id, row.ids, row.tokens, weights={"dpo": weight})
