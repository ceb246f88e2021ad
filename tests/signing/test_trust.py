from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgepack.core.errors import RecipeError, SignatureError, UsageError
from edgepack.signing.keys import PrivateKey
from edgepack.signing.signatures import sign
from edgepack.signing.trust import Trust, TrustResult, judge, load_trust
from edgepack.signing.trust_file import PolicySection, TrustedKey, TrustFile, change_trust_file, load_trust_file

MANIFEST = b"{}\n"
OLD, NEW, OTHER = (PrivateKey.generate() for _ in range(3))
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def trust(policy: dict[str, Any] | None = None, **keys: TrustedKey) -> Trust:
    return Trust.of_file(TrustFile(policy=PolicySection(**policy or {}), keys=keys), place="trust.toml")


def found(*keys: PrivateKey, by: Trust) -> TrustResult:
    data = sign(MANIFEST, keys) if keys else None
    return judge(MANIFEST, data, trust=by, where="a.edgepack", now=NOW)


def test_a_bundle_by_a_trusted_key_is_trusted_and_its_signer_has_a_name() -> None:
    result = found(OLD, by=trust(release=TrustedKey.of(OLD.public)))

    assert result.verdict == "trusted"
    assert [(one.name, one.standing) for one in result.signers] == [("release", "trusted")]
    assert not result.warnings


def test_by_default_an_unsigned_bundle_is_taken_and_one_by_an_unknown_key_with_a_warning() -> None:
    assert found(by=trust()) == TrustResult(verdict="unsigned", signers=())
    unknown = found(OLD, by=trust())
    assert unknown.verdict == "untrusted"
    assert unknown.warnings == (f"a.edgepack: no trusted key signed it, only {OLD.key_id} (unknown)",)


def test_a_refusal_that_a_flag_asked_for_names_the_flag() -> None:
    with pytest.raises(
        SignatureError, match=r"not signed, and --require-signed, or \$EDGEPACK_REQUIRE_SIGNED, refuses"
    ):
        found(by=trust().required)


@pytest.mark.parametrize("policy", ["refuse", "warn", "allow"])
def test_the_policy_decides_on_unsigned_bundles(policy: str) -> None:
    by = trust({"unsigned": policy})

    if policy == "refuse":
        with pytest.raises(SignatureError, match=r"^a\.edgepack: not signed, and the policy of trust\.toml refuses"):
            found(by=by)
        with pytest.raises(SignatureError, match=r"no trusted key signed it.*edgepack trust add"):
            found(OLD, by=by)  # or anybody could sign
    else:
        assert found(by=by).warnings == (("a.edgepack: not signed",) if policy == "warn" else ())


def test_unknown_keys_have_a_policy_of_their_own() -> None:
    with pytest.raises(SignatureError):
        found(OLD, by=trust({"untrusted": "refuse"}))
    assert not found(OLD, by=trust({"unsigned": "refuse", "untrusted": "allow"})).warnings


def test_while_keys_change_one_trusted_signature_is_enough() -> None:
    old = TrustedKey.of(OLD.public, not_after="2026-05-01")
    new = TrustedKey.of(NEW.public, not_before="2026-04-01")

    both = found(OLD, NEW, by=trust({"unsigned": "refuse"}, old=old, new=new))
    assert both.verdict == "trusted"
    assert {one.name: one.standing for one in both.signers} == {"old": "expired", "new": "trusted"}
    with pytest.raises(SignatureError, match=r"only old \(expired\)"):
        found(OLD, by=trust({"unsigned": "refuse"}, old=old, new=new))


def test_a_key_does_not_count_before_its_time() -> None:
    early = TrustedKey.of(OLD.public, not_before="2026-06-01T00:00:01Z")

    assert found(OLD, by=trust(early=early)).signers[0].standing == "not yet valid"


def test_a_revoked_key_refuses_a_bundle_whatever_the_policy_unless_another_trusted_key_signed_it() -> None:
    by = trust(
        {"unsigned": "allow", "untrusted": "allow"},
        old=TrustedKey.of(OLD.public, revoked=True),
        new=TrustedKey.of(NEW.public),
    )

    with pytest.raises(SignatureError, match=r"only old \(revoked\); trust\.toml says so"):
        found(OLD, by=by)
    assert found(OLD, NEW, by=by).verdict == "trusted"


def test_a_wrong_signature_is_refused_whatever_the_policy() -> None:
    with pytest.raises(SignatureError, match=r"^a\.edgepack: signatures\.json: "):
        judge(MANIFEST, sign(b"other", [OLD]), trust=trust({"untrusted": "allow"}), where="a.edgepack")


