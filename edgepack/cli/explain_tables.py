"""The tables of `edgepack explain`: fewer columns on a narrow terminal, never a broken one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from edgepack.cli.explain_steps import about_losses, about_steps, steps_table
from edgepack.cli.tables import facts, plain_table
from edgepack.cli.terminal import console_on, draw
from edgepack.cli.words import percent, size
from edgepack.core.text import printable

if TYPE_CHECKING:
    from edgepack.explain import Account, LayerAccount

_NAME_CHARACTERS = 40
_NONE = "[dim]–[/]"
# In the order in which they stand.
_COLUMNS: dict[str, Callable[[LayerAccount], str]] = {
    "kind": lambda one: escape(one.kind),
    "original": lambda one: _whole(None if one.original is None else one.original.parameters),
    "parameters": lambda one: _whole(one.parameters),
    "zeros": lambda one: _share(one.sparsity),
    "MACs": lambda one: _whole(one.macs),
    "ms": lambda one: _fixed(one.latency_ms, 4),
    "file": lambda one: size(one.file_bytes),
    "coded": lambda one: size(one.coded_bytes),
    "bits/weight": lambda one: _fixed(one.bits_per_weight, 2),
    "codes": lambda one: _whole(one.distinct_codes),
    "rounding dB": lambda one: _fixed(one.rounding_sqnr_db, 1),
    "output dB": lambda one: _fixed(one.output_sqnr_db, 1),
    "change dB": lambda one: _fixed(None if one.original is None else one.original.change_sqnr_db, 1),
    "sensitivity": lambda one: _brief(None if one.loss is None else one.loss.sensitivity),
    "share": lambda one: _share(None if one.loss is None else one.loss.share),
    "points": lambda one: _fixed(None if one.loss is None else one.loss.points, 2),
}
# In the order in which they get a place on a narrow terminal.
_WANTED = (
    "coded",
    "bits/weight",
    "share",
    "sensitivity",
    "points",
    "parameters",
    "zeros",
    "MACs",
    "ms",
    "file",
    "original",
    "codes",
    "rounding dB",
    "change dB",
    "kind",
    "output dB",
)
_ORDERS: dict[str, Callable[[LayerAccount], float]] = {
    "coded": lambda one: one.coded_bytes,
    "parameters": lambda one: one.parameters,
    "macs": lambda one: one.macs or 0,
    "bits": lambda one: one.bits_per_weight or 0.0,
    "sensitivity": lambda one: 0.0 if one.loss is None else one.loss.sensitivity or 0.0,
    "share": lambda one: 0.0 if one.loss is None else one.loss.share or 0.0,
}


def show(accounts: Sequence[Account], *, order: str, top: int | None) -> None:
    """Print one model, or several side by side."""
    width = console_on(sys.stdout).width
    if len(accounts) == 1:
        draw(layers_table(accounts[0], order=order, top=top, width=width), _about(accounts[0]))
        _draw_steps(accounts[0], width)
        return
    draw(side_by_side(accounts, order=order, top=top))
    for account in accounts:
        draw(f"\n[bold]{escape(printable(account.title))}[/]", _about(account))
        _draw_steps(account, width)


def _draw_steps(account: Account, width: int) -> None:
    if account.steps is not None:
        draw(steps_table(account.steps, width=width), facts(about_steps(account.steps)))


def layers_table(account: Account, *, order: str, top: int | None, width: int) -> Table:
    """A model's layers with totals; as many columns as `width` has room for."""
    ranked = _ranked(account, order)
    names = [_name(one.name) for one in ranked[:top]]
    totals = _totals(account)
    cells = {name: [*(cell(one) for one in ranked[:top]), totals.get(name, "")] for name, cell in _COLUMNS.items()}
    shown = _fitting(cells, width - max([14, *map(len, names)]) - 4)
    columns = {name: "left" if name == "kind" else "right" for name in shown}
    rows = [(name, *(cells[column][place] for column in shown)) for place, name in enumerate(names)]
    table = plain_table(escape(printable(account.title)), {"layer": "left", **columns}, rows)
    if rows:
        table.add_section()
    table.add_row(f"[bold]{len(ranked)} layers[/]", *(f"[bold]{totals.get(name, '')}[/]" for name in shown))
    return table


