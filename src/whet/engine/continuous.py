"""Generation in which requests join and leave between two tokens, all in one batch with one key-value cache.

The cache is padded on the left, as in `engine.generate`: a newcomer's prompt is read by itself and then laid beside the others.

Shapes: R rows that are being written, L columns of the cache, H heads, d width of a head, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from whet.engine.cut import pack
from whet.engine.generate import GREEDY, Sampling, draw, fitted
from whet.engine.targets import target_start
from whet.errors import ModelError
from whet.models.key_values import go_on
from whet.models.policy import Policy
from whet.types import Row

ROOM = 64
"""Columns that a layer of the cache keeps free, so that only one token in so many copies what is already there."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be continued. Its text does not depend on what else is written at the same time."""

    id: str
    prompt: Sequence[int]
    max_new_tokens: int
    stops: frozenset[int] = frozenset()
    """Tokens that end it, and are no part of it."""
    sampling: Sampling = GREEDY
    num_top: int = 0
    """How many of the likeliest tokens are told at each place."""


@dataclass(frozen=True, slots=True)
class Written:
    """One token of one request."""

    id: str
    token: int
    """Where `finish` is "stop" this is the token that ended it, which is no part of the text."""
    logprob: float
    """Of this token, before temperature and top-p."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens here with their log-probabilities, the likeliest first."""
    finish: Literal["stop", "length"] | None = None


@dataclass(slots=True)
class AtWork:
    """A request that is being written."""

    request: Request
    prompt: list[int]
    """What of it fits."""
    limit: int
    position: int = 0
    """Of the token that is fed next, in a decoder."""
    tokens: list[int] = field(default_factory=list)
    finished: bool = False


class Continuous:
    """Requests of one policy at work. `step` writes one token of each; `add` and `drop` may be called between two steps."""

    def __init__(self, policy: Policy, max_rows: int, max_prompt_tokens: int) -> None:
        if policy.kind != "decoder":
            raise ModelError(f"{policy.source.name}: is an {policy.kind}, and only a decoder goes on with a text token by token.")
        kinds = {type(layer) for layer in DynamicCache(config=policy.network.config).layers}
        if kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
            raise ModelError(
                f"{policy.source.name}: architecture '{policy.network.config.model_type}' keeps a state that is no key-value cache, "
                "so its requests cannot be written together. Choose a model with attention in each layer."
            )
        self._policy = policy
        self._max_rows = max_rows
        self._max_prompt_tokens = max_prompt_tokens
        self._waiting: deque[Request] = deque()
        self._rows: list[AtWork] = []
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=policy.device)  # [R, L]

    @property
    def num_running(self) -> int:
        return len(self._rows)

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
        for row in self._rows:
            row.finished |= row.request.id == request_id
        self._free()

    @torch.no_grad()
    def step(self) -> list[Written]:
        """Write the next token of each request, the first one of those that join. Nothing where there is no request."""
        written = self._go_on() if self._rows else []
        self._free()
        newcomers = next_in(self._waiting, self._max_rows - len(self._rows), self._max_prompt_tokens, self._begun)
        if newcomers:
            written += self._join(newcomers)
        return written

    def _go_on(self) -> list[Written]:
        ids = torch.tensor([[row.tokens[-1]] for row in self._rows], device=self._policy.device)
        positions = torch.tensor([[row.position] for row in self._rows], device=self._policy.device)
        self._mask = pad(self._mask, (0, 1), value=1)
        logits = self._forward(ids, self._mask, positions, self._cache)
        for row in self._rows:
            row.position += 1
        return write_next(self._rows, logits)

    def _begun(self, request: Request) -> AtWork:
        prompt, limit = fitted(self._policy, request.prompt, request.max_new_tokens)
        return AtWork(request, prompt, limit, len(prompt))

    def _join(self, rows: list[AtWork]) -> list[Written]:
        prompts, where = [row.prompt for row in rows], self._policy.device
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=where)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=where)
        cache = Cache(layer_class_to_replicate=_Layer)
        written = write_next(rows, self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache))
        if cache.get_seq_length() != longest:
            raise ModelError(
                f"{self._policy.source.name}: its technique puts tokens of its own before each text, which requests that are written "
                "together cannot share. Merge it, or serve a run of another technique."
            )
        width = max(longest, self._mask.shape[1])
        if self._cache is None:
            self._cache, self._mask = cache, mask
        else:
            for held, new in zip(self._cache.layers, cache.layers, strict=True):
                held.append_rows(new)
            self._mask = torch.cat([pad(part, (width - part.shape[1], 0)) for part in (self._mask, mask)])
        self._rows += rows
        self._free()
        return written

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Return the logits behind each row's last token. [R, V], fp32"""
        read = {"input_ids": ids, "attention_mask": mask, "position_ids": positions + self._policy.ability.first_position}
        return go_on(self._policy.network, cache, **read, logits_to_keep=1)[0][:, -1].float()

    def _free(self) -> None:
        """Take the rows that have ended out of the cache, and the columns that only they needed."""
        kept = [index for index, row in enumerate(self._rows) if not row.finished]
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[index] for index in kept]
        if not kept:
            self._cache, self._mask = None, self._mask[:0, :0]
            return
        chosen = torch.tensor(kept, device=self._mask.device)
        mask = self._mask[chosen]
        first = int(mask.any(dim=0).to(torch.long).argmax())
        self._mask = mask[:, first:]
        for layer in self._cache.layers:
            layer.keep(chosen, first)


