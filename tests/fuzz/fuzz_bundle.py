"""Fuzz targets: what reads a bundle. Hostile bytes may be refused with an error of edgepack's; anything else is a finding.

Each target also states what must hold of what it accepts.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from fuzz_json import mutate_json
from mutations import archive_of, files_of, with_right_digests
from small_bundle import content, files

from edgepack.bundle import read_bundle, write_bundle
from edgepack.bundle.golden import from_npy, read_golden, to_npy
from edgepack.bundle.manifest import Manifest, parse_manifest
from edgepack.core.errors import BundleError, EdgepackError, SignatureError, UnsupportedError
from edgepack.signing.keys import PrivateKey, PublicKey
from edgepack.signing.oms import checked_oms, sign_oms
from edgepack.signing.signatures import checked_signatures, sign
from edgepack.signing.trust import Trust, check_trust

Mutate = Callable[[bytes, int], bytes]
# Fixed keys, so that signatures in the corpus stay valid; they protect nothing.
_ED25519 = bytes.fromhex("302e020100300506032b657004220420" + "11" * 32)
_TRUST = Trust.only({})


def _key() -> PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return PrivateKey.of(load_der_private_key(_ED25519, None))


def _ecdsa_key() -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return PrivateKey.of(ec.derive_private_key(0x1234567, ec.SECP256R1()))


KEY, ECDSA = _key(), _ecdsa_key()


def manifest(data: bytes) -> None:
    """`manifest.json`: what is accepted is written and read again as the same."""
    try:
        found = parse_manifest(data)
    except BundleError:
        return
    again = found.to_bytes()
    assert parse_manifest(again) == found
    assert parse_manifest(again).to_bytes() == again


def archive(data: bytes) -> None:
    """A whole bundle: what is accepted has exactly one form, and stays in its folder when it is unpacked."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory()) as folder:
        path = Path(folder) / "a.edgepack"
        path.write_bytes(data)
        try:
            bundle = read_bundle(path)
            bundle.verify()
        except BundleError:
            return
        inside = files_of(path)
        assert archive_of(inside) == data
        for name in inside:
            assert not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        _use(path, Path(folder) / "out")
        shutil.rmtree(Path(folder) / "out", ignore_errors=True)


def _use(path: Path, out: Path) -> None:
    bundle = read_bundle(path)
    for variant in bundle.manifest.variants:
        if variant.golden is not None:
            try:
                read_golden(bundle, variant)
            except BundleError:
                continue
    with contextlib.suppress(SignatureError):  # signed by nobody who is trusted, or wrongly
        check_trust(bundle, trust=_TRUST)
    try:
        bundle.extract(out)
    except EdgepackError:
        return
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == set(bundle.names)


def golden(data: bytes) -> None:
    """A `.npy` file: what is accepted is what NumPy reads, and is written again as an array with the same values."""
    try:
        found = from_npy(data)
    except BundleError:
        return
    with np.errstate(all="ignore"):
        theirs = np.load(io.BytesIO(data), allow_pickle=False)
    assert found.dtype == theirs.dtype and found.shape == theirs.shape
    assert found.tobytes() == theirs.tobytes()
    assert from_npy(to_npy(found)).tobytes() == found.tobytes()


_MANIFEST = b'{"name": "fuzz"}\n'
_SIGNED = {sign(_MANIFEST, keys) for keys in ([KEY], [ECDSA], [KEY, ECDSA])}


def signatures(data: bytes) -> None:
    """`signatures.json`: nothing is accepted that wasn't signed with the private keys."""
    try:
        checked_signatures(data, _MANIFEST)
    except SignatureError:
        return
    assert data in _SIGNED


def oms(data: bytes) -> None:
    """A signature of OpenSSF Model Signing: no other statement than the signed one is accepted."""
    try:
        found = checked_oms(data, [ECDSA.public])
    except (SignatureError, UnsupportedError):
        return
    assert found.digests == {"a": "00" * 32, "b/c": "ff" * 32}


