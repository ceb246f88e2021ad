"""The text example: sentences become the same ids everywhere, and the network is the one that its recipes name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "sentiment"


@pytest.fixture
def sentences(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import sentences

    yield sentences
    del sys.modules["sentences"]


def test_words_keep_their_apostrophes_and_the_signs_that_tell_a_mood(sentences: Any) -> None:
    assert sentences.words_of("It's NOT 4 me, is it?!") == ["it's", "not", "4", "me", "is", "it", "?", "!"]


def test_a_tokens_id_is_its_line_and_unknown_words_have_one_id(sentences: Any) -> None:
    vocabulary = sentences.vocabulary_of(["good good food", "good film"])

    ids = sentences.ids_of(["film good awful", "good " * 100], vocabulary)

    assert vocabulary[:3] == ["<pad>", "<unk>", "good"]
    assert ids[0, :4].tolist() == [vocabulary.index("film"), 2, 1, 0]
    assert ids.shape == (2, sentences.LENGTH) and (ids[1] == 2).all()


def test_no_sentence_is_in_two_parts_of_the_split(sentences: Any) -> None:
    names = [f"sentence {number}" for number in range(3000)]

    parts = sentences.split(names, np.arange(3000))

    assert {name: len(texts) for name, (texts, _) in parts.items()} == {"train": 2100, "validation": 300, "test": 600}
    assert sorted(text for texts, _ in parts.values() for text in texts) == sorted(names)
    assert all(
        text == f"sentence {label}"
        for texts, labels in parts.values()
        for text, label in zip(texts, labels, strict=True)
    )


def test_the_recipe_takes_as_many_tokens_as_the_tokenizer_gives(sentences: Any) -> None:
    for file in FOLDER.glob("*.toml"):
        recipe = load_recipe(file)
        assert recipe.model.inputs[0].shape == (sentences.LENGTH,)
        assert recipe.metric.name == "f1"
