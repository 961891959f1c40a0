"""The profile: usual shapes and every data set at hand are understood, with reasons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whet.data.columns import look
from whet.data.guess import FIELDS
from whet.data.language import guess_language
from whet.data.profile import Profile, profile
from whet.data.read import read_files
from whet.data.rows import RawRow
from whet.errors import DataError
from whet.stages.new import auto_recipe, new, tell

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"

REAL = [  # file, objective, columns, rows (from the data's own index)
    ("classify/banking77/train.csv", "classify", {"text": "text", "label": "category"}, 10_003),
    ("classify/banking77/test.csv", "classify", {"text": "text", "label": "category"}, 3_080),
    ("classify/clinc150/data_full.json", "classify", {"text": "text", "label": "label"}, 23_700),
    ("classify/sms_spam/SMSSpamCollection", "classify", {"text": "SMS", "label": "Label"}, 5_574),
    ("classify/uci_sentences/amazon_cells_labelled.txt", "classify", {"text": "column_1", "label": "column_2"}, 1_000),
    ("classify/uci_sentences/imdb_labelled.txt", "classify", {"text": "column_1", "label": "column_2"}, 1_000),
    ("classify/uci_sentences/yelp_labelled.txt", "classify", {"text": "column_1", "label": "column_2"}, 1_000),
    ("generate/e2e/devset.csv", "sft", {"prompt": "mr", "response": "ref"}, 4_672),
    ("generate/e2e/testset.csv", "pretrain", {"text": "MR"}, 630),
    ("instruct/gsm8k/train.jsonl", "sft", {"prompt": "question", "response": "answer"}, 7_473),
    ("instruct/gsm8k/test.jsonl", "sft", {"prompt": "question", "response": "answer"}, 1_319),
    ("instruct/llama_factory/alpaca_en_demo.json", "sft", {"prompt": "instruction", "input": "input", "response": "output"}, 999),
    ("instruct/llama_factory/identity.json", "sft", {"prompt": "instruction", "input": "input", "response": "output"}, 91),
    ("instruct/llama_factory/glaive_toolcall_en_demo.json", "sft", {"messages": "conversations"}, 300),
    ("instruct/llama_factory/v1_sft_demo.jsonl", "sft", {"messages": "messages"}, 500),
    ("instruct/llama_factory/reason_tool_use_demo_50.jsonl", "sft", {"messages": "messages"}, 50),
    (
        "instruct/llama_factory/dpo_en_demo.json",
        "dpo",
        {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        300,
    ),
    ("instruct/llama_factory/v1_dpo_demo.jsonl", "dpo", {"chosen": "chosen_messages", "rejected": "rejected_messages"}, 10),
    ("instruct/llama_factory/kto_en_demo.json", "sft", {"messages": "messages", "label": "label"}, 300),
    ("instruct/llama_factory/c4_demo.jsonl", "pretrain", {"text": "text"}, 300),
    ("instruct/llama_factory/wiki_demo.txt", "pretrain", {"text": "text"}, 30),
    ("instruct/self_instruct/seed_tasks.jsonl", "sft", {"prompt": "instruction", "input": "input", "response": "output"}, 175),
    (
        "instruct/self_instruct/user_oriented_instructions.jsonl",
        "sft",
        {"prompt": "instruction", "input": "input", "response": "output"},
        252,
    ),
    ("preference/open_instruct/rlvr_test.jsonl", "sft", {"messages": "messages", "response": "ground_truth"}, 100),
    ("text/names/names.txt", "pretrain", {"text": "text"}, 32_033),
    ("text/tiny_shakespeare/input.txt", "pretrain", {"text": "text"}, None),
    ("text/wikitext2/valid.txt", "pretrain", {"text": "text"}, None),
    ("text/tinystories/tiny_stories.txt", "pretrain", {"text": "text"}, None),
    ("text/sotu", "pretrain", {"text": "text"}, 77),
]


def look_at(path: Path) -> Profile:
    notices: list[str] = []
    return profile(read_files([path], notices), notices)


@pytest.mark.parametrize(("name", "objective", "columns", "num_rows"), REAL, ids=[row[0] for row in REAL])
def test_real_data_are_understood(name, objective, columns, num_rows):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    found = look_at(SHARED / name)
    assert (found.objective, dict(found.columns)) == (objective, columns)
    assert found.num_rejects == 0 and (num_rows is None or found.num_rows == num_rows)
    guesses = [reason for reason in found.reasons if not reason.startswith(("Scores are also shown by ", "Not used: "))]
    assert len(guesses) == len(found.columns) + 1


def test_every_file_of_the_shared_data_is_read_without_a_crash():
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    files = [
        path for path in SHARED.rglob("*") if path.suffix in {".csv", ".json", ".jsonl", ".txt"} and "sotu" not in path.parts
    ]
    assert len(files) > 30
    for path in files:
        if path.stat().st_size < 1_000_000:
            assert look_at(path).num_rows > 0, path


SAID = {
    "Storno": "cancel my booking please",
    "WLAN": "the wifi drops again",
    "Lob": "thank you for everything",
    "Zimmer": "room is cold",
}


def guests(stars: bool = True) -> list[RawRow]:
    """Messages whose topic the words tell; channel and stars that follow a clock of their own."""
    topics = list(SAID)
    return [
        RawRow("guests.csv", line + 2, {
            "Nachricht": f"{SAID[topics[line % 4]]}, guest {line}",
            "Thema": topics[line % 4] if line % 9 else topics[line % 4].upper(),
            "Kanal": ("Mail", "Web", "Telefon")[line % 3],
            **({"Sterne": str(line * 7 % 5)} if stars else {}),
        })
        for line in range(80)
    ]  # fmt: skip


def test_of_several_columns_with_few_values_the_label_is_the_one_that_the_texts_tell():
    found = profile(iter(guests()))
    assert (found.objective, found.columns) == ("classify", {"text": "Nachricht", "label": "Thema"})
    assert "of 3 columns with few values that come again the one that the words of the texts tell best" in found.reasons[0]
    assert "name 'Kanal' or 'Sterne' to choose otherwise" in found.reasons[0]
    assert len(found.classes) == 4 and found.slices == ("Kanal",)


def test_where_the_texts_tell_none_of_several_columns_the_last_is_the_label():
    rows = [RawRow("a.csv", i, {"text": f"row number {i}", "one": "ab"[i % 2], "two": "xyz"[i % 3]}) for i in range(60)]
    found = profile(iter(rows))
    assert found.columns["label"] == "two" and "the one that stands last" in found.reasons[0]


def test_columns_that_the_user_names_are_what_is_told():
    found = profile(iter(guests()), given={"label": "Sterne", "text": "Nachricht", "labels": "no such column"})
    assert (found.objective, found.columns) == ("classify", {"text": "Nachricht", "label": "Sterne"})
    assert "data.label is 'Sterne': as you said." in found.reasons and set(found.classes) == {"0", "1", "2", "3", "4"}
    assert found.slices == ("Kanal", "Thema")


def test_a_column_that_says_the_part_of_each_row_is_no_slice():
    said = {
        kind: profile([
            RawRow("a.csv", line + 2, {"text": f"the text of row {line}, in words", "label": "ab"[line // 5 % 2], "fold": value[line % 3]})
            for line in range(60)
        ])
        for kind, value in {"part": ("train", "Dev", "test"), "other": ("train", "bus", "tram")}.items()
    }  # fmt: skip
    assert said["part"].slices == () and said["other"].slices == ("fold",)
    assert any(
        "'fold', since rows are divided by data.split (to follow what it says: data.part: fold)" in one
        for one in said["part"].reasons
    )


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("fold", ("train", "test"), True), ("fold", (" Train ", "held_out", "VAL"), True), ("fold", ("training", "HOLD-OUT"), True),
        ("fold", ("train",), False), ("fold", ("test", "dev"), False), ("fold", ("train", "bus"), False), ("Split", ("a", "b"), True),
    ],
)  # fmt: skip
def test_a_column_says_the_part_by_its_name_or_by_train_and_another_part(name, values, says):
    rows = [RawRow("a.csv", line + 2, {"text": f"row {line}", name: values[line % len(values)]}) for line in range(12)]
    assert look(rows)[name].says_part == says


def test_tickets_of_the_example():
    found = look_at(ROOT / "examples" / "tickets" / "tickets.csv")
    assert (found.objective, found.columns) == ("classify", {"text": "message", "label": "intent"})
    assert set(found.slices) == {"channel", "customer_tier"} and found.language == "en"
    assert found.reasons[-2:] == (
        "Scores are also shown by 'customer_tier' and 'channel' (data.slices): columns that repeat their few values.",
        "Not used: 'id', which numbers or dates the rows; 'date', which numbers or dates the rows; 'answer', another text.",
    )
    assert len(found.classes) == 10 and next(iter(found.classes)) == "device_offline"  # 16 other spellings are counted with them
    assert any("'answer' could be learnt" in reason for reason in found.reasons)


TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
SHAPES = [
    (
        [{"text": "good film", "label": "pos"}, {"text": "bad film", "label": "neg"}],
        "classify",
        {"text": "text", "label": "label"},
    ),
    (
        [{"premise": "it rains", "hypothesis": "wet", "label": 0}, {"premise": "sunny now", "hypothesis": "dry", "label": 1}] * 3,
        "classify",
        {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    ),
    (
        [{"text": f"about {i}", "labels": ["a", "b"] if i % 2 else ["a"]} for i in range(8)],
        "classify",
        {"text": "text", "labels": "labels"},
    ),
    (
        [{"text": f"about {i}", "tags": "war|love" if i % 2 else "love|fun"} for i in range(8)],
        "classify",
        {"text": "text", "labels": "tags"},
    ),
    ([{"text": f"about {i}", "score": i / 7} for i in range(40)], "classify", {"text": "text", "label": "score"}),
    (
        [{"prompt": "say something nice", "completion": f"you are number {i}"} for i in range(5)],
        "sft",
        {"prompt": "prompt", "response": "completion"},
    ),
    (
        [{"prompt": f"ask {i} now", "completion": f"answer number {i}", "label": i % 2 == 0} for i in range(9)],
        "sft",
        {"prompt": "prompt", "response": "completion", "label": "label"},
    ),
    ([{"messages": TURNS}] * 3, "sft", {"messages": "messages"}),
    ([{"dialog": json.dumps(TURNS), "id": i} for i in range(3)], "sft", {"messages": "dialog"}),
    (
        [{"prompt": f"question {i} here", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(3)],
        "dpo",
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    (
        [{"system": "be kind", "instruction": f"do the {i}", "output": f"done the {i}"} for i in range(4)],
        "sft",
        {"prompt": "instruction", "response": "output", "system": "system"},
    ),
    ([{"id": str(i), "body": f"some text number {i}", "url": f"https://x/{i}"} for i in range(9)], "pretrain", {"text": "body"}),
]


ASKED = TURNS[:1]
SHAPES += [
    ([{"prompt": ASKED, "completion": TURNS[1:]}] * 3, "sft", {"messages": "prompt", "response": "completion"}),
    (
        [{"prompt": ASKED, "chosen": TURNS[1:], "rejected": TURNS[1:]}] * 3,
        "dpo",
        {"messages": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
]


@pytest.mark.parametrize(("rows", "objective", "columns"), SHAPES)
def test_usual_shapes(rows, objective, columns):
    found = profile([RawRow("f.jsonl", i + 1, row) for i, row in enumerate(rows)])
    assert (found.objective, dict(found.columns)) == (objective, columns)
    assert set(columns) <= set(FIELDS)


def test_the_guess_does_not_depend_on_the_order_of_the_rows(tmp_path):
    rows = [
        {"text": f"text number {i}", "label": "abc"[i * 3 // 9000]} for i in range(9000)
    ]  # sorted by class, more than are looked at
    first = profile([RawRow("f", i + 1, row) for i, row in enumerate(rows)])
    assert set(first.classes) == {"a", "b", "c"} and first.num_looked_at == 5000 and first.num_rows == 9000


def test_a_missing_label_is_no_class():
    rows = [RawRow("a.jsonl", number, {"text": f"a text of row {number}", "label": "ab"[number % 2]}) for number in range(20)]
    rows += [RawRow("a.jsonl", 21 + number, {"text": f"no label {number}", "label": float("nan")}) for number in range(5)]
    assert profile(rows).classes == {"a": 10, "b": 10}


def test_a_file_without_a_row_is_named(tmp_path):
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(DataError, match=r"none\.json: no row could be read"):
        new([tmp_path / "none.json"], out=tmp_path / "recipe.yaml")


def test_nothing_readable_is_an_error():
    with pytest.raises(DataError, match="no row could be read"):
        profile([])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The card has not arrived and I would like to know where it is", "en"),
        ("Ich habe die Karte nicht bekommen und das ist ein Problem", "de"),
        ("Je ne sais pas où est ma carte et je suis pas content avec vous", "fr"),
        ("Карта не пришла, и я хочу узнать, где она находится", "ru"),
        ("Картка ще не прийшла, і я хочу дізнатися, де вона знаходиться", "uk"),
        ("カードが届きません", "ja"),
        ("我的卡还没有到", "zh"),
        ("zxcv qwer asdf", None),
        ("12345", None),
        (" ".join(f"Tell me a story about a red boat number {place}." for place in range(60)), "en"),
        ("Kartu saya belum datang dan saya ingin tahu di mana kartu itu sekarang", "id"),
        ("A kártyám még nem érkezett meg, és szeretném tudni, hol van most", "hu"),
        ("3fa9b2c1d4e5f60718293a4b5c6d7e8f AXJ-20417 0.3517 b7c1f9", None),
    ],
)
def test_language(text, language):
    assert guess_language([text]) == language


def fields_of(file, text):
    file.write_text(text, encoding="utf-8")
    return [row.fields if isinstance(row, RawRow) else row.reason for row in read_files([file])]


@pytest.mark.parametrize(
    ("separator", "text"), [(",", "It rained"), (",", '"It rained, hard"'), ("\t", "It rained, hard"), ("|", "It rained")]
)
def test_a_header_that_lost_a_name_glues_no_column_to_the_texts(tmp_path, separator, text):
    found = fields_of(tmp_path / "lost.csv", "comment\n" + "".join(f"{text}{separator}{place % 2}\n" for place in range(30)))
    assert found[:2] == ["line of 1 field where the file has 2 columns", {"column_1": text.strip('"'), "column_2": "0"}]


def test_quotes_around_some_of_the_texts_of_an_only_column_are_no_part_of_them(tmp_path):
    lines = "".join(
        f'"It rained, ""hard"" {place}\nall day"\n' if place % 3 else f"It rained, hard {place}\n" for place in range(30)
    )
    found = fields_of(tmp_path / "texts.csv", '"text"\n' + lines)
    assert len(found) == 30 and found[:2] == [{"text": "It rained, hard 0"}, {"text": 'It rained, "hard" 1\nall day'}]


def test_speech_in_the_texts_of_an_only_column_keeps_its_quotes(tmp_path):
    lines = "".join(f'"Hello, you," he said for the {place}th time.\n' for place in range(30))
    assert fields_of(tmp_path / "texts.csv", f"text\n{lines}")[3] == {"text": '"Hello, you," he said for the 3th time.'}


def test_a_header_that_names_one_text_leaves_the_commas_to_the_texts(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("text\n" + "".join(f"It rained all day {place}, and nobody came\n" for place in range(30)), encoding="utf-8")
    notices: list[str] = []
    rows = list(read_files([file], notices))
    assert [row.fields for row in rows[:1]] == [{"text": "It rained all day 0, and nobody came"}] and len(rows) == 30
    assert not [notice for notice in notices if "no header" in notice]


@pytest.mark.parametrize("form", ["{:02}.03.2024", "2024-03-{:02}", "{:02}/03/2024 10:15"])
def test_dates_are_no_text_and_no_classes_whatever_their_column_is_called(form):
    rows = [
        RawRow(
            "f.csv",
            place,
            {"said": f"the parcel came {place} days late, I am sorry to say", "booked on file": form.format(1 + place % 28)},
        )
        for place in range(60)
    ]
    found = profile(rows)
    assert found.columns == {"text": "said"} and "'booked on file', which numbers or dates the rows" in found.reasons[-1]


@pytest.mark.parametrize("value", ["{0}", "0{1}-{1:02}-{2}", "1.{1}.{2}", "{1}/5"])
def test_numbers_codes_and_telephone_numbers_are_no_dates(value):
    rows = [RawRow("f.csv", place, {"what": value.format(place, 1 + place % 9, 1000 + place)}) for place in range(1, 40)]
    rows.append(RawRow("f.csv", 40, {"what": "n/a"}))  # so that it is no column of numbers
    assert not look(rows)["what"].is_dates


@pytest.mark.parametrize("gap", ["2024-03-01", "unknown"])
def test_a_column_of_dates_may_begin_in_1970_and_have_gaps(gap):
    rows = [
        RawRow("f.csv", place, {"born": "1970-01-01" if place % 2 else f"1969-12-{1 + place % 28:02}"}) for place in range(40)
    ]
    assert look([*rows, RawRow("f.csv", 40, {"born": gap})])["born"].is_dates


def test_the_language_is_that_of_most_rows_of_a_file_in_an_order():
    english, german = (
        "The card has not arrived and I would like to know. " * 10,
        "Ich habe die Karte nicht bekommen, das ist schade. " * 10,
    )
    assert guess_language([english] * 600 + [german] * 3000) == "de"


def test_numbers_to_be_learnt_are_told_by_their_range(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text(
        "text,score\n" + "".join(f"the answer to question number {place} was fine,{place / 8}\n" for place in range(40)),
        encoding="utf-8",
    )
    _, seen = auto_recipe([file], [], None, [])
    assert "Numbers from 0 to 4.875." in tell(seen) and "classes" not in tell(seen)


@pytest.mark.parametrize(("name", "text"), [("rows.json", "[{}]"), ("rows.jsonl", "{}\n{}\n")])
def test_rows_without_a_field_are_told_of(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: no row has a column\. Each row needs fields by name"):
        new([tmp_path / name], out=tmp_path / "recipe.yaml")
