"""Tries an architecture on a few short rows when it is loaded: what it can do, and whether it can be trained here at all.

The reference is always the network as transformers made it, one row at a time. Every failure is a ModelError that says what is the matter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from whet.engine.attention import NAME, packed, witnessed
from whet.engine.cut import pack
from whet.errors import ModelError
from whet.models.key_values import go_on
from whet.models.policy import Ability, Kind, Policy, padded
from whet.types import Row

TOLERANCE = 1e-4
"""Largest difference from what the network gives by itself, over the spread of the output."""
ODD = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError, KeyError, AssertionError)
"""What an architecture raises that is asked in a way it does not know."""


def probe(network: PreTrainedModel, kind: Kind, name: str = "the model") -> Ability:
    """Try an encoder or a decoder: does packing give what separate rows give, and is its head a plain product?

    Raises ModelError where it gives no states of tokens, or a decoder sees what comes after a token or cannot write with a cache.
    """
    rows = _rows(network, (5, 9, 9))
    body = network.base_model
    with torch.no_grad():
        try:
            own = torch.cat([body(input_ids=row[None], use_cache=False).last_hidden_state[0] for row in rows])
        except ODD as error:
            raise ModelError(
                f"{name}: architecture '{network.config.model_type}' does not give one state for each token of a text "
                f"({_first_line(error)}). {_KNOWN[kind]}"
            ) from None
        if len(own) != sum(map(len, rows)):
            raise ModelError(
                f"{name}: architecture '{network.config.model_type}' gives {len(own)} states for {sum(map(len, rows))} tokens. {_KNOWN[kind]}"
            )
        if not torch.isfinite(own).all():
            raise ModelError(f"{name}: its weights give numbers that are not finite. Save or download the model again.")
        first = first_position(network)
        plain = kind != "decoder" or _writes(network, rows[0], first, name)
        default = network.config.get_text_config()._attn_implementation
        difference = _packed_difference(network, rows, own, first)
        packs = difference <= TOLERANCE  # not where it is nan
        if not packs:
            network.set_attn_implementation(default)
            _check_padding(network, rows, own, name)
    return Ability(packs=packs, difference=difference, plain_head=plain, first_position=first)


def _packed_difference(network: PreTrainedModel, rows: list[Tensor], own: Tensor, first: int) -> float:
    """Return by how much packed rows differ from separate ones; infinite where attention does not go through this package's function.

    Some architectures keep packed rows apart by a mask of their own, as wide as all rows together: padding costs them less.
    """
    network.set_attn_implementation(NAME)
    batch = pack([Row(index, row) for index, row in enumerate(rows)])
    try:
        with packed(tuple(map(len, rows))), witnessed() as seen:
            out = network.base_model(input_ids=batch.ids[None], position_ids=batch.positions[None] + first, use_cache=False)
        return float((out.last_hidden_state[0] - own).abs().max() / own.std()) if seen else math.inf
    except ODD:
        return math.inf


def _check_padding(network: PreTrainedModel, rows: list[Tensor], own: Tensor, name: str) -> None:
    """Raise ModelError where a row's states depend on the padding behind it."""
    ids, mask = padded(pack([Row(index, row) for index, row in enumerate(rows)]))
    try:
        found = network.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[mask.bool()]
        same = _agree(found, own)
    except ODD:
        same = False
    if not same:
        raise ModelError(
            f"{name}: architecture '{network.config.model_type}' gives a text other states where padding stands behind it, so texts of "
            "different length cannot share a batch. Name another model."
        )


def probe_two_sided(network: PreTrainedModel, name: str = "the model") -> Ability:
    """Try an encoder-decoder: do encoder and decoder, asked one after the other, give the network's own logits, and by which scale?

    Raises ModelError where they cannot be asked so. Its rows are padded, never packed.
    """
    config = network.config.get_text_config()
    source, target = (row[None] for row in _rows(network, (9, 5)))
    try:
        with torch.no_grad():
            logits = network(input_ids=source, decoder_input_ids=target, use_cache=False).logits
            mask = torch.ones_like(source)
            read = network.get_encoder()(input_ids=source, attention_mask=mask).last_hidden_state
            states = network.get_decoder()(
                input_ids=target,
                attention_mask=torch.ones_like(target),
                encoder_hidden_states=read,
                encoder_attention_mask=mask,
                use_cache=False,
            ).last_hidden_state
    except ODD as error:
        raise ModelError(
            f"{name}: its encoder and decoder ('{config.model_type}') cannot be asked one after the other ({_first_line(error)}). "
            f"{_KNOWN['encoder-decoder']}"
        ) from None
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name}: its weights give numbers that are not finite. Save or download the model again.")
    with torch.no_grad():
        _check_two_sided(network, source, target, logits, name)
    for scale in (1.0, float(config.hidden_size) ** -0.5):
        ability = Ability(packs=False, difference=math.inf, plain_head=True, scale=scale)
        if _is_plain(network, states, logits, ability):
            return ability
    return Ability(packs=False, difference=math.inf, plain_head=False)


def _check_two_sided(network: PreTrainedModel, source: Tensor, target: Tensor, logits: Tensor, name: str) -> None:
    """Raise ModelError where logits depend on padding, or cannot be had at some places only."""
    few = [0, target.shape[1] - 1]
    long_source, long_target = nn.functional.pad(source, (0, 3)), nn.functional.pad(target, (0, 2))
    masks = [
        (torch.arange(long.shape[1]) < short.shape[1]).long()[None]
        for long, short in ((long_source, source), (long_target, target))
    ]

    def choose(module: nn.Module, given: object, out: ModelOutput) -> ModelOutput:
        out.last_hidden_state = out.last_hidden_state[:, few]
        return out

    hook = network.get_decoder().register_forward_hook(choose)
    try:
        found = network(
            input_ids=long_source,
            attention_mask=masks[0],
            decoder_input_ids=long_target,
            decoder_attention_mask=masks[1],
            use_cache=False,
        ).logits
        same = _agree(found, logits[:, few])
    except ODD:
        same = False
    finally:
        hook.remove()
    if not same:
        raise ModelError(
            f"{name}: architecture '{network.config.model_type}' gives other tokens where padding stands behind source and target, or "
            f"predicts more than the next one. {_KNOWN['encoder-decoder']}"
        )


