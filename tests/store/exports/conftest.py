"""Stores to export from: a bench on a real device with every status, and one on an emulator."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import DEVICE, ENVIRONMENT, report, run, subject

from edgepack.records import DeviceName, RunRecord
from edgepack.store.exports import export
from edgepack.store.results import ResultStore, Where, open_store

NASTY = 'cut | off <b>&amp; "so" it\x1b[31m was\n- really `so` *bold* \ud83e\udd16'.encode(
    "utf-16", "surrogatepass"
).decode("utf-16")


def real_runs() -> list[RunRecord]:
    """Two models on two devices in three rounds, and runs that don't count."""
    models = (subject("bundle"), subject("float", model_sha256="0f" * 32, size_bytes=18_000_000))
    devices = (DEVICE, DeviceName(transport="adb", name="ph|one <1>"))
    found = [
        run(
            3 * place + round_,
            round=round_,
            position=place,
            device=device,
            subject=model,
            report=report(tuple(1_000_000 * (place + 1) + 1000 * round_ + n for n in range(51))),
        )
        for device in devices
        for place, model in enumerate(models)
        for round_ in range(3)
    ]
    return [
        *found,
        run(30, status="partial", reason=NASTY),
        run(31, status="void", reason="it was hot"),
        run(32, status="failed"),
    ]


def emulated_runs(clock: str) -> list[RunRecord]:
    """On an emulator that counts time ('ns') or instructions."""
    environment = replace(ENVIRONMENT, emulated="QEMU", clock=clock)
    return [run(i, bench=f"qemu-{clock}", report=report(environment=environment)) for i in range(2)]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[ResultStore]:
    with open_store(str(tmp_path / "results.sqlite")) as store:
        store.add([*real_runs(), *emulated_runs("ns"), *emulated_runs("guest_instructions")])
        yield store


@pytest.fixture
def exported(full: ResultStore) -> Callable[..., bytes]:
    """`exported("csv", bench="b1", samples=False)`."""

    def write(name: str, *, samples: bool = False, **where: str) -> bytes:
        stream = io.BytesIO()
        export(full, Where(**where), name=name, stream=stream, samples=samples)  # type: ignore[arg-type]  # texts
        return stream.getvalue()

    return write