def _fitting(cells: Mapping[str, Sequence[str]], room: int) -> list[str]:
    """The columns that have a value and find room, in the order in which they stand."""
    chosen = []
    for name in _WANTED:
        column = cells[name]
        needed = max(len(name), *(len(cell) for cell in column if cell != _NONE), 1) + 3
        if needed <= room and any(cell not in (_NONE, "") for cell in column):
            chosen.append(name)
            room -= needed
    return [name for name in _COLUMNS if name in chosen]


def side_by_side(accounts: Sequence[Account], *, order: str, top: int | None) -> Table:
    """Layers of several models by name, in the order of the first: what each costs once coded, and how many bits a weight."""
    names = list(dict.fromkeys(one.name for account in accounts for one in _ranked(account, order)))
    columns = {"layer": "left", **{escape(printable(one.title)): "right" for one in accounts}}
    by_name = [{one.name: one for one in account.layers} for account in accounts]
    rows = [
        (
            _name(name),
            *(_coded(one.coded_bytes, one.bits_per_weight) if (one := known.get(name)) else "" for known in by_name),
        )
        for name in names[:top]
    ]
    table = plain_table("Coded, and bits a weight", columns, rows)
    table.add_section()
    totals = [_coded(one.totals.coded_bytes, one.totals.bits_per_weight) for one in accounts]
    table.add_row(f"[bold]{len(names)} layers[/]", *(f"[bold]{cell}[/]" for cell in totals))
    return table


def _coded(coded_bytes: int, bits_per_weight: float | None) -> str:
    return f"{size(coded_bytes)}  {_fixed(bits_per_weight, 2):>5}"


def _ranked(account: Account, order: str) -> list[LayerAccount]:
    key = _ORDERS.get(order)
    return list(account.layers) if key is None else sorted(account.layers, key=key, reverse=True)


def _totals(account: Account) -> dict[str, str]:
    totals = account.totals
    return {
        "original": _whole(totals.original_parameters),
        "parameters": _whole(totals.parameters),
        "zeros": _share(totals.sparsity),
        "MACs": _whole(totals.macs),
        "ms": _fixed(totals.latency_ms, 4),
        "file": size(totals.file_bytes),
        "coded": size(totals.coded_bytes),
        "bits/weight": _fixed(totals.bits_per_weight, 2),
    }


def _about(account: Account) -> Table:
    totals, quality = account.totals, account.quality
    rest = f"{size(account.structure_bytes)} of structure ({size(account.structure_coded_bytes)} coded)"
    before = "" if totals.original_parameters is None else f" of the original's {totals.original_parameters:,}"
    macs = "" if totals.macs is None else f"{totals.macs:,}"
    if macs and totals.original_macs is not None:
        macs += f" of the original's {totals.original_macs:,}"
    original = "" if account.original_bytes is None else f", the original's {size(account.original_bytes)}"
    pairs = [
        ("parameters", f"{totals.nonzero_parameters:,} not 0, {totals.parameters:,} in the file{before}"),
        ("MACs", macs),
        ("model", f"{size(account.model_bytes)}, {rest}{original}"),
        ("quality", "" if quality is None else f"{escape(quality.metric)} {percent(quality.value)}"),
        ("meaning", escape(account.meaning)),
        *about_losses(account),
        *(
            (f"no {name}", escape(reason))
            for name, reason in account.unknown.items()
            if name in ("original", "quality", "loss_share")
        ),
    ]
    return facts(pairs)


def _name(name: str) -> str:
    """The end of a long name, which says most."""
    told = printable(name)
    return escape(told if len(told) <= _NAME_CHARACTERS else "…" + told[1 - _NAME_CHARACTERS :])


def _whole(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _fixed(value: float | None, decimals: int) -> str:
    return _NONE if value is None else f"{value:.{decimals}f}"


def _brief(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2g}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f} %"
