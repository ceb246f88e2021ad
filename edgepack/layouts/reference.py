"""Names of artifacts in registries: `oci://host[:port]/name[:tag][@sha256:…]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepack.core.errors import UsageError

SCHEME = "oci://"
# Grammar of the OCI distribution spec (1.1, "Pulling manifests") for names and tags.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?|\[[0-9A-Fa-f:]+\](?::[0-9]{{1,5}})?)/(?P<name>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An artifact: which registry, which repository, which tag or digest (None: not said)."""

    host: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, where plain HTTP is usual."""
        return _LOOPBACK.match(self.host) is not None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.host}/{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """The parts of a reference. Raises UsageError that shows the form."""
    found = _REFERENCE.match(text.removeprefix(SCHEME)) if text.startswith(SCHEME) else None
    if found is None:
        raise UsageError(
            f"'{text}': not an artifact's address; the form is oci://host[:port]/name[:tag][@sha256:…], name in lower case"
        )
    return Reference(host=found["host"], name=found["name"], tag=found["tag"], digest=found["digest"])
