"""`edgepack.diff`: where two bundles of one model part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_project import PTQ, Project

from edgepack.bundle import read_bundle, write_bundle
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError, UsageError
from edgepack.diff import diff


@pytest.fixture(scope="module")
def bundle(built_project: Callable[[str], Project]) -> Path:
    (path,) = (built_project(PTQ).folder / "dist").glob("*.edgepack")
    return path


def with_changed_weights(bundle: Path, to: Path, *, output: str) -> Path:
    """The bundle with every weight of the layer that writes a tensor shifted by two codes."""
    from ai_edge_litert.tools import flatbuffer_utils

    opened = read_bundle(bundle)
    about = opened.variant().model
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(opened.read(about.path)))
    graph = model.subgraphs[0]
    operator = next(one for one in graph.operators if graph.tensors[one.outputs[0]].name.decode() == output)
    buffer = model.buffers[graph.tensors[operator.inputs[1]].buffer]
    codes = np.array(buffer.data, np.uint8).view(np.int8).astype(np.int16) + 2
    buffer.data = np.frombuffer(np.clip(codes, -127, 127).astype(np.int8).tobytes(), np.uint8)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    files: dict[str, bytes | Path] = {name: opened.read(name) for name in opened.names if name != "manifest.json"}
    files[about.path] = content
    changed = about.model_copy(update={"sha256": sha256_bytes(content), "size_bytes": len(content)})
    variant = opened.variant().model_copy(update={"model": changed})
    return write_bundle(to, manifest=opened.manifest.model_copy(update={"variants": (variant,)}), files=files)


def test_a_bundle_does_not_differ_from_itself(bundle: Path) -> None:
    found = diff(bundle, bundle)

    assert found.samples == 8
    assert len(found.tensors) >= 5
    assert found.first is None
    assert found.first_rounding is None
    assert all(one.sqnr_db == 200.0 and one.same_grid for one in found.tensors)


def test_the_first_tensor_behind_changed_weights_is_named_with_its_values(bundle: Path, tmp_path: Path) -> None:
    same = diff(bundle, bundle, samples=2)
    changed_at = same.tensors[2]
    other = with_changed_weights(bundle, tmp_path / "other.edgepack", output=changed_at.a.tensor)

    found = diff(bundle, other, samples=2)

    assert found.first is not None
    assert found.first.operation == changed_at.operation
    assert [one.max_steps for one in found.tensors[:2]] == [0, 0]
    assert abs(found.first.a.worst - found.first.b.worst) == pytest.approx(
        found.first.max_steps * found.first.a.scale, rel=1e-3
    )
    assert found.as_dict()["first"] == changed_at.operation


def test_other_samples_are_not_needed_for_a_smaller_look(bundle: Path) -> None:
    assert diff(bundle, bundle, samples=1).samples == 1


def test_a_bundle_without_its_table_of_tensors_is_refused(bundle: Path, tmp_path: Path) -> None:
    opened = read_bundle(bundle)
    left = {name: opened.read(name) for name in opened.names if name not in ("manifest.json", "reports/tensors.json")}
    bare = write_bundle(tmp_path / "bare.edgepack", manifest=opened.manifest, files=left)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=r"bare\.edgepack: has no reports/tensors\.json"):
        diff(bundle, bare)


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.edgepack"
    damaged.write_bytes(bundle.read_bytes()[:-100])

    with pytest.raises(BundleError):
        diff(damaged, bundle)
