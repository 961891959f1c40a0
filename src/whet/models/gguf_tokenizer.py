"""A tokenizer as GGUF has it: kind, tokens, types, merges or scores, and the name of how text is cut before; and back.

What GGUF has no name for is refused: another cut means other tokens, and so other answers, without any error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from whet.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of token, as GGUF numbers them."""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
REGEXES = {"llama-bpe": _WORDS % r"\p{N}{1,3}", "qwen2": _WORDS % r"\p{N}"}
"""How text is cut before merging, by GGUF's name for it, where a regular expression says it."""
SPACE = "▁"


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """What the file's metadata say of a tokenizer."""

    kind: Literal["gpt2", "llama"]
    """Bytes as characters with merges, or pieces with scores."""
    cut: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    scores: tuple[float, ...]
    space_prefix: bool


def describe_tokenizer(tokenizer: PreTrainedTokenizerBase, num_rows: int) -> GgufTokenizer:
    """Return a tokenizer as GGUF has it, with a token for each of the embedding's rows. Raises ModelError where it has no place for it."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise _refusal("it has no tokenizer.json")
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    model = whole["model"]
    if model["type"] != "BPE":
        raise _refusal(f"its kind is {model['type']}, not BPE")
    kind, cut, space_prefix = _kind(whole)
    added = {token["id"]: token for token in whole["added_tokens"]}
    by_id = {number: token for token, number in model["vocab"].items()} | {
        number: one["content"] for number, one in added.items()
    }
    tokens = tuple(by_id.get(number, f"[UNUSED{number}]") for number in range(num_rows))
    merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    types = tuple(_type(number, by_id, added, kind, model.get("unk_token")) for number in range(num_rows))
    scores = _scores(tokens, merges) if kind == "llama" else ()
    return GgufTokenizer(kind, cut, tokens, types, merges if kind == "gpt2" else (), scores, space_prefix)


def rebuild_tokenizer(said: GgufTokenizer) -> Tokenizer:
    """Return the tokenizer that a file's metadata describe."""
    vocab = {token: number for number, token in enumerate(said.tokens) if said.types[number] != UNUSED}
    if said.kind == "gpt2":
        pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in said.merges)]
        made = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=said.cut == "llama-bpe"))
        made.pre_tokenizer = _cutter(said.cut)
        made.decoder = decoders.ByteLevel()
    else:
        unknown = next((said.tokens[number] for number, kind in enumerate(said.types) if kind == UNKNOWN), None)
        made = Tokenizer(
            models.BPE(vocab=vocab, merges=_merges(said, vocab), unk_token=unknown, byte_fallback=True, fuse_unk=True)
        )
        steps: list[Any] = [normalizers.Replace(" ", SPACE)]
        made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), *steps] if said.space_prefix else steps)
    special = [AddedToken(said.tokens[n], special=True, normalized=False) for n, kind in enumerate(said.types) if kind == CONTROL]
    made.add_special_tokens(special)
    made.add_tokens([AddedToken(said.tokens[n], normalized=False) for n, kind in enumerate(said.types) if kind == USER_DEFINED])
    return made


def _kind(whole: dict[str, Any]) -> tuple[Literal["gpt2", "llama"], str, bool]:
    before, normalizer, model = whole["pre_tokenizer"], whole["normalizer"], whole["model"]
    parts = before["pretokenizers"] if before and before["type"] == "Sequence" else [before] if before else []
    if parts and parts[-1]["type"] == "ByteLevel":
        if normalizer is not None and normalizer["type"] != "NFC":
            raise _refusal(f"it changes text first ({normalizer['type']})")
        if parts[-1]["add_prefix_space"]:
            raise _refusal("it puts a space before every text")
        return "gpt2", _cut(parts), False
    if model.get("byte_fallback") and all(part["type"] == "Metaspace" for part in parts):
        steps = (
            normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer] if normalizer else []
        )
        replaced = any(step["type"] == "Replace" and step["content"] == SPACE for step in steps)
        prefixed = any(step["type"] == "Prepend" and step["prepend"] == SPACE for step in steps)
        if parts:
            return "llama", "default", parts[0].get("prepend_scheme", "always") != "never"
        if replaced and all(step["type"] in {"Replace", "Prepend"} for step in steps):
            return "llama", "default", prefixed
    raise _refusal("it is neither of bytes nor of pieces with a fall-back to bytes")


def _cut(parts: list[dict[str, Any]]) -> str:
    *first, last = parts
    if last["use_regex"] and not first:
        return "gpt-2"
    if last["use_regex"] and [part["type"] for part in first] == ["Digits"] and first[0]["individual_digits"]:
        return "smollm"
    if not last["use_regex"] and [part["type"] for part in first] == ["Split"]:
        found = first[0]["pattern"].get("Regex")
        for name, regex in REGEXES.items():
            if found == regex:
                return name
    raise _refusal("it cuts text in a way that GGUF has no name for")


def _cutter(name: str) -> Any:
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    split = pre_tokenizers.Split(Regex(REGEXES[name]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _type(number: int, by_id: dict[int, str], added: dict[int, Any], kind: str, unknown: str | None) -> int:
    if number not in by_id:
        return UNUSED
    token = by_id[number]
    if kind == "llama" and token == unknown:
        return UNKNOWN
    if number in added:
        return CONTROL if added[number]["special"] else USER_DEFINED
    is_byte = kind == "llama" and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte else NORMAL


def _scores(tokens: tuple[str, ...], merges: tuple[str, ...]) -> tuple[float, ...]:
    """Return a score for each piece, such that the pair that is merged first makes the piece of the highest one."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return tuple(-float(ranks.get(token, len(merges))) for token in tokens)


def _merges(said: GgufTokenizer, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Return the pairs that make each piece, the piece of the highest score first."""
    pieces = [token for token, number in vocab.items() if said.types[number] == NORMAL and len(token) > 1]
    ordered = sorted(pieces, key=lambda token: (-said.scores[vocab[token]], vocab[token]))
    return [
        (token[:place], token[place:])
        for token in ordered
        for place in range(1, len(token))
        if token[:place] in vocab and token[place:] in vocab
    ]


def _refusal(why: str) -> ModelError:
    return ModelError(f"GGUF has no place for this model's tokenizer: {why}. Export it as merged or onnx.")
