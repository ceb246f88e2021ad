"""What names a set of samples, and when a digest may be reused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import DataError
from edgepack.core.types import Samples
from edgepack.data.fingerprint import DigestCache, fingerprint
from edgepack.data.samples import load_samples
from edgepack.recipe import DataSection, InputSection


def _section(folder: Path, *, file: str = "a.npz", **arrays: Any) -> DataSection:
    np.savez(folder / file, **arrays)
    return DataSection(provider="npz", file=file, **({"y": "y"} if "y" in arrays else {}))


def _load(section: DataSection | str, folder: Path, *, shape: tuple[int, ...] = (2,), **more: Any) -> Samples:
    more = {"steps": [], "inputs": (InputSection(shape=shape),), "role": "evaluation", **more}
    return load_samples(section, more.pop("steps"), folder=folder, **more)


def test_a_fingerprint_says_what_determines_the_samples(tmp_path: Path) -> None:
    section = _section(tmp_path, x=np.zeros((3, 2)))

    found = fingerprint(section, folder=tmp_path)

    assert json.loads(json.dumps(found)) == found
    assert found["options"] == {
        "file": "a.npz", "x": "x", "y": None, "offsets": None, "start": None, "stop": None, "step": 1, "without_every": None,
    }  # fmt: skip
    assert (found["provider"], found["count"], found["seed"], found["files"]) == ("npz", None, 0, 1)


def test_a_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    section = _section(tmp_path, x=np.zeros((3, 2)))
    (tmp_path / "elsewhere").mkdir()
    same = _section(tmp_path / "elsewhere", x=np.zeros((3, 2)))
    other = _section(tmp_path, file="b.npz", x=np.ones((3, 2)))

    digest = fingerprint(section, folder=tmp_path)["sha256"]

    assert fingerprint(same, folder=tmp_path / "elsewhere")["sha256"] == digest
    assert fingerprint(other, folder=tmp_path)["sha256"] != digest


def test_a_fingerprint_changes_when_an_image_moves_to_another_class(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    section = DataSection(provider="image_folder", folder=".")
    before = fingerprint(section, folder=tmp_path)["sha256"]

    (tmp_path / "cat" / "2.png").rename(tmp_path / "dog" / "2.png")

    assert fingerprint(section, folder=tmp_path)["sha256"] != before


def test_other_data_than_the_recipe_expects_stops_the_build(tmp_path: Path) -> None:
    section = _section(tmp_path, x=np.zeros((3, 2)))
    digest = fingerprint(section, folder=tmp_path)["sha256"]
    pinned = section.model_copy(update={"sha256": digest})

    assert fingerprint(pinned, folder=tmp_path)["sha256"] == digest
    assert len(_load(pinned, tmp_path)) == 3

    _section(tmp_path, x=np.ones((3, 2)))
    for call in (lambda: _load(pinned, tmp_path), lambda: fingerprint(pinned, folder=tmp_path, role="evaluation")):
        with pytest.raises(DataError, match=rf"^data\.evaluation: .* the recipe expects {digest}; restore the files"):
            call()


def test_a_digest_is_reused_while_size_and_time_stay(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    os.utime(file, ns=(10**18, 10**18))
    cache = DigestCache(tmp_path / "cache")
    digest = cache.sha256(file)
    cache.save()

    file.write_bytes(b"two")
    os.utime(file, ns=(10**18, 10**18))

    assert DigestCache(tmp_path / "cache").sha256(file) == digest, "the cache is read from its folder"
    os.utime(file, ns=(10**18, 10**18 + 1))
    assert DigestCache(tmp_path / "cache").sha256(file) != digest


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    cache = DigestCache(tmp_path / "cache")

    cache.sha256(file)
    cache.save()

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 3}', "\x00"])
def test_a_damaged_digest_cache_counts_as_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / "digests.json").write_text(content)
    section = _section(tmp_path, x=np.zeros((3, 2)))

    with_cache = fingerprint(section, folder=tmp_path, cache=DigestCache(tmp_path))

    assert with_cache == fingerprint(section, folder=tmp_path)
