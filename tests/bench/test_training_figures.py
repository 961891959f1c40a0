"""What the training benchmark makes of measurements, with numbers worked by hand; no peer is needed."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from xml.etree import ElementTree

import jsonschema
import pytest
import torch
from pytest import approx

from bench.train.__main__ import main
from bench.train.environments import PEERS, ROOT
from bench.train.figures import Timing, agreement, fastest, first_allowed, interval, is_disturbed, operations, paired
from bench.train.plot import draw, ticks
from bench.train.result import build, disagreements
from bench.train.rows import POOL, Row, chosen_steps, padding, steps_of
from bench.train.store import Failure, Store
from bench.train.works import GPU_WORKS, OPERATIONS, SHAPES, WORKS, Work

SCHEMA = json.loads((ROOT / "bench" / "train" / "schema.json").read_text())
RESULT = ROOT / "bench" / "results" / "train.json"
WORK = replace(WORKS["m15_lora_bf16"], warm=1, timed=2)
STEPS = [[Row([7] * 30, supervised_from=20)], [Row([7] * 10, supervised_from=4)], [Row([7] * 50, supervised_from=30)]]
ABOUT = {"machine": {"processor": "a", "threads": 2, "memory_gib": 1.0, "torch": "2", "commit": "c"}, "whet": "0"}


def timing(peer: str, repeat: int, seconds: float, **changed: object) -> Timing:
    """A measurement whose two timed steps take `seconds` together."""
    made = Timing(
        work=WORK.name,
        peer=peer,
        repeat=repeat,
        at="then",
        machine="here",
        key="now",
        beside="source",
        seconds=[9.0, seconds / 2, seconds / 2],
        foreign_s=[5.0, 0.0, 0.0],
        losses=[10.0, 9.0, 8.0],
        peak_bytes=2**30 if peer == "whet" else 2**31,
        versions={"torch": "2"},
    )
    return replace(made, **changed)


def limit(repeat: int, seconds: float) -> Timing:
    return replace(timing("limit", repeat, 1.0, losses=[]), seconds=[1.0, seconds, seconds], foreign_s=[0.0, 0.0, 0.0])


def result(timings: list[Timing], failures: tuple[Failure, ...] = ()) -> dict:
    return build(timings, failures, [WORK], {WORK.name: STEPS}, "source", lambda name, work: "now", ABOUT)


THREE_ROUNDS = [
    *(timing("whet", repeat, seconds) for repeat, seconds in ((1, 1.0), (2, 2.0), (3, 1.0))),
    *(timing("hf", repeat, seconds) for repeat, seconds in ((1, 3.0), (2, 4.0), (3, 2.5))),
    timing("trl", 1, 10.0),
    *(limit(repeat, 2.0) for repeat in (1, 2, 3)),
]


def test_a_work_that_nobody_was_measured_on_has_no_figure():
    found = result([limit(1, 2.0)])
    assert "tokens_per_s" not in found and "limit" not in found


def test_only_measurements_of_the_same_round_are_compared():
    assert paired({1: 6.0, 2: 8.0, 3: 9.0}, {1: 3.0, 3: 2.0, 4: 1.0}) == [2.0, 4.5]


def test_the_ratio_is_the_median_of_pairs_with_the_fastest_peer():
    # 60 timed tokens: pairs 3.0, 2.0, 2.5. The ratio of medians, 60 / 20, would be 3.0
    found = result(THREE_ROUNDS)
    assert found["best_peer"][WORK.name] == "hf"
    assert found["ratio"][WORK.name] == 2.5
    assert found["ratios"][WORK.name] == {"hf": 2.5, "trl": 10.0}
    assert found["rounds"][WORK.name] == 3
    assert found["peak_ratio"][WORK.name] == 0.5
    low, high = found["ratio_interval"][WORK.name]
    assert 2.0 <= low <= 2.5 <= high <= 3.0


def test_warm_steps_are_not_timed():
    assert timing("whet", 1, 2.0).rate(1, [30, 10, 50]) == 30.0


def test_a_measurement_that_others_disturb_counts_nowhere_and_is_reported():
    # two timed seconds, of which others took 0.3: a share of 0.15
    disturbed = timing("whet", 4, 2.0, foreign_s=[0.0, 0.2, 0.1])
    found = result([*THREE_ROUNDS, disturbed])
    assert [row["repeat"] for row in found["rows"] if row["peer"] == "whet"] == [1, 2, 3]
    assert found["dropped"] == [{"work": WORK.name, "peer": "whet", "repeat": 4, "foreign": 0.15, "at": "then"}]


@pytest.mark.parametrize(("share", "is_so"), [(0.0, False), (0.1, False), (0.11, True), (float("nan"), True)])
def test_a_tenth_of_a_processor_is_the_most_that_others_may_take(share, is_so):
    assert is_disturbed(share) is is_so


def test_what_others_take_while_warming_does_not_matter():
    assert timing("whet", 1, 2.0).foreign(1) == 0.0


def test_a_repeated_measurement_replaces_the_first():
    found = result([*THREE_ROUNDS, timing("whet", 2, 1.0)])
    assert [row["tokens_per_s"] for row in found["rows"] if row["peer"] == "whet"] == [60.0, 60.0, 60.0]


def test_measurements_of_another_release_or_source_do_not_count():
    other = [timing("litgpt", 1, 0.1, key="old"), timing("trl", 2, 0.5, beside="before")]
    found = result([*THREE_ROUNDS, *other])
    assert "litgpt" not in found["tokens_per_s"][WORK.name]
    assert found["ratios"][WORK.name]["trl"] == 10.0, "a pair needs the same source of whet in both"


def test_a_peer_that_fails_is_told_with_its_reason_until_it_works():
    failures = tuple(
        Failure(work=WORK.name, peer=peer, machine="here", key="now", reason="no wheel", at="then") for peer in ("litgpt", "hf")
    )
    told = {one["peer"]: one["reason"] for one in result(THREE_ROUNDS, failures)["failed"]}
    assert told.pop("litgpt") == "no wheel"
    assert set(told) == {"llamafactory"}, "measured peers are in no list of failures, and no peer is left out"
    assert set(told.values()) == {"not measured in this run"}


def test_nobody_is_fastest_where_nobody_was_measured():
    assert fastest({}) is None
    assert fastest({"a": [1.0, 9.0, 2.0], "b": [3.0]}) == "b"
    assert "ratio" not in result([timing("whet", 1, 1.0)])


def test_the_interval_of_equal_values_is_a_point_and_of_others_lies_within_them():
    assert interval([2.0] * 5) == [2.0, 2.0]
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    low, high = interval(values)
    assert 1.0 <= low < statistics.median(values) < high <= 10.0
    assert interval(values) == [low, high]


def test_operations_are_those_of_the_formula():
    # m15 has 8 layers of 2 x 256 x 256 + 2 x 256 x 128 + 3 x 256 x 1024 weights: 7,864,320. A row of 10 tokens, 6 of them supervised:
    # 4 x 7,864,320 x 10 + 4 x 32,000 x 256 x 6 + 12 x 8 x 256 x 100 / 2
    assert SHAPES["m15"].layer_weights == 7_864_320
    row = {"ids": [7] * 10, "supervised_from": 4}
    assert operations(WORK, [[row]]) == 314_572_800 + 196_608_000 + 1_228_800
    # all weights of the encoder: 6 layers of 4 x 384 x 384 + 2 x 384 x 1536, no head, attention in both directions
    encoder = WORKS["encoder22_full_bf16"]
    assert operations(encoder, [[row]]) == 6 * 10_616_832 * 10 + 12 * 6 * 384 * 100


def test_the_share_of_the_limit_is_operations_over_what_products_reach():
    own = [{"ids": row.ids, "supervised_from": row.supervised_from} for step in STEPS[1:] for row in step]
    rate = OPERATIONS / 2.0
    expected = operations(WORK, [own]) / rate  # in one second; the second round took two
    found = result(THREE_ROUNDS)
    assert found["of_limit"][WORK.name] == approx(expected, abs=5e-4)
    assert found["limit"][WORK.name]["gflops"] == round(rate / 1e9, 1)


def test_losses_that_are_apart_are_told():
    apart = [*THREE_ROUNDS, timing("litgpt", 1, 9.0, losses=[10.003, 9.0, 8.0])]
    found = result(apart)
    assert found["losses"][WORK.name] == {"first_apart": 0.003, "later_apart": 0.0, "agree": False}
    assert "0.0030 apart at the first step" in disagreements(found)[0]
    assert not disagreements(result(THREE_ROUNDS))


def test_where_frozen_weights_are_in_8_bits_the_first_losses_may_lie_farther_apart():
    assert first_allowed(WORKS["m135_lora_bf16"]) == 2e-3
    assert first_allowed(WORKS["m135_lora_int8_grouped"]) == 1e-2


def test_later_losses_are_compared_only_with_those_who_train_the_same_network_on_the_same_rows():
    losses = {"whet": [10.0, 9.0], "hf": [10.001, 9.01], "other": [10.0, 5.0]}
    assert agreement(losses, {"other": False}) == {"first": approx(0.001), "later": approx(0.01)}
    assert agreement(losses, {})["later"] == approx(4.01)


def test_the_result_fits_its_schema():
    jsonschema.validate(result(THREE_ROUNDS), SCHEMA)


def test_the_recorded_result_fits_its_schema_and_its_own_rows():
    recorded = json.loads(RESULT.read_text())
    jsonschema.validate(recorded, SCHEMA)
    for work, best in recorded["best_peer"].items():
        rates = {
            peer: [row["tokens_per_s"] for row in recorded["rows"] if (row["work"], row["peer"]) == (work, peer)]
            for peer in recorded["tokens_per_s"][work]
        }
        assert {peer: round(statistics.median(some), 1) for peer, some in rates.items()} == approx(
            recorded["tokens_per_s"][work], abs=0.11
        )
        assert best == max((peer for peer in rates if peer != "whet"), key=lambda peer: statistics.median(rates[peer]))


def test_every_peer_has_a_row_or_a_reason_for_each_recorded_work():
    recorded = json.loads(RESULT.read_text())
    known = {(row["work"], row["peer"]) for row in recorded["rows"] + recorded["failed"]}
    for work in (WORKS[name] for name in recorded["tokens_per_s"]):
        assert {(work.name, peer.name) for peer in PEERS.values() if peer.takes(work)} | {(work.name, "whet")} <= known


def test_the_picture_is_valid_tells_every_figure_and_begins_at_zero():
    found = result(THREE_ROUNDS)
    picture = ElementTree.fromstring(draw(found))
    assert picture.get("role") == "img"
    said = "".join(picture.itertext())
    assert "whet 60" in said and "HF Trainer 20" in said and "limit" in said
    bars = [one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "20"]
    assert len({one.get("x") for one in bars}) == 1
    widths = [float(one.get("width")) for one in bars]
    assert widths[0] / widths[1] == approx(3.0, rel=0.01), "bars are as long as their figures"


@pytest.mark.parametrize("largest", [0.7, 6.0, 61.0, 745.0, 7800.0])
def test_axes_begin_at_zero_and_reach_what_they_show(largest):
    marks = ticks(largest)
    assert marks[0] == 0
    assert marks[-1] >= largest
    assert len(marks) <= 8


@pytest.mark.parametrize("work", WORKS.values(), ids=list(WORKS))
def test_rows_are_the_same_each_time_and_as_long_as_their_kind_allows(work: Work):
    steps = steps_of(work)
    assert steps == steps_of(work)
    assert [len(step) for step in steps] == [work.rows_per_step] * (work.warm + work.timed)
    assert all(len(row.ids) <= (512 if work.decodes else 258) for step in steps for row in step)
    assert all(0 < row.supervised_from < len(row.ids) for step in steps for row in step if work.decodes)


@pytest.mark.parametrize("work", [work for work in WORKS.values() if work.order == "grouped"], ids=lambda work: work.name)
def test_no_step_is_done_twice_and_the_first_is_the_longest(work: Work):
    chosen = chosen_steps(work.warm, work.timed)
    assert len(set(chosen)) == len(chosen) == work.warm + work.timed
    assert chosen[0] == max(chosen) < POOL


@pytest.mark.parametrize("work", [work for work in WORKS.values() if work.order == "drawn"], ids=lambda work: work.name)
def test_rows_as_drawn_are_put_together_as_hf_trainer_does(work: Work):
    rows = [row for step in steps_of(work) for row in step]
    lengths = [len(row.ids) for row in rows]
    sorted_together = max(len(rows) // (4 * work.rows_per_step), 1) * work.rows_per_step
    runs = [lengths[begin : begin + sorted_together] for begin in range(0, len(lengths), sorted_together)]
    assert all(run[1:] == sorted(run[1:], reverse=True) for run in runs), "but for the longest of all, which is put first"
    assert lengths[0] == max(lengths)


def test_rows_grouped_as_in_a_large_data_set_are_hardly_padded_and_few_rows_are():
    share = {name: padding(steps_of(work)) for name, work in WORKS.items()}
    assert all(value < 1.05 for name, value in share.items() if WORKS[name].order == "grouped"), share
    assert all(share[name] > share[f"{name}_grouped"] + 0.2 for name, work in WORKS.items() if work.order == "drawn"), share
    assert padding([[Row([1] * 3), Row([1])], [Row([1] * 2), Row([1] * 2)]]) == 10 / 8


def test_what_was_measured_is_there_again_and_of_another_machine_is_not(tmp_path):
    store = Store(tmp_path / "timings")
    assert store.timings("here") == []
    store.add(timing("whet", 1, 2.0))
    store.add(timing("whet", 1, 3.0, machine="elsewhere"))
    store.fail(WORK.name, "litgpt", "here", "now", "no wheel")
    assert Store(tmp_path / "timings").timings("here") == [timing("whet", 1, 2.0)]
    assert [one.reason for one in store.failures("here")] == ["no wheel"]
    assert store.failures("elsewhere") == []


def test_works_on_a_gpu_are_for_peers_on_a_gpu_and_for_no_others():
    gpu, cpu = [*GPU_WORKS.values()], [*WORKS.values()]
    assert {peer.name for peer in PEERS.values() if any(peer.takes(work) for work in gpu)} == {"trl_liger"}
    assert not any(PEERS["trl_liger"].takes(work) for work in cpu)
    assert PEERS["trl_liger"].place != PEERS["trl"].place == "trl"
    # 1B and 3B: layers by hand, 16 x (2 x 2048^2 + 2 x 2048 x 512 + 3 x 2048 x 8192) and 28 x (2 x 3072^2 + 2 x 3072 x 1024 + 3 x 3072 x 8192)
    assert (SHAPES["l1"].layer_weights, SHAPES["l3"].layer_weights) == (973_078_528, 2_818_572_288)
    assert gpu[0].product_operations == 2 * 8192**3 * 8
    assert cpu[0].product_operations == OPERATIONS


def test_without_a_gpu_the_command_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["bench.train", "--gpu"])
    with pytest.raises(SystemExit, match="no CUDA device"):
        main()


def test_a_report_of_nothing_leaves_the_result_as_it_was(tmp_path, monkeypatch):
    out, library = tmp_path / "train.json", tmp_path / "tcmalloc"
    library.touch()
    words = ["--report", "--cache", tmp_path / "empty", "--out", out, "--tcmalloc", library]
    monkeypatch.setattr("sys.argv", ["bench.train", *map(str, words)])
    with pytest.raises(SystemExit, match="nothing was measured"):
        main()
    assert not out.exists()
