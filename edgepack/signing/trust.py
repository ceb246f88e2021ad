"""Whom this machine trusts, and what it does with a bundle that nobody of them signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from edgepack.bundle import Bundle, read_bundle
from edgepack.bundle.manifest import parse_manifest
from edgepack.core.errors import BundleError, SignatureError
from edgepack.signing.keys import PublicKey
from edgepack.signing.signatures import Signature, checked_signatures
from edgepack.signing.trust_file import (
    REQUIRE_VARIABLE,
    Policy,
    TrustedKey,
    TrustFile,
    is_required,
    load_trust_file,
    trust_path,
)

Verdict = Literal["trusted", "untrusted", "unsigned"]
Standing = Literal["trusted", "unknown", "revoked", "expired", "not yet valid"]
_MANIFEST = "manifest.json"
_HOW_TO_TRUST = (
    "get the maker's public key by another way than the bundle and add it: edgepack trust add NAME KEY.pub.pem"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The keys that count, by name, and the two policies. `place` says where they were read, `policy_of` whose policies they are."""

    keys: Mapping[str, TrustedKey]
    unsigned: Policy
    untrusted: Policy
    place: str
    policy_of: str = ""

    @classmethod
    def of_file(cls, file: TrustFile, *, place: str) -> Trust:
        """As a trust file says; a bundle by an unknown key is treated like an unsigned one, at least with a warning, unless it says otherwise."""
        unsigned = file.policy.unsigned
        untrusted: Policy = file.policy.untrusted or ("refuse" if unsigned == "refuse" else "warn")
        return cls(keys=file.keys, unsigned=unsigned, untrusted=untrusted, place=place)

    @classmethod
    def only(cls, keys: Mapping[str, PublicKey]) -> Trust:
        """These keys and no others; what they did not sign is refused."""
        named = {name: TrustedKey.of(key) for name, key in keys.items()}
        return cls(keys=named, unsigned="refuse", untrusted="refuse", place="the keys that were given")

    @property
    def required(self) -> Trust:
        """The same keys; what none of them signed is refused."""
        return replace(
            self, unsigned="refuse", untrusted="refuse", policy_of=f"--require-signed, or ${REQUIRE_VARIABLE},"
        )

    @property
    def lenient(self) -> Trust:
        """The same keys; nothing is asked for, only told. A wrong signature or a revoked key is refused all the same."""
        return replace(self, unsigned="allow", untrusted="allow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One signature that is valid, and what its key is here. `name` is None where the trust file doesn't know the key."""

    key: PublicKey
    name: str | None
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustResult:
    """What was found: every signer, the verdict of all together, and what the policy says aloud without refusing."""

    verdict: Verdict
    signers: tuple[Signer, ...]
    warnings: tuple[str, ...] = ()


def load_trust(path: Path | None = None, *, require_signed: bool = False) -> Trust:
    """The trust of this machine: the file `path`, else $EDGEPACK_TRUST, else the user's own; nothing but defaults where there is none.

    With `require_signed`, or $EDGEPACK_REQUIRE_SIGNED=1, what no trusted key signed is refused, whatever the file says. Raises RecipeError for a file
    that is wrong, or is named and missing.
    """
    place = trust_path(path)
    trust = Trust.of_file(load_trust_file(path), place=str(place))
    return trust.required if require_signed or is_required() else trust


def trusted_bundle(path: Path, *, trust: Trust | None = None) -> tuple[Bundle, TrustResult]:
    """A bundle of which every byte and every signature is checked. Raises BundleError, or SignatureError as `check_trust` does."""
    bundle = read_bundle(path)
    bundle.verify()
    return bundle, check_trust(bundle, trust=trust)


def check_trust(bundle: Bundle, *, trust: Trust | None = None, now: datetime | None = None) -> TrustResult:
    """Who signed a bundle, and whether that is enough here; `trust` is by default what `load_trust` finds.

    The files are covered by the manifest's digests: `Bundle.verify` or `read` checks them. Raises SignatureError for a signature that is not valid,
    for a bundle that only revoked keys signed, and for one that the policy refuses.
    """
    manifest, signatures = bundle.read(_MANIFEST), bundle.signatures_bytes
    if parse_manifest(manifest) != bundle.manifest:
        raise BundleError(f"{bundle.path}: the file was replaced while it was open; read it again")
    return judge(manifest, signatures, trust=trust or load_trust(), where=str(bundle.path), now=now)


def judge(
    manifest: bytes, signatures: bytes | None, *, trust: Trust, where: str, now: datetime | None = None
) -> TrustResult:
    """`check_trust` of the bytes of `manifest.json` and `signatures.json` (None: there is none)."""
    if signatures is None:
        what = f"{where}: not signed"
        return _by_policy(trust.unsigned, what, TrustResult(verdict="unsigned", signers=()), trust)
    try:
        found = checked_signatures(signatures, manifest)
    except SignatureError as exc:
        raise SignatureError(f"{where}: {exc}") from exc
    signers = tuple(_signer(one, trust, now or datetime.now(UTC)) for one in found)
    if any(signer.standing == "trusted" for signer in signers):
        return TrustResult(verdict="trusted", signers=signers)
    result = TrustResult(verdict="untrusted", signers=signers)
    what = f"{where}: no trusted key signed it, only {shown(signers)}"
    if any(signer.standing == "revoked" for signer in signers):
        raise SignatureError(f"{what}; {trust.place} says so: get a bundle that a key in use signed")
    return _by_policy(trust.untrusted, what, result, trust)


def standing_of(trusted: TrustedKey, now: datetime | None = None) -> Standing:
    """What a key of the trust file is at a moment (None: now)."""
    now = now or datetime.now(UTC)
    if trusted.revoked:
        return "revoked"
    if trusted.not_before is not None and now < trusted.not_before:
        return "not yet valid"
    if trusted.not_after is not None and now >= trusted.not_after:
        return "expired"
    return "trusted"


def shown(signers: Iterable[Signer]) -> str:
    """Signers in words: name or id, and what each is here."""
    return ", ".join(f"{one.name or one.key.key_id} ({one.standing})" for one in signers)


def _by_policy(policy: Policy, what: str, result: TrustResult, trust: Trust) -> TrustResult:
    if policy == "refuse":
        raise SignatureError(
            f"{what}, and {trust.policy_of or f'the policy of {trust.place}'} refuses that; {_HOW_TO_TRUST}"
        )
    return replace(result, warnings=(what,)) if policy == "warn" else result


def _signer(signature: Signature, trust: Trust, now: datetime) -> Signer:
    for name, trusted in trust.keys.items():
        if trusted.key == signature.key:
            return Signer(key=signature.key, name=name, standing=standing_of(trusted, now))
    return Signer(key=signature.key, name=None, standing="unknown")