def check_masked(policy: Policy) -> None:
    """Raise ModelError where a masked-language head does not give at some places what it gives there among all."""
    rows = [Row(index, row) for index, row in enumerate(_rows(policy.network, (5, 9)))]
    try:
        with torch.no_grad():
            whole = torch.cat([policy.network(input_ids=row.ids[None]).logits[0] for row in rows])
            places = torch.tensor([1, 3, 7, 12])
            same = _agree(policy.masked_logits(pack(rows), places), whole[places])
    except ODD:
        same = False
    if not same:
        raise ModelError(
            f"{policy.source.name}: the masked-language head of architecture '{policy.network.config.model_type}' cannot be asked at some "
            f"places only. {_KNOWN['encoder']}"
        )


_KNOWN: dict[Kind, str] = {
    "encoder": "Name a text encoder, such as a BERT, RoBERTa, DeBERTa or ModernBERT.",
    "decoder": "Name a causal decoder with attention, such as a Llama, Qwen, Mistral, Gemma or GPT-2.",
    "encoder-decoder": "Name a T5, BART, Pegasus, Marian or another text encoder-decoder.",
}


def first_position(network: PreTrainedModel) -> int:
    """Return the position of a row's first token: behind the padding's own in an embedding of positions that has one, as RoBERTa's."""
    longest = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    tokens = network.get_input_embeddings()
    for module in network.base_model.modules():
        placed = isinstance(module, nn.Embedding) and module is not tokens and module.num_embeddings == longest
        if placed and module.padding_idx is not None:
            return int(module.padding_idx) + 1
    return 0


def _rows(network: PreTrainedModel, lengths: tuple[int, ...]) -> list[Tensor]:
    """Return rows of drawn tokens, the usual special ones left out."""
    config = network.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    low, high = min(10, config.vocab_size - 1), config.vocab_size
    return [torch.randint(low, high, (length,), generator=generator) for length in lengths]


def _writes(network: PreTrainedModel, row: Tensor, first: int, name: str) -> bool:
    """Return whether a decoder's head is a plain product. Raises ModelError where it sees what comes, or keeps no cache.

    Its row is read as when it is written: all tokens but the last, then the last, with the cache of those before.
    """
    architecture, kinds = network.config.model_type, _KNOWN["decoder"]
    whole = network(input_ids=row[None], use_cache=False).logits  # [1, T, V]
    try:
        mask, positions = torch.ones_like(row)[None], torch.arange(len(row))[None] + first
        read = {"input_ids": row[None], "attention_mask": mask, "position_ids": positions}
        first_part = {key: value[:, :-1] for key, value in read.items()}
        before, cache = go_on(network, None, **first_part, logits_to_keep=1)
        causal = _agree(before[:, -1], whole[:, -2])
        last = {**read, "input_ids": row[None, -1:], "position_ids": positions[:, -1:]}
        after, _ = go_on(network, cache, **last, logits_to_keep=1)
        goes_on = cache is not None and _agree(after[:, -1], whole[:, -1])
        late = {key: nn.functional.pad(value, (2, 0)) for key, value in read.items()}
        pads = _agree(go_on(network, None, **late, logits_to_keep=1)[0][:, -1], whole[:, -1])
        few = torch.tensor([1, len(row) - 2])
        chosen = network(input_ids=row[None], use_cache=False, logits_to_keep=few).logits
    except ODD as error:
        raise ModelError(
            f"{name}: architecture '{architecture}' cannot write token by token with a key-value cache ({_first_line(error)}). {kinds}"
        ) from None
    if not causal:
        raise ModelError(
            f"{name}: architecture '{architecture}' sees the tokens that come after one, so it cannot learn to write them. {kinds}"
        )
    if not goes_on:
        raise ModelError(
            f"{name}: architecture '{architecture}' gives other tokens with a key-value cache than without one. {kinds}"
        )
    if not pads:
        raise ModelError(
            f"{name}: architecture '{architecture}' writes other tokens where padding stands before a text, so texts of different "
            f"length cannot be written together. {kinds}"
        )
    if _plain_head(network, row, whole):
        return True
    if not _agree(chosen, whole[:, few]):
        raise ModelError(f"{name}: architecture '{architecture}' cannot give its logits at some places only. {kinds}")
    return False


def _plain_head(network: PreTrainedModel, row: Tensor, whole: Tensor) -> bool:
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return False
    made = head(network.base_model(input_ids=row[None], use_cache=False).last_hidden_state)
    cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
    return _agree(cap * torch.tanh(made / cap) if cap is not None else made, whole)


def _is_plain(network: PreTrainedModel, states: Tensor, logits: Tensor, ability: Ability) -> bool:
    """Whether the output embedding times these states, scaled, with the bias beside it, gives the network's own logits."""
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.in_features != states.shape[-1]:
        return False
    made = head(states * ability.scale)
    beside = dict(network.named_buffers(recurse=False)).get("final_logits_bias")
    return _agree(made if beside is None else made + beside, logits)


def _agree(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).abs().max() <= TOLERANCE * expected.std())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]
