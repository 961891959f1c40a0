"""Trains the seedling's byte-level BPE of 4,096 tokens and saves it as a transformers tokenizer folder.

`tokenizer(text)` puts `<|bos|>` first; the chat template writes it too, so tokenise a rendered chat with
`add_special_tokens=False`, as `apply_chat_template(tokenize=True)` does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from build_corpus import plain_text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
CONTEXT_TOKENS = 512
SPECIALS = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes `tokenizer` under the names that transformers 4 knows as well."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def iterate_texts(path: Path) -> Iterator[str]:
    """The text of each row of a JSON-lines file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield plain_text(json.loads(line))


def train_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A lossless byte-level BPE in which every digit is a token of its own, so that sums stay regular."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(iterate_texts(path), trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIALS[3:],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def assert_lossless(tokenizer: PreTrainedTokenizerFast, samples: list[str]) -> None:
    """Fails unless every sample survives encoding and decoding."""
    for sample in samples:
        ids = tokenizer.backend_tokenizer.encode(sample, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == sample, f"the tokenizer does not round-trip {sample!r}"


def main() -> None:
    """Trains, checks and saves the tokenizer, and prints its characters per token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("build/seedling"))
    parser.add_argument("--out", type=Path, default=Path("build/seedling/base"))
    args = parser.parse_args()
    tokenizer = train_tokenizer(args.corpus / "train.jsonl")
    assert len(tokenizer) == VOCABULARY, f"{len(tokenizer)} tokens instead of {VOCABULARY}"
    assert tokenizer.convert_tokens_to_ids(SPECIALS) == list(range(len(SPECIALS)))
    save_tokenizer(tokenizer, args.out)
    saved = PreTrainedTokenizerFast.from_pretrained(args.out)
    every_character = "".join(map(chr, [*range(0x3000), *range(0x1F300, 0x1F700)]))
    awkward = ["", " a  b\t\n\n c ", "don't , stop .", "naïve 東京 🦊 \u200d\x00", "12 + 345", every_character]
    heldout = list(iterate_texts(args.corpus / "heldout.jsonl"))
    assert_lossless(saved, [*awkward, *heldout])
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rendered = saved.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|bos|><|system|>s<|end|><|user|>u<|end|><|assistant|>", rendered
    ids = saved.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ids == saved.encode(rendered, add_special_tokens=False) and ids.count(saved.bos_token_id) == 1
    for name in ("heldout", "validation"):
        rows = list(iterate_texts(args.corpus / f"{name}.jsonl"))
        num_tokens = sum(len(saved.encode(row, add_special_tokens=False)) for row in rows)
        print(f"{name}: {sum(map(len, rows)) / num_tokens:.3f} characters per token, {num_tokens:,} tokens")


if __name__ == "__main__":
    main()
