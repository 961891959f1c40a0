"""Writes text of any size with a seed, for measuring `data.streaming`: python bench/streaming.py FILE --gib 5.

Words come from a made-up vocabulary by Zipf's law, in paragraphs of some hundred words, one on each line; one line in fifty is an exact copy
of an earlier one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "er", "il")]


def vocabulary(draw: np.random.Generator, number: int = 20_000) -> list[str]:
    """Return made-up words, the short ones first."""
    return ["".join(draw.choice(SYLLABLES, size=1 + min(4, rank.bit_length() // 3))) for rank in range(number)]


def write(path: Path, size: int, seed: int) -> int:
    """Write lines until the file has so many bytes. Returns the number of lines."""
    draw = np.random.default_rng(seed)
    words = np.array(vocabulary(draw), dtype=object)
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()
    written = lines = 0
    kept: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            drawn = words[draw.choice(len(words), size=200_000, p=chances)]
            ends = np.cumsum(draw.integers(40, 260, size=2_000))
            texts = [
                " ".join(drawn[begin:end]) + "." for begin, end in zip([0, *ends[:-1]], ends, strict=True) if end < len(drawn)
            ]
            texts += [kept[place] for place in draw.integers(0, len(kept), size=len(texts) // 50)] if kept else []
            kept = (kept + texts[:20])[-2_000:]
            block = "\n".join(texts) + "\n"
            file.write(block)
            written, lines = written + len(block), lines + len(texts)
    return lines


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--gib", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"{write(asked.file, int(asked.gib * 2**30), asked.seed):,} lines")


if __name__ == "__main__":
    main()
