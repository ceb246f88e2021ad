"""Bundles that someone made to do harm: each is refused with a clear message, in bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forgery import Archive, Forged, contents_of, rebuilt
from small_bundle import MODEL, content, files, variant

from edgepack.bundle import read_bundle, with_signatures, write_bundle
from edgepack.bundle.golden import from_npy, read_golden, to_npy
from edgepack.bundle.layout import ENTRIES_MAX, Entry, layout_of
from edgepack.bundle.manifest import DEPTH_MAX, MANIFEST_BYTES_MAX, Manifest
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError
from edgepack.core.text import printable

MEMORY_BYTES = 700 << 20  # of the whole address space: Python and its libraries take 150 MB of it
SECONDS = 20  # on a busy machine; each takes less than two alone

# Opens a bundle with little memory; what it says and how much it took is told.
LIMITED = """
import resource, sys
from pathlib import Path
from edgepack.bundle import read_bundle
from edgepack.core.errors import BundleError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
try:
    bundle = read_bundle(Path(sys.argv[1]))
    bundle.verify()
    print("accepted")
except BundleError as exc:
    print("refused:", str(exc)[-600:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def with_little_memory(path: Path, limit_bytes: int = MEMORY_BYTES) -> str:
    """What reading and verifying a bundle says in a process that may not take much."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit_bytes)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def entries_of(path: Path) -> dict[bytes, bytes]:
    return {name.encode(): data for name, data in contents_of(path).items()}


def forged(path: Path, changes: Mapping[bytes, Forged] | None = None, **archive: Any) -> bytes:
    """The bundle written once more by the attacker's own writer, with some entries replaced or added."""
    given = {name: Forged(name, data) for name, data in entries_of(path).items()}
    return bytes(Archive([*{**given, **(changes or {})}.values()], **archive))


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(BundleError) as caught:
        read_bundle(path).verify()
    assert time.monotonic() - started < SECONDS
    assert len(str(caught.value)) < 20_000
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_attackers_writer_writes_a_good_bundle_where_nothing_is_forged(bundle_path: Path) -> None:
    assert forged(bundle_path) == bundle_path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        b"../../etc/cron.d/x", b"model/../../x", b"/etc/passwd", b"//server/share/x", b"C:\\windows\\x", b"C:x", b"..\\x", b"model\\x",
        b"a/./b", b"a//b", b"x/", b"", b"a\0b", b"a\nb", b"\x1b[2J", "é".encode(), "ｅ".encode(), b"nul", b"CON.txt", b"a.", b"a b", b"~/x", b"-rf",
        b"x" * 201, b"/".join([b"a"] * 17), b"MANIFEST.JSON", b"Labels.txt", b"labels.txt/x",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_clash_are_refused(bundle_path: Path, tmp_path: Path, name: bytes) -> None:
    said = refusal(tmp_path / "forged", forged(bundle_path, {b"evil": Forged(name, b"x")}))

    assert "\x1b" not in said
    assert not [file for file in tmp_path.rglob("*") if file.name not in ("forged", bundle_path.name)]


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": 0o120777 << 16},  # a symbolic link
        {"attributes": 0o040755 << 16},  # a folder
        {"attributes": 0o104755 << 16},  # set user id
        {"method": 8},  # deflate: what a bomb needs
        {"method": 99},
        {"flags": 1},  # encrypted
        {"flags": 8},  # sizes follow the data
        {"size": 2**32 - 1},  # ZIP64's mark
        {"size": 10**9},
        {"size": 0},
        {"crc32": 1},
        {"offset": 0},  # where the manifest lies: overlapping
        {"offset": 2**32 - 1},
        {"comment": b"more"},
        {"central_extra": struct.pack("<HHQ", 1, 8, 2**40)},  # ZIP64's sizes
        {"local_name": b"labels.tx_"},
    ],
    ids=lambda change: "-".join(f"{key}={value}"[:24] for key, value in change.items()),
)
def test_an_entry_with_a_lying_field_is_refused(bundle_path: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    entry = Forged(b"labels.txt", files()["labels.txt"], **change)  # type: ignore[arg-type]

    refusal(tmp_path / "forged", forged(bundle_path, {b"labels.txt": entry}))


def test_the_same_name_twice_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    for name in (b"labels.txt", b"manifest.json", b"signatures.json"):
        twice = {b"first": Forged(name, b"{}"), b"second": Forged(name, b"{}")}

        assert "same name" in refusal(tmp_path / "forged", forged(bundle_path, twice))


def test_two_entries_over_the_same_bytes_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    """The quine bomb: many entries, one body."""
    body = Forged(b"a", b"x" * 4096)
    more = {b"a": body} | {
        f"b{index}".encode(): Forged(f"b{index}".encode(), b"", size=4096, crc32=body.fields()[5], offset=0)
        for index in range(200)
    }

    refusal(tmp_path / "forged", forged(bundle_path, more))


@pytest.mark.parametrize(
    "archive",
    [
        {"count": 0},
        {"count": 1},
        {"count": ENTRIES_MAX + 1},
        {"count": 0xFFFF},
        {"directory_size": 0},
        {"directory_size": 2**32 - 1},
        {"directory_offset": 0},
        {"directory_offset": 2**32 - 1},
        {"comment": b"x" * 65535},
    ],
    ids=str,
)
def test_a_lying_end_record_is_refused(bundle_path: Path, tmp_path: Path, archive: dict[str, Any]) -> None:
    refusal(tmp_path / "forged", forged(bundle_path, **archive))


def test_entries_out_of_order_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    given = [Forged(name, data) for name, data in entries_of(bundle_path).items()]
    signatures = Forged(b"signatures.json", b"{}")

    for order in ([*given[1:], given[0]], [given[0], *reversed(given[1:])], [given[0], signatures, *given[1:]]):
        refusal(tmp_path / "forged", bytes(Archive(order)))


def test_too_many_entries_are_refused_and_the_most_that_are_allowed_take_little(tmp_path: Path) -> None:
    names = [b"/".join([b"%012d" % index] * 15) for index in range(ENTRIES_MAX + 1)]
    many = Archive([Forged(name) for name in names])
    assert "more than a bundle can have" in refusal(tmp_path / "forged", bytes(many))

    many.entries = many.entries[:-1]
    (tmp_path / "most").write_bytes(bytes(many))
    assert "refused: " in with_little_memory(tmp_path / "most")


def test_sizes_that_overflow_four_bytes_are_refused(tmp_path: Path) -> None:
    half = 2**31
    entries = [Forged(b"manifest.json", b"{}"), *(Forged(b"m%d" % index, size=half) for index in range(3))]

    assert "4 GiB" in refusal(tmp_path / "forged", bytes(Archive(entries)))


def sparse(path: Path, name: str, size_bytes: int) -> Path:
    """A huge file that takes no room on the disk, with one entry of zeros, perfectly laid out but for its checksum."""
    layout = layout_of([Entry(name=name, size_bytes=size_bytes, crc32=0)])
    with path.open("wb") as file:
        file.write(layout.placed[0].header)
        file.seek(layout.tail_offset)
        file.write(layout.tail)
    return path


def test_a_manifest_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = sparse(tmp_path / "forged", "manifest.json", 4_000_000_000)

    said = with_little_memory(path)

    assert "manifest.json: 4,000,000,000 bytes are more than" in said


def test_a_directory_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "forged"
    with path.open("wb") as file:
        file.seek(4_000_000_000)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, ENTRIES_MAX, ENTRIES_MAX, 4_000_000_000, 0, 0))

    assert "more than a bundle can have" in with_little_memory(path)


