"""The result as it is stored and shown: rows, ratios with intervals, shares of the limit, and whether the losses agree (schema.json)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bench.train.environments import PEERS
from bench.train.figures import (
    LATER_LOSS,
    MOST_FOREIGN,
    OURS,
    Timing,
    agreement,
    fastest,
    first_allowed,
    interval,
    is_disturbed,
    operations,
    paired,
)
from bench.train.measure import LIMIT
from bench.train.rows import Row, padding
from bench.train.store import Failure
from bench.train.works import GPU_WORKS, WORKS, Work

Steps = Sequence[Sequence[Row]]
NOT_ASKED = "not measured in this run"
METHOD = {
    "ratio": "whet's tokens per second over those of best_peer in the same round; the median over rounds",
    "ratio_interval": "95 % interval of that median, by the bootstrap over rounds (10,000 resamples); with fewer than 5 rounds it says little",
    "best_peer": "the peer with the highest median of tokens per second",
    "ratios": "the same as ratio, of each peer that was measured in the same rounds",
    "peak_ratio": "whet's peak memory (VmHWM of the process) over that of best_peer; medians",
    "of_limit": (
        "operations that cannot be done without, in the timed steps, per second, over the rate of a bf16 product of 2048 x 2048 (on a GPU 8192 x 8192) in the "
        "same round; the median. Operations: 4 N a token with LoRA, 6 N with all weights, N the layers' matrices; as many for the head, on "
        "supervised tokens; attention 12 x layers x width x length squared a row, half in a decoder. Nothing for LoRA's own, norms, optimiser"
    ),
    "tokens_per_s": "tokens of the rows, padding not counted, over the seconds of the timed steps; data, update and logging are in them",
    "foreign": f"processor seconds that other processes took, per second; above {MOST_FOREIGN} the measurement is dropped and made again",
    "rows": (
        "the same for all, in the same order: those that HF Trainer's group_by_length puts together of no more rows than are trained on; in works "
        "of the name _grouped, as it does in a large data set, which is best for those who pad"
    ),
    "padding": "tokens of the timed rows, padded to the longest of their step, over those that they have",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """One work and everything that was measured of it, undisturbed."""

    work: Work
    steps: Steps
    timings: Sequence[Timing]
    limits: Mapping[int, float]
    """Operations per second of matrix products, by round."""
    disturbed: Sequence[Timing]

    @property
    def tokens(self) -> list[int]:
        return [sum(len(row.ids) for row in step) for step in self.steps]

    def by_peer(self) -> dict[str, list[Timing]]:
        """Return the measurements of each trainer, the newest of each round."""
        found: dict[str, dict[int, Timing]] = {}
        for timing in self.timings:
            found.setdefault(timing.peer, {})[timing.repeat] = timing
        return {peer: [rounds[repeat] for repeat in sorted(rounds)] for peer, rounds in found.items()}

    def rate(self, timing: Timing) -> float:
        return timing.rate(self.work.warm, self.tokens)

    def rounds(self, peer: str, source: str) -> dict[int, float]:
        """Return a trainer's tokens per second by round, of the rounds in which this source of whet was measured."""
        return {timing.repeat: self.rate(timing) for timing in self.by_peer().get(peer, []) if timing.beside == source}


