"""`whet plan`: what it foresees, what fits, what it says to do; and plan against actual in a run."""

import json
from types import SimpleNamespace

import pytest
import torch

from whet.errors import Refused
from whet.files import file_hash
from whet.models.memory import GIB
from whet.recipe_file import load_recipe
from whet.report.plan import plan_against_actual
from whet.stages import estimate as estimating
from whet.stages import plan as planning
from whet.stages.job import build_job
from whet.stages.plan import device_bytes, plan
from whet.stages.prepare import prepare_data
from whet.stages.train import train
from whet.testing.tiny import LABELS, OPENINGS, THINGS


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("plan")
    lines = [
        f"{opening.format(f'{colour} {thing}')},{label}"
        for colour in ("red", "blue", "old", "new", "big")
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(
        f"model: {tiny_folder('bert')}\ndata: {{path: rows.csv, text: text, label: label}}\nobjective: classify\n"
        "technique: {name: lora, rank: 2}\ntrain: {max_steps: 6, batch_size: 8, precision: fp32, validate_every: 2}\n"
    )
    prompts = "".join(json.dumps({"prompt": line.split(",")[0], "response": "we are sorry"}) + "\n" for line in lines)
    (folder / "chat.jsonl").write_text(prompts)
    (folder / "write.yaml").write_text(
        f"model: {tiny_folder('llama')}\ndata: {{path: chat.jsonl, prompt: prompt, response: response}}\nobjective: sft\n"
        "technique: full\ntrain: {max_steps: 6, batch_size: 8, precision: fp32}\n"
    )
    written = (folder / "write.yaml").read_text()
    (folder / "two_sided.yaml").write_text(
        written.replace(str(tiny_folder("llama")), str(tiny_folder("t5"))).replace("sft", "seq2seq")
    )
    return folder


def planned(desk, name="recipe.yaml", sets=(), **more):
    return plan(load_recipe(desk / name, sets), folder=desk, **more)


@pytest.fixture(scope="module")
def found(desk):
    return planned(desk, price_per_hour=3.6)


def test_a_plan_says_what_it_takes_in_one_sentence_and_in_parts(found):
    assert found["fits"] and found["sentence"].startswith("This will take ") and found["sentence"].endswith(" It fits.")
    memory = found["memory"]
    assert sum(memory["parts"].values()) == memory["bytes"] and memory["measured_bytes"] > 0.05 * GIB
    assert memory["needed_bytes"] == max(memory["bytes"], memory["measured_bytes"])
    assert found["facts"]["steps"] == 6 and found["facts"]["technique"] == "lora"
    seconds = found["seconds"]
    assert 0 < seconds["low"] <= seconds["high"]
    assert found["money"]["high"] == pytest.approx(3.6 * seconds["high"] / 3600, abs=1e-4)
    assert found["disk"]["checkpoint_bytes"] == 12 * found["facts"]["learning"]
    assert json.loads(json.dumps(found)) == found


def test_the_table_of_techniques_holds_the_recipes_own_and_orders_by_memory(found):
    assert {row["technique"] for row in found["techniques"]} == {"full", "lora", "qlora", "head"}
    assert [row["bytes"] for row in found["techniques"]] == sorted((row["bytes"] for row in found["techniques"]), reverse=True)
    assert [row["technique"] for row in found["techniques"] if row["chosen"]] == ["lora"]
    assert all(one["advice"] and one["why"] for one in found["advice"])


def test_planning_changes_nothing_and_leaves_nothing(desk):
    before = {path: file_hash(path) for path in desk.rglob("*") if path.is_file()}
    planned(desk, "write.yaml")
    assert {path: file_hash(path) for path in desk.rglob("*") if path.is_file()} == before


def test_a_run_is_the_same_whether_it_was_planned_or_not(desk, tmp_path):
    first = train(load_recipe(desk / "write.yaml"), folder=desk, out=tmp_path / "first")
    planned(desk, "write.yaml")
    second = train(load_recipe(desk / "write.yaml"), folder=desk, out=tmp_path / "second")
    assert file_hash(first.model / "model.safetensors") == file_hash(second.model / "model.safetensors")


@pytest.mark.parametrize("name", ["recipe.yaml", "two_sided.yaml"])
def test_the_probe_takes_the_longest_rows_first_and_usual_ones_after(desk, name, monkeypatch):
    job = build_job(load_recipe(desk / name), prepare_data(load_recipe(desk / name), desk), desk)
    seen = []
    real = planning.fit
    monkeypatch.setattr(planning, "fit", lambda *args: (seen.append(step) or step for step in real(*args)))
    probe = planning._probe(job, 0.0, planning.SILENT)
    assert len(seen) == 3 and seen[0].num_tokens == max(step.num_tokens for step in seen)
    longest = sorted((unit[0].num_tokens for unit in job.train_units), reverse=True)[:8]  # of an encoder-decoder, sources too
    assert seen[0].num_tokens == sum(longest)
    assert estimating.job_load(job).tokens >= max(step.num_tokens for step in seen[1:])
    assert probe.peak_bytes > 0.05 * GIB


def test_no_model_is_named_that_the_objective_cannot_learn_on(desk):
    # all that are known by their sizes are encoders and decoders
    assert planned(desk, "two_sided.yaml", probe=False)["models"] == []
    assert {row["kind"] for row in planned(desk, "write.yaml", probe=False)["models"]} == {"decoder"}


def test_without_a_probe_there_is_no_time(desk, tmp_path):
    found = planned(desk, probe=False, price_per_hour=1.0, out=tmp_path / "plan.json")
    assert found["seconds"] is None and found["money"] is None and found["memory"]["measured_bytes"] is None
    assert json.loads((tmp_path / "plan.json").read_text())["sentence"] == found["sentence"]
    with pytest.raises(planning.RecipeError, match="nothing is written over"):
        planned(desk, probe=False, out=tmp_path / "plan.json")


def test_another_machine_is_planned_for_by_the_formula(desk):
    found = planned(desk, device_memory="24GiB")
    assert found["elsewhere"] and found["seconds"] is None and " there. " in found["sentence"]
    assert found["memory"]["limit_bytes"] == 24 * GIB and found["facts"]["precision"] == "fp32"  # the recipe's own
    fits = {row["model"]: row for row in found["models"]}
    assert fits["Qwen/Qwen3-0.6B"]["fits"] and not fits["Qwen/Qwen3-32B"]["fits"]


def test_what_does_not_fit_is_said_with_what_would(desk):
    found = planned(desk, "write.yaml", device_memory="500MiB")
    assert not found["fits"] and "It does not fit" in found["sentence"] and found["does_not_fit"]
    assert found["advice"]
    large = planned(desk, "write.yaml", ["train.batch_size=100", "train.max_tokens=100000"], device_memory="622MiB")
    assert not large["fits"] and any("train.max_tokens=" in one["advice"] for one in large["advice"])
    sizes = [int(one["advice"].rpartition("=")[2]) for one in large["advice"] if "max_tokens" in one["advice"]]
    again = planned(desk, "write.yaml", ["train.batch_size=100", f"train.max_tokens={sizes[0]}"], device_memory="622MiB")
    assert again["fits"]  # what is advised does help


def test_a_model_that_cannot_even_be_loaded_is_not_loaded(desk, monkeypatch):
    monkeypatch.setattr(planning, "free_memory", lambda: 1 << 20)
    monkeypatch.setattr(planning, "build_job", lambda *args: pytest.fail("it was loaded"))
    found = planned(desk)
    assert not found["fits"] and found["seconds"] is None and found["facts"]["parameters"] > 10_000


@pytest.mark.parametrize(
    ("sets", "rank"),
    [
        ([], 2),  # the recipe's own
        (["technique.rank=auto"], 16),
        (["technique=full"], 16),
    ],
)
def test_an_update_counts_with_the_rank_that_it_would_have(desk, monkeypatch, sets, rank):
    # width 32, inner width 64, two layers: a rank has 2 * (4 * (32 + 32) + 2 * (32 + 64)) = 896 weights
    learning = {row["technique"]: row["learning"] for row in planned(desk, sets=sets, probe=False)["techniques"]}
    head = learning["head"]
    assert learning["qlora"] == 896 * rank + head and learning["lora"] == 896 * rank + head
    facts = [planned(desk, sets=sets, probe=False)["facts"]]
    monkeypatch.setattr(planning, "free_memory", lambda: 1 << 20)
    found = planned(desk, sets=sets)
    unloaded = {row["technique"]: row["learning"] for row in found["techniques"]}
    shown = {"lora": rank, "full": None}
    assert [one["rank"] for one in (*facts, found["facts"])] == [shown[found["facts"]["technique"]]] * 2
    assert unloaded["lora"] == unloaded["qlora"] == 896 * rank


def test_where_the_rows_say_more_than_a_small_rank_holds_it_counts_with_a_higher_one(desk, monkeypatch, tmp_path):
    # of this llama a rank has 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64)) = 1,024 weights, so 2,048 bits; 63 rows to learn
    # from have about 3,080 characters each, which are 770 tokens: 48,500 bits in all, so rank 24 would do, and 32 is taken
    lines = [{"prompt": f"red thing {number}", "response": f"{number} we are sorry " * 180} for number in range(90)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "long.yaml").write_text((desk / "write.yaml").read_text().replace("chat.jsonl", "long.jsonl"))
    monkeypatch.setattr(planning, "free_memory", lambda: 1 << 20)
    recipe = load_recipe(tmp_path / "long.yaml")
    found = plan(recipe, folder=tmp_path)
    rows = {row["technique"]: row["learning"] for row in found["techniques"]}
    assert rows["lora"] == rows["qlora"] == 1024 * 32
    few = plan(load_recipe(tmp_path / "long.yaml", ["technique={name: qlora, rank: 3}"]), folder=tmp_path)
    assert {row["technique"]: row["learning"] for row in few["techniques"]}["lora"] == 1024 * 3


def test_with_the_model_at_hand_other_ways_count_with_the_rank_that_they_would_have(desk, tmp_path):
    # 700 rows of 200 characters and more are cut at a context of 128 tokens, of which at least 90 are answered; 490 of the rows are
    # learnt from, so they say 44,100 to 62,720 bits: more than 21 ranks of 2,048 bits hold, and less than 32 do
    lines = [{"prompt": f"{number}", "response": f"{number} we are sorry " * 12} for number in range(700)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = (desk / "write.yaml").read_text().replace("chat.jsonl", "long.jsonl")
    (tmp_path / "long.yaml").write_text(written.replace("response: response}", "response: response, duplicates: {near: keep}}"))
    found = plan(load_recipe(tmp_path / "long.yaml"), folder=tmp_path, probe=False)
    rows = {row["technique"]: row["learning"] for row in found["techniques"]}
    assert rows["lora"] == rows["qlora"] == 1024 * 32
    # adapting one layer of 32 x 32 its own rank is 64, and that of an update of all layers is what it was
    sets = ["technique={name: lora, targets: layers.0.self_attn.q_proj}"]
    found = plan(load_recipe(tmp_path / "long.yaml", sets), folder=tmp_path, probe=False)
    rows = {row["technique"]: row["learning"] for row in found["techniques"]}
    assert rows["lora"] == 64 * (32 + 32) and rows["qlora"] == 1024 * 32
    assert {one["key"]: one["value"] for one in found["decisions"]}["technique.rank"] == 64


def test_a_disk_that_is_too_small_does_not_fit(desk, monkeypatch):
    monkeypatch.setattr(planning, "_free_disk", lambda: 10)
    found = planned(desk, probe=False)
    assert not found["fits"] and "disk" in found["does_not_fit"]


def test_rows_that_cannot_be_learnt_from_are_refused_as_in_training(desk, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": "why " * 60 + str(n), "response": "yes"}) + "\n" for n in range(30))
    )
    recipe = load_recipe(desk / "write.yaml", [f"data.path={tmp_path / 'rows.jsonl'}", "train.max_length=20"])
    with pytest.raises(Refused):
        plan(recipe, folder=desk)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("16GiB", 16 * GIB), ("24gb", 24 * 10**9), ("A100", 40 * GIB), ("a100-80GB", 80 * GIB), ("NVIDIA RTX 4090", 24 * GIB),
     ("512MiB", 512 * 2**20), ("80", 80 * GIB), ("1.5 GiB", 1.5 * GIB)],
)  # fmt: skip
def test_another_machines_memory_is_a_size_or_a_name(asked, expected):
    assert device_bytes(asked) == expected


