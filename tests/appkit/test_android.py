"""The kits for Android: their Java compiled against stubs, its steps byte for byte on a JVM, the module run with LiteRT behind a stub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answer_cases import answer_cases
from app_vectors import FOLDER
from jvm import JAVA, JAVAC, compiled, parsed, run, vectors_class
from kit_bundles import image_bundle, random_cases, reference_answer, values_bundle

from edgepack.appkit.make import make_appkit
from edgepack.bundle import Bundle
from edgepack.core.errors import UnsupportedError
from edgepack.signing.keys import PrivateKey

needs_java = pytest.mark.skipif(JAVAC is None or JAVA is None, reason="no JDK is installed")
# Prints what loading the model from each folder gives.
LOAD = """
import edgepack.tiny_cats.*;
import android.graphics.Bitmap;
import java.io.File;
import java.util.Arrays;
import org.tensorflow.lite.Interpreter;

public class Load {
    public static void main(String[] folders) throws Exception {
        for (String folder : folders) {
            try (TinyCatsModel model = TinyCatsModel.load(new File(folder), new Interpreter.Options())) {
                int[] colors = Arrays.stream(System.getProperty("colors").split(",")).mapToInt(Integer::parseInt).toArray();
                for (Answer one : model.predict(new Bitmap(colors, Integer.getInteger("width"))).getTop()) {
                    System.out.println(one.getIndex() + "," + one.getLabel() + "," + (double) one.getScore());
                }
            } catch (VerificationException e) {
                System.out.println(e.getMessage().split(":")[0]);
            }
        }
    }
}
"""
# Prints whether each signature of "manifest" is valid: ALGORITHM KEY SIGNATURE …
CHECK = """
package edgepack.tiny_cats;

import java.nio.ByteBuffer;