def build(
    timings: Sequence[Timing],
    failures: Sequence[Failure],
    works: Sequence[Work],
    steps: Mapping[str, Steps],
    source: str,
    keys: Callable[[str, Work], str],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the result. `keys` says what a trainer is now: measurements of another release of it do not count."""
    known = {work.name: _known(work, steps[work.name], timings, source, keys) for work in works}
    trained = [(one, timing) for one in known.values() for some in one.by_peer().values() for timing in some]
    rows = [_row(one, timing) for one, timing in trained]
    measured = {(row["work"], row["peer"]) for row in rows}
    failed = [one for one in _latest(failures) if one.work in known and one.key == keys(one.peer, known[one.work].work)]
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "versions": {timing.peer: timing.versions for _, timing in trained},
        "peers": {name: {"title": peer.title, "packages": list(peer.packages)} for name, peer in PEERS.items()},
        "method": METHOD,
        "rows": rows,
        "failed": _absent([_failed(one) for one in failed if (one.work, one.peer) not in measured], measured, works),
        "dropped": [_dropped(timing, one.work) for one in known.values() for timing in one.disturbed],
    }
    for name, one in known.items():
        for figure, value in figures(one, source).items():
            found.setdefault(figure, {})[name] = value
    return found


def figures(known: Known, source: str) -> dict[str, Any]:
    """Return the figures of one work; those that cannot be given are left out."""
    by_peer = known.by_peer()
    rates = {peer: [known.rate(one) for one in some] for peer, some in by_peer.items()}
    if not rates:
        return {}
    found: dict[str, Any] = {"tokens_per_s": {peer: round(statistics.median(some), 1) for peer, some in rates.items()}}
    best = fastest({peer: some for peer, some in rates.items() if peer != OURS})
    ours = known.rounds(OURS, source)
    if best is not None:
        found["best_peer"] = best
        against = {peer: paired(ours, known.rounds(peer, source)) for peer in rates if peer != OURS}
        found["ratios"] = {peer: round(statistics.median(some), 3) for peer, some in against.items() if some}
        pairs = against[best]
        if pairs:
            found["rounds"] = len(pairs)
            found["ratio"] = round(statistics.median(pairs), 3)
            found["ratio_interval"] = [round(end, 3) for end in interval(pairs)]
            peaks = [statistics.median(one.peak_bytes for one in by_peer[peer]) for peer in (OURS, best)]
            found["peak_ratio"] = round(peaks[0] / peaks[1], 3)
    found["padding"] = round(padding([*known.steps[known.work.warm :]]), 3)
    per_token = operations(known.work, _timed(known)) / sum(known.tokens[known.work.warm :])
    shares = [per_token * ours[repeat] / known.limits[repeat] for repeat in ours.keys() & known.limits.keys()]
    if shares:
        found["of_limit"] = round(statistics.median(shares), 3)
    if known.limits:
        rate = statistics.median(known.limits.values())
        found["limit"] = {"gflops": round(rate / 1e9, 1), "tokens_per_s": round(rate / per_token, 1)}
    losses = {peer: some[-1].losses for peer, some in by_peer.items()}
    if losses:
        whole = {peer: PEERS[peer].whole.get(known.work.mode, True) for peer in losses if peer != OURS}
        gaps = agreement(losses, whole)
        agree = gaps["first"] <= first_allowed(known.work) and not gaps["later"] > LATER_LOSS
        found["losses"] = {"first_apart": round(gaps["first"], 5), "later_apart": round(gaps["later"], 5), "agree": agree}
    return found


def disagreements(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each work whose trainers did not train alike."""
    return [
        f"{work}: losses are {found['first_apart']:.4f} apart at the first step ({first_allowed((WORKS | GPU_WORKS)[work])} allowed) and {found['later_apart']:.4f} "
        f"later ({LATER_LOSS} allowed), so their speeds cannot be compared."
        for work, found in result.get("losses", {}).items()
        if not found["agree"]
    ]


def warm_steps(timing: Timing, work: Work) -> int:
    """Return how many steps of a measurement are not timed."""
    return 1 if timing.peer == LIMIT else work.warm


def _known(work: Work, steps: Steps, timings: Sequence[Timing], source: str, keys: Callable[[str, Work], str]) -> Known:
    """Return what of these measurements counts for a work."""
    own = [one for one in timings if one.work == work.name and one.key == keys(one.peer, work)]
    parts: tuple[list[Timing], list[Timing]] = ([], [])
    for one in own:
        parts[is_disturbed(one.foreign(warm_steps(one, work)))].append(one)
    limits = {one.repeat: _limit(one, work) for one in parts[0] if one.peer == LIMIT and one.beside == source}
    trained = [one for one in parts[0] if one.peer != LIMIT]
    return Known(work=work, steps=steps, timings=trained, limits=limits, disturbed=parts[1])


def _timed(known: Known) -> list[list[dict[str, Any]]]:
    return [[asdict(row) for row in step] for step in known.steps[known.work.warm :]]


def _limit(timing: Timing, work: Work) -> float:
    """Return operations per second: the median of the steps."""
    return work.product_operations / statistics.median(timing.seconds[warm_steps(timing, work) :])


def _row(known: Known, timing: Timing) -> dict[str, Any]:
    return {
        "work": timing.work,
        "peer": timing.peer,
        "repeat": timing.repeat,
        "tokens_per_s": round(known.rate(timing), 1),
        "peak_gib": round(timing.peak_bytes / 2**30, 3),
        "loss_first": round(timing.losses[0], 5),
        "loss_last": round(timing.losses[-1], 5),
        "foreign": round(timing.foreign(known.work.warm), 3),
        "settings": timing.settings,
        "at": timing.at,
        "whet": timing.beside,
    }


def _failed(one: Failure) -> dict[str, Any]:
    return {"work": one.work, "peer": one.peer, "reason": one.reason, "at": one.at}


def _absent(failed: list[dict[str, Any]], measured: set[tuple[str, str]], works: Sequence[Work]) -> list[dict[str, Any]]:
    """Return the failures, and with them the peers that nobody has asked for yet: none is left out in silence."""
    told = measured | {(one["work"], one["peer"]) for one in failed}
    others = [(work.name, peer.name) for work in works for peer in PEERS.values() if peer.takes(work)]
    return failed + [
        {"work": work, "peer": peer, "reason": NOT_ASKED, "at": ""} for work, peer in others if (work, peer) not in told
    ]


def _latest(failures: Sequence[Failure]) -> list[Failure]:
    return list({(one.work, one.peer): one for one in failures}.values())


def _dropped(timing: Timing, work: Work) -> dict[str, Any]:
    share = round(timing.foreign(warm_steps(timing, work)), 3)
    return {"work": timing.work, "peer": timing.peer, "repeat": timing.repeat, "foreign": share, "at": timing.at}
