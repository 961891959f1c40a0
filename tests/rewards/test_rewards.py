"""Every reward keeps the laws, each by hand, and a reward that fails is an error, never 0."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import whet
from whet import plugins
from whet.engine.rollout import score
from whet.errors import DataError, RecipeError, TrainingError
from whet.recipe_file import build_recipe
from whet.rewards.numeric import numbers
from whet.stages.build import check_plugins
from whet.stages.narrate import Narrator
from whet.stages.train import train
from whet.testing import check_reward
from whet.testing.rewards import REWARD_LAWS
from whet.testing.tiny import policy_factory, tiny_sums, write_tiny
from whet.types import Example, Message

SETTINGS = {"regex": {"pattern": "[0-9]"}}
RUN = "run"  # needs a trained run: tests/test_preferences.py


def example(prompt: str, response: str | None = None) -> Example:
    turns = [Message("user", prompt)] + ([Message("assistant", response)] if response is not None else [])
    return Example(id=0, file="f.jsonl", line=3, messages=tuple(turns))


def worth(name: str, answer: str, expected: str | None = "7", **settings: object) -> float:
    return plugins.build("rewards", name, settings).score([example("how many?", expected)], [answer])[0]


@pytest.mark.parametrize("law", REWARD_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [name for name in plugins.names("rewards") if name != RUN])
def test_reward_keeps_the_law(law, name):
    law(plugins.build("rewards", name, SETTINGS.get(name, {})), tiny_sums())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 7.", [7.0]),
        ("-3 and +4, 1,234.5 or .5", [-3.0, 4.0, 1234.5, 0.5]),
        ("$1,000,000 (10%)", [1000000.0, 10.0]),
        ("3/4 of 2e3", [0.75, 2000.0]),
        ("1/0", []),
        ("\\boxed{42}", [42.0]),
        ("1,2 and 3", [1.0, 2.0, 3.0]),
        ("none", []),
    ],
)
def test_numbers_as_people_write_them(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("answer", "expected", "settings", "value"),
    [
        ("6 + 1 = 7", "7", {}, 1.0),
        ("7 is not 8", "7", {}, 0.0),
        ("7.0", "so it is\n#### 7", {}, 1.0),
        ("7.05", "7", {"tolerance": 0.1}, 1.0),
        ("9 steps\n#### 7 apples of 12", "7", {"after": "####"}, 1.0),
        ("7", "7", {"after": "####"}, 0.0),
        ("", "7", {}, 0.0),
    ],
)
def test_numeric_answers(answer, expected, settings, value):
    assert worth("numeric", answer, expected, **settings) == value


def test_an_expected_answer_without_a_number_is_named_before_training():
    with pytest.raises(DataError, match=r"f.jsonl:3: the response, which is the expected answer, holds no number"):
        plugins.build("rewards", "numeric", {}).check([example("how many?", "many")])


def test_patterns():
    assert worth("regex", "say 7", None, pattern="[0-9]") == 1.0
    assert worth("regex", "say 7", None, pattern="[0-9]", match="start") == 0.0
    assert worth("regex", "7", None, pattern="[0-9]", match="whole") == 1.0
    with pytest.raises(RecipeError, match="'pattern' is '\\[0-9'; allowed: a regular expression"):
        plugins.build("rewards", "regex", {"pattern": "[0-9"})


def test_metrics_score_one_answer_and_errors_count_below():
    assert worth("metric", "the cat sat", "the cat", metric="token_f1") == pytest.approx(
        2 / 3
    )  # cat of cat, sat: 2 * 1 / (1 + 2)
    assert worth("metric", "7", "7", metric="exact_match") == 1.0
    with pytest.raises(RecipeError, match="a reward scores a written answer"):
        plugins.build("rewards", "metric", {"metric": "accuracy"})


def test_a_file_of_ones_own_lies_beside_the_recipe(tmp_path):
    (tmp_path / "short.py").write_text(
        '"""Short answers."""\n\nfrom whet.plugins import plugin\n\n\n@plugin\nclass Short:\n    """Fewer signs are worth more."""\n\n'
        '    limit: int = 10\n    """Signs from which on nothing is given."""\n    needs = ("prompt",)\n\n    def check(self, examples):\n'
        "        pass\n\n    def score(self, examples, answers):\n        return [max(0.0, 1 - len(one) / self.limit) for one in answers]\n"
    )
    made = plugins.build("objectives", "grpo", {"reward": {"name": "./short.py", "limit": 4}}, tmp_path)
    assert made.reward.score([example("x")], ["ab"]) == [0.5]
    check_reward(made.reward, tiny_sums())
    with pytest.raises(RecipeError, match="code is loaded only from a recipe"):
        plugins.build("objectives", "grpo", {"reward": "./short.py"})
    with pytest.raises(RecipeError, match="unknown key 'limits'; did you mean 'limit'"):
        plugins.build("objectives", "ppo", {"reward": {"name": "./short.py", "limits": 4}}, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: [1 / 0], "failed on 1 answers, the first of them to f.jsonl:3: ZeroDivisionError"),
        (lambda: [float("nan")], "gave nan for an answer to f.jsonl:3"),
        (list, "gave 0 numbers for 1 answers"),
    ],
)
def test_a_failing_reward_is_an_error_and_never_nothing(given, message):
    class Broken:
        def score(self, examples, answers):
            return given()

    with pytest.raises(TrainingError, match=message):
        score(Broken(), [example("x")], ["y"])


OWN = (
    '"""A reward."""\n\nfrom whet.plugins import plugin\nfrom whet.protocols import Reward\n\n\n@plugin\nclass Own(Reward):\n'
    '    """Of my own."""\n\n    needs = ("prompt",)\n\n    def score(self, examples, answers):\n        return [1 / len(one) for one in answers]\n'
)


def test_a_reward_that_fails_on_an_empty_answer_is_told_before_anything_is_learnt_with_its_line(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    made = plugins.build("objectives", "grpo", {"reward": "./own.py"}, tmp_path)
    policy = policy_factory(write_tiny(tmp_path / "llama", "llama"))()
    with pytest.raises(TrainingError, match=r"the first of them to f.jsonl:3: \S+own.py:14: ZeroDivisionError: division by zero"):
        made.units([example("how many?")], policy, 128)


def test_training_by_a_reward_tells_the_reward_and_not_a_loss(tmp_path):
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"prompt": f"say {n} of {n * n}"}) + "\n" for n in range(20)))
    recipe = {
        "model": str(write_tiny(tmp_path / "llama", "llama")),
        "data": {"path": str(tmp_path / "asked.jsonl"), "prompt": "prompt"},
        "objective": {"name": "grpo", "reward": {"name": "regex", "pattern": ""}, "group": 2, "max_new_tokens": 2, "kl": 0.0},
        "train": {"max_steps": 2, "batch_size": 2, "validate_every": 1},
    }
    stream = io.StringIO()
    train(build_recipe(recipe, "here"), out=tmp_path / "run", narrator=Narrator(Console(file=stream, width=200)))
    told = stream.getvalue()
    # the empty pattern matches every answer, so each is worth 1
    assert "Training: 1 of 2 mean reward 1.0000, validation best 1.0000 at step 1" in told
    assert "where the validation mean reward was best (1.0000)" in told and " loss " not in told


@pytest.mark.parametrize("kind", ["rewards", "objectives"])
def test_a_need_that_no_row_can_have_is_refused_before_anything_is_read(tmp_path, kind):
    (tmp_path / "own.py").write_text(OWN.replace('("prompt",)', '("prompt", "expected")'))
    given = {"model": "m", "data": {"path": "none.csv"}, "objective": {"name": "grpo", "reward": "./own.py"}}
    if kind == "objectives":
        (tmp_path / "other.py").write_text(
            (Path(whet.__file__).parent / "objectives" / "sft.py").read_text().replace('("messages",)', '("expected",)')
        )
        given["objective"] = "./other.py"
    with pytest.raises(RecipeError, match=r"needs 'expected', which no row can have. Allowed in `needs`: text, .*response"):
        check_plugins(build_recipe(given, "here"), tmp_path)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("numerik", "'numerik' is no plugin of kind 'rewards'. Did you mean 'numeric'"),
        ({"pattern": "x"}, "a plugin of kind 'rewards' needs a name"),
        ({"name": "regex"}, "'pattern' is missing"),
        ({"name": "run", "path": "nowhere"}, "nowhere/model: no trained model here"),
    ],
)
def test_a_wrong_reward_says_what_is_allowed(reward, message):
    with pytest.raises(RecipeError, match=message):
        plugins.build("objectives", "ppo", {"reward": reward})


def test_the_reward_is_asked_for_where_it_is_missing():
    with pytest.raises(RecipeError, match="'reward' is missing: What an answer is worth: metric, regex, numeric, run, or a file"):
        plugins.build("objectives", "grpo", {})


def test_open_instructs_sums_are_scored():
    file = Path(__file__).resolve().parents[3] / "shared" / "data" / "preference" / "open_instruct" / "rlvr_test.jsonl"
    if not file.is_file():
        pytest.skip("needs ../shared/data/preference/open_instruct, which does not come with this project")
    reward = plugins.build("rewards", "numeric", {})
    records = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [example(record["messages"][-1]["content"], record["ground_truth"]) for record in records]
    assert (
        reward.score(rows, [f"The answer is {record['ground_truth']}." for record in records]) == [1.0] * len(rows) == [1.0] * 100
    )
    assert sum(reward.score(rows, ["I do not know."] * len(rows))) == 0.0
