"""Sources and targets of encoder-decoders: as rows, and targets written greedily with a key-value cache.

A row's tokens are what the decoder reads: its start token, what the tokenizer puts before every target (BART's <s>, NLLB's
language), the target, its end token. What stands before the target is given when one is written, so it is not learnt.

Shapes: R sources of a batch, S tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from whet.engine.generate import CHEAPER, batches
from whet.models.key_values import go_on
from whet.models.policy import Policy
from whet.types import Row


def source_ids(policy: Policy, text: str, max_length: int, reader: PreTrainedTokenizerBase | None = None) -> list[int]:
    """Return a source's tokens with those that the tokenizer puts around it; a longer one loses its end. At least one.

    `reader` is another copy of the policy's tokenizer, for a thread that must not touch the policy's.
    """
    tokenizer = policy.tokenizer if reader is None else reader
    ids: list[int] = tokenizer(text, truncation=True, max_length=max_length, verbose=False)["input_ids"]
    return ids or [policy.start_id]


def target_start(policy: Policy) -> list[int]:
    """Return what every target begins with."""
    around: list[int] = policy.tokenizer(text_target="", verbose=False)["input_ids"]
    before = around[: around.index(policy.end_id)] if policy.end_id in around else around
    return [policy.start_id, *before]


def target_row(policy: Policy, number: int, source: str, target: str, max_length: int) -> Row:
    """Return source and target as a row, each at most `max_length` tokens; the target is supervised to its end token."""
    start = target_start(policy)
    ids: list[int] = policy.tokenizer(text_target=target, add_special_tokens=False, verbose=False)["input_ids"]
    whole = [*start, *ids, *([] if policy.end_id is None else [policy.end_id])][:max_length]
    supervised = torch.ones(len(whole))
    supervised[: len(start)] = 0.0
    return Row(
        number,
        torch.tensor(whole),
        {"supervised": supervised},
        weights={"lm": float(supervised.sum())},
        source=torch.tensor(source_ids(policy, source, max_length)),
    )


def written_targets(policy: Policy, sources: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
    """Yield the likeliest target of each source, token by token, in order, without what every target begins and ends with."""
    found: dict[int, list[int]] = {}
    for chosen in batches([len(source) + max_new_tokens for source in sources], CHEAPER * policy.max_tokens):
        found |= dict(zip(chosen, _batch(policy, [sources[index] for index in chosen], max_new_tokens), strict=True))
    for index in range(len(sources)):
        yield found[index]


@torch.no_grad()
def _batch(policy: Policy, sources: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    device, start = policy.device, target_start(policy)
    lengths = torch.tensor([len(source) for source in sources], device=device)
    source = nn.utils.rnn.pad_sequence([torch.tensor(one, device=device) for one in sources], batch_first=True)  # [R, S]
    mask = (torch.arange(source.shape[1], device=device)[None] < lengths[:, None]).long()
    read = BaseModelOutput(
        last_hidden_state=policy.network.get_encoder()(input_ids=source, attention_mask=mask).last_hidden_state
    )
    ids = torch.tensor([start] * len(sources), device=device)
    limit = target_limit(policy, start, max_new_tokens)
    never = never_written(policy)
    written: list[list[int]] = [[] for _ in sources]
    open_rows, cache = set(range(len(sources))), None
    for _ in range(limit):
        all_logits, cache = go_on(policy.network, cache, encoder_outputs=read, attention_mask=mask, decoder_input_ids=ids)
        logits = all_logits[:, -1].float()  # [R, V]
        logits[:, never] = -torch.inf
        ids = logits.argmax(-1, keepdim=True)
        for row, token in enumerate(ids[:, 0].tolist()):
            if row in open_rows and token == policy.end_id:
                open_rows.discard(row)
            elif row in open_rows:
                written[row].append(token)
        if not open_rows:
            break
    return written


def target_limit(policy: Policy, start: Sequence[int], max_new_tokens: int) -> int:
    """Return how many tokens may be written behind what every target begins with."""
    return max(1, min(max_new_tokens, policy.context - len(start)))


def never_written(policy: Policy) -> list[int]:
    """Return the tokens that no target has: Marian and T5 were never taught that padding is none."""
    return [token for token in {policy.tokenizer.pad_token_id, policy.start_id} if token not in {None, policy.end_id}]