def test_keys_that_are_given_are_the_only_ones_and_required() -> None:
    only = Trust.only({"release.pub.pem": OLD.public})

    assert found(OLD, by=only).verdict == "trusted"
    for keys in ([], [OTHER]):
        with pytest.raises(SignatureError):
            found(*keys, by=only)


def test_the_file_is_found_by_flag_variable_or_in_the_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("EDGEPACK_TRUST", raising=False)
    assert load_trust() == Trust(
        keys={}, unsigned="allow", untrusted="warn", place=str(tmp_path / "config/edgepack/trust.toml")
    )
    change_trust_file(lambda file: file.model_copy(update={"policy": PolicySection(unsigned="warn")}))
    assert load_trust().unsigned == "warn"
    (tmp_path / "own.toml").write_text('[policy]\nunsigned = "refuse"\n')
    monkeypatch.setenv("EDGEPACK_TRUST", str(tmp_path / "own.toml"))
    assert load_trust().untrusted == "refuse"
    with pytest.raises(RecipeError, match=r"none\.toml: this trust file is missing"):
        load_trust(tmp_path / "none.toml")


def test_signatures_are_required_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPACK_TRUST", str(tmp_path / "trust.toml"))
    (tmp_path / "trust.toml").write_text("")
    assert load_trust(require_signed=True).unsigned == "refuse"
    monkeypatch.setenv("EDGEPACK_REQUIRE_SIGNED", "1")
    assert load_trust().unsigned == load_trust().untrusted == "refuse"
    monkeypatch.setenv("EDGEPACK_REQUIRE_SIGNED", "perhaps")
    with pytest.raises(UsageError, match="write 1 or 0"):
        load_trust()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    keys = {
        "release-2026": TrustedKey.of(
            OLD.public, not_before="2026-01-01", not_after="2027-01-01T12:00:00+02:00", note='two\nlines "and" ü 🔑 \\'
        ),
        "old": TrustedKey.of(PrivateKey.generate("ecdsa-p256").public, revoked=True),
    }
    file = TrustFile(policy=PolicySection(unsigned="refuse", untrusted="warn"), keys=keys)

    change_trust_file(lambda _: file, tmp_path / "trust.toml")

    assert load_trust_file(tmp_path / "trust.toml") == file
    text = (tmp_path / "trust.toml").read_text()
    assert "not_after = 2027-01-01T10:00:00Z" in text and text.startswith("# ")


def test_a_key_may_be_written_as_pem_and_dates_without_a_time(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(f'[keys.a]\npublic_key = """\n{OLD.public.pem().decode()}"""\nnot_after = 2026-02-03\n')

    key = load_trust_file(path).keys["a"]

    assert key.key == OLD.public
    assert key.not_after == datetime(2026, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[keys.a]\npublic_key = 'AAAA'\n", "keys.a.public_key: not a public key that edgepack knows"),
        ("[keys.a]\npublic_key = 'ü'\n", "not a public key that edgepack knows"),
        ("[keys.a]\npublic_kye = ''\n", "unknown key 'public_kye'"),
        ("[policy]\nunsigned = 'no'\n", "policy.unsigned"),
        ("[polcy]\n", "unknown key 'polcy'"),
        ("[keys.'a b']\npublic_key = '{key}'\n", "'a b' is no name for a key"),
        ("[keys.a]\npublic_key = '{key}'\n[keys.b]\npublic_key = '{key}'\n", "'a' and 'b' are the same key"),
        (
            "[keys.a]\npublic_key = '{key}'\nnot_before = 2027-01-01\nnot_after = 2026-01-01\n",
            "not_before must lie before",
        ),
        ("[keys.a]\npublic_key = '{key}'\nnot_after = 'soon'\n", "'soon' is no date"),
        ("[keys.a\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(text.replace("{key}", base64.b64encode(OLD.public.der).decode()))

    with pytest.raises(RecipeError, match=message) as caught:
        load_trust_file(path)
    assert str(caught.value).startswith(str(path))


def test_a_change_that_is_wrong_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    change_trust_file(lambda file: file.model_copy(update={"keys": {"a": TrustedKey.of(OLD.public)}}), path)
    before = path.read_bytes()

    with pytest.raises(RecipeError, match="same key"):
        change_trust_file(
            lambda file: file.model_copy(update={"keys": {**file.keys, "b": TrustedKey.of(OLD.public)}}), path
        )
    assert path.read_bytes() == before
