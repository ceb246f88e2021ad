"""The kit for the web: its steps byte for byte in Node.js, its module in Node.js and in headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer_cases import answer_cases
from app_vectors import FOLDER, decoded, encoded
from kit_bundles import image_bundle, random_cases, reference_answer, values_bundle
from report.chromium import PROGRAM, browser
from web_runtime import NODE, node, node_modules, served

from edgepack.agent.preprocess import preprocess
from edgepack.appkit.make import make_appkit
from edgepack.bundle import Bundle
from edgepack.core.errors import SignatureError, UnsupportedError
from edgepack.runtimes.grid import quantize
from edgepack.signing.keys import PrivateKey

STEPS = Path(__file__).parents[2] / "edgepack" / "appkit" / "web" / "templates"
# Chooses a picture on the example page, and waits for what the page says of it.
USE_EXAMPLE = """(async () => {
    const canvas = new OffscreenCanvas(30, 20);
    canvas.getContext("2d").fillRect(3, 3, 9, 9);
    const chosen = new DataTransfer();
    chosen.items.add(new File([await canvas.convertToBlob()], "a.png", { type: "image/png" }));
    const input = document.getElementById("file");
    const answer = document.getElementById("answer");
    while (answer.textContent === "Choose an image.") {
        input.files = chosen.files;
        input.dispatchEvent(new Event("change"));
        await new Promise((done) => setTimeout(done, 100));
    }
    return answer.textContent;
})()"""
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate("ed25519")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Bundle:
    return image_bundle(tmp_path_factory.mktemp("bundle") / "b.edgepack", signed_by=[key])


@pytest.fixture
def modules() -> Path:
    found = node_modules()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def written(bundle: Bundle, folder: Path, modules: Path | None = None, **options: Any) -> Path:
    make_appkit(bundle, "web", folder, **options)
    if modules is not None:
        (folder / "node_modules").symlink_to(modules)
    return folder


def ported(cases: dict[str, Any], folder: Path) -> Any:
    """What the steps in JavaScript give."""
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    for name in ("preprocess.js", "postprocess.js"):
        (folder / name).write_bytes((STEPS / name).read_bytes())
    done = node(Path(__file__).parent / "vectors.mjs", folder, given=json.dumps(cases))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_javascript_gives_the_bytes_of_the_python_reference(tmp_path: Path) -> None:
    pre = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8")) + random_cases(60)
    post = answer_cases()

    answers = ported({"pre": pre, "post": post}, tmp_path)

    for case, answer in zip(pre, answers["pre"], strict=True):
        assert answer["output"] == case["output"]["data"], case.get("name", case["steps"])
        assert answer["shape"] == case["output"]["shape"]
        assert answer["codes"] == (case["codes"]["data"] if "codes" in case else None), case["name"]
    for case, answer in zip(post, answers["post"], strict=True):
        assert answer["scores"] == case["scores"]["data"], case["steps"]
        assert answer["top"] == case["top"], case["steps"]


@needs_node
@pytest.mark.parametrize("make", [image_bundle, pytest.param(values_bundle, marks=pytest.mark.slow)])
def test_the_kits_own_test_passes_in_node(make: Any, modules: Path, tmp_path: Path) -> None:
    folder = written(make(tmp_path / "b.edgepack"), tmp_path / "kit", modules)

    done = node("--test", cwd=folder)

    assert done.returncode == 0, done.stdout
    assert "# pass 2" in done.stdout


@needs_node
def test_a_prediction_in_node_is_the_reference_implementations(signed: Bundle, modules: Path, tmp_path: Path) -> None:
    raw, expected = reference_answer(signed, "x86_64")
    folder = written(signed, tmp_path / "kit", modules)
    sample = json.dumps(encoded(raw))
    (folder / "try.js").write_text(
        'import { load } from "tiny-cats";\n'
        f"const sample = {sample};\n"
        'const data = Uint8Array.from(Buffer.from(sample.data, "base64"));\n'
        "const found = await (await load()).predict({ data, shape: sample.shape });\n"
        "console.log(JSON.stringify(found.top.map((one) => [one.index, one.label, one.score])), found.label);\n",
        encoding="utf-8",
    )

    done = node("try.js", cwd=folder)

    assert done.returncode == 0, done.stderr
    top, _, label = done.stdout.strip().partition("]] ")
    assert json.loads(top + "]]") == expected
    assert label == expected[0][1]


@needs_node
@pytest.mark.parametrize("algorithm", [pytest.param("ed25519", marks=pytest.mark.slow), "ecdsa-p256"])
def test_a_module_with_a_key_demands_its_signature(algorithm: Any, modules: Path, tmp_path: Path) -> None:
    own, other = PrivateKey.generate(algorithm), PrivateKey.generate("ed25519")
    bundle = image_bundle(tmp_path / "b.edgepack", signed_by=[own, other])
    folder = written(bundle, tmp_path / "kit", modules, trusted_keys=[own.public])

    whole = node("--test", cwd=folder)
    signatures = json.loads((folder / "assets" / "signatures.json").read_bytes())
    signatures["signatures"] = [one for one in signatures["signatures"] if one["key_id"] == other.key_id]
    (folder / "assets" / "signatures.json").write_text(json.dumps(signatures), encoding="utf-8")
    unsigned = node("-e", 'import("./node.js").then((m) => m.load())', cwd=folder)

    assert whole.returncode == 0, whole.stdout
    assert unsigned.returncode != 0
    assert "no valid signature of a trusted key" in unsigned.stderr


def test_a_bundle_that_the_key_did_not_sign_gets_no_module(signed: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="not by a key given with --key"):
        written(signed, tmp_path / "kit", trusted_keys=[PrivateKey.generate().public])


def test_the_same_bundle_gives_the_same_module(signed: Bundle, tmp_path: Path) -> None:
    folders = [written(signed, tmp_path / name) for name in ("a", "b")]

    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == second


def test_a_variant_that_no_browser_runs_is_refused_with_those_that_one_does(signed: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"for onnx models.*arm64 \(tflite\).*--variant x86_64"):
        written(signed, tmp_path / "kit", target="arm64")


@needs_node
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
def test_chromium_runs_the_golden_samples_and_refuses_a_changed_model(
    signed: Bundle, key: PrivateKey, modules: Path, tmp_path: Path
) -> None:
    folder = written(signed, tmp_path / "kit", modules, trusted_keys=[key.public])
    sample = encoded(np.random.default_rng(1).integers(0, 256, (21, 17, 4)).astype(np.uint8))
    rgb = np.ascontiguousarray(decoded(sample)[:, :, :3])
    predict = """(async () => {
        const { load } = await import("./index.js");
        const data = Uint8ClampedArray.from(atob(%s), (c) => c.charCodeAt(0));
        for (let i = 3; i < data.length; i += 4) data[i] = 255;
        const model = await load();
        const image = new ImageData(data, 17, 21);
        return [[...model.encode(image)], (await model.predict(image)).top.length];
    })()"""

    with served(folder) as url, browser() as page:
        page.visit(f"{url}golden.html")
        result = page.evaluate(
            "new Promise((done) => { const look = () => { const text = document.getElementById('result')?.textContent ?? 'running';"
            " text === 'running' ? setTimeout(look, 20) : done(text); }; look(); })"
        )
        encoded_here, answers = page.evaluate(predict % json.dumps(sample["data"]))
        page.visit(f"{url}example.html")
        shown = page.evaluate(USE_EXAMPLE)
        model = folder / "assets" / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"x")
        refused = page.evaluate(
            "import('./index.js').then((m) => m.load()).catch((error) => `${error.name}: ${error.message}`)"
        )

    assert result.startswith("PASS: 3 samples, outputs differ by at most 0 steps")
    assert "3 of 3 raw samples become the golden input" in result
    grid = signed.variant("x86_64").inputs[0].as_signature().quantization
    assert grid is not None
    assert encoded_here == quantize(preprocess([rgb], signed.manifest.preprocess)[0], grid).ravel().tolist()
    assert answers > 0
    assert [line.rpartition(": ")[0] in signed.manifest.labels for line in shown.splitlines()] == [True] * 3
    assert refused.startswith("VerificationError: model.onnx: SHA-256 is")


def test_every_text_of_a_bundle_is_escaped(signed: Bundle, tmp_path: Path) -> None:
    folder = written(signed, tmp_path / "kit")

    info = (folder / "info.js").read_text(encoding="utf-8")

    assert r'"dog \u003cb>"' in info and r"back\\slash" in info
    assert "<b>" not in (folder / "example.html").read_text(encoding="utf-8")
