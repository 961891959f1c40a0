"""Targets of encoder-decoders, whose requests join and leave between two tokens.

Requests that join together are a group: one pass of the encoder reads their sources, and their targets, which begin in the same
place, share a key-value cache. Groups share none, since architectures such as BART take a token's position from the cache's length.

Shapes: R rows of a group, S tokens of its longest source, D width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from whet.engine.continuous import AtWork, Request, Written, next_in, write_next
from whet.engine.targets import never_written, target_limit, target_start
from whet.errors import ModelError
from whet.models.key_values import go_on
from whet.models.policy import Policy


@dataclass(slots=True)
class _Group:
    """Rows whose targets are of the same length."""

    rows: list[AtWork]
    states: Tensor
    """What the encoder gave. [R, S, D]"""
    mask: Tensor
    """Where a source has a token. [R, S]"""
    cache: Any = None
    """Keys and values of the target so far, and of the source."""


class ContinuousTargets:
    """Sources whose targets are at work. `step` writes one token of each; `add` and `drop` may be called between two steps."""

    def __init__(self, policy: Policy, max_rows: int, max_prompt_tokens: int) -> None:
        if policy.kind != "encoder-decoder":
            raise ModelError(f"{policy.source.name}: is {policy.kind}, and only an encoder-decoder writes a target of a source.")
        self._policy = policy
        self._max_rows = max_rows
        self._max_prompt_tokens = max_prompt_tokens
        self._start = target_start(policy)
        self._never = never_written(policy)
        self._waiting: deque[Request] = deque()
        self._groups: list[_Group] = []

    @property
    def num_running(self) -> int:
        return sum(len(group.rows) for group in self._groups)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> None:
        """Let a request join at the next step that has a free row."""
        assert request.prompt and request.max_new_tokens > 0, f"{request.id}: nothing to read, or nothing to write"
        self._waiting.append(request)

    def drop(self, request_id: str) -> None:
        """Forget a request; its row is free at once. Does nothing where it has already ended."""
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        for group in self._groups:
            for row in group.rows:
                row.finished |= row.request.id == request_id
        self._free()

    @torch.no_grad()
    def step(self) -> list[Written]:
        """Write the next token of each request, the first one of those that join. Nothing where there is no request."""
        written = [one for group in self._groups for one in self._go_on(group)]
        self._free()
        newcomers = next_in(self._waiting, self._max_rows - self.num_running, self._max_prompt_tokens, self._begun)
        if newcomers:
            group = self._read(newcomers)
            self._groups.append(group)
            written += self._go_on(group)
            self._free()
        return written

    def _begun(self, request: Request) -> AtWork:
        """Return a request with what of its source fits: a longer one loses its end, but for the token that ends it."""
        source, longest = list(request.prompt), self._policy.context
        if len(source) > longest:
            source = [*source[: longest - 1], source[-1]]
        return AtWork(request, source, target_limit(self._policy, self._start, request.max_new_tokens))

    def _read(self, rows: list[AtWork]) -> _Group:
        device = self._policy.device
        lengths = torch.tensor([len(row.prompt) for row in rows], device=device)
        sources = nn.utils.rnn.pad_sequence([torch.tensor(row.prompt, device=device) for row in rows], batch_first=True)
        mask = (torch.arange(sources.shape[1], device=device)[None] < lengths[:, None]).long()
        return _Group(rows, self._policy.network.get_encoder()(input_ids=sources, attention_mask=mask).last_hidden_state, mask)

    def _go_on(self, group: _Group) -> list[Written]:
        fed = [self._start if group.cache is None else row.tokens[-1:] for row in group.rows]
        logits, group.cache = go_on(
            self._policy.network,
            group.cache,
            encoder_outputs=BaseModelOutput(last_hidden_state=group.states),
            attention_mask=group.mask,
            decoder_input_ids=torch.tensor(fed, device=self._policy.device),
        )
        if not isinstance(group.cache, EncoderDecoderCache):
            raise ModelError(
                f"{self._policy.source.name}: architecture '{self._policy.network.config.model_type}' keeps no key-value cache of source "
                "and target, so its texts cannot be written token by token. Ask it with whet predict."
            )
        return write_next(group.rows, logits[:, -1].float(), self._never)

    def _free(self) -> None:
        """Take the rows that have ended out of their groups, and the places of sources that only they needed."""
        for group in self._groups:
            kept = [index for index, row in enumerate(group.rows) if not row.finished]
            if not kept or len(kept) == len(group.rows):
                group.rows = [group.rows[index] for index in kept]
                continue
            chosen = torch.tensor(kept, device=group.mask.device)
            width = max(len(group.rows[index].prompt) for index in kept)
            group.rows = [group.rows[index] for index in kept]
            virtual = group.states.shape[1] - group.mask.shape[1]  # states of a technique's virtual tokens, which come first
            group.mask, width = group.mask[chosen, :width], virtual + width
            group.states = group.states[chosen, :width]
            group.cache.self_attention_cache.batch_select_indices(chosen)
            for layer in group.cache.cross_attention_cache.layers:
                layer.keys, layer.values = layer.keys[chosen, :, :width], layer.values[chosen, :, :width]
        self._groups = [group for group in self._groups if group.rows]
