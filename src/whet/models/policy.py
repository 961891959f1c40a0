"""The policy: a network, its tokenizer and chat template, and heads that live outside the network, one per task.

The only place that casts what transformers returns. Every objective sees packed tensors, whatever the architecture can do.

Of an encoder-decoder the rows are what its decoder reads, begun with its start token, so that a target is predicted from what stands
before it as in any decoder; their sources go to the encoder. A batch without sources asks the encoder alone.

Shapes: R rows, T tokens of all rows, S tokens of all sources, D width, K classes, V vocabulary, N supervised tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from whet.engine.attention import packed
from whet.engine.losses import plain_logits, target_logprobs
from whet.errors import ModelError
from whet.types import Batch

if TYPE_CHECKING:
    from whet.models.frozen import Frozen
    from whet.models.fusion import Fusion

Kind = Literal["encoder", "decoder", "encoder-decoder"]
OF_TASK = "__"
"""Between a task's name and its head's, among the heads of a policy with several tasks."""

LONGEST = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
"""Names by which configurations say how many tokens a row may have."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a base model came from."""

    name: str
    """As the recipe names it."""
    folder: Path
    """Local folder of its files; of a hub model, its snapshot in the cache."""
    sha256: str
    """Hash over its weights, its configuration, its tokenizer and its chat template."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What the probe found when the architecture was loaded."""

    packs: bool
    """Packed rows give what separate ones give; else batches are padded."""
    difference: float
    """Largest difference of packed from separate, over the spread of the output."""
    plain_head: bool
    """Logits are the output embedding times the last hidden state, with at most a soft cap; of an encoder-decoder also a scale and a bias."""
    scale: float = 1.0
    """What the last hidden state is multiplied by before the output embedding; T5's width ** -0.5."""
    first_position: int = 0
    """The position of a row's first token, where a network has a place of its own for padding, as RoBERTa has."""
    unfused: str = ""
    """Why its layers are computed by transformers' modules, as the end of a sentence; empty where they are fused."""


