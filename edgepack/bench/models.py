"""What can be measured: a model file with the runtime that opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.records import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModel:
    """A model file to measure, the files that lie beside it, and the runtime that the agent opens it in, with that runtime's options.

    `bundle`, `version`, `target` and `bundle_sha256` say which bundle it is of; `tensors` is the content of its reports/tensors.json, for the layers' names.
    """

    label: str
    path: Path
    sha256: str
    size_bytes: int
    companions: tuple[Path, ...] = ()
    runtime: str = "litert"
    runtime_options: Mapping[str, Any] = field(default_factory=dict)
    bundle: str | None = None
    version: str | None = None
    target: str | None = None
    bundle_sha256: str | None = None
    tensors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        """What is kept of it: no path of this machine."""
        return Subject(
            label=self.label,
            model_sha256=self.sha256,
            size_bytes=self.size_bytes,
            runtime=self.runtime,
            runtime_options=dict(self.runtime_options),
            bundle=self.bundle,
            version=self.version,
            target=self.target,
            bundle_sha256=self.bundle_sha256,
        )
