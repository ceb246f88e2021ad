"""A desktop JVM for the Java of the Android kits: compiled against stubs, run with LiteRT's real interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.appkit.android.code import calls_of, encoding
from edgepack.bundle.parts import Tensor

JAVAC, JAVA = shutil.which("javac"), shutil.which("java")
STUBS = Path(__file__).parent / "android_stubs"
_LITERT = "\n".join([sys.executable, str(STUBS / "litert_process.py")])


def compiled(sources: list[Path], out: Path) -> Path:
    """Class files of sources and stubs; every warning is an error."""
    assert JAVAC is not None
    stubs = sorted(STUBS.rglob("*.java"))
    options = ["--release", "11", "-encoding", "UTF-8", "-Xlint:all", "-Xlint:-options", "-Werror", "-implicit:none"]
    command = [JAVAC, *options, "-d", str(out), *map(str, [*stubs, *sources])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def run(classes: Path, name: str, *arguments: str, **properties: str) -> subprocess.CompletedProcess[str]:
    """A finished run of a class. `properties`: system properties, `_` for `.` in their names."""
    assert JAVA is not None
    given = {"litert": _LITERT, **{key.replace("_", "."): value for key, value in properties.items()}}
    flags = ["-XX:TieredStopAtLevel=1", "-Xshare:auto", *(f"-D{key}={value}" for key, value in given.items())]
    command = [JAVA, *flags, "-cp", str(classes), name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def vectors_class(package: str, pre: list[dict[str, Any]], post: list[dict[str, Any]]) -> str:
    """A program that prints what each case gives: base64 of the bytes, for answers also their places and labels."""
    bodies = [*map(_pre_body, pre), *map(_post_body, post)]
    methods = "".join(f"    static String case{number}() {{ {body} }}\n" for number, body in enumerate(bodies))
    calls = "".join(f"        System.out.println(case{number}());\n" for number in range(len(bodies)))
    return _PROGRAM.replace("PACKAGE", package).replace("METHODS", methods).replace("CALLS", calls)


def _pre_body(case: dict[str, Any]) -> str:
    shape = ", ".join(map(str, case["input"]["shape"]))
    kind = "image" if case["input"]["dtype"] == "uint8" else "reals"
    data = f'b64("{case["input"]["data"]}")' if kind == "image" else f'floats("{case["input"]["data"]}")'
    calls = "".join(f".{call}" for step in case["steps"] for call in calls_of(step))
    codes = ""
    if (grid := case.get("grid")) is not None:
        about = {"scale": [grid["scale"]], "zero_point": [grid["zero_point"]]}
        tensor = Tensor.model_validate({"name": "x", "shape": [1], "dtype": grid["dtype"], "quantization": about})
        codes = f' + " " + text(p.{encoding(tensor)})'
    return f"Preprocess p = Preprocess.{kind}({data}, {shape}){calls}; return text(p){codes};"


def _post_body(case: dict[str, Any]) -> str:
    data, dtype = case["input"]["data"], case["input"]["dtype"]
    length = case["input"]["shape"][-1]
    body = (
        f'float[] scores = floats("{data}");'
        if dtype == "float32"
        else f'int[] codes = codes("{data}", {_mask(dtype)}); '
    )
    top = None
    for step in case["steps"]:
        if step["op"] == "dequantize":
            body += f"float[] scores = Postprocess.dequantize(codes, {case['scale']!r}, {case['zero_point']});"
        elif step["op"] == "softmax":
            body += f"scores = Postprocess.softmax(scores, {length});"
        elif step["op"] == "sigmoid":
            body += "scores = Postprocess.sigmoid(scores);"
        else:
            top = step
    if top is None:
        return f"{body} return text(scores);"
    labels = ", ".join(f'"{label}"' for label in case["labels"] or ())
    best = f"Postprocess.best(scores, {top['k']}, {top['threshold']}, Arrays.asList({labels}))"
    return f'{body} return text(scores) + " " + answers({best});'


def _mask(dtype: str) -> str:
    return "0xFF" if dtype == "uint8" else "-1"


def parsed(line: str, *, with_top: bool) -> tuple[str, Any]:
    """Scores in base64, and the answers; a float32 is printed in full as a double."""
    scores, _, rest = line.partition(" ")
    if not with_top:
        return scores, None
    return scores, [list(_answer(one)) for one in rest.split(";") if one]


def _answer(text: str) -> Iterator[Any]:
    index, label, score = text.split(",")
    yield int(index)
    yield None if label == "null" else label
    yield float(score)


_PROGRAM = """package PACKAGE;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;

final class Vectors {
METHODS
    public static void main(String[] arguments) {
CALLS    }

    static byte[] b64(String text) { return Base64.getDecoder().decode(text); }

    static float[] floats(String text) {
        float[] out = new float[b64(text).length / 4];
        ByteBuffer.wrap(b64(text)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(out);
        return out;
    }

    static int[] codes(String text, int mask) {
        byte[] bytes = b64(text);
        int[] out = new int[bytes.length];
        for (int i = 0; i < out.length; i++) out[i] = bytes[i] & mask;
        return out;
    }

    static String text(byte[] bytes) { return Base64.getEncoder().encodeToString(bytes); }

    static String text(float[] values) {
        ByteBuffer buffer = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) buffer.putFloat(value);
        return text(buffer.array());
    }

    static String text(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return text(bytes);
    }

    static String text(Preprocess p) { return p.pixels() != null ? text(p.pixels()) : text(p.asFloats()); }

    static String answers(List<Answer> best) {
        StringBuilder out = new StringBuilder();
        for (Answer one : best) {
            out.append(one.getIndex()).append(',').append(one.getLabel()).append(',').append((double) one.getScore()).append(';');
        }
        return out.toString();
    }
}
"""
