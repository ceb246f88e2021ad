"""The kit for iOS: its C compiled, its Swift parsed and its calls of C checked, for there is no Swift compiler here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kit_bundles import image_bundle, values_bundle
from swift_syntax import calls, declared, mistakes, own_calls, own_functions

from edgepack.appkit.ios.code import swift_text
from edgepack.appkit.make import make_appkit
from edgepack.bundle import Bundle
from edgepack.core.errors import UnsupportedError
from edgepack.signing.keys import PrivateKey

NATIVE = Path(__file__).parents[2] / "edgepack" / "appkit" / "native"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate("ed25519")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Bundle:
    return image_bundle(tmp_path_factory.mktemp("bundle") / "b.edgepack", signed_by=[key])


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, signed: Bundle, key: PrivateKey) -> Path:
    folder = tmp_path_factory.mktemp("ios") / "package"
    make_appkit(signed, "ios", folder, trusted_keys=[key.public])
    return folder


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_the_c_target_compiles_without_a_warning(package: Path, tmp_path: Path) -> None:
    target = package / "Sources" / "CTinyCatsSteps"
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    sources = sorted(map(str, target.glob("*.c")))

    for source in sources:
        out = tmp_path / f"{Path(source).stem}.o"
        subprocess.run(
            ["cc", "-std=c99", *warnings, "-O2", "-I", str(target / "include"), "-c", source, "-o", str(out)],
            check=True,
            timeout=60,
        )

    symbols = subprocess.run(
        ["nm", "-g", "--defined-only", *tmp_path.glob("*.o")], capture_output=True, text=True
    ).stdout
    names = re.findall(r" T (\w+)", symbols)
    assert len(sources) == 3 and len(names) > 15
    assert all(name.startswith("tiny_cats_epp_") for name in names), names


def test_the_c_is_that_of_the_other_kits_but_for_its_names(package: Path) -> None:
    target = package / "Sources" / "CTinyCatsSteps"

    for file in target.rglob("*.[ch]"):
        own = file.read_text(encoding="utf-8").replace("tiny_cats_epp_", "epp_")
        assert own == (NATIVE / file.name).read_text(encoding="utf-8")


@pytest.mark.parametrize("make", [image_bundle, values_bundle])
def test_the_swift_fits_the_grammar_of_swift(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_swift")
    make_appkit(make(tmp_path / "b.edgepack"), "ios", tmp_path / "kit")

    files = sorted((tmp_path / "kit").rglob("*.swift"))

    assert len(files) == 6
    assert {file.name: mistakes(file.read_text(encoding="utf-8")) for file in files} == {
        file.name: [] for file in files
    }


def test_the_grammar_finds_mistakes() -> None:
    pytest.importorskip("tree_sitter_swift")

    assert mistakes("struct A { let b: Int }\n") == []
    assert mistakes("func f( {\n    let x = \n}\n") != []


def test_swift_calls_the_c_functions_as_their_headers_declare_them(package: Path) -> None:
    pytest.importorskip("tree_sitter_swift")
    functions, types = declared(sorted(package.rglob("*.h")), "tiny_cats_epp_")
    source = (package / "Sources" / "TinyCats" / "Steps.swift").read_text(encoding="utf-8")

    called = calls(source, "tiny_cats_epp_")

    made = {name for name, _ in called if name in types}
    assert made == {"tiny_cats_epp_crop", "tiny_cats_epp_score"}
    assert {name: count for name, count in called if name not in types} == {
        name: functions[name] for name, _ in called if name not in types
    }
    assert len(called) > 15


@pytest.mark.parametrize("make", [image_bundle, values_bundle])
def test_swift_calls_its_own_functions_by_the_labels_that_they_have(make: Any, tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_swift")
    make_appkit(make(tmp_path / "b.edgepack"), "ios", tmp_path / "kit")
    sources = [path.read_text(encoding="utf-8") for path in (tmp_path / "kit").rglob("*.swift")]

    known = own_functions(sources)

    called = {call for source in sources for call in own_calls(source, set(known))}
    assert len(called) > 15
    others = {
        ("run", ("withInputs", "outputNames", "runOptions")),
        ("reals", ("_",)),
    }  # ONNX Runtime's, and a case of an enum
    assert {call for call in called if call[1] not in known[call[0]]} == others


def test_every_kind_of_step_is_written_as_swift(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_swift")
    shrink = {"op": "resize", "size": 8, "mode": "short_side", "filter": "lanczos"}
    steps = [{"op": "grayscale"}, shrink, {"op": "center_crop", "size": [6, 5]}, {"op": "to_float"}]
    steps += [{"op": "normalize", "mean": [0.5], "std": [0.25]}, {"op": "layout", "to": "CHW"}]
    bundle = image_bundle(tmp_path / "b.edgepack")
    manifest = bundle.manifest.model_copy(update={"preprocess": tuple(steps)})

    make_appkit(bundle_with(bundle, manifest), "ios", tmp_path / "kit")

    model = (tmp_path / "kit" / "Sources" / "TinyCats" / "TinyCatsModel.swift").read_text(encoding="utf-8")
    assert mistakes(model) == []
    for call in (
        ".grayscale()",
        ".resizeShortSide(8, filter: EPP_LANCZOS)",
        ".centerCrop(height: 6, width: 5)",
        ".toFloat(divide: 1.0)",
        ".normalize(mean: [0.5], std: [0.25])",
        ".channelsFirst()",
    ):
        assert call in model


def bundle_with(bundle: Bundle, manifest: Any) -> Bundle:
    return Bundle(path=bundle.path, manifest=manifest, layout=bundle.layout)


def test_a_package_with_a_key_has_manifest_signatures_and_the_key(package: Path, key: PrivateKey) -> None:
    assets = package / "Sources" / "TinyCats" / "Assets"
    model = (package / "Sources" / "TinyCats" / "TinyCatsModel.swift").read_text(encoding="utf-8")

    assert {path.name for path in assets.iterdir()} == {"model.onnx", "manifest.json", "signatures.json"}
    assert f'keyID: "{key.key_id}"' in model
    assert "**Not compiled: the Swift.**" in (package / "README.md").read_text(encoding="utf-8")


def test_the_same_bundle_gives_the_same_swift_package(signed: Bundle, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        make_appkit(signed, "ios", tmp_path / name)
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})

    assert found[0] == found[1]


def test_a_variant_that_onnx_runtime_does_not_read_is_refused(signed: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"for onnx models.*--variant x86_64"):
        make_appkit(signed, "ios", tmp_path / "kit", target="arm64")


def test_texts_are_escaped_for_swift() -> None:
    assert swift_text('a "b" \\(c)\n\u2028é') == r'"a \"b\" \\(c)\u{a}\u{2028}é"'
