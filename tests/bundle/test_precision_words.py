"""The word for a model's weights and arithmetic."""

from __future__ import annotations

from typing import get_args

import pytest
from small_bundle import content, variant

from edgepack.bundle.manifest import Manifest, parse_manifest
from edgepack.bundle.precision import Activations, CodeType, Precision, precision_of, spoken

WORDS: tuple[Precision, ...] = get_args(Precision)


@pytest.mark.parametrize(
    ("weights", "activations", "word", "in_words"),
    [
        ((), "float32", "float32", "float32"),
        ((), "float16", "float16", "float16"),
        ((), "int8", "int8", "int8"),
        (("int8",), "int8", "int8", "int8"),
        (("int4",), "int8", "int4", "int4 weights, int8 activations"),
        (("int8", "int4"), "int8", "int4+int8", "int4 and int8 weights, int8 activations"),
        (("int8",), "int16", "int8x16", "int8 weights, int16 activations"),
        (("int8",), "float32", "int8-weights", "int8 weights, float activations"),
        (("int4", "int8"), "float32", "int4+int8-weights", "int4 and int8 weights, float activations"),
    ],
)
def test_the_word_says_the_weights_and_then_what_the_activations_are_if_not_int8(
    weights: tuple[CodeType, ...], activations: Activations, word: Precision, in_words: str
) -> None:
    assert precision_of(weights, activations) == word
    assert spoken(word) == in_words


def test_every_word_is_said_of_some_model() -> None:
    weights: list[tuple[CodeType, ...]] = [(), ("int8",), ("int4",), ("int4", "int8")]

    assert {precision_of(one, kind) for one in weights for kind in get_args(Activations)} == set(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_a_manifest_with_any_of_the_words_is_read(word: Precision) -> None:
    one = variant()
    one["model"]["precision"] = word
    written = Manifest.model_validate(content(variants=[one])).to_bytes()

    assert parse_manifest(written).variants[0].model.precision == word
