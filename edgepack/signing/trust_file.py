"""The trust file: `trust.toml`, which lists keys by name and says what happens with bundles that none of them signed."""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from edgepack.core.errors import EdgepackError, RecipeError, UsageError, did_you_mean
from edgepack.core.files import config_folder, write_atomic
from edgepack.core.locks import exclusive
from edgepack.core.section import Section, validate
from edgepack.signing.keys import PublicKey

FILE_NAME = "trust.toml"
VARIABLE = "EDGEPACK_TRUST"
REQUIRE_VARIABLE = "EDGEPACK_REQUIRE_SIGNED"
Policy = Literal["refuse", "warn", "allow"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")  # a bare key of TOML
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # what no TOML text may hold
_HEADER = """\
# Whose bundles this machine takes. `edgepack trust` writes this file anew and keeps what the keys below say, not other remarks:
# put those into `note`. docs/signing.md explains every key.
"""


def _as_time(value: object) -> object:
    """A date means its first moment, and a time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise ValueError(f"'{value}' is no date; write 2027-01-31 or 2027-01-31T12:00:00Z") from exc
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


Moment = Annotated[datetime, BeforeValidator(_as_time)]


class TrustedKey(Section):
    """One key: `public_key` is the base64 of its DER SubjectPublicKeyInfo, or PEM."""

    public_key: str
    not_before: Moment | None = Field(default=None, description="The key's signatures count from here on.")
    not_after: Moment | None = Field(default=None, description="They no longer count from here on.")
    revoked: bool = Field(default=False, description="They never count again, and refuse a bundle that has no other.")
    note: str = Field(default="", description="A remark of yours.")

    @field_validator("public_key")
    @classmethod
    def _is_a_key(cls, text: str) -> str:
        try:
            return base64.b64encode(_key_of(text).der).decode()
        except (EdgepackError, ValueError) as exc:
            raise ValueError(f"not a public key that edgepack knows: {exc}") from exc

    @field_validator("note")
    @classmethod
    def _is_plain_text(cls, text: str) -> str:
        if _FORBIDDEN.search(text):
            raise ValueError("a note is text without control characters")
        return text

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> Self:
        if self.not_before and self.not_after and self.not_before >= self.not_after:
            raise ValueError("not_before must lie before not_after")
        return self

    @classmethod
    def of(cls, key: PublicKey, **fields: Any) -> TrustedKey:
        return cls(public_key=base64.b64encode(key.der).decode(), **fields)

    @property
    def key(self) -> PublicKey:
        return _key_of(self.public_key)


class PolicySection(Section):
    """`untrusted` is for bundles that only unknown or expired keys signed; null: refused where unsigned ones are, else a warning."""

    unsigned: Policy = "allow"
    untrusted: Policy | None = None


class TrustFile(Section):
    """The whole file."""

    policy: PolicySection = PolicySection()
    keys: dict[str, TrustedKey] = Field(default_factory=dict)

    @field_validator("keys")
    @classmethod
    def _names_are_plain_and_keys_differ(cls, keys: dict[str, TrustedKey]) -> dict[str, TrustedKey]:
        names: dict[str, str] = {}
        for name, key in keys.items():
            if not _NAME.match(name):
                raise ValueError(f"'{name}' is no name for a key: letters, digits, '-' and '_', at most 64")
            if (other := names.setdefault(key.public_key, name)) != name:
                raise ValueError(f"'{other}' and '{name}' are the same key; remove one of them")
        return keys

    def to_toml(self) -> str:
        """The file as edgepack writes it."""
        lines = [_HEADER, "[policy]", f"unsigned = {_text(self.policy.unsigned)}"]
        if self.policy.untrusted is not None:
            lines.append(f"untrusted = {_text(self.policy.untrusted)}")
        for name, key in self.keys.items():
            lines += ["", f"[keys.{name}]", f"public_key = {_text(key.public_key)}"]
            times = {"not_before": key.not_before, "not_after": key.not_after}
            lines += [f"{word} = {_time(moment)}" for word, moment in times.items() if moment is not None]
            lines += ["revoked = true"] if key.revoked else []
            lines += [f"note = {_text(key.note)}"] if key.note else []
        return "\n".join(lines) + "\n"


def trust_path(path: Path | None = None) -> Path:
    """The file that counts: `path`, else $EDGEPACK_TRUST, else trust.toml in the user's config folder."""
    return path or (Path(named) if (named := os.environ.get(VARIABLE)) else config_folder() / FILE_NAME)


def load_trust_file(path: Path | None = None) -> TrustFile:
    """The trust file, or an empty one where the user has none. Raises RecipeError for a named file that is missing, or a wrong one."""
    file = trust_path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if path is None and not os.environ.get(VARIABLE):
            return TrustFile()
        raise RecipeError(f"{file}: this trust file is missing; correct the path or ${VARIABLE}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise RecipeError(f"{file}: this trust file can't be read: {reason}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise RecipeError(f"{file}: not valid TOML: {exc}") from exc
    return validate(TrustFile, content, where=str(file))


def change_trust_file(change: Callable[[TrustFile], TrustFile], path: Path | None = None) -> Path:
    """Read, change and write the trust file, atomically, one process at a time; it is made where there is none. Its path."""
    file = trust_path(path)
    with exclusive(file.with_name(f".{file.name}.lock")):
        changed = change(load_trust_file(file) if file.exists() else TrustFile())
        write_atomic(file, validate(TrustFile, changed.model_dump(), where=str(file)).to_toml().encode())
    return file


def known_key(file: TrustFile, name: str) -> str:
    """The name of a key by its name or its id. Raises UsageError for an unknown one."""
    ids = {key.key.key_id: each for each, key in file.keys.items()}
    if name in file.keys or name in ids:
        return name if name in file.keys else ids[name]
    raise UsageError(f"the trust file has no key '{name}'{did_you_mean(name, file.keys)}; see: edgepack trust list")


def is_required() -> bool:
    """Whether $EDGEPACK_REQUIRE_SIGNED asks for signatures. Raises UsageError for a value that says neither yes nor no."""
    value = os.environ.get(REQUIRE_VARIABLE, "").lower()
    if value not in ("", "0", "false", "no", "1", "true", "yes"):
        raise UsageError(f"${REQUIRE_VARIABLE}={value}: write 1 or 0")
    return value in ("1", "true", "yes")


def _key_of(text: str) -> PublicKey:
    if "-----BEGIN" in text:
        return PublicKey.from_pem(text.encode())
    return PublicKey.from_der(base64.b64decode("".join(text.split()), validate=True))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a basic string of TOML: the same escapes


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
