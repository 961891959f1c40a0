"""Names and places by a model: found whatever the texts' company and length, one person one stand-in, and never without being asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whet import plugins
from whet.data.clean import build_cleaners
from whet.data.dataset import read_dataset
from whet.data.making import Maker, Making
from whet.data.preparing import prepare
from whet.data.redact import build_redactor, redact_row
from whet.data.rows import RawRow
from whet.data.workers import workers_for
from whet.errors import ModelError, RecipeError, RunError
from whet.models.named import named_hash
from whet.models.tagger import load_tagger
from whet.private.names import whole_name
from whet.recipe_data import Data, Redact
from whet.recipe_file import build_recipe
from whet.stages.deploy import write_bundle
from whet.stages.predict import load
from whet.stages.prepare import prepare_run
from whet.stages.train import train
from whet.types import Example, Message

WORDS = ("lost", "here", "yesterday", "my", "not", "that", "and", "the", "please", "was")
KINDS = {"PER": "person", "LOC": "place"}


def found(folder: Path, *texts: str) -> list[list[tuple[str, str]]]:
    spans = load_tagger(str(folder)).find(texts, KINDS, 0.5)
    return [[(one.kind, text[one.start : one.end]) for one in some] for text, some in zip(texts, spans, strict=True)]


def redactor(folder: Path, **more: object):
    return build_redactor(Redact(model=str(folder), **more), b"key")


def test_names_are_found_word_by_word_and_side_by_side(name_model):
    assert found(name_model, "Anna Berg lives in London, Main Street 7.", "Peter's card is lost", "my card is lost") == [
        [("person", "Anna Berg"), ("place", "London, Main Street 7")],
        [("person", "Peter")],
        [],
    ]
    assert found(name_model, "A. Berg. Peter says") == [[("person", "Berg"), ("person", "Peter")]]  # a sentence ends between them


@pytest.mark.parametrize("text", ["", "  \n ", "...", "\ud800 Anna", "Anna\u0000", "🙂 Anna 🙂", "安娜 Anna"])
def test_any_text_is_looked_at(name_model, text):
    assert found(name_model, text) == [[("person", "Anna")] if "Anna" in text else []]


def test_a_text_has_the_same_names_whatever_its_company(name_model):
    texts = ["Anna says", "the card is lost in Bergen and not here " * 3, "i", "Ada Lovelace, Peter Berg"]
    assert found(name_model, *texts) == [found(name_model, text)[0] for text in texts]


@pytest.mark.parametrize("words", [10, 28, 29, 30, 31, 32, 33, 61, 400])
def test_what_stands_behind_the_models_longest_text_is_found_too(name_model, words):
    text = "the card is " * words + "Anna Berg"
    assert found(name_model, text) == [[("person", "Anna Berg")]]


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab .\n?,é安"), max_size=300))
def test_pieces_of_a_text_leave_nothing_out(name_model, text):
    tagger = load_tagger(str(name_model))
    pieces = list(tagger._pieces(text))
    places = {place for begin, end in pieces for place in range(begin, end)}
    assert sum(end - begin for begin, end in pieces) == len(places)  # nothing twice
    assert {place for place, sign in enumerate(text) if not sign.isspace()} <= places
    ids = tagger._encoded([text[begin:end] for begin, end in pieces])["input_ids"] if pieces else []
    whole = tagger._policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert sum(len(some) - 2 for some in ids) == len(whole)  # no piece was too long for the model


def test_one_person_has_one_stand_in_however_short_the_name(name_model):
    for mode in ("hash", "replace"):
        redact = redactor(name_model, mode=mode).redact
        text = redact("Anna Berg lives in London. Mr Berg says that Anna was not here, ANNA BERG's card")[0]
        person = redact("Anna Berg")[0]
        assert text.count(person) == 4 and "Berg" not in text and "Anna" not in text
        assert redact("Peter Berg")[0] != person != redact("Berg")[0]
        text = redact("Anna Berg and Peter Berg. Berg says")[0]  # which of the two is not known
        assert text.count(person) == 1 and redact("Berg")[0] in text


def test_a_row_is_one_company_and_another_row_another(name_model):
    row = Example(
        id=0, messages=(Message("user", "i am Anna Berg"), Message("assistant", "please write to Anna")), tags={"by": "Berg"}
    )
    made, kinds = redact_row(row, redactor(name_model, mode="hash"))
    first, second = [turn.content.split()[-1] for turn in made.messages or ()]
    assert first == second == made.tags["by"] and kinds == ["person"] * 3


def test_short_forms_belong_to_the_one_name_that_they_are_part_of():
    assert whole_name("A. Berg", ["Anna Berg", "A. Berg"]) == "Anna Berg"
    assert whole_name("Dr. Berg", ["Anna Berg"]) == "Anna Berg"
    assert whole_name("Berg", ["Anna Berg", "anna berg"]) in {"Anna Berg", "anna berg"}
    assert whole_name("Berg", ["Anna Berg", "Peter Berg"]) == "Berg"
    assert whole_name("Berg Anna", ["Anna Berg"]) == "Berg Anna"


@pytest.mark.parametrize("mode", ["mask", "hash", "replace"])
def test_patterns_and_names_share_a_text_and_twice_is_as_once(name_model, mode):
    redact = redactor(name_model, mode=mode).redact
    text, kinds = redact("Anna Berg <anna.berg@firma.de> in London, i am at +49 171 3920012")
    assert kinds == ["person", "mail", "place", "phone"]
    assert not [word for word in ("Anna", "berg@", "London", "3920012") if word in text]
    assert redact(text) == (text, [])
    assert redactor(name_model, mode=mode).redact(text) == (text, [])


def test_what_is_kept_stays_and_less_certain_words_are_taken_where_asked(name_model):
    text = "Anna lives in London"
    assert redactor(name_model, keep=["place"])(text) == "[person] lives in London"
    assert redactor(name_model, kinds=["place"])(text + " a@b.de") == "Anna lives in [place] a@b.de"
    assert redactor(name_model, labels={"PER": "place"})(text) == "[place] lives in [place]"
    assert len(redactor(name_model, certainty=0.001).redact("not " + text)[1]) >= len(redactor(name_model).redact(text)[1])


def table(path: Path) -> str:
    people = ("Anna Berg", "Peter Ito", "Ada Lovelace")
    rows = [(f"{people[n % 3]} says that the card is lost {WORDS[n // 3]}", "ab"[n % 2]) for n in range(30)]
    rows += [(f"my card was not here yesterday, {WORDS[n // 3]} {WORDS[n % 3]}", "ab"[n % 2]) for n in range(30)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def test_a_run_holds_no_name_and_its_report_tells_none(name_model, tmp_path, monkeypatch):
    table(tmp_path / "rows.csv")
    (tmp_path / "tagger").symlink_to(name_model)
    values = {
        "model": "builtin:minilm", "objective": "classify",
        "data": {
            "path": "rows.csv", "text": "text", "label": "label", "duplicates": {"near": False}, "redact": {"model": "tagger", "mode": "hash"},
        },
    }  # fmt: skip
    run = prepare_run(build_recipe(values, "recipe"), folder=tmp_path, out=tmp_path / "run")
    said = "".join(file.read_text() for file in run.path.rglob("*") if file.is_file())
    assert not [name for name in ("Anna", "Berg", "Ito", "Lovelace") if name in said]
    about = json.loads((run.path / "data" / "accounting.json").read_text())
    assert [(one["kind"], one["rows"]) for one in about["private"]] == [("person", 30)]
    assert list(about["finders"].values()) == [named_hash(str(name_model))] and read_dataset(run.path).finders == about["finders"]
    assert len({word for word in said.replace('"', " ").split() if word.startswith("[person-")}) == 3
    columns = about["columns"]
    monkeypatch.chdir("/")  # what is asked later is freed of names too, from wherever
    assert build_cleaners(Data.model_validate(columns), None)("Anna says").endswith("] says")


def test_counting_changes_nothing_and_by_default_no_model_is_asked(name_model, tmp_path):
    path = table(tmp_path / "rows.csv")
    data = {"path": path, "text": "text", "label": "label", "duplicates": {"near": False}}
    counted = prepare(Data(**data, redact={"model": str(name_model), "mode": "count"}), ("text", "label"), None)
    assert [(one.kind, one.rows) for one in counted.private] == [("person", 30)] and "Anna Berg" in str(counted.train)
    assert any("30 rows hold private data (30 names of persons)" in notice for notice in counted.notices)
    for redact in ("auto", True):
        assert prepare(Data(**data, redact=redact), ("text", "label"), None).private == ()


def test_one_process_asks_the_model_which_uses_every_processor_itself():
    with_model = Data(path="rows.csv", redact={"model": "m"})
    assert workers_for(10**6, Making(with_model, ("text",), None, b"")) == 1


def test_another_maker_of_rows_gives_the_same(name_model):
    columns = Data(path="rows.csv", text="text", label="label", redact={"model": str(name_model), "mode": "hash"})
    rows = [RawRow("rows.csv", n + 2, {"text": f"{'Anna' if n % 3 else 'Ada'} says {n}", "label": "a"}) for n in range(20)]
    maker = Maker(Making(columns, ("text", "label"), None, b"key"))
    together = maker(rows, False).items
    one_by_one = [item for row in rows for item in maker([row], False).items]
    assert [one.text for one in together] == [one.text for one in one_by_one] and "[person-" in together[0].text


@pytest.mark.parametrize(
    ("redact", "error", "said"),
    [
        ({"kinds": ["person"]}, RecipeError, "person is found by a model only"),
        ({"model": "MODEL", "kinds": ["mail"]}, RecipeError, "leave neither"),
        ({"model": "MODEL", "keep": ["person", "place"]}, RecipeError, "leave neither"),
        ({"model": "MODEL", "labels": {"NOM": "person"}}, RecipeError, "names NOM, and it has PER, LOC, MISC"),
        ({"model": "MODEL", "kinds": ["place"], "labels": {"LOC": "person"}}, RecipeError, "none of its labels"),
        ({"model": "builtin:minilm"}, ModelError, "no head that labels tokens"),
        ({"model": "./nowhere"}, ModelError, r"data\.redact\.model: \./nowhere: there is no such model folder"),
    ],
)
def test_a_model_that_cannot_find_names_is_refused_in_words(name_model, redact, error, said):
    asked = {**redact, "model": str(name_model)} if redact.get("model") == "MODEL" else redact
    with pytest.raises(error, match=said):
        build_redactor(Redact(**asked), b"")


def test_a_model_that_gives_no_numbers_is_told_and_no_name_stays_for_that(name_model, monkeypatch):
    tagger = load_tagger(str(name_model))
    monkeypatch.setattr(tagger._policy.network.classifier.bias, "data", torch.full((len(tagger.labels),), torch.nan))
    with pytest.raises(ModelError, match="gives no numbers for some texts"):
        tagger.find(["Anna Berg lives in London"], {"PER": "person"}, 0.5)


@pytest.fixture(scope="module")
def tokens_run(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("tokens")
    rows = []
    for n in range(90):
        person, place = ("anna", "peter", "ada")[n % 3], ("bergen", "london")[n % 2]
        rows.append(f"i O\nam O\n{person} B-PER\nberg I-PER\nin O\n{place} B-LOC\n{'xyz'[n % 3]} O\n{n} O\n\n")
    (folder / "rows.conll").write_text("".join(rows))
    values = {
        "model": str(tiny_folder("bert")), "objective": "tokens",
        "data": {"path": str(folder / "rows.conll"), "redact": False, "duplicates": {"near": False}},
        "technique": "full", "train": {"epochs": 12, "learning_rate": 5e-3, "max_length": 40},
    }  # fmt: skip
    return train(build_recipe(values, "tokens"), out=folder / "run").path


def test_a_run_of_tokens_finds_what_it_predicts_and_what_goes_on_beside_it(tokens_run):
    texts = ["i am anna berg in london x 3", "i am peter berg in bergen", "i am not in"]
    wanted = [
        [(KINDS[one["kind"]], one["text"]) for one in answer.prediction or ()] for answer in load(tokens_run).predict(texts)
    ]
    for told, some in zip(wanted, found(tokens_run, *texts), strict=True):
        assert all(any(kind == ours and text in more for ours, more in some) for kind, text in told)
    assert any(wanted)
    assert redactor(tokens_run)("i am anna berg in london x 3") == "i am [person] in [place] x 3"


def test_what_is_asked_of_a_trained_run_is_freed_of_names_and_no_bundle_goes_without_the_model(name_model, tiny_folder, tmp_path):
    values = {
        "model": str(tiny_folder("bert")), "objective": "classify", "train": {"max_steps": 2, "precision": "fp32"},
        "data": {"path": table(tmp_path / "rows.csv"), "text": "text", "label": "label", "redact": {"model": str(name_model)}},
    }  # fmt: skip
    run = train(build_recipe(values, "recipe"), out=tmp_path / "run").path
    (asked,) = load(run).examples(["Anna Berg says that the card is lost"])
    assert asked.text == "[person] says that the card is lost"
    with pytest.raises(RunError, match=r"data\.redact\.model.*does not bring along"):
        write_bundle(run, plugins.build("targets", "docker", {}), {"name": "docker"}, tmp_path / "bundle", name="names")
    assert not (tmp_path / "bundle").exists()


def test_beside_a_certain_word_less_is_enough_and_nowhere_else(name_model, monkeypatch):
    tagger = load_tagger(str(name_model))
    chances = {"anna": 0.9, "berg": 0.3, "lost": 0.2}
    words, outside = tagger._policy.tokenizer.convert_ids_to_tokens, tagger.labels.index("O")

    def scores(rows):
        found = []
        for ids in rows:
            odds = torch.full((len(ids), len(tagger.labels)), 1e-9)
            odds[:, tagger.labels.index("B-PER")] = torch.tensor([chances.get(one.lower(), 1e-6) for one in words(ids.tolist())])
            odds[:, outside] = 1 - odds[:, tagger.labels.index("B-PER")]
            found.append(odds.log())
        return found

    monkeypatch.setattr(tagger, "_scores", scores)
    spans = tagger.find(["Anna Berg is lost", "Berg is here"], {"PER": "person"}, 0.5)
    assert [[(one.start, one.end) for one in some] for some in spans] == [[(0, 9)], []]
