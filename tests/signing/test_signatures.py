from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from edgepack.core.digest import canonical_json
from edgepack.core.errors import SignatureError
from edgepack.signing.keys import PrivateKey
from edgepack.signing.signatures import checked_signatures, sign, signed_message

MANIFEST = b'{"name": "digits"}\n'
OLD, NEW = PrivateKey.generate("ed25519"), PrivateKey.generate("ecdsa-p256")


def changed(**fields: Any) -> bytes:
    content = json.loads(sign(MANIFEST, [OLD]))
    content["signatures"][0].update(fields)
    return canonical_json(content).encode()


def test_every_signature_is_listed_once_and_sorted_by_key_id() -> None:
    data = sign(MANIFEST, [NEW, OLD])

    found = checked_signatures(data, MANIFEST)

    assert [one.key.key_id for one in found] == sorted([OLD.key_id, NEW.key_id])
    assert data == sign(MANIFEST, [OLD, NEW])
    assert data == sign(MANIFEST, [OLD], beside=checked_signatures(sign(MANIFEST, [NEW, OLD]), MANIFEST))


def test_a_prefix_is_signed_with_the_manifest_so_that_no_other_protocol_can_use_the_signature() -> None:
    assert signed_message(MANIFEST) == b"edgepack signature v1\n" + MANIFEST


def test_a_signature_of_another_manifest_is_refused() -> None:
    with pytest.raises(SignatureError, match=r"^signatures\.json: .* does not match .*get it again"):
        checked_signatures(sign(MANIFEST, [OLD]), MANIFEST + b" ")


def test_one_wrong_signature_among_right_ones_is_refused() -> None:
    content = json.loads(sign(MANIFEST, [OLD, NEW]))
    content["signatures"][1]["signature"] = base64.b64encode(bytes(64)).decode()

    with pytest.raises(SignatureError, match="does not match"):
        checked_signatures(canonical_json(content).encode(), MANIFEST)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b" " * 70_000, "70000 bytes are too many"),
        (b"\xff", "not JSON"),
        (b"{}", "needs the one key"),
        (b'{"signatures":[]}', "1 to 16"),
        (b'{"signatures":[1]}', r"signatures\.0: needs exactly"),
        (changed(extra=""), "needs exactly"),
        (changed(signature=1), "needs exactly"),
        (changed(algorithm="ecdsa-p256"), "not that of its public key"),
        (changed(key_id="0" * 16), "not that of its public key"),
        (changed(public_key="AAAA"), "not a public key in DER"),
        (changed(public_key="*"), "not base64"),
        (changed(signature="AAAA"), "has 64 bytes, this one 3"),
        (sign(MANIFEST, [OLD]) + b"\n", "not spelled"),
        (sign(MANIFEST, [OLD]).replace(b":", b": ", 1), "not spelled"),
        (sign(MANIFEST, [OLD]).replace(b"}]", b"}," + sign(MANIFEST, [OLD])[15:-2] + b"]"), "listed twice"),
    ],
)
def test_anything_but_the_one_spelling_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        checked_signatures(data, MANIFEST)


def test_so_many_signatures_are_not_taken() -> None:
    with pytest.raises(SignatureError, match="17 signatures are too many"):
        sign(MANIFEST, [PrivateKey.generate() for _ in range(17)])


def test_no_single_byte_of_the_file_can_be_changed_removed_or_added() -> None:
    data = sign(MANIFEST, [OLD, NEW])

    wrong = [data[:i] + bytes([data[i] ^ mask]) + data[i + 1 :] for i in range(len(data)) for mask in (1, 32, 128)]
    wrong += [data[:i] + data[i + 1 :] for i in range(len(data))]
    wrong += [data[:i] + one + data[i:] for i in range(len(data) + 1) for one in (b" ", b"0", b"A")]
    accepted = 0
    for each in wrong:
        try:
            checked_signatures(each, MANIFEST)
            accepted += 1
        except SignatureError:
            continue
    assert accepted == 0
