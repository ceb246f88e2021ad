"""A signed bundle as somebody would change it who knows the format: every checksum that needs no key is made right again."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgepack.bundle import read_bundle
from edgepack.bundle.layout import Entry, layout_of
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError
from edgepack.signing.trust import Trust, trusted_bundle

Files = Mapping[str, bytes]


def files_of(path: Path) -> dict[str, bytes]:
    """Every entry, manifest and signatures included."""
    bundle = read_bundle(path)
    return {name: bundle.read(name) for name in bundle.names}


def archive_of(files: Files) -> bytes:
    """The archive around some entries, with right CRC-32s and headers."""
    entries = [Entry(name=name, size_bytes=len(data), crc32=zlib.crc32(data)) for name, data in files.items()]
    layout = layout_of(entries)
    return b"".join(part for place in layout.placed for part in (place.header, files[place.entry.name])) + layout.tail


def with_right_digests(files: Files) -> dict[str, bytes]:
    """The manifest made to fit the files: digests, sizes and the list; the signatures stay."""
    manifest = json.loads(files["manifest.json"])
    others = sorted(set(files) - {"manifest.json", "signatures.json"})
    listed = [{"path": n, "sha256": sha256_bytes(files[n]), "size_bytes": len(files[n])} for n in others]
    manifest["files"] = listed
    by_path = {one["path"]: one for one in listed}
    for variant in manifest["variants"]:
        model = variant["model"]
        for part in (model, *model["companions"]):
            part.update({k: v for k, v in by_path.get(part["path"], {}).items() if k != "path"})
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    return {**files, "manifest.json": f"{text}\n".encode()}


def refusal(path: Path, trust: Trust) -> BundleError | None:
    """Why a bundle is refused; None when it is taken."""
    try:
        trusted_bundle(path, trust=trust)
    except BundleError as exc:
        return exc
    return None


def random_changes(data: bytes, files: Files, count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """What was done, and the changed archive. All kinds in turn; positions and values at random."""
    generator = random.Random(seed)
    names = [name for name, content in files.items() if content]
    for number in range(count):
        kind = ("byte", "removed", "inserted", "swapped", "block", "content", "digests")[number % 7]
        place = generator.randrange(len(data))
        if kind == "byte":
            changed = data[:place] + bytes([data[place] ^ generator.randrange(1, 256)]) + data[place + 1 :]
        elif kind == "removed":
            changed = data[:place] + data[place + generator.randrange(1, 17) :]
        elif kind == "inserted":
            changed = data[:place] + generator.randbytes(generator.randrange(1, 17)) + data[place:]
        elif kind == "swapped":
            other = generator.randrange(len(data) - 1)
            changed = bytearray(data)
            changed[place], changed[other] = changed[other], changed[place]
            changed = bytes(changed)
        elif kind == "block":
            size, other = generator.randrange(1, 4097), generator.randrange(len(data))
            changed = (data[:place] + data[other : other + size] + data[place + size :])[: len(data)]
        else:
            name = generator.choice(names)
            content = bytearray(files[name])
            content[generator.randrange(len(content))] ^= generator.randrange(1, 256)
            other_files = {**files, name: bytes(content)}
            if kind == "digests" and name not in ("manifest.json", "signatures.json"):
                other_files = with_right_digests(other_files)
            changed = archive_of(other_files)
        if changed != data:
            yield f"{kind} {number}", changed
