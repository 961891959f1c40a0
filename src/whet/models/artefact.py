"""A policy as other programs have it: folded into plain weights, with one head on its pooled vector or with a language model's logits.

Shapes: T tokens of a row, D width, K outputs of a head, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from whet.engine.cut import pack
from whet.errors import ModelError
from whet.models.policy import Kind, Policy
from whet.models.rounded import RoundedLinear, make_dense, rounded_layers
from whet.models.save import Card
from whet.protocols import Technique
from whet.types import Row

POOLED_HEADS = ("classify", "reward")
"""Heads that are one linear layer on the pooled vector of a row."""
AGREES = 1e-5
"""Largest difference of a standard classifier from ours, over the spread, to be written in its place."""
PROBLEMS = {"one": "single_label_classification", "several": "multi_label_classification", "number": "regression"}


@dataclass(frozen=True, slots=True)
class Named:
    """The head that an artefact carries, and what its outputs are called."""

    name: str
    layer: nn.Linear
    labels: tuple[str, ...]


def pooled_head(policy: Policy) -> Named | None:
    """Return the head on the pooled vector, or None for a language model. Raises ModelError for heads that no format here has."""
    names = [name for name in policy.heads if name in POOLED_HEADS]
    if names and policy.kind == "encoder-decoder":
        raise ModelError(
            f"a head '{names[0]}' on the encoder of an encoder-decoder, which no format here has. Train an encoder, such as builtin:minilm."
        )
    if len(names) == 1:
        layer = policy.heads[names[0]]
        assert isinstance(layer, nn.Linear)
        labels = policy.classes if len(policy.classes) == layer.out_features else tuple(map(str, range(layer.out_features)))
        return Named(names[0], layer, labels)
    if len(names) > 1 or policy.kind == "encoder" or (policy.kind == "encoder-decoder" and len(policy.heads)):
        found = ", ".join(policy.heads) or "none"
        raise ModelError(
            f"a model of kind {policy.kind} with the heads: {found}. What can be exported: a decoder or encoder-decoder that writes, or one head of "
            f"a classifier or reward model ({', '.join(POOLED_HEADS)})."
        )
    return None


def fold(policy: Policy, technique: Technique, card: Card) -> None:
    """Fold the technique into the weights, in place, and round nothing any more. Raises ModelError where that is impossible."""
    layers = rounded_layers(policy.network).values()
    if any(isinstance(layer, RoundedLinear) and layer.dynamic for layer in layers):
        raise ModelError(
            f"a run compressed with '{card.compressor}' rounds what comes into its layers too, which no exported format says. Export its "
            "parent run."
        )
    if not card.compressor:
        technique.merge(policy)
    make_dense(policy.network)
    policy.network.requires_grad_(False)
    policy.heads.requires_grad_(False)


def own_outputs(policy: Policy, rows: Sequence[Tensor], sources: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return what the run itself computes for each row of tokens, in fp32: logits [T, V], or the outputs of its head [K].

    `sources` are what an encoder-decoder reads, one for each row.
    """
    head = pooled_head(policy)
    with torch.no_grad():
        if policy.kind == "encoder-decoder":
            pairs = zip(*([one[None].to(policy.device) for one in side] for side in (sources, rows)), strict=True)
            return [policy.network(input_ids=a, decoder_input_ids=b, use_cache=False).logits[0].float().cpu() for a, b in pairs]
        if head is not None:
            batches = [pack([Row(number, row)]).to(policy.device) for number, row in enumerate(rows)]
            return [head.layer(policy.pooled(batch))[0].float().cpu() for batch in batches]
        return [policy.network(input_ids=row[None].to(policy.device), use_cache=False).logits[0].float().cpu() for row in rows]


