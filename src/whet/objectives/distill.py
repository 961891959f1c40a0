"""Distillation: a smaller model learns from a larger one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from whet.engine.divergence import teacher_divergence
from whet.engine.generate import generate
from whet.engine.measure import likelihoods
from whet.engine.order import shuffled
from whet.engine.text_rows import characters, chat_row, text_rows
from whet.errors import ModelError, RunError
from whet.models.named import load_named
from whet.models.policy import Policy
from whet.models.template import prompt_ids, stop_ids
from whet.plugins import Place, plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, State, StepRows, Unit


@plugin
class Distill(Objective):
    """A teacher's whole distribution at each token is learnt beside the token. Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), section 2.

    The loss is alpha T^2 KL(teacher || model), both softened by temperature T (eq. 1), plus 1 - alpha times the likelihood that sft
    and pretrain learn. Each token weighs the same, over the whole step. The teacher is asked anew for every micro-batch, so nothing
    of it is stored, and it needs the memory of its weights.
    """

    teacher: Place
    """Folder of a finished run, or a base model as in `model`; with the same tokenizer. Looked for from the current folder, then beside the recipe."""
    temperature: float = Field(2.0, gt=0)
    """T: what both models' logits are divided by. Higher tells more of the less likely tokens."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of the teacher. At 0 only the rows' own tokens are learnt, at 1 only the teacher's distributions."""
    of: Literal["answers", "text"] = "answers"
    """answers: the assistant's turns of conversations, as sft; text: every token of a text, as pretrain."""

    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("messages",) if self.of == "answers" else ("text",)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "perplexity") if self.of == "answers" else ("bits_per_character", "loss", "perplexity")

    @property
    def written_metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "exact_match") if self.of == "answers" else ()

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Load the teacher. Raises ModelError where it has no distributions over the same tokens."""
        if not self.alpha:
            return
        try:
            teacher, card = load_named(self.teacher)
        except (ModelError, RunError) as error:
            raise ModelError(f"objective.teacher: {error}") from None
        if teacher.kind != "decoder" or len(teacher.heads):
            what = f"a run of '{card.objective}'" if card else f"an {teacher.kind}"
            raise ModelError(
                f"teacher '{self.teacher}' is {what}, and a decoder that writes is needed: a run of 'sft', or a base model."
            )
        ours, theirs = policy.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
        if ours != theirs:
            same = sum(theirs.get(token) == number for token, number in ours.items())
            raise ModelError(
                f"teacher '{self.teacher}' has another vocabulary: {same:,} of the model's {len(ours):,} tokens have the same number among its "
                f"{len(theirs):,}. Take a teacher and a model of one family, with one tokenizer."
            )
        teacher.max_tokens = policy.max_tokens
        policy.teacher = teacher

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        if self.of == "answers":
            rows = [chat_row(example, policy, max_length) for example in examples]
        else:
            rows = [row for example in examples for row in text_rows(example, policy, max_length)]
        terms = [name for name, share in (("lm", 1 - self.alpha), ("soft", self.alpha)) if share]
        return [(replace(row, weights=dict.fromkeys(terms, row.weights["lm"])),) for row in rows]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        states, terms = policy.hidden(batch), dict[str, Tensor]()
        if self.alpha < 1:
            terms["lm"] = -(1 - self.alpha) * (policy.logprobs(batch, states) * batch.tokens["supervised"]).sum()
        if self.alpha:
            assert policy.teacher is not None, "prepare() loads the teacher"
            gaps = teacher_divergence(policy, policy.teacher, batch, states, self.temperature)
            terms["soft"] = self.alpha * self.temperature**2 * gaps.sum()
        return terms, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """The likelihood of the rows' own tokens; the teacher is not asked."""
        found = likelihoods(policy, self.units(examples, policy, max_length))
        for example in examples:
            total, tokens = found.get(example.id, (0.0, 0))  # a text of one token has nothing to predict
            yield Output(nll=total, num_tokens=tokens, num_characters=characters(example) if self.of == "text" else None)

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """Generate the last answer of each conversation, greedily."""
        prompts = [prompt_ids(policy.tokenizer, example.prompt or ()) for example in examples]
        for ids in generate(policy, prompts, max_new_tokens, stop_ids(policy.tokenizer)):
            yield Output(text=str(policy.tokenizer.decode(ids, skip_special_tokens=True)).strip())
