"""No byte and no file of a signed bundle can be changed, added, removed or swapped: every one is tried on a small bundle, and 10,000 changes on a real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from mutations import Files, archive_of, files_of, random_changes, refusal, with_right_digests

from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import SignatureError
from edgepack.signing.bundles import sign_bundle
from edgepack.signing.keys import PrivateKey
from edgepack.signing.signatures import sign
from edgepack.signing.trust import Trust

KEY, ATTACKER = PrivateKey.generate(), PrivateKey.generate()
TRUST = Trust.only({"ours": KEY.public})
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with two files of one size, signed by two keys of both kinds."""
    from small_bundle import content, files

    from edgepack.bundle import write_bundle
    from edgepack.bundle.manifest import Manifest

    path = tmp_path_factory.mktemp("signed") / "small.edgepack"
    inside = {**files(), "a.txt": b"one file", "b.txt": b"another!"}
    write_bundle(path, manifest=Manifest.model_validate(content()), files=inside)
    return sign_bundle(path, [KEY, PrivateKey.generate("ecdsa-p256")], path)


@pytest.fixture
def taken(signed: Path, tmp_path: Path) -> Callable[[Iterable[tuple[object, bytes]]], list[object]]:
    """Which of some archives are not refused: there must be none."""
    assert refusal(signed, TRUST) is None
    scratch = tmp_path / "changed.edgepack"

    def tried(archives: Iterable[tuple[object, bytes]]) -> list[object]:
        found = []
        with scratch.open("wb", buffering=0) as file:
            for what, data in archives:
                file.seek(0)  # ext4 waits for the disk when a file that was emptied is closed
                file.write(data)
                file.truncate()
                if refusal(scratch, TRUST) is None:
                    found.append(what)
        return found

    return tried


Taken = Callable[[Iterable[tuple[object, bytes]]], list[object]]


def flipped(data: bytes, masks: Iterable[int]) -> Iterable[tuple[object, bytes]]:
    masks = tuple(masks)
    for place in range(len(data)):
        for mask in masks:
            yield (place, mask), data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


# One change of each byte takes seconds and is tried with every `make test`; all of them take minutes (slow).
EVERY_BIT = pytest.param((1, 2, 4, 8, 16, 32, 64, 128, 255), marks=pytest.mark.slow, id="every bit")


@pytest.mark.parametrize("masks", [pytest.param((0x80,), id="one value"), EVERY_BIT])
def test_every_changed_byte_is_refused(signed: Path, taken: Taken, masks: tuple[int, ...]) -> None:
    assert taken(flipped(signed.read_bytes(), masks)) == []


@pytest.mark.slow
def test_every_removed_byte_is_refused(signed: Path, taken: Taken) -> None:
    data = signed.read_bytes()

    assert taken((place, data[:place] + data[place + 1 :]) for place in range(len(data))) == []


@pytest.mark.slow
def test_every_part_of_a_bundle_is_refused(signed: Path, taken: Taken) -> None:
    data = signed.read_bytes()

    assert taken((place, data[:place]) for place in range(len(data))) == []
    assert taken((place, data[place:]) for place in range(1, len(data))) == []


@pytest.mark.slow
@pytest.mark.parametrize("values", [(b"\0", b" ", b"P", b"\xff")])
def test_every_inserted_byte_is_refused(signed: Path, taken: Taken, values: tuple[bytes, ...]) -> None:
    data = signed.read_bytes()

    for one in values:
        assert taken((place, data[:place] + one + data[place:]) for place in range(len(data) + 1)) == []


@pytest.mark.parametrize("masks", [pytest.param((0x01,), id="one value"), EVERY_BIT])
def test_every_changed_byte_of_every_file_is_refused_with_all_checksums_made_right(
    signed: Path, taken: Taken, masks: tuple[int, ...]
) -> None:
    """CRC-32s and headers fit, and for files that the manifest lists also its digests: only the signature is left to say no."""
    files = files_of(signed)

    for name, content in files.items():
        plain = ((what, {**files, name: changed}) for what, changed in flipped(content, masks))
        assert taken((what, archive_of(other)) for what, other in plain) == [], name
        if name not in ("manifest.json", "signatures.json"):
            fitting = ((what, with_right_digests({**files, name: each})) for what, each in flipped(content, masks))
            assert taken((what, archive_of(other)) for what, other in fitting) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("values", [(b"\n", b" ", b"0")])
