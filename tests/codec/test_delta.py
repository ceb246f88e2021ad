"""Deltas: small where the models are alike, right where they are not, and for one base only."""

from __future__ import annotations

import re

import model_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wire import archive

from edgepack.codec.types import PROFILES, Profile
from edgepack.codec.wire import open_wire, read_header
from edgepack.codec.wire_ops import FromBase, Tensor, operations_in
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire
from edgepack.core.errors import BundleError

OLD = model_files.tflite().data


def updated(share: float, comment: bytes = b"made by a test") -> bytes:
    """The model with this share of its weights one step further."""
    random = np.random.default_rng(0)
    moved = random.random(model_files.WEIGHTS.shape) < share
    weights = (model_files.WEIGHTS + moved * random.choice([-1, 1], model_files.WEIGHTS.shape)).astype(np.int8)
    return model_files.tflite(weights=weights, comment=comment).data


@pytest.mark.parametrize("profile", PROFILES)
def test_a_fine_tuned_model_costs_what_changed(profile: Profile) -> None:
    new = updated(0.05)

    delta = pack_wire(new, "m.tflite", base=OLD, profile=profile).wire

    assert unpack_wire(delta, base=OLD) == new
    # 5,760 weights: 0.29 bits tell whether one changed, and one more which way.
    assert len(delta) < 5760 * 0.36 / 8 + 250
    assert len(delta) < len(pack_wire(new, "m.tflite").wire) / 5


def test_the_same_file_costs_the_two_digests() -> None:
    assert len(pack_wire(OLD, "m.tflite", base=OLD).wire) < 100


def test_tensors_are_found_again_behind_tables_of_another_length() -> None:
    new = updated(0.05, comment=b"a much longer description than before, so that everything moves " * 5)

    delta = pack_wire(new, "m.tflite", base=OLD).wire

    steps = list(operations_in(open_wire(delta).table))
    assert [one.on_base for one in steps if isinstance(one, Tensor)] == [True]
    assert sum(one.size_bytes for one in steps if isinstance(one, FromBase)) > 500
    assert unpack_wire(delta, base=OLD) == new


def test_a_bundle_of_several_variants_is_updated_from_one_of_a_single_target() -> None:
    old = archive({"model/model.tflite": OLD, "labels.txt": b"one\n"})
    new = archive({"arm64/model/model.tflite": updated(0.02), "labels.txt": b"one\ntwo\n"})

    delta = pack_wire(new, "b.edgepack", base=old).wire

    assert unpack_wire(delta, base=old) == new
    assert len(delta) < len(pack_wire(new, "b.edgepack").wire) / 3


def test_another_base_is_refused_with_both_digests() -> None:
    delta = pack_wire(updated(0.02), "m.tflite", base=OLD).wire
    wanted = read_header(delta).base_sha256

    with pytest.raises(BundleError) as refused:
        unpack_wire(delta, base=updated(0.03))

    assert wanted is not None
    assert wanted.hex() in str(refused.value)
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", str(refused.value)))) == 2


def test_a_delta_without_its_base_and_a_base_without_delta_are_refused() -> None:
    with pytest.raises(BundleError, match="edgepack apply"):
        unpack_wire(pack_wire(OLD, "m.tflite", base=OLD).wire)
    with pytest.raises(BundleError, match="edgepack unpack"):
        unpack_wire(pack_wire(OLD, "m.tflite").wire, base=OLD)


@settings(max_examples=60, deadline=None)
@given(old=st.binary(max_size=600), new=st.binary(max_size=600), name=st.sampled_from(["a.tflite", "a.txt"]))
def test_any_two_files_have_a_delta(old: bytes, new: bytes, name: str) -> None:
    assert unpack_wire(pack_wire(new, name, base=old, base_name=name).wire, base=old) == new


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_file_that_was_edited_anywhere_has_a_delta(data: st.DataObject) -> None:
    old = archive({"model/model.tflite": OLD, "a.txt": b"some text " * 30})
    place = data.draw(st.integers(0, len(old)))
    cut = data.draw(st.integers(0, 200))
    new = old[:place] + data.draw(st.binary(max_size=100)) + old[place + cut :]

    assert unpack_wire(pack_wire(new, "b.edgepack", base=old).wire, base=old) == new
    assert unpack_wire(pack_wire(old, "b.edgepack", base=new).wire, base=new) == old
