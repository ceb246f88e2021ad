"""`signatures.json`: who signed a bundle's manifest, which lists the SHA-256 of every other file.

The file has one spelling: canonical JSON with the signatures sorted by key id. So a changed byte in it is a changed signature, and refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgepack.core.digest import canonical_json
from edgepack.core.errors import SignatureError, UnsupportedError
from edgepack.signing.keys import SIGNATURE_BYTES, PrivateKey, PublicKey

SIGNATURES_NAME = "signatures.json"
SIGNATURES_MAX = 16  # an owner, its successor and some witnesses; more only cost time
SIGNATURES_BYTES_MAX = 65536
_PREFIX = b"edgepack signature v1\n"
_FIELDS = {"algorithm", "key_id", "public_key", "signature"}
_REMEDY = "the bundle was changed after it was signed; get it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One key's signature: 64 bytes over `signed_message` of the manifest."""

    key: PublicKey
    signature: bytes


def signed_message(manifest: bytes) -> bytes:
    """What is signed: a prefix that no other kind of file has, then the bytes of `manifest.json`."""
    return _PREFIX + manifest


def sign(manifest: bytes, keys: Iterable[PrivateKey], *, beside: Iterable[Signature] = ()) -> bytes:
    """`signatures.json` with a signature by each key, and those of `beside` by other keys.

    Raises SignatureError for more than 16 signatures.
    """
    message = signed_message(manifest)
    found = {one.key.key_id: one for one in beside}
    for key in keys:
        found[key.key_id] = Signature(key=key.public, signature=key.sign(message))
    if len(found) > SIGNATURES_MAX:
        raise SignatureError(f"{len(found)} signatures are too many (at most {SIGNATURES_MAX}); leave --add out")
    return _to_bytes(found.values())


def checked_signatures(data: bytes, manifest: bytes) -> tuple[Signature, ...]:
    """The signatures in a `signatures.json`, all of them valid for these bytes of `manifest.json`, sorted by key id.

    Raises SignatureError for another spelling, an unknown field, a key that is listed twice, or a signature that doesn't match.
    """
    if len(data) > SIGNATURES_BYTES_MAX:
        raise SignatureError(f"{SIGNATURES_NAME}: {len(data)} bytes are too many (at most {SIGNATURES_BYTES_MAX})")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise SignatureError(f"{SIGNATURES_NAME}: not JSON; {_REMEDY}") from exc
    listed = content.get("signatures") if isinstance(content, dict) and set(content) == {"signatures"} else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= SIGNATURES_MAX:
        raise SignatureError(
            f"{SIGNATURES_NAME}: needs the one key 'signatures' with 1 to {SIGNATURES_MAX} of them; {_REMEDY}"
        )
    found = tuple(_parse(one, index) for index, one in enumerate(listed))
    if len({one.key.key_id for one in found}) != len(found):
        raise SignatureError(f"{SIGNATURES_NAME}: a key is listed twice; {_REMEDY}")
    if _to_bytes(found) != data:
        raise SignatureError(f"{SIGNATURES_NAME}: not spelled as edgepack writes it; {_REMEDY}")
    message = signed_message(manifest)
    for one in found:
        try:
            one.key.verify(one.signature, message)
        except SignatureError as exc:
            raise SignatureError(f"{SIGNATURES_NAME}: {exc}; {_REMEDY}") from exc
    return found


def _parse(entry: Any, index: int) -> Signature:
    where = f"{SIGNATURES_NAME}: signatures.{index}"
    if not isinstance(entry, dict) or set(entry) != _FIELDS or not all(isinstance(v, str) for v in entry.values()):
        raise SignatureError(f"{where}: needs exactly the texts {', '.join(sorted(_FIELDS))}; {_REMEDY}")
    try:
        key = PublicKey.from_der(_base64(entry["public_key"]))
        signature = _base64(entry["signature"])
    except (SignatureError, UnsupportedError) as exc:
        raise SignatureError(f"{where}: {exc}") from exc
    if (entry["algorithm"], entry["key_id"]) != (key.algorithm, key.key_id):
        raise SignatureError(f"{where}: algorithm or key_id is not that of its public key; {_REMEDY}")
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"{where}: a signature has {SIGNATURE_BYTES} bytes, this one {len(signature)}; {_REMEDY}")
    return Signature(key=key, signature=signature)


def _to_bytes(signatures: Iterable[Signature]) -> bytes:
    content = [
        {
            "algorithm": one.key.algorithm,
            "key_id": one.key.key_id,
            "public_key": base64.b64encode(one.key.der).decode(),
            "signature": base64.b64encode(one.signature).decode(),
        }
        for one in sorted(signatures, key=lambda one: one.key.key_id)
    ]
    return canonical_json({"signatures": content}).encode()


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise SignatureError(f"not base64: {exc}; {_REMEDY}") from exc
