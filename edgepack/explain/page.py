"""The page of an explanation: one HTML file that fetches nothing, in the style of the report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edgepack import __version__
from edgepack.explain.account import Account
from edgepack.explain.draw import (
    bytes_figure,
    histogram_figure,
    macs_figure,
    parameters_figure,
    size_figure,
)
from edgepack.explain.draw_losses import sensitivity_figure, share_figure, steps_figure
from edgepack.report.draw.svg import marker, tag
from edgepack.report.html import TEMPLATES as REPORT_TEMPLATES
from edgepack.report.text import NONE, digits, size

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_COLOURS = 6


def explain_page(accounts: Sequence[Account]) -> str:
    """The explanations of one or more models as one HTML file."""
    script = (REPORT_TEMPLATES / "page.js").read_text(encoding="utf-8")
    css = (REPORT_TEMPLATES / "style.css").read_text(encoding="utf-8")
    colours = [f"c{number % _COLOURS}" for number in range(len(accounts))]
    metrics = {one.quality.metric for one in accounts if one.quality is not None}
    models = [_model(one, colour, number) for number, (one, colour) in enumerate(zip(accounts, colours, strict=True))]
    return (
        _environment()
        .get_template("explain.html.j2")
        .render(
            title="What the model costs" if len(accounts) > 1 else f"What {accounts[0].title} costs",
            version=__version__,
            models=models,
            # Two metrics share no axis.
            size_picture=size_figure(accounts, colours, metrics.pop()) if len(metrics) == 1 else None,
            payload={"models": [one.as_dict() for one in accounts]},
            css=Markup(css),  # a file of ours
            script=Markup(script),  # a file of ours
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _model(account: Account, colour: str, number: int) -> dict[str, object]:
    """An account with its pictures."""
    sign = marker(number % _COLOURS, 7, 7, 4.5, f"{colour} mark")
    drawn = [(layer, histogram_figure(layer, colour)) for layer in account.layers]
    return {
        "account": account,
        "swatch": tag("svg", sign, viewBox="0 0 14 14", width=12, height=12, class_="swatch", aria_hidden="true"),
        "figures": [
            ("Bytes", bytes_figure(account, colour)),
            ("Parameters", parameters_figure(account, colour)),
            ("Multiplications", macs_figure(account, colour)),
            *_asked_for(account, colour),
        ],
        "steps_picture": None if account.steps is None else steps_figure(account.steps, colour),
        "histograms": [(layer, figure) for layer, figure in drawn if figure is not None],
    }


def _asked_for(account: Account, colour: str) -> list[tuple[str, Markup]]:
    """The pictures of layers' losses, where they were measured."""
    drawn = [
        ("Sensitivity", sensitivity_figure(account, colour)),
        ("Share of the loss", share_figure(account, colour)),
    ]
    return [(caption, figure) for caption, figure in drawn if figure is not None]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size, "whole": _whole, "fixed": _fixed, "share": _share, "digits": _digits}
    return environment


def _whole(value: int | None) -> str:
    return NONE if value is None else f"{value:,}".replace(",", "\u202f")


def _digits(value: float | None) -> str:
    return NONE if value is None else digits(value)


def _fixed(value: float | None, decimals: int) -> str:
    return NONE if value is None else f"{round(value, decimals) or 0.0:.{decimals}f}".replace("-", "−")


def _share(value: float | None) -> str:
    return NONE if value is None else f"{round(100 * value, 2) or 0.0:.2f}\u202f%".replace("-", "−")