@pytest.mark.parametrize("asked", ["", "much", "16 parsecs", "-4GiB", "0", "A9000", "1e99GiB", "GiB"])
def test_a_memory_that_is_none_is_named_with_what_is_allowed(asked):
    with pytest.raises(planning.RecipeError, match=r"16GiB.*h100"):
        device_bytes(asked)


def test_a_run_keeps_what_was_planned_and_what_it_took(desk, tmp_path):
    run = train(load_recipe(desk / "recipe.yaml", ["train.max_steps=8"]), folder=desk, out=tmp_path / "run")
    memory, actual = run.manifest["plan"]["memory"], run.manifest["actual"]
    assert memory["bytes"] == sum(memory["parts"].values()) and actual["peak_memory_bytes"] > 0.05 * GIB
    assert 0 < run.manifest["plan"]["seconds"]["low"] <= run.manifest["plan"]["seconds"]["high"]
    words = plan_against_actual(run.manifest)
    assert "planned" in words["memory"] and "taken" in words["time"]
    assert plan_against_actual({"kind": "train", "plan": {"num_steps": 3}, "actual": {"train_s": 1.0}}) == {}  # an older run


def test_seconds_worked_by_hand(desk):
    # 6 steps of 1 s; a validation of 2 s after every second one; no second phase
    recipe = load_recipe(desk / "recipe.yaml", ["train.early_stopping={patience: 1}"])
    job = build_job(recipe, prepare_data(recipe, desk), desk)
    seconds = estimating.seconds_of(job, [1.0, 1.0], [2.0])
    assert seconds.high == pytest.approx(1.15 * (6 + 3 * 2))
    assert seconds.low == pytest.approx(0.85 * (4 + 2 * 2))  # after two validations at the soonest
    assert seconds.step_s == 1.0