class Policy:
    """Network, tokenizer, heads. Techniques change it in place."""

    def __init__(
        self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kind: Kind, source: Source, ability: Ability
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.kind: Kind = kind
        self.source = source
        self.ability = ability
        self.fusion: Fusion | None = None
        """The fused way through the network, where it has one and it was tried when it was loaded."""
        self.frozen: Frozen | None = None
        """What the lower part, which does not learn, has made of each row; only while training, where it is kept."""
        self.heads = nn.ModuleDict()
        self.classes: tuple[str, ...] = ()
        """Classes of the `classify` head, in the order of its outputs."""
        self.temperature = 1.0
        """What the scores of classes are divided by before they become probabilities; fitted on validation rows while training."""
        self.max_tokens = 4096
        """Tokens of one micro-batch where nothing learns; in a run it is `train.max_tokens`."""
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        """Of the base, whatever a technique adds or quantises."""
        self.num_virtual = 0
        """Virtual tokens that a technique puts before every row; they use up context."""
        self.rates: dict[str, float] = {}
        """Share of the learning rate that a parameter learns at, by name; 1 where it is not named."""
        self.reference: Policy | None = None
        """What the policy was before it learnt, frozen; only where an objective asks for it (`models/reference.py`)."""
        self.teacher: Policy | None = None
        """What the policy learns from, frozen; rows must be short enough for both."""
        self.tasks: dict[str, Policy] = {}
        """The policy as each of several tasks sees it; empty where there is one only."""

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.device
        return device

    @property
    def width(self) -> int:
        return int(self.network.config.get_text_config().hidden_size)

    @property
    def context(self) -> int:
        """Longest row in tokens that the network was made for, beside a technique's virtual tokens."""
        config = self.network.config.get_text_config()
        said = [getattr(config, name, None) for name in LONGEST]
        longest = min((length for length in said if isinstance(length, int) and length != 0), default=2048)
        longest -= self.ability.first_position
        own = min(longest, int(min(self.tokenizer.model_max_length, 10**9))) - self.num_virtual
        return own if self.teacher is None else min(own, self.teacher.context)

    @property
    def end_id(self) -> int | None:
        """The token that ends a text, if the tokenizer has one."""
        return None if self.tokenizer.eos_token_id is None else int(self.tokenizer.eos_token_id)

    def trainable(self) -> list[tuple[str, Tensor]]:
        """Return the parameters that learn, by name, in a fixed order."""
        named = [(f"network.{name}", parameter) for name, parameter in self.network.named_parameters()]
        named += [(f"heads.{name}", parameter) for name, parameter in self.heads.named_parameters()]
        return sorted((name, parameter) for name, parameter in named if parameter.requires_grad)

    def task(self, name: str) -> Policy:
        """Return the policy as one of several tasks sees it: heads, classes and temperature of its own, and all else shared."""
        if name not in self.tasks:
            self.tasks[name] = copy.copy(self)
            vars(self.tasks[name]).update(heads=nn.ModuleDict(), classes=(), temperature=1.0, tasks={})
        view = self.tasks[name]
        own = {"heads", "classes", "temperature", "tasks"}
        vars(view).update({key: value for key, value in vars(self).items() if key not in own})
        return view

    def adopt_heads(self, name: str) -> None:
        """Count a task's heads among the policy's own, so that they learn and are saved with it."""
        for head, layer in self.task(name).heads.items():
            self.heads[f"{name}{OF_TASK}{head}"] = layer

    @property
    def temperatures(self) -> dict[str, float]:
        """The temperature of each of several tasks."""
        return {name: view.temperature for name, view in self.tasks.items()}

    def take_temperatures(self, temperatures: Mapping[str, float]) -> None:
        """Put back what `temperatures` gave."""
        for name, value in temperatures.items():
            self.task(name).temperature = value

    def fold_temperature(self) -> None:
        """Divide the heads by the temperature, once training is over: whatever reads the saved heads gets honest probabilities."""
        for view in self.tasks.values():
            view.fold_temperature()
        with torch.no_grad():
            for parameter in self.heads.parameters():
                parameter.div_(self.temperature)
        self.temperature = 1.0

    @property
    def start_id(self) -> int:
        """The token that an encoder-decoder's decoder begins with. Raises ModelError where the model does not say."""
        known = (self.network.config, self.network.generation_config)
        named = [getattr(some, name, None) for name in ("decoder_start_token_id", "bos_token_id") for some in known]
        found = next((token for token in named if isinstance(token, int)), None)
        if found is None:
            raise ModelError(
                f"{self.source.name}: does not say which token its decoder begins with. Add decoder_start_token_id to its config.json."
            )
        return found

    def hidden(self, batch: Batch) -> Tensor:
        """Return the last hidden state of each token. [T, D]"""
        kept = None if self.frozen is None else self.frozen.states(self, batch)
        return self.computed(batch) if kept is None else kept

    def hidden_at(self, batch: Batch, places: Tensor) -> Tensor:
        """Return the last hidden state of the tokens at these places, which is less work than `hidden` for few of them. [N, D]"""
        kept = None if self.frozen is None else self.frozen.states(self, batch, places)
        return self.computed(batch, places) if kept is None else kept

    def computed(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Return what `hidden` or `hidden_at` do, from the first block on. [T, D] or [N, D]"""
        if self.kind == "encoder-decoder":
            states = self._coded(batch)
        else:
            fused = None if self.fusion is None else self.fusion.states(self.network, batch, places)
            if fused is not None:
                return fused
            states = self.asked(batch)
        return states if places is None else states[places]

    def asked(self, batch: Batch) -> Tensor:
        """Return the last hidden state of each token by the network's own modules. [T, D]"""
        body = self.network.base_model
        if self.ability.packs:
            with packed(batch.lengths):
                out = body(input_ids=batch.ids[None], position_ids=self._positions(batch), use_cache=False)
            states: Tensor = out.last_hidden_state[0]
            return states
        ids, mask = padded(batch)
        out = body(input_ids=ids, attention_mask=mask, use_cache=False)
        flat: Tensor = out.last_hidden_state[mask.bool()]
        return flat

    def logprobs(self, batch: Batch, states: Tensor | None = None, *, alike: bool = False) -> Tensor:
        """Return each supervised token's log-probability given what stands before it; 0 at the other tokens. [T], at least fp32

        `states` are the batch's `hidden`, where they are there already. `alike`: each will count the same in the loss; it saves time only.
        """
        targets = _targets(batch)  # [N]
        if self.ability.plain_head:
            head = self.network.get_output_embeddings()
            cap = getattr(self.network.config.get_text_config(), "final_logit_softcapping", None)
            chosen = self.head_inputs(self.hidden_at(batch, targets - 1) if states is None else states[targets - 1])
            values = target_logprobs(chosen, head.weight, self.head_bias, batch.ids[targets], cap, alike=alike)
        else:
            values = self.distributions(batch).gather(-1, batch.ids[targets, None]).squeeze(-1)
        return torch.zeros(len(batch.ids), dtype=values.dtype, device=values.device).index_put((targets,), values)

    def head_inputs(self, states: Tensor) -> Tensor:
        """Return hidden states as a plain output head reads them. [N, D]"""
        return states if self.ability.scale == 1.0 else states * self.ability.scale

    def head_logits(self, states: Tensor) -> Tensor:
        """Return what a plain output head makes of hidden states. [N, D] -> [N, V], at least fp32"""
        cap = getattr(self.network.config.get_text_config(), "final_logit_softcapping", None)
        return plain_logits(self.head_inputs(states), self.network.get_output_embeddings().weight, self.head_bias, cap)

    @property
    def head_bias(self) -> Tensor | None:
        """What a plain output head adds: its own bias, or the one that BART and Marian keep beside it. [V]"""
        bias: Tensor | None = self.network.get_output_embeddings().bias
        beside = dict(self.network.named_buffers(recurse=False)).get("final_logits_bias")
        return bias if beside is None else beside[0] if bias is None else bias + beside[0]

    def distributions(self, batch: Batch) -> Tensor:
        """Return the log-probability of every token of the vocabulary at each supervised place. [N, V], at least fp32"""
        logits = self._public_logits(batch, _targets(batch) - 1)
        return torch.log_softmax(logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32), dim=-1)

    def masked_logits(self, batch: Batch, places: Tensor) -> Tensor:
        """Return the scores of every token of the vocabulary at some places, of a network with a masked-language head. [N, V]"""

        def keep(module: nn.Module, given: object, out: ModelOutput) -> ModelOutput:
            states: Tensor = out.last_hidden_state
            out.last_hidden_state = states[0, places][None] if self.ability.packs else states[mask.bool()][places][None]
            return out

        ids, mask = (batch.ids[None], self._positions(batch)) if self.ability.packs else padded(batch)
        hook = self.network.base_model.register_forward_hook(keep)  # the head, whatever it is made of, sees these places only
        try:
            if self.ability.packs:
                with packed(batch.lengths):
                    logits: Tensor = self.network(input_ids=ids, position_ids=mask).logits[0]
            else:
                logits = self.network(input_ids=ids, attention_mask=mask).logits[0]
        finally:
            hook.remove()
        return logits

    def pooled(self, batch: Batch) -> Tensor:
        """Return one vector per row: the mean of an encoder's tokens, a decoder's last token. [R, D], at least fp32

        An encoder-decoder is asked as an encoder: its rows have no source.
        """
        if self.frozen is not None and (kept := self.frozen.pooled(self, batch)) is not None:
            return kept
        if self.kind == "decoder":
            ends = torch.tensor(batch.lengths, device=batch.ids.device).cumsum(0)
            return _at_least_fp32(self.hidden_at(batch, ends - 1))
        return self.pool(batch, self.hidden(batch))

    def pool(self, batch: Batch, states: Tensor) -> Tensor:
        """Return `pooled` of all hidden states of a batch. [T, D] -> [R, D]"""
        states = _at_least_fp32(states)
        if self.kind == "decoder":
            return states[torch.tensor(batch.lengths, device=states.device).cumsum(0) - 1]
        sizes = torch.tensor(batch.lengths, device=states.device)
        rows = torch.repeat_interleave(torch.arange(len(sizes), device=states.device), sizes)
        sums = torch.zeros(len(sizes), states.shape[-1], dtype=states.dtype, device=states.device).index_add(0, rows, states)
        return sums / sizes[:, None]

    def _positions(self, batch: Batch) -> Tensor:
        """Return the positions of packed rows as the network counts them. [1, T]"""
        return batch.positions[None] + self.ability.first_position

    def _coded(self, batch: Batch) -> Tensor:
        """Return the decoder's last hidden states, or where there is no source the encoder's. [T, D]"""
        ids, mask = padded(batch)
        if batch.source is None:
            states: Tensor = self.network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
            return states[:, -ids.shape[1] :][mask.bool()]  # virtual tokens of a technique come first
        source, source_mask = padded_sources(batch)
        read = self.network.get_encoder()(input_ids=source, attention_mask=source_mask).last_hidden_state
        out = self.network.get_decoder()(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=read,
            encoder_attention_mask=source_mask,
            use_cache=False,
        )
        written: Tensor = out.last_hidden_state[mask.bool()]
        return written

    def _written_logits(self, batch: Batch, keep: Tensor) -> Tensor:
        """Return an encoder-decoder's logits at some places of its rows, by its own head, whatever that is made of. [N, V]"""
        (ids, mask), (source, source_mask) = padded(batch), padded_sources(batch)

        def choose(module: nn.Module, given: object, out: ModelOutput) -> ModelOutput:
            out.last_hidden_state = out.last_hidden_state[mask.bool()][keep][None]
            return out

        hook = self.network.get_decoder().register_forward_hook(choose)
        try:
            out = self.network(
                input_ids=source, attention_mask=source_mask, decoder_input_ids=ids, decoder_attention_mask=mask, use_cache=False
            )
        finally:
            hook.remove()
        logits: Tensor = out.logits[0]
        return logits

    def _public_logits(self, batch: Batch, keep: Tensor) -> Tensor:
        if self.kind == "encoder-decoder":
            return self._written_logits(batch, keep)
        if self.ability.packs:
            with packed(batch.lengths):
                out = self.network(
                    input_ids=batch.ids[None], position_ids=self._positions(batch), use_cache=False, logits_to_keep=keep
                )
            logits: Tensor = out.logits[0]
            return logits
        ids, mask = padded(batch)
        full: Tensor = self.network(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]
        return full[keep]


def _at_least_fp32(states: Tensor) -> Tensor:
    return states.to(torch.float64 if states.dtype == torch.float64 else torch.float32)


def _targets(batch: Batch) -> Tensor:
    """Return where the supervised tokens of a batch stand. [N]"""
    targets = batch.tokens["supervised"].nonzero().squeeze(-1)
    assert not len(targets) or bool((batch.positions[targets] > 0).all()), (
        "a row's first token has nothing before it to be predicted from"
    )
    return targets


def padded(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the rows side by side, padded on the right, and their mask. [R, longest] each"""
    return _side_by_side(batch.ids, batch.lengths)


def padded_sources(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the rows' sources side by side, padded on the right, and their mask. [R, longest] each"""
    assert batch.source is not None, "a row of an encoder-decoder that writes needs a source"
    return _side_by_side(batch.source, batch.source_lengths)


def _side_by_side(tokens: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    ids = nn.utils.rnn.pad_sequence(list(torch.split(tokens, list(lengths))), batch_first=True)
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < torch.tensor(lengths, device=ids.device)[:, None]
    return ids, mask.long()
