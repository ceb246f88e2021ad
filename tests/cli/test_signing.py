"""Keys, signatures and trust from the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from edgepack.bundle import read_bundle
from edgepack.core.errors import BundleError, RecipeError, SignatureError, UnsupportedError, UsageError
from edgepack.signing.keys import PrivateKey

Run = Callable[..., Result]


@pytest.fixture
def own_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's trust file, which isn't there yet."""
    monkeypatch.delenv("EDGEPACK_TRUST")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/edgepack/trust.toml"


@pytest.fixture
def key(run: Run, tmp_path: Path) -> Path:
    run("key", "new", tmp_path / "release", "--algorithm", "ecdsa-p256")
    return tmp_path / "release.pem"


def test_a_new_key_has_a_part_for_its_owner_and_one_for_everybody(run: Run, tmp_path: Path) -> None:
    shown = run("key", "new", tmp_path / "release").stdout

    private, public = tmp_path / "release.pem", tmp_path / "release.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key_id = json.loads(run("key", "show", public, "--json").stdout)["key_id"]
    assert key_id == PrivateKey.from_pem(private.read_bytes()).key_id and key_id in shown
    assert run("key", "show", private).stdout == run("key", "show", public).stdout
    assert "PRIVATE" not in run("key", "show", private).stdout