def next_in(waiting: deque[Request], num_free: int, max_prompt_tokens: int, begun: Callable[[Request], AtWork]) -> list[AtWork]:
    """Take those that wait, in order, while rows are free: at least one, and more while their padded prompts stay short."""
    rows: list[AtWork] = []
    while waiting and len(rows) < num_free:
        row = begun(waiting[0])
        longest = max(len(one.prompt) for one in (row, *rows))
        if rows and longest * (len(rows) + 1) > max_prompt_tokens:
            break
        waiting.popleft()
        rows.append(row)
    return rows


def write_next(rows: Sequence[AtWork], logits: Tensor, never: Sequence[int] = ()) -> list[Written]:
    """Choose the next token of each row, none of those that are never written, and note what has ended. [R, V]"""
    normalised = torch.log_softmax(logits, dim=-1)  # [R, V]: what the model says, whatever may be chosen
    if never:
        logits, normalised = logits.clone(), normalised.clone()
        logits[:, never] = normalised[:, never] = -torch.inf
    likeliest = logits.argmax(-1).tolist()
    written = []
    for index, row in enumerate(rows):
        sampling = row.request.sampling
        token = likeliest[index] if sampling.temperature == 0 else draw(logits[index], 0, len(row.tokens), sampling)
        ends = token in row.request.stops
        row.tokens.append(token)
        finish: Literal["stop", "length"] | None = "stop" if ends else "length" if len(row.tokens) == row.limit else None
        row.finished = finish is not None
        values, names = normalised[index].topk(min(row.request.num_top, logits.shape[-1] - len(never)))
        likely = tuple(zip(names.tolist(), values.tolist(), strict=True))
        written.append(Written(row.request.id, token, float(normalised[index, token]), likely, finish))
    return written


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, with room behind them. [R, H, L, d] each; all rows end in the same column."""

    keys: Tensor
    values: Tensor
    _held: tuple[Tensor, Tensor]
    """The memory that both are the beginning of."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add columns; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._hold(key_states[..., :0, :], value_states[..., :0, :], key_states.shape[-2])
        length = self.keys.shape[-2]
        wanted = length + key_states.shape[-2]
        if wanted > self._held[0].shape[-2]:
            self._hold(self.keys, self.values, key_states.shape[-2])
        for held, new in zip(self._held, (key_states, value_states), strict=True):
            held[..., length:wanted, :] = new
        self.keys, self.values = (held[..., :wanted, :] for held in self._held)
        return self.keys, self.values

    def append_rows(self, other: _Layer) -> None:
        """Lay another layer's rows below these, both ending in the same column."""
        if not self.is_initialized:  # it shares another layer's keys
            return
        width = max(self.keys.shape[-2], other.keys.shape[-2])
        pairs = ((self.keys, other.keys), (self.values, other.values))
        keys, values = (torch.cat([pad(part, (0, 0, width - part.shape[-2], 0)) for part in pair]) for pair in pairs)
        self._hold(keys, values, 0)

    def keep(self, rows: Tensor, first: int) -> None:
        """Keep these rows only, from column `first` on."""
        if self.is_initialized:
            self._hold(self.keys[rows, :, first:], self.values[rows, :, first:], 0)

    def _hold(self, keys: Tensor, values: Tensor, num_new: int) -> None:
        """Move into new memory with room for `num_new` columns, and then some."""
        length = keys.shape[-2]
        self._held = (pad(keys, (0, 0, 0, num_new + ROOM)), pad(values, (0, 0, 0, num_new + ROOM)))
        self.keys, self.values = (held[..., :length, :] for held in self._held)


def answer_logprobs(policy: Policy, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Return the log-probability of each token of an answer to a prompt, or of a target of a source, read in one pass."""
    two_sided = policy.kind == "encoder-decoder"
    before = target_start(policy) if two_sided else prompt
    ids = torch.tensor([*before, *answer], device=policy.device)
    supervised = torch.zeros(len(ids), device=policy.device)
    supervised[len(before) :] = 1.0
    source = torch.tensor(list(prompt), device=policy.device) if two_sided else None
    with torch.no_grad():
        logprobs = policy.logprobs(pack([Row(0, ids, {"supervised": supervised}, source=source)]))
    return [float(value) for value in logprobs[len(before) :]]
