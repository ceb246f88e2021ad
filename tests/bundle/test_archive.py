import io
import random
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from forgery import contents_of, rebuilt
from small_bundle import MODEL, content, files, variant

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.manifest import Manifest
from edgepack.core.errors import BundleError, UsageError


def is_refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_bundle(path).verify()
    except BundleError:
        return True
    return False


def test_the_same_input_gives_the_same_bytes(make: Callable[..., Path], tmp_path: Path) -> None:
    shuffled = list(files().items())
    random.Random(3).shuffle(shuffled)
    (tmp_path / "model.bin").write_bytes(MODEL)

    first = make("first").read_bytes()
    again = make("again").read_bytes()
    reordered = {**dict(shuffled), "model/model.tflite": tmp_path / "model.bin"}
    other = write_bundle(tmp_path / "other", manifest=Manifest.model_validate(content()), files=reordered).read_bytes()

    assert first == again == other


def test_every_file_is_aligned_stored_and_dated_the_same(bundle_path: Path) -> None:
    raw = bundle_path.read_bytes()

    with zipfile.ZipFile(bundle_path) as archive:
        infos = archive.infolist()

    names = [info.filename for info in infos]
    assert names == ["manifest.json", *sorted(files())]
    for info in infos:
        name_length, extra_length = (int.from_bytes(raw[info.header_offset + at :][:2], "little") for at in (26, 28))
        data_offset = info.header_offset + 30 + name_length + extra_length
        assert data_offset % 64 == 0
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.external_attr >> 16 == 0o100644


def test_zipfile_opens_it(bundle_path: Path) -> None:
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.testzip() is None
        assert archive.read("model/model.tflite") == MODEL
        assert archive.read("empty.txt") == b""


@pytest.mark.skipif(shutil.which("unzip") is None, reason="this machine has no unzip")
def test_unzip_opens_it(bundle_path: Path, tmp_path: Path) -> None:
    subprocess.run(["unzip", "-q", str(bundle_path), "-d", str(tmp_path / "out")], check=True, timeout=60)

    assert (tmp_path / "out/model/model.tflite").read_bytes() == MODEL


def test_reading_gives_back_what_was_written(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    bundle.verify()

    assert {name: bundle.read(name) for name in bundle.names[1:]} == files()
    assert bundle.manifest.model_copy(update={"files": ()}) == Manifest.model_validate(content())
    assert [file.path for file in bundle.manifest.files] == sorted(files())
    assert bundle.manifest.file_name == "digits-1.0.0-arm64.edgepack"


def test_every_single_flipped_byte_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    whole = bundle_path.read_bytes()
    random_bits = random.Random(0)

    accepted = []
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= random_bits.randint(1, 255)
        if not is_refused(tmp_path / "damaged", bytes(damaged)):
            accepted.append(position)

    assert accepted == []


def test_a_bundle_cut_off_anywhere_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    whole = bundle_path.read_bytes()

    accepted = [length for length in range(len(whole)) if not is_refused(tmp_path / "cut", whole[:length])]

    assert accepted == []


def test_additional_bytes_around_the_archive_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    whole = bundle_path.read_bytes()

    assert is_refused(tmp_path / "after", whole + b"\0")
    assert is_refused(tmp_path / "before", b"\0" * 64 + whole)
    assert is_refused(tmp_path / "twice", whole + whole)


def test_a_removed_file_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    contents = contents_of(bundle_path)
    del contents["labels.txt"]
    (tmp_path / "forged").write_bytes(rebuilt(contents))

    with pytest.raises(BundleError, match=r"forged: .*missing: labels.txt"):
        read_bundle(tmp_path / "forged")


def test_an_added_file_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "forged").write_bytes(rebuilt({**contents_of(bundle_path), "virus.py": b"import os"}))

    with pytest.raises(BundleError, match=r"not in the manifest: virus\.py"):
        read_bundle(tmp_path / "forged")


def test_swapped_files_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    contents = contents_of(bundle_path)
    contents["golden/input_0.npy"], contents["labels.txt"] = contents["labels.txt"], contents["golden/input_0.npy"]

    assert is_refused(tmp_path / "forged", rebuilt(contents))