@pytest.mark.parametrize("there", ["release.pem", "release.pub.pem"])
def test_a_key_is_never_overwritten(run: Run, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")

    result = run("key", "new", tmp_path / "release.pem", code=UsageError.exit_code)

    assert "exists already, and a key is never overwritten" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_password_comes_from_the_environment_and_is_asked_where_it_is_missing(
    call: Run, run: Run, tmp_path: Path, bundle_path: Path
) -> None:
    made = call("key", "new", tmp_path / "safe", "--password", EDGEPACK_KEY_PASSWORD="correct horse")
    assert made.exit_code == 0
    assert b"ENCRYPTED" in (tmp_path / "safe.pem").read_bytes()
    command = ("sign", bundle_path, "--key", tmp_path / "safe.pem")

    assert "no terminal to ask; set $EDGEPACK_KEY_PASSWORD" in run(*command, code=2).stderr
    assert "wrong password" in call(*command, EDGEPACK_KEY_PASSWORD="x").stderr
    assert call(*command, EDGEPACK_KEY_PASSWORD="correct horse").exit_code == 0
    assert "no terminal" in run("key", "new", tmp_path / "other", "--password", code=2).stderr


def test_a_bundle_is_signed_in_place_and_everything_else_in_it_stays(run: Run, bundle_path: Path, key: Path) -> None:
    before = read_bundle(bundle_path)
    content = {name: before.read(name) for name in before.names}

    run("sign", bundle_path, "--key", key)
    once = bundle_path.read_bytes()
    run("sign", bundle_path, "--key", key)

    after = read_bundle(bundle_path)
    assert bundle_path.read_bytes() == once
    assert after.names[-1] == "signatures.json"
    assert {name: after.read(name) for name in before.names} == content


def test_signatures_are_replaced_or_added(run: Run, bundle_path: Path, key: Path, tmp_path: Path) -> None:
    run("key", "new", tmp_path / "next")
    run("sign", bundle_path, "--key", key)

    run("sign", bundle_path, "--key", tmp_path / "next.pem", "--add", "-o", tmp_path / "both.edgepack")
    run("sign", bundle_path, "--key", tmp_path / "next.pem", "-o", tmp_path / "one.edgepack")

    counts = [
        len(json.loads(read_bundle(tmp_path / name).read("signatures.json"))["signatures"])
        for name in ("both.edgepack", "one.edgepack")
    ]
    assert counts == [2, 1]


def test_a_machine_takes_only_what_it_trusts_once_it_says_so(
    run: Run, bundle_path: Path, key: Path, tmp_path: Path, own_trust: Path
) -> None:
    public = tmp_path / "release.pub.pem"
    app = tmp_path / "app"

    run("trust", "policy", "--unsigned", "refuse")
    refused = run("unpack", bundle_path, app, code=SignatureError.exit_code)
    assert "not signed, and the policy of" in refused.stderr and "edgepack trust add NAME KEY.pub.pem" in refused.stderr
    run("sign", bundle_path, "--key", key)
    assert "no trusted key signed it" in run("unpack", bundle_path, app, code=13).stderr
    assert not app.exists()
    run("trust", "add", "vendor", public, "--note", "by phone")
    run("unpack", bundle_path, app)
    listed = json.loads(run("trust", "list", "--json").stdout)
    assert listed["file"] == str(own_trust)
    assert listed["policy"] == {"unsigned": "refuse", "untrusted": "refuse"}
    assert listed["keys"]["vendor"]["standing"] == "trusted"
    assert "by phone" in run("trust", "list").stdout
    run("trust", "revoke", "vendor", "--note", "stolen")
    assert "only vendor (revoked)" in run("unpack", bundle_path, tmp_path / "b", code=13).stderr
    run("trust", "remove", listed["keys"]["vendor"]["key_id"])
    assert json.loads(run("trust", "list", "--json").stdout)["keys"] == {}


@pytest.mark.parametrize("command", ["unpack", "verify", "bench"])
def test_every_command_that_uses_a_model_can_require_a_signature(
    call: Run, bundle_path: Path, tmp_path: Path, command: str
) -> None:
    folder = [tmp_path / "app"] if command == "unpack" else []
    for result in (
        call(command, bundle_path, *folder, "--require-signed"),
        call(command, bundle_path, *folder, EDGEPACK_REQUIRE_SIGNED="1"),
    ):
        assert result.exit_code == SignatureError.exit_code
        assert "not signed" in result.stderr
        assert result.stdout == "" and not (tmp_path / "app").exists()


def test_a_difference_is_not_looked_for_in_what_is_not_trusted(call: Run, bundle_path: Path) -> None:
    result = call("diff", bundle_path, bundle_path, EDGEPACK_REQUIRE_SIGNED="1")

    assert (result.exit_code, result.stdout) == (SignatureError.exit_code, "")


def test_a_wire_form_keeps_its_signature_and_is_judged_by_it(
    run: Run, bundle_path: Path, key: Path, tmp_path: Path
) -> None:
    unsigned = tmp_path / "unsigned.edgepackz"
    run("pack", bundle_path, "-o", unsigned)
    run("sign", bundle_path, "--key", key)
    run("pack", bundle_path, "-o", tmp_path / "signed.edgepackz")
    run("trust", "add", "vendor", tmp_path / "release.pub.pem", "--trust", (own := tmp_path / "own.toml"))
    run("trust", "policy", "--unsigned", "refuse", "--trust", own)

    assert "sign the bundle, then pack it" in run("sign", unsigned, "--key", key, code=UsageError.exit_code).stderr
    run("unpack", tmp_path / "signed.edgepackz", "-o", tmp_path / "again.edgepack", "--trust", own)

    assert (tmp_path / "again.edgepack").read_bytes() == bundle_path.read_bytes()
    for target in (("-o", tmp_path / "x.edgepack"), (tmp_path / "x",)):
        assert "not signed" in run("unpack", unsigned, *target, "--trust", own, code=13).stderr
    assert "not signed" in run("verify", unsigned, "--trust", own, code=13).stderr


def test_a_warning_is_told_and_the_bundle_is_taken(run: Run, bundle_path: Path, key: Path, tmp_path: Path) -> None:
    run("sign", bundle_path, "--key", key)

    assert "! " in (told := run("unpack", bundle_path, tmp_path / "app").stderr) and "(unknown)" in told


def test_a_changed_bundle_is_refused_by_its_signature(run: Run, bundle_path: Path, key: Path, tmp_path: Path) -> None:
    from small_bundle import content, files

    from edgepack.bundle.archive import with_signatures, write_bundle
    from edgepack.bundle.manifest import Manifest

    run("sign", bundle_path, "--key", key)
    signatures = read_bundle(bundle_path).signatures_bytes
    other = write_bundle(tmp_path / "b", manifest=Manifest.model_validate(content(description="other")), files=files())
    with_signatures(read_bundle(other), signatures, tmp_path / "forged.edgepack")

    refused = run("unpack", tmp_path / "forged.edgepack", tmp_path / "app", code=SignatureError.exit_code)
    assert "does not match what it signs; the bundle was changed after it was signed" in refused.stderr
    assert "does not match" in run("sign", tmp_path / "forged.edgepack", "--key", key, "--add", code=13).stderr


def test_the_format_of_openssf_is_written_and_checked(run: Run, bundle_path: Path, key: Path, tmp_path: Path) -> None:
    public = tmp_path / "release.pub.pem"
    folder = tmp_path / "app"
    run("unpack", bundle_path, folder)

    run("sign", bundle_path, "--key", key, "--format", "oms")
    assert bundle_path.with_name("digits.edgepack.sig").is_file()
    run("sign", bundle_path, "--key", key, "--format", "oms", "--unpacked", "-o", tmp_path / "folder.sig")

    checked = json.loads(
        run("verify", folder, "--signature", tmp_path / "folder.sig", "--key", public, "--json").stdout
    )
    assert checked == {"folder": str(folder), "signature_by": "release.pub.pem", "passed": True}
    (folder / "labels.txt").write_text("other")
    wrong = run(
        "verify", folder, "--signature", tmp_path / "folder.sig", "--key", public, code=SignatureError.exit_code
    )
    assert "changed: labels.txt" in wrong.stderr
    assert "give the folder's --signature" in run("verify", folder, code=UsageError.exit_code).stderr
    assert "none of the given keys" in run("verify", folder, "--signature", tmp_path / "folder.sig", code=13).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("sign", "{bundle}", "--key", "{none}"), UsageError, "this key can't be read: No such file"),
        (("sign", "{bundle}", "--key", "{public}"), UsageError, "no private key in PEM"),
        (("sign", "{none}", "--key", "{key}"), BundleError, "no such file"),
        (("sign", "{bundle}", "--key", "{key}", "--unpacked"), UsageError, "--unpacked goes with --format oms"),
        (("sign", "{bundle}", "--key", "{key}", "--add", "--format", "oms"), UsageError, "one key and no --add"),
        (("sign", "{bundle}", "--key", "{ed}", "--format", "oms"), UsageError, "make one for it: edgepack key new"),
        (("trust", "add", "a", "{key}"), UsageError, "this is a private key"),
        (("trust", "add", "a b", "{public}"), RecipeError, "'a b' is no name for a key"),
        (("trust", "add", "a", "{public}", "--not-after", "soon"), UsageError, "'soon' is no date"),
        (("trust", "remove", "vendor"), UsageError, "has no key 'vendor'"),
        (("trust", "policy"), UsageError, "name what to change"),
        (("key", "show", "{bundle}"), UsageError, "not a public key in PEM"),
        (("verify", "{bundle}", "--key", "{rsa}"), UnsupportedError, "RSAPublicKey is not supported"),
    ],
)
def test_mistakes_are_told_with_their_cure(
    run: Run,
    bundle_path: Path,
    key: Path,
    tmp_path: Path,
    own_trust: Path,
    arguments: tuple[str, ...],
    code: type,
    message: str,
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "rsa.pem").write_bytes(rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "ed.pem").write_bytes(PrivateKey.generate().pem())
    places = {"bundle": bundle_path, "key": key, "public": tmp_path / "release.pub.pem", "none": tmp_path / "none"}
    places |= {"rsa": tmp_path / "rsa.pem", "ed": tmp_path / "ed.pem"}

    result = run(*(one.format(**places) for one in arguments), code=code.exit_code)  # type: ignore[attr-defined]

    assert message in result.stderr
    assert not own_trust.exists()
