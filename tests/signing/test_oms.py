from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack.bundle import read_bundle
from edgepack.core.errors import SignatureError, UnsupportedError, UsageError
from edgepack.signing.bundles import sign_bundle
from edgepack.signing.keys import PrivateKey
from edgepack.signing.oms import checked_oms, sign_oms
from edgepack.signing.signed_files import GIT_PATHS, check_signature_file, sha256_of, sha256_of_contents
from edgepack.signing.trust import Trust

KEY, OTHER = PrivateKey.generate("ecdsa-p256"), PrivateKey.generate("ecdsa-p256")
OURS = Trust.only({"ours": KEY.public})
Tool = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names in which the order of paths is not that of texts."""
    for name in ("a/b.bin", "a.txt", "a-c/d.json", "empty"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(b"" if name == "empty" else name.encode())
    (tmp_path / "model" / ".gitignore").write_text("*")
    return tmp_path / "model"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "key.pem").write_bytes(KEY.pem())
    (tmp_path / "key.pub").write_bytes(KEY.public.pem())
    return tmp_path / "key.pem", tmp_path / "key.pub"


def signed(path: Path, digests: dict[str, str] | None = None) -> Path:
    signature = path.with_name(f"{path.name}.sig")
    signature.write_bytes(sign_oms(KEY, name=path.name, sha256=digests or sha256_of(path), ignored=GIT_PATHS))
    return signature


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    content = json.loads(data)
    change(content)
    return json.dumps(content).encode()


def test_the_project_s_own_tool_verifies_what_we_sign(
    model_signing: Tool, folder: Path, small_bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """A folder, a bundle's file, and a bundle as the folder that it unpacks to."""
    sign_bundle(small_bundle, [KEY], small_bundle)
    bundle = read_bundle(small_bundle)
    unpacked = bundle.extract(tmp_path / "unpacked")
    contents = tmp_path / "contents.sig"
    contents.write_bytes(sign_oms(KEY, name="unpacked", sha256=sha256_of_contents(bundle), ignored=GIT_PATHS))

    for path, signature in ((folder, signed(folder)), (small_bundle, signed(small_bundle)), (unpacked, contents)):
        arguments = ("verify", "key", path, "--signature", signature, "--public_key", keys[1])
        assert model_signing(*arguments) == 0
        file = path / "manifest.json" if path == unpacked else path / "a.txt" if path == folder else path
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        assert model_signing(*arguments) != 0


