"""`edgepack devices`: which devices there are, and what they are and have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import complete_device, inventory_option, json_option
from edgepack.core.errors import EdgepackError, EnvironmentProblem

if TYPE_CHECKING:
    from edgepack.devices.known import KnownDevice
    from edgepack.devices.probe import DeviceFacts

_AT_ONCE = 8


@click.command()
@click.argument("device", required=False, shell_complete=complete_device)
@click.option("--probe", is_flag=True, help="Ask every listed device what it is and has; takes about ten seconds.")
@inventory_option
@json_option
def devices(*, device: str | None, probe: bool, inventory: Path | None, as_json: bool) -> None:
    """List the devices that --device can name, or describe one.

    The list has this machine, the devices of devices.toml and those that adb sees. DEVICE is a name from it or an address: local,
    ssh://[user@]host[:port], adb://SERIAL or labgrid://PLACE; it is asked for its processor, memory, system, Python, runtimes and accelerators.

    With --probe, exit code 9 when a listed device can't be used.

    \b
    Examples:
      edgepack devices
      edgepack devices pi5
      edgepack devices ssh://pi@board --json
      edgepack devices --probe
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.devices.known import known_devices

    if device is not None:
        _describe(device, inventory, as_json=as_json)
        return
    known, why_no_adb = known_devices(inventory)
    if probe and not as_json:
        click.echo(f"asking {len(known)} devices …", err=True)
    answers = _ask_all([one.name for one in known], inventory) if probe else [None] * len(known)
    if as_json:
        content = [{**asdict(one), **_content(answer)} for one, answer in zip(known, answers, strict=True)]
        echo_json({"devices": content, "why_no_adb": why_no_adb})
    else:
        _show_list(known, answers, why_no_adb)
    if failed := [one.name for one, answer in zip(known, answers, strict=True) if isinstance(answer, EdgepackError)]:
        raise EnvironmentProblem(f"can't be used now: {', '.join(failed)}")


def _describe(device: str, inventory: Path | None, *, as_json: bool) -> None:
    from edgepack.cli.terminal import echo_json

    facts = _ask(device, inventory)
    if as_json:
        echo_json(_content(facts)["facts"])
    else:
        _show_one(facts)


def _ask(device: str, inventory: Path | None) -> DeviceFacts:
    from edgepack.devices.address import open_device
    from edgepack.devices.probe import facts_of

    with open_device(device, inventory=inventory) as opened:
        return facts_of(opened)


def _ask_all(names: Sequence[str], inventory: Path | None) -> list[DeviceFacts | EdgepackError | None]:
    """Every device's facts, or why it has none; several at once, in their order."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(name: str) -> DeviceFacts | EdgepackError | None:
        try:
            return _ask(name, inventory)
        except EdgepackError as exc:
            return exc

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        try:
            return list(pool.map(ask, names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _content(answer: DeviceFacts | EdgepackError | None) -> dict[str, Any]:
    if answer is None:
        return {}
    return {"error": str(answer)} if isinstance(answer, EdgepackError) else {"facts": asdict(answer)}


def _show_list(
    known: Sequence[KnownDevice], answers: Sequence[DeviceFacts | EdgepackError | None], why_no_adb: str | None
) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import plain_table
    from edgepack.cli.terminal import draw

    columns = {"device": "left", "address": "left", "known by": "left", "state": "left", "tags": "left"}
    rows = [
        (
            f"[bold]{escape(one.name)}[/]",
            escape(one.address) if one.address != one.name else "",
            one.known_by,
            _state(one, answer),
            escape(", ".join(one.tags)),
        )
        for one, answer in zip(known, answers, strict=True)
    ]
    draw(plain_table("", columns, rows))
    if any(answers):
        for one, answer in zip(known, answers, strict=True):
            if answer is not None and not isinstance(answer, EdgepackError):
                draw(f"\n[bold]{escape(one.name)}[/]")
                _show_one(answer)
    if why_no_adb is not None:
        click.secho(f"! devices of adb are not listed: {why_no_adb}", fg="yellow", err=True)


def _state(one: KnownDevice, answer: DeviceFacts | EdgepackError | None) -> str:
    from rich.markup import escape

    if isinstance(answer, EdgepackError):
        return f"[bold red]✗[/] {escape(str(answer))}"
    if answer is not None:
        return "[green]✓[/] answers"
    return escape(one.state or "not asked")


def _show_one(facts: DeviceFacts) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import facts as table_of
    from edgepack.cli.terminal import draw

    draw(table_of((name, escape(value)) for name, value in _pairs(facts)))


def _pairs(facts: DeviceFacts) -> Iterable[tuple[str, str]]:
    """What a person reads, most basic first; an empty value is left out, and one that could be had says why it is not."""
    from edgepack.cli.words import size

    yield "device", f"{facts.device.name} ({facts.device.transport})"
    yield "model", facts.model or ""
    yield "SoC", facts.soc or ""
    yield "cores", _cores(facts)
    yield "frequency", _frequency(facts)
    yield "memory", "" if facts.memory_bytes is None else size(facts.memory_bytes)
    yield "system", " · ".join(filter(None, (facts.os_name, facts.kernel, facts.machine)))
    yield "C library", facts.libc or ""
    yield "emulated", facts.emulated or ""
    yield "Python", facts.python or f"not asked: {facts.why_no_agent}"
    for name, runtime in (facts.runtimes or {}).items():
        yield name, f"{runtime.package} {runtime.version}" if runtime.missing is None else f"no: {runtime.missing}"
    yield "accelerators", ", ".join(facts.accelerators) or "none found"
    yield "state", _now(facts)


def _cores(facts: DeviceFacts) -> str:
    text = ", ".join(f"{count}× {kind}" for kind, count in facts.cores.items())
    usable = facts.usable_cores
    return text + (f" ({usable} usable)" if usable is not None and usable < sum(facts.cores.values()) else "")


def _frequency(facts: DeviceFacts) -> str:
    if facts.max_mhz is None:
        return f"unknown: {facts.missing.get('max_mhz', 'the device does not tell')}"
    kinds = sorted(set(facts.max_mhz))
    return "at most " + ", ".join(f"{facts.max_mhz.count(mhz)}× {mhz:.0f} MHz" for mhz in kinds)


def _now(facts: DeviceFacts) -> str:
    from edgepack.cli.words import size

    if (state := facts.state) is None:
        return ""
    parts = [f"load {state.load_average:.2f}"]
    parts += [] if state.free_memory_bytes is None else [f"{size(state.free_memory_bytes)} free"]
    parts += [] if state.temperature_c is None else [f"{state.temperature_c:.0f} °C"]
    parts += [] if state.governor is None else [f"governor {state.governor}"]
    parts += ["throttled"] if state.throttled else []
    return " · ".join(parts)
