"""Signing a bundle: the same archive with another `signatures.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepack.bundle.archive import read_bundle, with_signatures
from edgepack.core.errors import SignatureError
from edgepack.signing.keys import PrivateKey
from edgepack.signing.signatures import Signature, checked_signatures, sign


def sign_bundle(path: Path, keys: Sequence[PrivateKey], output: Path, *, keep: bool = False) -> Path:
    """Write a bundle signed by `keys`; `output` may be the bundle itself, which is then replaced at once. With `keep` the signatures that are there stay.

    The same bundle and keys give the same bytes. Raises BundleError for a damaged bundle, SignatureError for wrong signatures that should be kept.
    """
    bundle = read_bundle(path)
    bundle.verify()
    manifest, there = bundle.read("manifest.json"), bundle.signatures_bytes
    kept: tuple[Signature, ...] = ()
    if keep and there is not None:
        try:
            kept = checked_signatures(there, manifest)
        except SignatureError as exc:
            raise SignatureError(f"{path}: {exc}\nwithout --add they are replaced") from exc
    return with_signatures(bundle, sign(manifest, keys, beside=kept), output)
