"""Makes an app kit: which model it is for, who signed it, and a folder that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgepack.appkit import APPKITS
from edgepack.appkit.protocol import AppKit
from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import SignatureError, UnsupportedError, UsageError
from edgepack.core.files import folder_in_the_making
from edgepack.signing.keys import PublicKey
from edgepack.signing.signatures import checked_signatures

_MANIFEST = "manifest.json"


def make_appkit(
    bundle: Bundle, name: str, folder: Path, *, target: str | None = None, trusted_keys: Sequence[PublicKey] = ()
) -> Variant:
    """Write the kit `name` into a new folder; returns the variant that it is for.

    `target` names the variant; None: the only one that the kit can take. Raises UsageError for a folder that is not empty, an unknown
    kit or a choice that is not clear; UnsupportedError for a model that the kit has no code for; SignatureError where keys are
    given and none of them signed the bundle; BundleError for a damaged bundle.
    """
    if name not in APPKITS:
        raise UsageError(f"unknown app kit '{name}'; there are {', '.join(APPKITS)}")
    kit = APPKITS.load(name)
    variant = _variant(bundle, kit, name, target)
    _check_signed(bundle, trusted_keys)
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: exists already; name a new folder with -o, or remove it first")
    with folder_in_the_making(folder) as scratch:
        kit.write(bundle, variant, scratch, trusted_keys=tuple(trusted_keys))
        scratch.chmod(0o755)
    return variant


def _variant(bundle: Bundle, kit: AppKit, name: str, target: str | None) -> Variant:
    fitting = [variant for variant in bundle.manifest.variants if variant.model.format in kit.formats]
    chosen = bundle.variant(target) if target is not None else None
    if chosen is None and len(fitting) == 1:
        chosen = fitting[0]
    if chosen is None and fitting:
        raise UsageError(
            f"{bundle.path}: the app kit '{name}' can take {', '.join(one.target for one in fitting)}; "
            "say which one with --variant TARGET"
        )
    if chosen is None or chosen not in fitting:
        found = ", ".join(f"{one.target} ({one.model.format})" for one in bundle.manifest.variants)
        advice = f"--variant {fitting[0].target}" if fitting else f"build it for a target that exports {kit.formats[0]}"
        raise UnsupportedError(
            f"{bundle.path}: the app kit '{name}' is for {' and '.join(kit.formats)} models, the bundle has {found}; {advice}"
        )
    return chosen


def _check_signed(bundle: Bundle, trusted_keys: Sequence[PublicKey]) -> None:
    if not trusted_keys:
        return
    signatures = bundle.signatures_bytes
    if signatures is None:
        raise SignatureError(f"{bundle.path}: is not signed, and --key asks for it; sign it first: edgepack sign")
    signed = {one.key for one in checked_signatures(signatures, bundle.read(_MANIFEST))}
    if not signed & set(trusted_keys):
        raise SignatureError(
            f"{bundle.path}: is signed by {', '.join(sorted(key.key_id for key in signed))}, not by a key given with --key; "
            "give the right key, or sign the bundle with it"
        )
