"""Keys that sign and verify: Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (FIPS 186-5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from edgepack.core.errors import SignatureError, UnsupportedError, UsageError

Algorithm = Literal["ed25519", "ecdsa-p256"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
SIGNATURE_BYTES = 64  # both: R ‖ S of Ed25519, r ‖ s of ECDSA
KEY_ID_DIGITS = 16
_HALF_BYTES = SIGNATURE_BYTES // 2
# The order n of P-256 (SEC 2, secp256r1). With (r, s) also (r, n − s) is valid, so only s ≤ n/2 counts: one signature, one spelling.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = ec.ECDSA(hashes.SHA256())
_RawPublic = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_RawPrivate = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What verifies. Equal keys are equal: `der` is their one encoding (SubjectPublicKeyInfo, RFC 5280)."""

    der: bytes
    algorithm: Algorithm = field(compare=False)
    raw: _RawPublic = field(compare=False, repr=False)

    @classmethod
    def from_der(cls, data: bytes) -> PublicKey:
        """A key from its SubjectPublicKeyInfo. Raises SignatureError for anything but the one encoding of a supported key."""
        try:
            key = cls.of(load_der_public_key(data))
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise SignatureError(f"not a public key in DER: {exc}") from exc
        if key.der != data:
            raise SignatureError("a public key that is not encoded as DER asks for; write it anew")
        return key

    @classmethod
    def from_pem(cls, data: bytes, *, where: str = "key") -> PublicKey:
        """A key from PEM text. Raises UsageError that says what it is instead; the public part of a private key is not taken."""
        if b"PRIVATE KEY" in data:
            raise UsageError(f"{where}: this is a private key; name the public one, which 'edgepack key show' writes")
        try:
            raw = load_pem_public_key(data)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise UsageError(f"{where}: not a public key in PEM; 'edgepack key new' writes one") from exc
        return cls.of(raw, where=where)

    @classmethod
    def of(cls, raw: object, *, where: str = "key") -> PublicKey:
        """A key of the library as one of ours. Raises UnsupportedError for another kind of key."""
        if isinstance(raw, ed25519.Ed25519PublicKey):
            return cls(der=_spki(raw), algorithm="ed25519", raw=raw)
        if isinstance(raw, ec.EllipticCurvePublicKey) and raw.curve.name == "secp256r1":
            return cls(der=_spki(raw), algorithm="ecdsa-p256", raw=raw)
        curve = getattr(getattr(raw, "curve", None), "name", "")
        kind = f"{type(raw).__name__.strip('_')}{f' on {curve}' if curve else ''}"
        raise UnsupportedError(f"{where}: {kind} is not supported; use Ed25519 or ECDSA on P-256 ('edgepack key new')")

    @property
    def key_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of `der`."""
        return hashlib.sha256(self.der).hexdigest()[:KEY_ID_DIGITS]

    def pem(self) -> bytes:
        """PEM text, as OpenSSL and model_signing read it."""
        return self.raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise SignatureError unless `signature` is this key's of `message`."""
        try:
            if isinstance(self.raw, ed25519.Ed25519PublicKey):
                self.raw.verify(signature, message)
            else:
                self.raw.verify(_ecdsa_der(signature), message, _SHA256)
        except InvalidSignature:
            raise SignatureError(f"the signature by key {self.key_id} does not match what it signs") from None


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What signs. Never printed: its representation is the public key's id."""

    raw: _RawPrivate = field(repr=False)
    public: PublicKey

    @classmethod
    def generate(cls, algorithm: Algorithm = "ed25519") -> PrivateKey:
        """A new key from the system's random numbers."""
        return cls.of(_GENERATORS[algorithm]())

    @classmethod
    def from_pem(cls, data: bytes, *, where: str = "key", password: Callable[[], bytes] | None = None) -> PrivateKey:
        """A key from PEM text; `password` is asked only for an encrypted one.

        Raises UsageError for what is no private key, or a wrong or missing password; UnsupportedError for another kind of key.
        """
        if b"PRIVATE KEY" not in data:
            raise UsageError(f"{where}: no private key in PEM; 'edgepack key new' writes one")
        try:
            raw = load_pem_private_key(data, password=None)
        except TypeError:  # encrypted
            if password is None:
                raise UsageError(f"{where}: this key has a password; give it by $EDGEPACK_KEY_PASSWORD") from None
            try:
                raw = load_pem_private_key(data, password=password())
            except ValueError:
                raise UsageError(f"{where}: wrong password, or the file is damaged") from None
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise UsageError(f"{where}: this private key can't be read; make another: edgepack key new") from exc
        return cls.of(raw, where=where)

    @classmethod
    def of(cls, raw: object, *, where: str = "key") -> PrivateKey:
        """A key of the library as one of ours. Raises UnsupportedError for another kind of key."""
        public = PublicKey.of(raw.public_key() if hasattr(raw, "public_key") else raw, where=where)
        assert isinstance(raw, (ed25519.Ed25519PrivateKey, ec.EllipticCurvePrivateKey))
        return cls(raw=raw, public=public)

    @property
    def algorithm(self) -> Algorithm:
        return self.public.algorithm

    @property
    def key_id(self) -> str:
        return self.public.key_id

    def pem(self, *, password: bytes | None = None) -> bytes:
        """PKCS #8 in PEM; encrypted where there is a password."""
        encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
        return self.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same message always gives the same ones (ECDSA: nonces of RFC 6979), so signing keeps builds reproducible."""
        if isinstance(self.raw, ed25519.Ed25519PrivateKey):
            return self.raw.sign(message)
        r, s = decode_dss_signature(self.raw.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(_HALF_BYTES, "big") + min(s, _ORDER - s).to_bytes(_HALF_BYTES, "big")


def _spki(raw: _RawPublic) -> bytes:
    return raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _ecdsa_der(signature: bytes) -> bytes:
    r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF_BYTES], signature[_HALF_BYTES:]))
    if len(signature) != SIGNATURE_BYTES or s > _ORDER // 2:
        raise InvalidSignature
    return encode_dss_signature(r, s)


def _p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


_GENERATORS: dict[str, Callable[[], object]] = {"ed25519": ed25519.Ed25519PrivateKey.generate, "ecdsa-p256": _p256}