def test_a_model_larger_than_the_memory_is_verified(tmp_path: Path) -> None:
    size_bytes, limit_bytes = 400 << 20, 350 << 20
    digest, crc32, zeros = hashlib.sha256(), 0, bytes(1 << 20)
    for _ in range(size_bytes >> 20):
        digest.update(zeros)
        crc32 = zlib.crc32(zeros, crc32)
    entry = {**variant()["model"], "size_bytes": size_bytes, "sha256": digest.hexdigest()}
    listed = {"path": entry["path"], "size_bytes": size_bytes, "sha256": entry["sha256"]}
    data = Manifest.model_validate(content(model=entry, golden=None, files=[listed])).to_bytes()
    layout = layout_of(
        [
            Entry(name="manifest.json", size_bytes=len(data), crc32=zlib.crc32(data)),
            Entry(name=entry["path"], size_bytes=size_bytes, crc32=crc32),
        ]
    )
    with (tmp_path / "large").open("wb") as file:
        file.write(layout.placed[0].header + data + layout.placed[1].header)
        file.seek(layout.tail_offset)
        file.write(layout.tail)

    assert "accepted" in with_little_memory(tmp_path / "large", limit_bytes)


FULL = MANIFEST_BYTES_MAX - 100
HEAVY: dict[str, Callable[[], bytes]] = {
    "nested": lambda: b"[" * FULL,
    "empty lists": lambda: b"[" + b"[]," * (FULL // 3) + b"[]]",
    "small objects": lambda: b"[" + b'{"a":1},' * (FULL // 8) + b"{}]",
    "unknown keys": lambda: b"{" + b",".join(b'"%06d":0' % index for index in range(FULL // 11)) + b"}",
    "the same key": lambda: b"{" + b'"a":0,' * (FULL // 6) + b'"a":0}',
    "one text": lambda: json.dumps({"name": "a" * (FULL - 20)}).encode(),
    "wrong variants": lambda: json.dumps({**content(), "variants": [{}] * (FULL // 4 - 200)}).encode(),
    "long numbers": lambda: b"[" + (b"9" * 4000 + b",") * (FULL // 4001) + b"1]",
    "too long a number": lambda: b'{"a": ' + b"9" * (FULL - 20) + b"}",
    "many files": lambda: json.dumps({**content(), "files": [{"path": "a"}] * (FULL // 20)}).encode(),
    "lineage": lambda: json.dumps(content(lineage={"a": [[0]] * (FULL // 10)})).encode(),
    "deep lineage": lambda: json.dumps(content(lineage={"a": json.loads("[" * DEPTH_MAX + "]" * DEPTH_MAX)})).encode(),
    "not UTF-8": lambda: b"\xff" * FULL,
    "spaces": lambda: b" " * FULL,
}


@pytest.mark.parametrize("kind", HEAVY)
def test_a_heavy_manifest_is_refused_in_little_memory(bundle_path: Path, tmp_path: Path, kind: str) -> None:
    contents = {**contents_of(bundle_path), "manifest.json": HEAVY[kind]()}
    (tmp_path / "forged").write_bytes(rebuilt(contents))

    said = with_little_memory(tmp_path / "forged")

    assert ("refused: " in said and "forged: " in said) or "manifest.json" in said
    assert "accepted" not in said


def test_a_manifest_over_the_limit_is_neither_written_nor_read(bundle_path: Path, tmp_path: Path) -> None:
    long = Manifest.model_validate(content(description="a" * MANIFEST_BYTES_MAX))
    contents = {**contents_of(bundle_path), "manifest.json": b" " * (MANIFEST_BYTES_MAX + 1)}

    with pytest.raises(BundleError, match=r"manifest\.json: .* bytes are more than the 4,194,304"):
        write_bundle(tmp_path / "x", manifest=long, files=files())
    assert "more than the 4,194,304" in refusal(tmp_path / "forged", rebuilt(contents))


def test_long_signatures_are_refused_unread(bundle_path: Path, tmp_path: Path) -> None:
    contents = {**contents_of(bundle_path), "signatures.json": bytes((1 << 20) + 1)}

    assert "signatures.json: 1,048,577 bytes" in refusal(tmp_path / "forged", rebuilt(contents))


def lying(bundle_path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The bundle with a manifest that says something else."""
    contents = contents_of(bundle_path)
    manifest = json.loads(contents["manifest.json"])
    change(manifest)
    return rebuilt({**contents, "manifest.json": json.dumps(manifest).encode()})


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the model is the manifest": lambda m: m["variants"][0]["model"].update(path="manifest.json"),
    "the model is elsewhere": lambda m: m["variants"][0]["model"].update(path="../../etc/passwd"),
    "another model's digest": lambda m: m["variants"][0]["model"].update(sha256="0" * 64),
    "another model's size": lambda m: m["variants"][0]["model"].update(size_bytes=10**12),
    "a companion that is not there": lambda m: m["variants"][0]["model"].update(
        companions=[{"path": "x", "sha256": "0" * 64, "size_bytes": 0}]
    ),
    "golden samples that are not there": lambda m: m["variants"][0]["golden"].update(inputs=["golden/x.npy"]),
    "raw samples that are not there": lambda m: m["variants"][0]["golden"].update(raw="golden/raw.npy", raw_samples=1),
    "a file less": lambda m: m["files"].pop(),
    "a file more": lambda m: m["files"].append({"path": "x", "sha256": "0" * 64, "size_bytes": 0}),
    "a file twice": lambda m: m["files"].append(m["files"][-1]),
    "itself": lambda m: m["files"].insert(0, {"path": "manifest.json", "sha256": "0" * 64, "size_bytes": 0}),
    "signatures": lambda m: m["files"].append({"path": "signatures.json", "sha256": "0" * 64, "size_bytes": 0}),
    "another order": lambda m: m["files"].reverse(),
    "another size": lambda m: m["files"][0].update(size_bytes=1),
    "another digest": lambda m: m["files"][1].update(sha256="0" * 64),
    "no variant": lambda m: m.update(variants=[]),
    "a target that leads elsewhere": lambda m: m["variants"][0].update(target="../x"),
    "a huge shape": lambda m: m["variants"][0]["inputs"][0].update(shape=[2**31]),
    "checks that passed": lambda m: m["variants"][0].update(checks_passed=False),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_manifest_is_refused(bundle_path: Path, tmp_path: Path, lie: str) -> None:
    refusal(tmp_path / "forged", lying(bundle_path, LIES[lie]))


def test_a_key_with_control_characters_is_told_without_them(bundle_path: Path, tmp_path: Path) -> None:
    said = refusal(tmp_path / "forged", lying(bundle_path, lambda m: m.update({"\x1b[2J\x9b31mkey": 1})))

    assert "\x1b" not in said and "\x9b" not in said
    assert "key: Extra inputs are not permitted" in said
    assert printable("a\tb\u202ec\n") == "a�b�c\n"


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    "data",
    [
        npy(b"{'descr': '|i1', 'fortran_order': False, 'shape': (4294967295, 4294967295), }\n"),
        npy(b"{'descr': '|i1', 'fortran_order': False, 'shape': (0, 2147483647, 2147483647, 2147483647), }\n"),
        npy(b"{'descr': '|i1', 'fortran_order': False, 'shape': (" + b"1, " * 21000 + b"1), }\n", b"x"),
        npy(b"{'descr': '|i1', 'fortran_order': False, 'shape': (" + b"9" * 60000 + b",), }\n"),
        npy(b"{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }" + b" " * 65000 + b"\n", b""),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n"),
        npy(b"{'descr': '<f16', 'fortran_order': False, 'shape': (1,), }\n", bytes(16)),
        npy(b"__import__('os').system('true')\n"),
        npy(b"[" * 60000),
        b"\x93NUMPY\x01\x00\xff\xff",
    ],
    ids=range(10),
)
def test_a_hostile_array_is_refused(data: bytes) -> None:
    started = time.monotonic()

    with pytest.raises(BundleError):
        from_npy(data)

    assert time.monotonic() - started < 2


def test_golden_samples_of_another_size_than_the_manifest_says_are_refused(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = Manifest.model_validate(content())
    inside = {**files(), "golden/input_0.npy": to_npy(np.zeros((3, 2), np.int8))}
    path = write_bundle(tmp_path / "x", manifest=manifest, files=inside)

    with pytest.raises(BundleError, match=r"of shape \(3, 2\)"):
        read_golden(read_bundle(path))


@pytest.fixture
def signed_pair(tmp_path: Path) -> Path:
    """A bundle with every part that the format has: two variants, raw samples, signatures."""
    golden = {**variant()["golden"], "raw": "golden/raw.npy", "raw_samples": 1}
    variants = [variant(golden=golden), variant(target="intel", golden=golden)]
    inside = {**files(), "golden/raw.npy": to_npy(np.zeros((1, 2, 2), np.uint8)), "intel/reports/x.json": b"{}"}
    path = write_bundle(tmp_path / "pair", manifest=Manifest.model_validate(content(variants=variants)), files=inside)
    return with_signatures(read_bundle(path), b'{"signatures": []}\n', path)


def test_every_flipped_byte_of_a_signed_bundle_for_two_targets_is_refused(signed_pair: Path, tmp_path: Path) -> None:
    whole = signed_pair.read_bytes()

    accepted = []
    for position in range(0, len(whole), 9):  # every ninth; test_archive.py flips every byte of a smaller one
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read_bundle(tmp_path / "damaged").verify()
            accepted.append(position)
        except BundleError:
            pass

    assert accepted == []


def test_a_file_that_shrinks_while_it_is_read_is_refused(signed_pair: Path) -> None:
    bundle = read_bundle(signed_pair)
    os.truncate(signed_pair, 1000)

    with pytest.raises(BundleError):
        bundle.read("model/model.tflite")
    with pytest.raises(BundleError):
        bundle.verify()


def test_a_damaged_entry_is_not_written_anywhere(bundle_path: Path, tmp_path: Path) -> None:
    contents = {**contents_of(bundle_path), "model/model.tflite": bytes(96)}
    (tmp_path / "forged").write_bytes(rebuilt(contents))
    bundle = read_bundle(tmp_path / "forged")

    with pytest.raises(BundleError):
        bundle.model_path(tmp_path / "cache")
    with pytest.raises(BundleError):
        bundle.extract(tmp_path / "out")

    assert not any((tmp_path / "cache").rglob("*.tflite")) and not (tmp_path / "out").exists()
    assert bundle.variant().model.sha256 == sha256_bytes(MODEL)
