"""The laws of engines: a request's text is the reference's, whatever else is written at the same time.

The reference is `engine.generate`, one prompt alone; of an encoder-decoder, whose prompts are sources, `engine.targets.written_targets`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from whet.engine.continuous import Request, Written
from whet.engine.generate import GREEDY, Sampling, generate
from whet.engine.targets import written_targets
from whet.models.policy import Policy
from whet.protocols import Engine, Generation

TOLERANCE = 1e-4
"""Largest difference of two log-probabilities of one token in fp32, in nats."""


def check_engine(engine: Engine, policy: Policy) -> None:
    """Raise AssertionError that says which law an engine breaks on a decoder or an encoder-decoder in fp32."""
    for law in ENGINE_LAWS:
        law(engine, policy)


def greedy_is_the_reference(engine: Engine, policy: Policy) -> None:
    """Greedy text is the reference's for every request, while others join and leave between tokens."""
    for seed in range(2):
        requests = some_requests(policy, 12, seed)
        found = together(engine.start(policy), requests, seed)
        for request in requests:
            assert tokens_of(found[request.id]) == reference(policy, request), (
                f"request {request.id}: not the reference's greedy text when others are written with it"
            )


def sampling_does_not_depend_on_neighbours(engine: Engine, policy: Policy) -> None:
    """What is drawn depends on the request and its seed only, and another seed draws another text."""
    requests = some_requests(policy, 8, 2, Sampling(temperature=1.0, top_p=0.95, seed=5))
    found = together(engine.start(policy), requests, 2)
    for request in requests:
        alone = together(engine.start(policy), [request], 0)[request.id]
        assert tokens_of(found[request.id]) == tokens_of(alone), f"request {request.id}: draws another text among others"
    longest = max(requests, key=lambda request: request.max_new_tokens)
    other = replace(longest, sampling=replace(longest.sampling, seed=6))
    assert tokens_of(together(engine.start(policy), [other], 0)[other.id]) != tokens_of(found[longest.id]), (
        "the seed has no effect"
    )


def a_request_ends_once(engine: Engine, policy: Policy) -> None:
    """Each request ends once: at a stop token, which is no part of its text, or at its limit; then nothing more of it comes."""
    free = some_requests(policy, 6, 3)
    texts = {request.id: reference(policy, request) for request in free}
    longest = max(texts.values(), key=len)
    assert longest, "the policy writes nothing but its end, so this law has nothing to look at; hold the engine to another one"
    stop = longest[len(longest) // 2]
    requests = [replace(request, stops=request.stops | {stop}) for request in free]
    work = engine.start(policy)
    found = together(work, requests, 3)
    for request in requests:
        written, text = found[request.id], texts[request.id]
        finishes = [one.finish for one in written if one.finish is not None]
        assert len(finishes) == 1 and written[-1].finish is not None, f"request {request.id}: ended {len(finishes)} times"
        expected = text[: text.index(stop)] if stop in text else text
        assert tokens_of(written) == expected, f"request {request.id}: its text goes on behind the stop token"
        stops = stop in text or len(text) < request.max_new_tokens
        assert finishes == ["stop" if stops else "length"], f"request {request.id}: ended by {finishes}"
    assert work.num_running == work.num_waiting == 0 and work.step() == [], "something is left when all requests have ended"


def a_dropped_request_leaves_no_trace(engine: Engine, policy: Policy) -> None:
    """Nothing is written of a request after it is dropped, and the others do not notice."""
    kept, gone = some_requests(policy, 4, 4), some_requests(policy, 4, 5, prefix="gone")
    work, found = engine.start(policy), {request.id: list[Written]() for request in kept}
    for pair in zip(kept, gone, strict=True):
        for request in pair:
            work.add(request)
    work.drop(gone[0].id)
    for number in range(1000):
        for one in work.step():
            assert not (one.id.startswith("gone") and number > 2), f"{one.id}: goes on after it was dropped"
            if one.id in found:
                found[one.id].append(one)
        if number == 2:
            for request in gone:
                work.drop(request.id)
            work.drop("never heard of")
        if work.num_running + work.num_waiting == 0:
            break
    for request in kept:
        assert tokens_of(found[request.id]) == reference(policy, request), f"request {request.id}: changed by a dropped neighbour"


def score_is_what_was_written(engine: Engine, policy: Policy) -> None:
    """The log-probabilities told with the tokens are those that `score` gives the same text, and the likeliest tokens are the likeliest."""
    for sampling in (GREEDY, Sampling(temperature=0.7, seed=1)):
        requests = [replace(request, num_top=3) for request in some_requests(policy, 4, 6, sampling)]
        found = together(engine.start(policy), requests, 6)
        for request in requests:
            written = found[request.id]
            scored = engine.score(policy, request.prompt, [one.token for one in written])
            for place, (one, score) in enumerate(zip(written, scored, strict=True)):
                assert math.isclose(one.logprob, score, abs_tol=TOLERANCE), (
                    f"request {request.id}, token {place}: log-probability {one.logprob}, by `score` {score}"
                )
                ranked = [value for _, value in one.top]
                assert len(ranked) == 3 and ranked == sorted(ranked, reverse=True), f"request {request.id}: top is {one.top}"
                assert ranked[0] >= one.logprob - TOLERANCE and (sampling is not GREEDY or one.top[0][0] == one.token)


ENGINE_LAWS: tuple[Callable[[Engine, Policy], None], ...] = (
    greedy_is_the_reference,
    sampling_does_not_depend_on_neighbours,
    a_request_ends_once,
    a_dropped_request_leaves_no_trace,
    score_is_what_was_written,
)


def some_requests(policy: Policy, count: int, seed: int, sampling: Sampling = GREEDY, prefix: str = "") -> list[Request]:
    """Return requests of different lengths that fit into the policy's context, without stop tokens but an encoder-decoder's end."""
    draw = random.Random(seed)
    size = int(policy.network.get_input_embeddings().weight.shape[0])
    most = min(policy.context // 2, 48)
    ends = frozenset() if policy.kind == "decoder" or policy.end_id is None else frozenset({policy.end_id})
    return [
        Request(
            f"{prefix}{number}",
            [draw.randrange(size) for _ in range(draw.randint(1, most))],
            draw.randint(2, most),
            ends,
            sampling,
        )
        for number in range(count)
    ]


def together(work: Generation, requests: Sequence[Request], seed: int) -> dict[str, list[Written]]:
    """Return what is written of each request; they join at different times."""
    draw, waiting = random.Random(seed), list(requests)
    found: dict[str, list[Written]] = {request.id: [] for request in requests}
    while waiting or work.num_running or work.num_waiting:
        for _ in range(min(len(waiting), draw.randint(0, 2))):
            work.add(waiting.pop())
        for one in work.step():
            found[one.id].append(one)
    return found


def tokens_of(written: Sequence[Written]) -> list[int]:
    """Return a request's text in tokens."""
    return [one.token for one in written if one.finish != "stop"]


def reference(policy: Policy, request: Request) -> list[int]:
    """Return what the reference writes for the prompt alone, greedily where the policy is an encoder-decoder."""
    if policy.kind == "encoder-decoder":
        return next(written_targets(policy, [request.prompt], request.max_new_tokens))
    return next(generate(policy, [request.prompt], request.max_new_tokens, request.stops, request.sampling))