def test_we_verify_what_the_project_s_own_tool_signed(
    model_signing: Tool, folder: Path, small_bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    unpacked = read_bundle(small_bundle).extract(tmp_path / "unpacked")
    for path, target in (
        (folder, folder),
        (small_bundle, small_bundle),
        (unpacked, unpacked),
        (unpacked, small_bundle),
    ):
        signature = tmp_path / f"{path.name}.sig"
        assert model_signing("sign", "key", path, "--signature", signature, "--private_key", keys[0]) == 0

        assert check_signature_file(target, signature, OURS) == "ours"
        with pytest.raises(SignatureError, match="none of the given keys"):
            check_signature_file(target, signature, Trust.only({"other": OTHER.public}))
    small_bundle.write_bytes(small_bundle.read_bytes() + b"\0")
    (folder / "more").touch()
    with pytest.raises(SignatureError, match="not signed: more"):
        check_signature_file(folder, tmp_path / "model.sig", OURS)
    with pytest.raises(SignatureError, match=r"changed: \."):
        check_signature_file(small_bundle, tmp_path / "small.edgepack.sig", OURS)


def test_a_signature_inside_the_folder_is_not_part_of_what_it_covers(
    model_signing: Tool, folder: Path, keys: tuple[Path, Path]
) -> None:
    signature = folder / "model.sig"
    ignored = (*GIT_PATHS, "model.sig")
    signature.write_bytes(sign_oms(KEY, name="model", sha256=sha256_of(folder, ignored=ignored), ignored=ignored))

    assert model_signing("verify", "key", folder, "--signature", signature, "--public_key", keys[1]) == 0
    assert check_signature_file(folder, signature, OURS) == "ours"


def test_a_folder_is_refused_for_each_kind_of_change(folder: Path) -> None:
    signature = signed(folder)
    assert check_signature_file(folder, signature, OURS) == "ours"

    (folder / "a.txt").write_text("other")
    (folder / "a/b.bin").unlink()
    (folder / "a/new").touch()

    with pytest.raises(SignatureError, match=r"changed: a\.txt; missing: a/b\.bin; not signed: a/new"):
        check_signature_file(folder, signature, OURS)


def test_a_link_is_not_signed(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")

    with pytest.raises(UsageError, match="link: a link"):
        sha256_of(folder)


def test_every_entry_of_a_bundle_must_be_signed_whatever_the_signature_ignores(small_bundle: Path) -> None:
    digests = sha256_of_contents(read_bundle(small_bundle))
    del digests["labels.txt"]
    signature = small_bundle.with_name("a.sig")
    signature.write_bytes(sign_oms(KEY, name="a", sha256=digests, ignored=["labels.txt"]))

    with pytest.raises(SignatureError, match=r"not signed: labels\.txt"):
        check_signature_file(small_bundle, signature, OURS)


def test_the_same_files_and_key_give_the_same_signature(folder: Path) -> None:
    assert signed(folder).read_bytes() == signed(folder).read_bytes()


def test_a_key_that_the_format_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="knows no Ed25519 keys"):
        sign_oms(PrivateKey.generate(), name="a", sha256={})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("dsseEnvelope"), SignatureError, "not a signature of OpenSSF Model Signing"),
        (lambda c: c.update(mediaType="x"), UnsupportedError, "media type 'x'"),
        (lambda c: c.update(verificationMaterial={"certificate": {}}), UnsupportedError, "certificate or by keyless"),
        (lambda c: c["dsseEnvelope"].update(signatures=[]), SignatureError, "not a signature of OpenSSF"),
        (lambda c: c["dsseEnvelope"].update(payload="ü"), SignatureError, "not a signature of OpenSSF"),
        (
            lambda c: c["dsseEnvelope"].update(payload=base64.b64encode(b"{}").decode()),
            SignatureError,
            "does not match",
        ),
        (lambda c: c["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), SignatureError, "does not match"),
        (
            lambda c: c["verificationMaterial"]["publicKey"].update(hint="0" * 64),
            SignatureError,
            "none of the given keys",
        ),
    ],
)
def test_a_damaged_or_foreign_signature_says_what_it_is(change: Any, error: type[Exception], message: str) -> None:
    data = sign_oms(KEY, name="a", sha256={".": "00" * 32})

    with pytest.raises(error, match=message):
        checked_oms(changed(data, change), [KEY.public])


def test_a_signature_without_a_hint_is_tried_with_every_key() -> None:
    data = changed(
        sign_oms(KEY, name="a", sha256={".": "00" * 32}), lambda c: c["verificationMaterial"]["publicKey"].clear()
    )

    assert checked_oms(data, [OTHER.public, KEY.public]).key == KEY.public


def test_hashes_that_are_not_supported_are_named(folder: Path) -> None:
    payload_changes = [("hash_type", "blake3"), ("method", "shards")]
    for name, value in payload_changes:
        data = resigned(lambda c, name=name, value=value: c["predicate"]["serialization"].update({name: value}))  # type: ignore[misc]
        with pytest.raises(UnsupportedError, match="not supported, only whole ones by sha256 or blake2"):
            checked_oms(data, [KEY.public])


def test_a_list_of_files_that_contradicts_itself_is_refused_though_it_is_signed() -> None:
    twice = resigned(lambda c: c["predicate"]["resources"].append(c["predicate"]["resources"][0]))

    with pytest.raises(SignatureError, match="contradicts itself"):
        checked_oms(twice, [KEY.public])


def resigned(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A valid signature over a statement that was changed before it was signed."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgepack.signing.oms import _pae

    content = json.loads(sign_oms(KEY, name="a", sha256={"a": "00" * 32}))
    payload = changed(base64.b64decode(content["dsseEnvelope"]["payload"]), change)
    assert isinstance(KEY.raw, ec.EllipticCurvePrivateKey)
    signature = KEY.raw.sign(_pae(payload), ec.ECDSA(hashes.SHA256()))
    content["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    content["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(content).encode()
