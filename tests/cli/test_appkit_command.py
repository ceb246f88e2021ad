"""`edgepack appkit`: which kit, whose model, who signed it, and where it goes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgepack.appkit import APPKITS
from edgepack.bundle import read_bundle
from edgepack.bundle.join import join
from edgepack.signing.bundles import sign_bundle
from edgepack.signing.keys import PrivateKey

sys.path.append(str(Path(__file__).parents[1] / "appkit"))  # its bundles serve here, too

from app_bundles import app_bundle

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return app_bundle(tmp_path_factory.mktemp("birds"), "onnx")


def test_every_kit_is_named_in_the_help(run: Run) -> None:
    told = run("appkit", "--help").output

    for name in APPKITS:
        assert name in told


def test_a_kit_is_written_into_a_folder_named_after_the_bundle(
    birds: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    told = run("appkit", birds, "--for", "python").output

    assert (
        told
        == "wading-birds-1.2.0-python: python code for wading-birds 1.2.0, model x86_64\nRead its README.md first.\n"
    )
    assert (tmp_path / "wading-birds-1.2.0-python" / "src" / "wading_birds" / "py.typed").is_file()


def test_an_unknown_kit_is_refused_with_those_that_there_are(birds: Path, run: Run, tmp_path: Path) -> None:
    told = run("appkit", birds, "--for", "fortran", "-o", tmp_path / "kit", code=2).output

    assert "unknown app kit 'fortran'" in told
    assert "python" in told


def test_of_several_variants_one_must_be_named_unless_only_one_fits(birds: Path, run: Run, tmp_path: Path) -> None:
    other = app_bundle(tmp_path / "other", "tflite")
    join([read_bundle(birds), read_bundle(other)], tmp_path / "both.edgepack")
    both = tmp_path / "both.edgepack"

    unclear = run("appkit", both, "--for", "python", "-o", tmp_path / "a", code=2).output
    named = run("appkit", both, "--for", "python", "-o", tmp_path / "a", "--variant", "arm64").output
    only_one = run("appkit", both, "--for", "web", "-o", tmp_path / "b").output

    assert "can take arm64, x86_64" in unclear
    assert "model arm64" in named
    assert (tmp_path / "a" / "src" / "wading_birds" / "data" / "model.tflite").is_file()
    assert "model x86_64" in only_one


def test_a_variant_of_the_wrong_format_is_unsupported(birds: Path, run: Run, tmp_path: Path) -> None:
    told = run("appkit", birds, "--for", "android", "-o", tmp_path / "kit", code=6).output

    assert "the bundle has x86_64 (onnx)" in told


def test_the_key_must_have_signed_the_bundle(birds: Path, run: Run, tmp_path: Path) -> None:
    key, stranger = PrivateKey.generate(), PrivateKey.generate()
    signed = sign_bundle(birds, [key], tmp_path / "signed.edgepack")
    (tmp_path / "key.pem").write_bytes(key.public.pem())
    (tmp_path / "stranger.pem").write_bytes(stranger.public.pem())

    unsigned = run("appkit", birds, "--for", "cpp", "--key", tmp_path / "key.pem", "-o", tmp_path / "a", code=13).output
    other = run(
        "appkit", signed, "--for", "cpp", "--key", tmp_path / "stranger.pem", "-o", tmp_path / "a", code=13
    ).output
    run("appkit", signed, "--for", "cpp", "--key", tmp_path / "key.pem", "-o", tmp_path / "a")

    assert "is not signed, and --key asks for it" in unsigned
    assert f"signed by {key.key_id}, not by a key given" in other
    assert key.key_id in (tmp_path / "a" / "README.md").read_text(encoding="utf-8")


def test_an_unsigned_bundle_is_refused_where_signatures_are_required(birds: Path, run: Run, tmp_path: Path) -> None:
    run("appkit", birds, "--for", "python", "--require-signed", "-o", tmp_path / "kit", code=13)

    assert not (tmp_path / "kit").exists()