def test_another_optimiser_is_planned_with_what_it_keeps(desk):
    kept = {}
    for name in ("adamw", "lion", "adafactor"):
        kept[name] = planned(desk, "write.yaml", [f"train.optimiser={name}"], probe=False)["memory"]["parts"].get("optimiser", 0)
    assert kept["lion"] == pytest.approx(kept["adamw"] / 2, rel=1e-6) and kept["adafactor"] < 0.2 * kept["adamw"]


def test_an_optimiser_that_keeps_nothing_costs_nothing():
    class Plain:
        def build(self, named, learning_rate, weight_decay):
            return torch.optim.SGD([tensor for _, tensor in named], lr=learning_rate)

    assert estimating.state_bytes(Plain(), [("one", torch.zeros(4, 4))], {}) == 0


def test_what_just_fits_is_said_to_fit_tightly():
    memory = {"needed_bytes": 86 * GIB, "limit_bytes": 100 * GIB}
    found = {"memory": memory, "seconds": None, "fits": True, "elsewhere": False}
    assert "It only just fits" in planning.sentence(found)
    memory["needed_bytes"] = 84 * GIB
    assert planning.sentence(found).endswith(" It fits.")


@pytest.mark.parametrize(("again", "kept"), [(False, 3), (True, 6)])
def test_the_disk_holds_the_checkpoints_kept_and_the_best_one_of_each_phase_and_the_model(again, kept):
    recipe = SimpleNamespace(train=SimpleNamespace(checkpoint=SimpleNamespace(keep=2)))
    job = SimpleNamespace(recipe=recipe, policy=SimpleNamespace(num_parameters=1000))
    found = planning._disk(job, SimpleNamespace(trainable=10, state=8, again=again, whole=False))
    assert found["checkpoints"] == kept and found["checkpoint_bytes"] == 120 and found["bytes"] == 120 * kept + 40