def public_key(data: bytes) -> None:
    """A public key in DER, as signatures bring it: one encoding a key."""
    try:
        found = PublicKey.from_der(data)
    except (SignatureError, UnsupportedError):
        return
    assert found.der == data


def seeds() -> dict[str, dict[str, bytes]]:
    """What the corpus begins with, by target."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = write_bundle(Path(folder) / "a", manifest=Manifest.model_validate(content()), files=files())
        inside = files_of(path)
        inside["signatures.json"] = sign(inside["manifest.json"], [KEY])
        plain = path.read_bytes()
    arrays = [np.arange(6, dtype=np.int8).reshape(2, 3), np.float32(3.5), np.zeros((0, 2), np.uint16), np.ones(3, bool)]
    return {
        "manifest": {"small": inside["manifest.json"], "empty": b"{}"},
        "archive": {"plain": plain, "signed": archive_of(inside), "empty": archive_of({})},
        "golden": {f"{one.dtype}": to_npy(np.asarray(one)) for one in arrays},
        "signatures": {f"{index}": data for index, data in enumerate(sorted(_SIGNED))},
        "oms": {"key": sign_oms(ECDSA, name="a", sha256={"a": "00" * 32, "b/c": "ff" * 32}, ignored=[".git"])},
        "public_key": {key.algorithm: key.public.der for key in (KEY, ECDSA)},
    }


def mutate_archive(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """Half of the time one file is changed and every checksum made right, so that the fuzzer gets past them."""
    generator = random.Random(seed)
    if generator.random() < 0.5:
        return mutate(data, size_max)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory()) as folder:
        path = Path(folder) / "a"
        path.write_bytes(data)
        try:
            inside = files_of(path)
            name = generator.choice(sorted(inside))
            change = mutate_json if name.endswith(".json") else _mutate_bytes
            inside[name] = change(inside[name] or b"x", size_max, seed, mutate)
            if generator.random() < 0.5 and name != "manifest.json":
                inside = with_right_digests(inside)
            return archive_of(inside)[:size_max]
        except (BundleError, ValueError, KeyError, TypeError, AttributeError):
            return mutate(data, size_max)


_DESCRIPTIONS = ("|b1", "|i1", "|u1", "<i2", "<u8", "<f2", "<f4", "<f8", ">i4", "<c8", "|O", "<U3", "|i4", "<b1")
_SIZES = (0, 1, 2, 3, 7, 255, 65536, 2**31, 2**32 - 1, 9_999_999_999)


def mutate_npy(data: bytes, size_max: int, seed: int, mutate: Mutate) -> bytes:
    """Two times of three another header, of the right length, with data that may fit."""
    generator = random.Random(seed)
    if generator.random() < 1 / 3:
        return mutate(data, size_max)
    sizes = [generator.choice(_SIZES) for _ in range(generator.randrange(4))]
    shape = ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "")
    kind, order = generator.choice(_DESCRIPTIONS), generator.choice(("False", "False", "False", "True"))
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}".encode()
    if generator.random() < 0.2:
        header = mutate(header, 512)
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    whole = 1
    for size in sizes:
        whole *= size
    fitting = generator.choice((whole * int(kind[-1]) if kind[-1].isdigit() else 8, generator.randrange(64)))
    payload = (data * 40)[: min(fitting, size_max)]
    return (b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + payload)[:size_max]


def _mutate_bytes(data: bytes, size_max: int, _seed: int, mutate: Mutate) -> bytes:
    return mutate(data, size_max)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "archive": archive,
    "golden": golden,
    "signatures": signatures,
    "oms": oms,
    "public_key": public_key,
}
MUTATORS = {
    "archive": mutate_archive,
    "golden": mutate_npy,
    "manifest": mutate_json,
    "oms": mutate_json,
    "signatures": mutate_json,
}
