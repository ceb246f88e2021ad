"""What holds for every app kit. (What a kit's code does is tested in tests/appkit/.)"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.appkit import APPKITS
from edgepack.appkit.make import make_appkit
from edgepack.bundle import Bundle, read_bundle
from edgepack.core.errors import UnsupportedError, UsageError

sys.path.append(str(Path(__file__).parents[1] / "appkit"))  # its bundles serve here, too

from app_bundles import app_bundle

each_kit = pytest.mark.parametrize("name", APPKITS.names())


@pytest.fixture(scope="module")
def bundle_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """A bundle whose model a kit can take, by the kit's name; made once for each format."""
    made: dict[str, Bundle] = {}

    def get(name: str) -> Bundle:
        format_name = APPKITS.load(name).formats[0]
        if format_name not in made:
            made[format_name] = read_bundle(app_bundle(tmp_path_factory.mktemp("app") / format_name, format_name))
        return made[format_name]

    return get


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@each_kit
def test_a_kit_is_described_on_its_page(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "appkit.md").read_text(encoding="utf-8")

    assert f"`{name}`" in page
    assert f"--for {name}" in page


@each_kit
def test_the_same_bundle_gives_the_same_bytes(name: str, bundle_for: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = bundle_for(name)

    make_appkit(bundle, name, tmp_path / "a")
    make_appkit(bundle, name, tmp_path / "b")

    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@each_kit
def test_a_kit_says_what_was_compiled_and_pins_the_digest_of_the_model(
    name: str, bundle_for: Callable[[str], Bundle], tmp_path: Path
) -> None:
    bundle = bundle_for(name)

    make_appkit(bundle, name, tmp_path / "kit")

    files = files_of(tmp_path / "kit")
    digest = bundle.manifest.variants[0].model.sha256.encode()
    assert b"compiled" in files["README.md"]
    assert any(digest in data for path, data in files.items() if not path.endswith((".md", ".json")))
    assert bundle.read(bundle.manifest.variants[0].model.path) in files.values()
    assert not any(str(bundle.path.parent).encode() in data for data in files.values())


@each_kit
def test_a_model_of_another_format_is_refused_with_the_targets_that_there_are(
    name: str, bundle_for: Callable[[str], Bundle], tmp_path: Path
) -> None:
    bundle = bundle_for(name)
    variant = bundle.manifest.variants[0]
    other = variant.model_copy(update={"model": variant.model.model_copy(update={"format": "tealeaves"})})
    manifest = bundle.manifest.model_copy(update={"variants": (other,)})

    with pytest.raises(UnsupportedError, match=rf"{variant.target} \(tealeaves\)"):
        make_appkit(Bundle(path=bundle.path, manifest=manifest, layout=bundle.layout), name, tmp_path / "kit")

    assert list(tmp_path.iterdir()) == []


@each_kit
def test_a_model_with_two_inputs_is_refused(name: str, bundle_for: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = bundle_for(name)
    variant = bundle.manifest.variants[0]
    second = variant.inputs[0].model_copy(update={"name": "second"})
    other = variant.model_copy(update={"inputs": (*variant.inputs, second)})
    manifest = bundle.manifest.model_copy(update={"variants": (other,)})

    with pytest.raises(UnsupportedError, match="'second'"):
        make_appkit(Bundle(path=bundle.path, manifest=manifest, layout=bundle.layout), name, tmp_path / "kit")

    assert list(tmp_path.iterdir()) == []


@each_kit
def test_nothing_is_written_into_a_folder_that_is_not_empty(
    name: str, bundle_for: Callable[[str], Bundle], tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("keep")

    with pytest.raises(UsageError, match="exists already"):
        make_appkit(bundle_for(name), name, tmp_path)

    assert files_of(tmp_path) == {"mine": b"keep"}
