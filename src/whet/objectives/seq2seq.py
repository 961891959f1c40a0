"""Supervised fine-tuning of encoder-decoders."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from whet.engine.fields import require
from whet.engine.measure import likelihoods, nll
from whet.engine.order import shuffled
from whet.engine.targets import source_ids, target_row, written_targets
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, State, StepRows, Unit


@plugin
class Seq2Seq(Objective):
    """Likelihood of the response given the prompt, by an encoder-decoder such as T5 or BART. Sutskever et al. 2014, eq. 1.

    The encoder reads the prompt as plain text, without a chat template: its turns one below the other. The decoder learns the
    response to its end token. Each token of a response weighs the same, over the whole step.
    """

    prefix: str = ""
    """Text before every source, such as the "summarize: " that T5 was taught."""

    needs: ClassVar[tuple[str, ...]] = ("prompt", "response")
    head: ClassVar[Literal["lm", "classify", "value", "tokens", "masked", "seq2seq"]] = "seq2seq"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    written_metrics: ClassVar[tuple[str, ...]] = ("rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "exact_match")

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        require(examples, self.needs)
        return [
            (target_row(policy, example.id, self.source(example), example.response or "", max_length),) for example in examples
        ]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"lm": nll(policy, batch)}, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found = likelihoods(policy, self.units(examples, policy, max_length))
        for example in examples:
            total, tokens = found[example.id]
            yield Output(nll=total, num_tokens=tokens)

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """Write the response to each prompt, greedily."""
        sources = [source_ids(policy, self.source(example), policy.context) for example in examples]
        for ids in written_targets(policy, sources, max_new_tokens):
            yield Output(text=str(policy.tokenizer.decode(ids, skip_special_tokens=True)).strip())

    def source(self, example: Example) -> str:
        return self.prefix + Objective.source(self, example)
