"""Writes edgepack/codec/c/epk_history.h from a bundle: what the coder `bytes` may take as known. `python … BUNDLE.edgepack`.

It is part of the format: once bundles are in the field it must never change (another history would be another flag).
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

from edgepack.codec.segments import segments_of

TARGET = Path(__file__).resolve().parents[3] / "edgepack" / "codec" / "c" / "epk_history.h"
# The most likely last: of two equal beginnings the later one is found.
ENTRIES = ("reports/tensors.json", "reports/parity.json", "reports/verify.md", "reports/verify.json", "recipe.toml", "provenance.json",
           "bom.json", "postprocess.py", "preprocess.py", "README.md", "manifest.json", "model/model.tflite")  # fmt: skip
DIGESTS = re.compile(rb"[0-9a-f]{40,64}")
_HEAD = """/* What a bundle's texts and a .tflite's tables are like: known to the coder `bytes` before it begins (docs/codec.md).
 * Written by tests/codec/vectors/make_history.py; part of the format, so it never changes. */
#ifndef EPK_HISTORY_H
#define EPK_HISTORY_H

static const unsigned char EPK_HISTORY[] = {
"""


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as bundle:
        history = b"".join(_text(bundle.read(name), name) for name in ENTRIES if name in bundle.namelist())
    rows = (",".join(map(str, history[at : at + 40])) for at in range(0, len(history), 40))
    TARGET.write_text(_HEAD + "".join(f"{row},\n" for row in rows) + "};\n\n#endif\n", encoding="utf-8")


def _text(data: bytes, name: str) -> bytes:
    """Without digests, which never come again, and of a model only what lies between its tensors."""
    if not name.endswith(".tflite"):
        return DIGESTS.sub(b"", data)
    found, at = b"", 0
    for segment in segments_of(data, name):
        found += data[at : at + segment.size_bytes] if segment.kind == "bytes" else b""
        at += segment.size_bytes
    return found


if __name__ == "__main__":
    main()