public class Check {
    public static void main(String[] a) {
        for (int i = 0; i < a.length; i += 3) {
            try {
                Verification.checkSignature(ByteBuffer.wrap("manifest".getBytes()), a[i], a[i + 1], a[i + 2]);
                System.out.println(a[i] + " valid");
            } catch (VerificationException e) {
                System.out.println(a[i] + " refused");
            }
        }
    }
}
"""


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate("ecdsa-p256")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Bundle:
    return image_bundle(tmp_path_factory.mktemp("bundle") / "b.edgepack", signed_by=[key])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, signed: Bundle, key: PrivateKey) -> Path:
    """A folder with the module of the signed bundle (`library`), an AI pack of another (`delivered`) and the class files of both (`classes`).

    One run of javac compiles all, programs of this test among them.
    """
    folder = tmp_path_factory.mktemp("android")
    make_appkit(signed, "android", folder / "library", trusted_keys=[key.public])
    make_appkit(values_bundle(folder / "v.edgepack"), "android-ai-pack", folder / "delivered")
    programs = {"Load": LOAD, "Check": CHECK, "Vectors": vectors_class("edgepack.tiny_cats", *cases())}
    for name, text in programs.items():
        (folder / f"{name}.java").write_text(text, encoding="utf-8")
    compiled(sorted(folder.rglob("*.java")), folder / "classes")
    return folder


def cases() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8")) + random_cases(40), answer_cases()


def golden_test(made: Path, package: str, library: str, assets: str, **properties: str) -> list[str]:
    """The lines that the instrumentation test prints."""
    where = {"assets_app": str(made / assets), "assets_test": str(made / library / "src/androidTest/assets")}
    done = run(made / "classes", "RunTests", f"{package}.GoldenTest", **{**where, **properties})
    assert not [line for line in done.stderr.splitlines() if "Exception" in line], done.stderr
    return sorted(done.stdout.splitlines())


@needs_java
def test_java_gives_the_bytes_of_the_python_reference(made: Path) -> None:
    pre, post = cases()

    done = run(made / "classes", "edgepack.tiny_cats.Vectors")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(pre) + len(post)
    for case, line in zip(pre, lines, strict=False):
        codes = f" {case['codes']['data']}" if "codes" in case else ""
        assert line == case["output"]["data"] + codes, case.get("name", case["steps"])
    for case, line in zip(post, lines[len(pre) :], strict=True):
        scores, top = parsed(line, with_top=case["top"] is not None)
        assert scores == case["scores"]["data"], case["steps"]
        assert top == case["top"], case["steps"]


@needs_java
@pytest.mark.parametrize("compressed", ["false", "true"])
def test_the_instrumentation_test_passes_with_a_mapped_model_and_with_a_compressed_one(
    compressed: str, made: Path
) -> None:
    lines = golden_test(made, "edgepack.tiny_cats", "library", "library/src/main/assets", assets_compressed=compressed)

    assert lines == [
        "ok aChangedModelIsRefused",
        "ok goldenSamplesComeOutAsTheBundleSays",
        "ok rawSamplesBecomeTheGoldenInputsByteForByte",
    ]


@needs_java
def test_a_bitmap_is_answered_as_the_reference_does_and_a_changed_file_is_refused(
    made: Path, signed: Bundle, tmp_path: Path
) -> None:
    folders = []
    for number, name in enumerate([None, "model.tflite", "manifest.json"]):
        folder = tmp_path / str(number) / "tiny_cats"
        folder.mkdir(parents=True)
        for file in (made / "library/src/main/assets/tiny_cats").iterdir():
            data = bytearray(file.read_bytes())
            if file.name == name:
                data[len(data) // 2] ^= 1
            (folder / file.name).write_bytes(data)
        folders.append(str(folder.parent))

    pixels, expected = reference_answer(signed, "arm64")
    colors = pixels.astype(int) @ [1 << 16, 1 << 8, 1] - (1 << 24)  # opaque
    numbers = ",".join(map(str, colors.ravel().tolist()))

    done = run(made / "classes", "Load", *folders, colors=numbers, width=str(pixels.shape[1]))

    *answers, model, manifest = done.stdout.splitlines()
    assert (model, manifest) == ("model.tflite", "manifest.json"), done.stderr
    assert parsed(f" {';'.join(answers)}", with_top=True)[1] == expected


@needs_java
def test_signatures_of_both_kinds_are_checked(made: Path) -> None:
    arguments = []
    for key in (PrivateKey.generate("ed25519"), PrivateKey.generate("ecdsa-p256")):
        good = key.sign(b"edgepack signature v1\nmanifest").hex()
        for text in (good, good[:-2] + ("00" if good[-2:] != "00" else "01")):
            arguments += [key.algorithm, key.public.der.hex(), text]

    done = run(made / "classes", "edgepack.tiny_cats.Check", *arguments)

    expected = ["ed25519 valid", "ed25519 refused", "ecdsa-p256 valid", "ecdsa-p256 refused"]
    assert done.stdout.splitlines() == expected, done.stderr


@needs_java
def test_the_library_finds_the_model_of_an_ai_pack(made: Path) -> None:
    library, pack = "delivered/numbers_model", "delivered/numbers_model_pack"

    lines = golden_test(made, "edgepack.numbers_model", library, f"{pack}/src/main/assets")

    assert [line.split()[0] for line in lines] == ["ok"] * 3
    assert not (made / library / "src/main/assets").exists()


def test_an_ai_pack_is_one_of_plays(signed: Bundle, tmp_path: Path) -> None:
    make_appkit(signed, "android-ai-pack", tmp_path / "kit")

    pack = tmp_path / "kit" / "tiny_cats_pack"

    gradle = (pack / "build.gradle.kts").read_text(encoding="utf-8")
    assert 'id("com.android.ai-pack")' in gradle and 'packName = "tiny_cats_pack"' in gradle
    assert [path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file()] == [
        "build.gradle.kts",
        "src/main/assets/tiny_cats/model.tflite",
    ]


def test_the_same_bundle_gives_the_same_android_module(signed: Bundle, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        make_appkit(signed, "android", tmp_path / name)
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})

    assert found[0] == found[1]


def test_too_many_labels_are_refused_with_what_to_do(tmp_path: Path) -> None:
    bundle = image_bundle(tmp_path / "b.edgepack", labels=[str(number) for number in range(4001)])

    with pytest.raises(UnsupportedError, match="4001 labels don't fit into a Java class"):
        make_appkit(bundle, "android", tmp_path / "kit")
    assert not (tmp_path / "kit").exists()