def test_every_removed_or_inserted_byte_of_manifest_and_signatures_is_refused(
    signed: Path, taken: Taken, values: tuple[bytes, ...]
) -> None:
    files = files_of(signed)
    for name in ("manifest.json", "signatures.json"):
        content = files[name]
        removed = ((i, content[:i] + content[i + 1 :]) for i in range(len(content)))
        inserted = (
            (i, content[:i] + one + content[i:]) for i in range(len(content) + 1) for one in (b" ", b"\n", b"0")
        )
        for changes in (removed, inserted):
            assert taken((what, archive_of({**files, name: changed})) for what, changed in changes) == [], name


def variations(files: Files) -> Iterable[tuple[str, Files]]:
    """Files that came, went, or changed their places and names."""
    listed = [name for name in files if name not in ("manifest.json", "signatures.json")]
    for name in files:
        yield f"{name} removed", {one: data for one, data in files.items() if one != name}
    for name in listed:
        yield f"{name} renamed", {f"{one}x" if one == name else one: data for one, data in files.items()}
        yield f"{name} emptied", {**files, name: b"" if files[name] else b"x"}
        for other in listed:
            if name < other and files[name] != files[other]:
                yield f"{name} and {other} swapped", {**files, name: files[other], other: files[name]}
    for name in ("new.txt", "golden/new.npy", "signatures.txt", "manifest.txt"):
        yield f"{name} added", {**files, name: b"new"}


def test_files_that_are_added_removed_renamed_or_swapped_are_refused(signed: Path, taken: Taken) -> None:
    files = files_of(signed)

    plain = [(what, archive_of(other)) for what, other in variations(files)]
    fitting = [
        (what, archive_of(with_right_digests(other))) for what, other in variations(files) if "manifest.json" in other
    ]
    assert len(plain) > 40
    assert taken(plain) == []
    assert taken(fitting) == []


def test_entries_in_another_order_or_twice_are_refused(signed: Path, taken: Taken) -> None:
    from edgepack.bundle import read_bundle

    layout, data = read_bundle(signed).layout, signed.read_bytes()
    parts = [data[place.header_offset : place.data_offset + place.entry.size_bytes] for place in layout.placed]
    orders = [[*range(i), i + 1, i, *range(i + 2, len(parts))] for i in range(len(parts) - 1)]
    orders += [[*range(len(parts)), i] for i in range(len(parts))]

    assert taken((order, b"".join(parts[i] for i in order) + layout.tail) for order in orders) == []


def test_a_manifest_that_says_something_else_needs_another_signature(signed: Path, tmp_path: Path) -> None:
    """Each text and number of the manifest, changed so that the manifest stays valid: the signature is what refuses it."""
    files = files_of(signed)
    manifest = json.loads(files["manifest.json"])
    scratch = tmp_path / "changed.edgepack"
    for key, value in (
        ("name", "other"),
        ("version", "9"),
        ("author", "me"),
        ("extensions", {"a": 1}),
        ("labels", ["a", "b", "c"]),
    ):
        assert manifest[key] != value
        text = json.dumps({**manifest, key: value}, indent=2, sort_keys=True) + "\n"
        scratch.write_bytes(archive_of({**files, "manifest.json": text.encode()}))

        assert isinstance(refusal(scratch, TRUST), SignatureError), key


def test_an_attackers_own_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    files = with_right_digests({**files_of(signed), "a.txt": b"evil one"})
    scratch = tmp_path / "changed.edgepack"
    for signatures in (sign(files["manifest.json"], [ATTACKER]), None):
        inside = {name: data for name, data in files.items() if name != "signatures.json"}
        if signatures is not None:
            inside["signatures.json"] = signatures
        scratch.write_bytes(archive_of(inside))

        assert isinstance(refusal(scratch, TRUST), SignatureError)


def test_random_changes_of_every_kind_are_refused(signed: Path, taken: Taken) -> None:
    assert taken(random_changes(signed.read_bytes(), files_of(signed), 700, seed=5)) == []


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(1800)
def test_ten_thousand_random_changes_of_a_real_bundle_are_refused(tmp_path: Path, taken: Taken) -> None:
    """EfficientNet-Lite0, as `examples/efficientnet_lite0` builds it."""
    found = sorted((EXAMPLES / "efficientnet_lite0/dist").glob("*-arm64.edgepack"))
    if not found:
        pytest.skip("build it first: edgepack build --recipe examples/efficientnet_lite0 --target arm64")
    real = sign_bundle(found[0], [KEY], tmp_path / "real.edgepack")
    assert refusal(real, TRUST) is None
    assert sha256_bytes(real.read_bytes()) == sha256_bytes(archive_of(files_of(real)))

    assert taken(random_changes(real.read_bytes(), files_of(real), 10_000, seed=5)) == []
