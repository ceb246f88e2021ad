from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgepack.core.errors import SignatureError, UnsupportedError, UsageError
from edgepack.signing.keys import _ORDER, ALGORITHMS, PrivateKey, PublicKey

MESSAGE = b"a message"
# RFC 8032, section 7.1, test 2: secret, public, message, signature.
RFC_8032 = (
    "302e020100300506032b657004220420" + "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
)


@pytest.fixture(params=ALGORITHMS)
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return PrivateKey.generate(request.param)


def test_a_signature_verifies_and_is_always_the_same(key: PrivateKey) -> None:
    signature = key.sign(MESSAGE)

    key.public.verify(signature, MESSAGE)
    assert len(signature) == 64
    assert key.sign(MESSAGE) == signature


def test_a_signature_is_refused_for_each_changed_bit_and_for_another_message(key: PrivateKey) -> None:
    signature = key.sign(MESSAGE)

    for bit in range(8 * len(signature)):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError, match="does not match"):
            key.public.verify(bytes(changed), MESSAGE)
    for other in (b"", signature[:-1], signature + b"\0"):
        with pytest.raises(SignatureError):
            key.public.verify(other, MESSAGE)
    with pytest.raises(SignatureError):
        key.public.verify(signature, MESSAGE + b"\0")


def test_ed25519_is_that_of_its_specification() -> None:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    secret, public, message, signature = (bytes.fromhex(text) for text in RFC_8032)
    key = PrivateKey.of(load_der_private_key(secret, None))

    assert key.public.der.endswith(public)
    assert key.sign(message) == signature


def test_the_second_spelling_of_an_ecdsa_signature_is_refused() -> None:
    key = PrivateKey.generate("ecdsa-p256")
    signature = key.sign(MESSAGE)
    s = int.from_bytes(signature[32:], "big")

    assert s <= _ORDER // 2
    with pytest.raises(SignatureError):
        key.public.verify(signature[:32] + (_ORDER - s).to_bytes(32, "big"), MESSAGE)


def test_keys_come_back_from_their_files(key: PrivateKey) -> None:
    assert PrivateKey.from_pem(key.pem()).public == key.public
    assert PublicKey.from_pem(key.public.pem()) == key.public
    assert PublicKey.from_der(key.public.der) == key.public
    assert len(key.key_id) == 16 and key.key_id == key.public.key_id


def test_openssl_reads_the_files_and_agrees_with_the_key_id(key: PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(key.pem())

    der = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout

    assert der == key.public.der


def test_an_encrypted_key_needs_its_password(key: PrivateKey) -> None:
    data = key.pem(password=b"correct horse")

    assert PrivateKey.from_pem(data, password=lambda: b"correct horse").public == key.public
    with pytest.raises(UsageError, match=r"^release\.pem: wrong password"):
        PrivateKey.from_pem(data, where="release.pem", password=lambda: b"other")
    with pytest.raises(UsageError, match=r"has a password; give it by \$EDGEPACK_KEY_PASSWORD"):
        PrivateKey.from_pem(data)


def test_the_private_part_is_never_shown(key: PrivateKey) -> None:
    assert "private" not in repr(key).lower().replace("privatekey(", "")
    assert "PRIVATE" not in key.public.pem().decode()


def test_other_kinds_of_keys_are_refused_by_their_name() -> None:
    with pytest.raises(UnsupportedError, match=r"^key: RSAPublicKey is not supported; use Ed25519"):
        PublicKey.of(rsa.generate_private_key(65537, 2048).public_key())
    with pytest.raises(UnsupportedError, match="on secp384r1 is not supported"):
        PrivateKey.of(ec.generate_private_key(ec.SECP384R1()))


def test_a_private_key_is_not_taken_for_a_public_one_nor_the_reverse() -> None:
    key = PrivateKey.generate()

    with pytest.raises(UsageError, match=r"^key\.pem: this is a private key"):
        PublicKey.from_pem(key.pem(), where="key.pem")
    with pytest.raises(UsageError, match="no private key"):
        PrivateKey.from_pem(key.public.pem())


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_said_so(data: bytes) -> None:
    with pytest.raises(UsageError, match="not a public key in PEM"):
        PublicKey.from_pem(data)
    with pytest.raises(UsageError):
        PrivateKey.from_pem(data.replace(b"PUBLIC", b"PRIVATE"))


def test_a_public_key_has_one_encoding() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")

    with pytest.raises(SignatureError, match="not encoded"):
        PublicKey.from_der(head + point)
    with pytest.raises(SignatureError):
        PublicKey.from_der(PublicKey.of(key).der + b"\0")