def test_a_file_of_the_same_size_with_other_bytes_is_refused_when_it_is_read(bundle_path: Path, tmp_path: Path) -> None:
    forged = {**contents_of(bundle_path), "model/model.tflite": bytes(96)}
    (tmp_path / "forged").write_bytes(rebuilt(forged))
    bundle = read_bundle(tmp_path / "forged")

    with pytest.raises(BundleError, match=r"'model/model.tflite' is not what was bundled"):
        bundle.read("model/model.tflite")
    with pytest.raises(BundleError, match=r"'model/model.tflite' is not what was bundled"):
        bundle.model_path(tmp_path / "cache")
    with pytest.raises(BundleError, match=r"'model/model.tflite' is not what was bundled"):
        bundle.extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_another_tool_wrote_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    contents = contents_of(bundle_path)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for repeated in ((), ("labels.txt",), ("manifest.json",)):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", compression) as archive:
                for name in (*contents, *repeated):
                    archive.writestr(name, contents[name])

            assert is_refused(tmp_path / "repacked", buffer.getvalue())


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a\\b", "manifest.json"])
def test_unsafe_names_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "x", manifest=Manifest.model_validate(content()), files={**files(), name: b"x"})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [b"../escapes", b"/absolutes", b"a\\bcdefgh/", b"labels.TXT"])
def test_unsafe_names_are_not_read(bundle_path: Path, tmp_path: Path, name: bytes) -> None:
    forged = bundle_path.read_bytes().replace(b"labels.txt", name)

    assert is_refused(tmp_path / "forged", forged)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, b"PK\x05\x06" + bytes(18)])
def test_something_else_is_not_a_bundle(tmp_path: Path, data: bytes) -> None:
    assert is_refused(tmp_path / "other", data)


def test_an_archive_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(rebuilt({"a.txt": b"x"}))

    with pytest.raises(BundleError, match=r"other: has no manifest\.json"):
        read_bundle(tmp_path / "other")


def test_a_missing_file_or_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        read_bundle(tmp_path / "missing")
    with pytest.raises(BundleError, match="can't be read"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"null", b"\xff", b'{"name": 1}', b"[" * 100_000])
def test_an_invalid_manifest_is_refused(bundle_path: Path, tmp_path: Path, manifest: bytes) -> None:
    (tmp_path / "forged").write_bytes(rebuilt({**contents_of(bundle_path), "manifest.json": manifest}))

    with pytest.raises(BundleError, match=r"forged: manifest\.json"):
        read_bundle(tmp_path / "forged")


def test_a_manifest_that_does_not_fit_the_files_is_not_written(tmp_path: Path) -> None:
    other_model = {**variant()["model"], "size_bytes": 1}
    no_golden = {name: data for name, data in files().items() if not name.startswith("golden")}

    with pytest.raises(BundleError, match=r"model\.sha256"):
        write_bundle(tmp_path / "x", manifest=Manifest.model_validate(content(model=other_model)), files=files())
    with pytest.raises(BundleError, match=r"golden/input_0\.npy', which is missing"):
        write_bundle(tmp_path / "x", manifest=Manifest.model_validate(content()), files=no_golden)
    with pytest.raises(BundleError, match="does not exist"):
        write_bundle(tmp_path / "x", manifest=Manifest.model_validate(content()), files={"a": tmp_path / "none"})
    assert list(tmp_path.iterdir()) == []


def test_extracting_gives_the_files(bundle_path: Path, tmp_path: Path) -> None:
    folder = read_bundle(bundle_path).extract(tmp_path / "out")

    written = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert written == contents_of(bundle_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_extracting_over_something_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")

    with pytest.raises(UsageError, match="exists already"):
        read_bundle(bundle_path).extract(tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        read_bundle(bundle_path).extract(tmp_path / "out/mine.txt")
    assert (tmp_path / "out/mine.txt").read_text() == "precious"


def test_the_model_is_cached_by_its_digest_and_a_damaged_copy_is_replaced(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path)

    path = bundle.model_path(tmp_path / "cache")
    assert path.name == f"{bundle.variant().model.sha256}.tflite"
    path.write_bytes(bytes(96))

    assert bundle.model_path(tmp_path / "cache").read_bytes() == MODEL


def test_an_unknown_name_is_answered_with_the_nearest(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"did you mean 'labels\.txt'"):
        read_bundle(bundle_path).read("label.txt")


def test_a_file_that_was_replaced_meanwhile_is_noticed(make: Callable[..., Path]) -> None:
    bundle: Bundle = read_bundle(make())
    make(version="2.0.0")

    with pytest.raises(BundleError, match="was replaced"):
        bundle.verify()
