"""Parts of speech of the words of an English text, from WordNet's counts and the words beside them; unsure ones have none.

Not a parser: it serves to exchange a word for a synonym of the same part, where doubt means that the word stays. Closed classes are
listed; an open word's parts are those of WordNet, weighed by how often its senses are tagged there, and by what stands before and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from whet.words import ENDINGS, WORDNET_FILES, WordNet


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


SURE = 0.75
"""Share of the weight that a part must have."""
DETERMINERS = _set("a an the this that these those my your his her its our their some any each every another no which what")
SUBJECTS = _set("i you he she it we they who there")
MODALS = _set(
    "can could will would shall should may might must cannot do does did don't doesn't didn't can't "
    "couldn't won't wouldn't shouldn't to please let's"
)
BE = _set("be am is are was were been being isn't aren't wasn't weren't i'm you're he's she's it's we're they're that's")
HAVE = _set("have has had having haven't hasn't hadn't i've you've we've they've")
OBJECTS = _set("me him us them myself yourself himself herself itself ourselves themselves")
PREPOSITIONS = _set(
    "of in on at by for with from into onto over under about against between through during before after "
    "above below across behind beside beyond near off out up down since until upon within without toward "
    "towards via per as like than to"
)
OTHERS = _set(
    "and or but nor so yet if because although though while when where why how whether not never ever "
    "very too quite rather just only also even still already again then there here now today tomorrow "
    "yesterday both all none one two three more most less least many much few such own same other others "
    "first last next yes ok okay hello hi thanks thank be"
)
DEGREES = _set("very too so quite rather really extremely incredibly more most less least as how pretty")
CLOSED = (
    DETERMINERS
    | SUBJECTS
    | MODALS
    | BE
    | HAVE
    | OBJECTS
    | PREPOSITIONS
    | OTHERS
    | frozenset({"mine", "yours", "hers", "ours", "theirs"})
)
KIND = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
"""WordNet's numbers of parts in a sense key; 5 is an adjective of another's group."""
FEW = 0.5
"""What a sense that was never tagged counts."""


@lru_cache(maxsize=2)
def tag_counts(folder: str) -> Mapping[tuple[str, str], int]:
    """Return how often the senses of a base form are tagged, by form and part; nothing where the folder has no cntlist.rev."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    file = Path(folder) / "cntlist.rev"
    for line in file.read_text(encoding="ascii", errors="replace").splitlines() if file.is_file() else ():
        key, _, count = line.split()
        lemma, _, rest = key.partition("%")
        found[lemma, KIND[rest[0]]] += int(count)
    return dict(found)


def base_forms(wordnet: WordNet, word: str, part: str) -> list[str]:
    """Return the base forms of a word in lower case as this part of speech, its own first, by WordNet's morphy."""
    base = wordnet.exceptions[part].get(word)
    if base is None:
        pairs = [ending.split(":") for ending in ENDINGS[part].split()]
        base = tuple(word.removesuffix(old) + new for old, new in pairs if word.endswith(old))
    return [form for form in dict.fromkeys((word, *base)) if form in wordnet.lemmas[part]]


def parts_of(words: Sequence[str], wordnet: WordNet, counts: Mapping[tuple[str, str], int]) -> list[str]:
    """Return the part of each word: noun, verb, adj, adv, or nothing where it is another one, a name, or in doubt."""
    plain = [word.casefold().replace("’", "'") for word in words]
    found: list[str] = []
    for place, word in enumerate(plain):
        capital = place > 0 and words[place][:1].isupper() and not all(one.isupper() for one in words)
        if word in CLOSED or capital or len(word) < 3 or "'" in word:
            found.append("")
            continue
        weights = {part: _weight(word, part, wordnet, counts) for part in WORDNET_FILES}
        before, after = plain[place - 1] if place else "", plain[place + 1] if place + 1 < len(plain) else ""
        shares = _in_context(word, weights, before, found[-1] if found else "", after)
        total = sum(shares.values())
        best = max(shares, key=lambda part: shares[part])
        found.append(best if total and shares[best] >= SURE * total else "")
    return found


def _weight(word: str, part: str, wordnet: WordNet, counts: Mapping[tuple[str, str], int]) -> float:
    forms = base_forms(wordnet, word, part)
    return max((counts.get((form, part), 0) + FEW * len(wordnet.lemmas[part][form]) for form in forms), default=0.0)


def _in_context(word: str, weights: Mapping[str, float], before: str, part_before: str, after: str) -> dict[str, float]:
    """Return the weights after a look at the neighbours: factors that say how much likelier a part is there than elsewhere."""
    factors = dict.fromkeys(WORDNET_FILES, 1.0)

    def times(**more: float) -> None:
        for part, factor in more.items():
            factors[part] *= factor

    if before in DETERMINERS:
        times(noun=5, adj=5, verb=0.02, adv=0.3)
    elif before in MODALS:
        times(verb=30, noun=0.1 if before != "to" else 0.4, adj=0.1)
    elif before in SUBJECTS:
        times(verb=20, noun=0.05, adj=0.1)
    elif before in BE:
        times(adj=5, adv=2, noun=0.3, verb=3 if word.endswith(("ing", "ed")) else 0.02)
    elif before in HAVE:
        times(verb=5 if word.endswith(("ed", "n", "t")) else 0.1, noun=2, adj=2)
    elif before in DEGREES:
        times(adj=5, adv=5, noun=0.05, verb=0.1)
    elif before in PREPOSITIONS:
        times(noun=3, adj=2, verb=3 if word.endswith("ing") else 0.05)
    elif part_before == "adj":
        times(noun=5, verb=0.1)
    elif part_before == "verb":
        times(verb=0.1)
    if after in DETERMINERS or after in OBJECTS:
        times(verb=10, noun=0.5, adj=0.2)
    if word.endswith("ly"):
        times(adv=5)
    return {part: weights[part] * factors[part] for part in WORDNET_FILES}
