"""Sentences as token ids: the tokenizer, the vocabulary and the split. An app does the first with vocabulary.txt of the bundle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILES = ("amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt")
LENGTH = 40  # words; 99 of 100 sentences have no more
WORDS = 3000  # of the vocabulary; the rarest ones become UNKNOWN
TRAIN, VALIDATION = 2100, 300  # sentences; the 600 that are left are the test set
SEED = 0  # of the split
PADDING, UNKNOWN = "<pad>", "<unk>"  # tokens 0 and 1
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[!?]")


def words_of(sentence: str) -> list[str]:
    """Lower-case words with their apostrophes, numbers, and the two signs that tell a mood."""
    return _WORD.findall(sentence.lower())


def vocabulary_of(sentences: Iterable[str]) -> list[str]:
    """The words by falling frequency, after the two special tokens; a token's id is its place."""
    counts = Counter(word for sentence in sentences for word in words_of(sentence))
    return [PADDING, UNKNOWN, *(word for word, _ in counts.most_common(WORDS - 2))]


def ids_of(sentences: Sequence[str], vocabulary: Sequence[str]) -> NDArray[np.int64]:
    """Token ids of shape (sentences, LENGTH): what is longer is cut, what is shorter is padded."""
    places = {word: place for place, word in enumerate(vocabulary)}
    ids = np.zeros((len(sentences), LENGTH), np.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        found = [places.get(word, 1) for word in words_of(sentence)][:LENGTH]
        row[: len(found)] = found
    return ids


def read(folder: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Every sentence, and whether it is positive (1) or negative (0)."""
    lines = [line for name in FILES for line in (folder / name).read_text(encoding="utf-8").split("\n")[1:] if line]
    pairs = [line.rpartition("\t") for line in lines]
    return [text for text, _, _ in pairs], np.array([int(label) for _, _, label in pairs], np.int64)


def split(sentences: Sequence[str], labels: NDArray[np.int64]) -> dict[str, tuple[list[str], NDArray[np.int64]]]:
    """`train`, `validation` and `test`, drawn once by SEED."""
    order = np.random.default_rng(SEED).permutation(len(sentences))
    parts = zip(("train", "validation", "test"), np.split(order, [TRAIN, TRAIN + VALIDATION]), strict=True)
    return {name: ([sentences[index] for index in places], labels[places]) for name, places in parts}
