"""Signatures in the format of OpenSSF Model Signing 1.x, so that `model_signing verify key` takes what edgepack signed, and the reverse.

A Sigstore bundle (JSON, media type v0.3) with a DSSE envelope around an in-toto statement that lists the digest of each file. Only signatures by a key
are read and written, as `model_signing sign key` makes them: ECDSA on P-256, files hashed whole with SHA-256 or BLAKE2. Not supported, and refused by name:
keyless Sigstore, certificates, P-384 and P-521, BLAKE3, shards, and the format of model_signing before 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgepack.core.digest import canonical_json
from edgepack.core.errors import SignatureError, UnsupportedError, UsageError
from edgepack.signing.keys import PrivateKey, PublicKey

WHOLE_FILE = "."  # the name of the one resource where a single file is signed
HASHES = {"sha256": "sha256", "blake2": "blake2b"}
SIGNATURE_BYTES_MAX = 64 << 20
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class OmsStatement:
    """What a valid signature says: the key, and the hex digest of each file by its path ('.' for a single file). `ignored` paths are not covered."""

    key: PublicKey
    hash_type: str
    digests: Mapping[str, str]
    ignored: tuple[str, ...]


def sign_oms(key: PrivateKey, *, name: str, sha256: Mapping[str, str], ignored: Iterable[str] = ()) -> bytes:
    """A signature file over files by their paths; the same input gives the same bytes. Raises UsageError for a key that is not ECDSA."""
    if not isinstance(key.raw, ec.EllipticCurvePrivateKey):
        raise UsageError(
            "OpenSSF Model Signing knows no Ed25519 keys; make one for it: edgepack key new NAME --algorithm ecdsa-p256"
        )
    ordered = sorted(sha256.items(), key=lambda item: PurePosixPath(item[0]))
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(ignored)}
    payload = canonical_json(
        {
            "_type": _STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": _PREDICATE,
            "predicate": {
                "serialization": serialization,
                "resources": [{"name": n, "algorithm": "sha256", "digest": digest} for n, digest in ordered],
            },
        }
    ).encode()
    signature = key.raw.sign(_pae(payload), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    content = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(key.public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return canonical_json(content).encode()


def key_hint(key: PublicKey) -> str:
    """How such a signature names its key: the SHA-256 of the PEM text."""
    return hashlib.sha256(key.pem()).hexdigest()


def checked_oms(data: bytes, keys: Iterable[PublicKey]) -> OmsStatement:
    """The statement of a signature file, if one of `keys` signed it.

    Raises SignatureError for a damaged file or another signer, UnsupportedError for another kind of signature or of hash.
    """
    if len(data) > SIGNATURE_BYTES_MAX:
        raise SignatureError(f"{len(data)} bytes are too many for a signature")
    try:
        content = json.loads(data)
        envelope, material = content["dsseEnvelope"], content["verificationMaterial"]
        if content["mediaType"] != _MEDIA_TYPE or envelope["payloadType"] != _PAYLOAD_TYPE:
            raise UnsupportedError(f"media type '{content['mediaType']}' is not one that edgepack knows")
        if not isinstance(public := material.get("publicKey"), dict):
            raise UnsupportedError(
                "only signatures by a key are supported, not by a certificate or by keyless Sigstore"
            )
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signature,) = (base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"])
        key = _signer(keys, public.get("hint"), signature, payload)
        return _statement(key, json.loads(payload))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise SignatureError(f"not a signature of OpenSSF Model Signing: {type(exc).__name__}: {exc}") from exc


def _signer(keys: Iterable[PublicKey], hint: object, signature: bytes, payload: bytes) -> PublicKey:
    """The key that signed; a hint is only a hint, the signature decides."""
    fitting = [
        key for key in keys if isinstance(key.raw, ec.EllipticCurvePublicKey) and (not hint or key_hint(key) == hint)
    ]
    for key in fitting:
        assert isinstance(key.raw, ec.EllipticCurvePublicKey)
        try:
            key.raw.verify(signature, _pae(payload), _ECDSA)
        except InvalidSignature:
            continue
        return key
    if fitting:
        raise SignatureError("the signature does not match what it signs; it was changed afterwards")
    raise SignatureError(
        "none of the given keys made this signature; give the maker's with --key, or trust it: edgepack trust add"
    )


def _statement(key: PublicKey, content: Any) -> OmsStatement:
    if content["_type"] != _STATEMENT or content["predicateType"] != _PREDICATE:
        raise UnsupportedError(f"a statement of type '{content['predicateType']}' is not one that edgepack knows")
    predicate = content["predicate"]
    serialization = predicate["serialization"]
    method, hash_type = serialization["method"], serialization["hash_type"]
    if method != "files" or hash_type not in HASHES:
        raise UnsupportedError(
            f"files hashed as '{method}' by '{hash_type}' are not supported, only whole ones by sha256 or blake2"
        )
    listed = [(str(one["name"]), bytes.fromhex(one["digest"])) for one in predicate["resources"]]
    root = hashlib.sha256(b"".join(digest for _, digest in listed)).hexdigest()
    (subject,) = content["subject"]
    if subject["digest"]["sha256"] != root or len(dict(listed)) != len(listed):
        raise SignatureError("its list of files contradicts itself")
    return OmsStatement(
        key=key,
        hash_type=hash_type,
        digests={name: digest.hex() for name, digest in listed},
        ignored=tuple(map(str, serialization.get("ignore_paths", ()))),
    )


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, version 1."""
    return f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
