"""`edgepack pack`, `unpack`, `delta` and `apply` as a user calls them, and killed while they do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import model_files
import numpy as np
import pytest
from click.testing import Result

from edgepack.codec.wire import is_wire
from edgepack.core.digest import sha256_file

Run = Callable[..., Result]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An old and a new model file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    weights = model_files.WEIGHTS.copy()
    weights[::3, 1] -= 1
    old, new = tmp_path / "old.tflite", tmp_path / "new.tflite"
    old.write_bytes(model_files.tflite().data)
    new.write_bytes(model_files.tflite(weights=weights).data)
    return old, new


def test_a_packed_bundle_is_unpacked_to_its_folder_or_to_itself(
    run: Run, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away").mkdir()

    said = run("pack", bundle_path).stdout

    wire = bundle_path.with_suffix(".edgepackz")
    assert "times smaller than" in said.splitlines()[-1]
    assert is_wire(wire)
    monkeypatch.chdir(tmp_path / "away")
    assert run("unpack", wire).stdout == f"{wire.stem}\n"
    assert (Path(wire.stem) / "model" / "model.tflite").read_bytes() == bytes(range(96))
    assert run("unpack", wire, "--bundle").stdout == f"{bundle_path.name}\n"
    assert run("unpack", wire, "-o", "other.edgepack").stdout == "other.edgepack\n"
    assert Path(bundle_path.name).read_bytes() == Path("other.edgepack").read_bytes() == bundle_path.read_bytes()
    assert "exists already" in run("unpack", wire, "--bundle", code=2).stderr


def test_commands_that_read_a_bundle_read_its_wire_form(run: Run, bundle_path: Path) -> None:
    plain = run("inspect", bundle_path, "--json").stdout
    run("pack", bundle_path, "-o", bundle_path.parent / "w")

    assert run("inspect", bundle_path.parent / "w", "--json").stdout == plain


def test_pack_prints_json_and_what_became_of_each_part(run: Run, models: tuple[Path, Path]) -> None:
    printed = json.loads(run("pack", models[0], "--json", "--profile", "fast").stdout)

    assert printed["file"].endswith("old.tflite.edgepackz")
    assert printed["wire_bytes"] == Path(printed["file"]).stat().st_size
    assert printed["ratio"] == printed["input_bytes"] / printed["wire_bytes"]
    assert sum(part["bytes_before"] for part in printed["parts"]) == models[0].stat().st_size
    assert sum(part["bytes_after"] for part in printed["parts"]) == printed["wire_bytes"]
    (weights,) = (part for part in printed["parts"] if part["part"] == "w")
    assert 5 < weights["bits_per_value"] < 8.1


def test_a_single_file_gets_its_name_back(run: Run, models: tuple[Path, Path]) -> None:
    old, _ = models
    run("pack", old)
    wanted = old.read_bytes()
    old.unlink()

    assert run("unpack", "old.tflite.edgepackz").stdout == "old.tflite\n"
    assert old.read_bytes() == wanted
    assert "holds a single file" in run("unpack", "old.tflite.edgepackz", "folder", code=2).stderr
    assert "not a bundle" in run("inspect", "old.tflite.edgepackz", code=10).stderr


def test_a_file_that_is_only_called_like_a_bundle_gets_its_name_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.edgepack").write_bytes(b"PK\x03\x04 no bundle")
    run("pack", "broken.edgepack")
    Path("broken.edgepack").unlink()

    assert run("unpack", "broken.edgepack.edgepackz").stdout == "broken.edgepack\n"
    assert Path("broken.edgepack").read_bytes() == b"PK\x03\x04 no bundle"


def test_a_delta_is_applied_to_the_old_file_or_its_wire_form(run: Run, models: tuple[Path, Path]) -> None:
    old, new = models
    run("pack", old)
    run("delta", old, new, "--json")
    wanted = new.read_bytes()
    new.unlink()

    assert run("apply", "old.tflite.edgepackz", "new.tflite.edgepackd").stdout == "new.tflite\n"
    assert new.read_bytes() == wanted
    assert "exists already" in run("apply", old, "new.tflite.edgepackd", code=2).stderr
    printed = json.loads(run("apply", old, "new.tflite.edgepackd", "-o", old, "--json").stdout)
    assert (printed["sha256"], old.read_bytes()) == (sha256_file(new), wanted)


def test_a_wrong_base_is_one_message_with_both_digests_and_nothing_is_written(
    run: Run, models: tuple[Path, Path]
) -> None:
    old, new = models
    run("delta", old, new)

    said = run("apply", new, "new.tflite.edgepackd", "-o", "out", code=10).stderr.strip()

    assert len(said.splitlines()) == 1
    assert sha256_file(old) in said
    assert sha256_file(new) in said
    assert not Path("out").exists()


def test_each_command_says_which_other_one_is_meant(run: Run, models: tuple[Path, Path]) -> None:
    old, new = models
    run("delta", old, new)
    run("pack", old)

    assert "use: edgepack apply OLD DELTA" in run("unpack", "new.tflite.edgepackd", code=10).stderr
    assert "use: edgepack unpack" in run("apply", old, "old.tflite.edgepackz", code=10).stderr
    assert "not a wire file" in run("apply", old, new, code=10).stderr
    assert "is no wire form" in run("unpack", old, "--bundle", code=2).stderr
    assert "no such file" in run("pack", "none.tflite", code=10).stderr
    assert "no such file" in run("delta", "none.tflite", new, code=10).stderr


@pytest.mark.parametrize("command", ["unpack", "inspect", "pack", "apply"])
def test_a_damaged_wire_form_is_refused(run: Run, models: tuple[Path, Path], command: str) -> None:
    old, new = models
    run("pack", old)
    run("delta", old, new)
    damaged = Path("new.tflite.edgepackd" if command == "apply" else "old.tflite.edgepackz")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    arguments = [old, damaged, "-o", "out"] if command == "apply" else [damaged]

    said = run(command, *arguments, code=10).stderr

    assert said.splitlines()[-1].startswith(f"edgepack: error: {damaged}: ")
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["pack", "apply"])
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_whole_new_one(
    run: Run, models: tuple[Path, Path], command: str
) -> None:
    base, wanted = Path("base.bin"), Path("wanted.bin")
    base.write_bytes(np.random.default_rng(0).bytes(8 << 20))
    wanted.write_bytes(base.read_bytes() + b"more")
    run("delta", base, wanted, "-o", "update")
    words = {"pack": ["pack", "old.tflite", "-o", "out"], "apply": ["apply", "base.bin", "update", "-o", "out"]}[
        command
    ]
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "edgepack", *words], check=True, capture_output=True)
    took_s, right = time.monotonic() - begin, Path("out").read_bytes()
    Path("out").write_bytes(b"old")

    for share in (0.5, 0.7, 0.8, 0.9, 0.95):
        running = subprocess.Popen(
            [sys.executable, "-m", "edgepack", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(share * took_s)
        running.kill()
        running.wait(timeout=30)

        assert Path("out").read_bytes() in (b"old", right)