def standard_classifier(policy: Policy, card: Card) -> PreTrainedModel | None:
    """Return transformers' own classifier with this network and head, or None where it has none that computes the same numbers."""
    head = pooled_head(policy)
    assert head is not None
    config = copy.deepcopy(policy.network.config)
    if type(config) not in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return None
    config.num_labels = len(head.labels)
    config.id2label = dict(enumerate(head.labels))
    config.label2id = {label: number for number, label in enumerate(head.labels)}
    config.problem_type = PROBLEMS.get(str(card.objective_settings.get("kind", "one")), "regression")
    if head.name == "reward":
        config.problem_type = "regression"
    if config.pad_token_id is None:  # such a classifier looks for the last token that is none
        config.pad_token_id = policy.tokenizer.pad_token_id if policy.tokenizer.pad_token_id is not None else policy.end_id
    config._attn_implementation = "sdpa"
    made: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    layers = [layer for layer in made.children() if isinstance(layer, nn.Linear) and layer.out_features == len(head.labels)]
    if len(layers) != 1 or layers[0].in_features != head.layer.in_features:
        return None
    made.base_model.load_state_dict(policy.network.base_model.state_dict(), strict=False)
    with torch.no_grad():
        layers[0].weight.copy_(head.layer.weight)
        if layers[0].bias is not None:
            layers[0].bias.copy_(head.layer.bias)
        rows = _probe_rows(policy)
        ours, theirs = torch.stack(own_outputs(policy, rows)), torch.stack([made(input_ids=row[None]).logits[0] for row in rows])
    return made if bool((ours - theirs).abs().max() <= AGREES * max(float(ours.std()), 1e-6)) else None


def _probe_rows(policy: Policy) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    special = {token for token in (policy.tokenizer.pad_token_id, policy.end_id) if token is not None}
    high = int(policy.network.config.get_text_config().vocab_size)
    rows = [torch.randint(0, high, (length,), generator=generator) for length in (5, 9, 17)]
    usual = next(token for token in range(high) if token not in special)
    return [torch.where(sum((row == token for token in special), torch.zeros_like(row)).bool(), usual, row) for row in rows]


@dataclass(slots=True)
class InTransformers:
    """An artefact that transformers runs by itself, with its own attention."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    head: nn.Linear | None
    """On the pooled vector; none where the network has what is needed."""
    runtime: str = f"transformers {transformers.__version__}"
    notes: Sequence[str] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def chat_template(self) -> str | None:
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else None

    def encode(self, text: str, pair: str | None, special_tokens: bool) -> list[int]:
        ids: Any = self.tokenizer(text, pair, add_special_tokens=special_tokens, verbose=False)["input_ids"]
        return list(ids)

    def outputs(self, rows: Sequence[Tensor], sources: Sequence[Tensor] = ()) -> list[Tensor]:
        with torch.no_grad():
            if self.kind == "encoder-decoder":
                return [self._written(row[None], source[None]) for row, source in zip(rows, sources, strict=True)]
            return [self._output(row[None]) for row in rows]

    def _written(self, ids: Tensor, source: Tensor) -> Tensor:
        out = self.network(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=ids, use_cache=False)
        logits: Tensor = out.logits[0].float()
        return logits

    def _output(self, ids: Tensor) -> Tensor:
        more = {"use_cache": False} if self.kind == "decoder" else {}
        out = self.network(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
        if self.head is None:
            logits: Tensor = out.logits[0].float()
            return logits[-ids.shape[1] :] if out.logits.ndim == 3 else logits  # virtual tokens of an adapter come first
        states = out.last_hidden_state[0].float()  # [T, D]
        pooled = states[-1] if self.kind == "decoder" else states.mean(0)
        scores: Tensor = self.head(pooled)
        return scores


def loaded_with(cls: Any, folder: str, **more: Any) -> PreTrainedModel:
    """Return a network as who gets the folder loads it: safetensors only, no code of its own, transformers' own attention, fp32."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    made: PreTrainedModel = cls.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        attn_implementation="sdpa",
        trust_remote_code=False,
        **more,
    )
    return made.eval().requires_grad_(False)
