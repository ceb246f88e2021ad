"""Lines: memory by stage, a metric over builds, a device's state over time."""

from __future__ import annotations

from markupsafe import Markup

from edgepack.records import METRICS
from edgepack.report.draw.axes import side_axis, value_axis
from edgepack.report.draw.style import Style
from edgepack.report.draw.svg import WIDTH, Scale, join, line, marker, padded, path, picture, text
from edgepack.report.history import HistoryLine, HistoryPanel, Moment
from edgepack.report.memory import STAGES, MemoryLine, MemoryPanel
from edgepack.report.state import Trace
from edgepack.report.text import number, size, when

_TOP, _BOTTOM, _LEFT, _RIGHT = 30.0, 190.0, 56.0, WIDTH - 18.0
_DISPLAY = {"bytes": ("MB", 1e-6), "share": ("%", 100.0), "ms of an emulator": ("ms", 1.0)}


def memory_figure(panel: MemoryPanel, styles: dict[str, Style]) -> Markup:
    """Resident memory of each row, stage by stage, with the peak at the right."""
    names = [*STAGES.values(), "peak"]
    step = (_RIGHT - _LEFT - 40) / (len(names) - 1)
    places = [_LEFT + 20 + number * step for number in range(len(names))]
    low, high = padded([value for one in panel.lines for value in (*one.stages, one.peak_bytes)])
    y = Scale(low=max(0.0, low), high=high, start=_BOTTOM, end=_TOP)
    parts = [side_axis(y, left=_LEFT, right=_RIGHT, title="resident memory, MB", factor=1e-6)]
    parts += [text(place, _BOTTOM + 16, name, anchor="middle") for place, name in zip(places, names, strict=True)]
    parts += [_memory_line(one, places, y, styles[one.row], names) for one in panel.lines]
    return picture(join(parts), height=_BOTTOM + 26, title=f"Memory on {panel.place.title}")


def _memory_line(one: MemoryLine, places: list[float], y: Scale, style: Style, names: list[str]) -> Markup:
    values = [*one.stages, one.peak_bytes]
    points = [(place, y(value)) for place, value in zip(places, values, strict=True)]
    marks = [
        marker(style.shape, x, at, 3.6, f"{style.colour} mark", data_tip=f"{style.name}, {name}: {size(value)}")
        for (x, at), name, value in zip(points, names, values, strict=True)
    ]
    return join([path(points[:-1], f"{style.colour} line"), path(points[-2:], f"{style.colour} line dashed"), *marks])


def history_figure(panel: HistoryPanel, styles: list[Style]) -> Markup:
    """A metric, bench after bench: equal steps, for builds come in bursts."""
    begun: dict[str, str] = {}
    for moment in (moment for one in panel.lines for moment in one.moments):
        begun[moment.bench] = min(moment.at, begun.get(moment.bench, moment.at))
    benches = sorted((at, bench) for bench, at in begun.items())
    place = {bench: number for number, (_, bench) in enumerate(benches)}
    x = Scale(low=-0.4, high=len(place) - 0.6, start=_LEFT, end=_RIGHT)
    ends = [end for one in panel.lines for moment in one.moments for end in (moment.low, moment.high)]
    low, high = padded(ends)
    y = Scale(low=max(0.0, low), high=high, start=_BOTTOM, end=_TOP)
    unit, factor = _DISPLAY.get(panel.unit, (panel.unit, 1.0))
    title = f"{panel.metric.removesuffix('_bytes').removesuffix('_ms').replace('_', ' ')}, {unit.partition(' ')[0]}"
    parts = [side_axis(y, left=_LEFT, right=_RIGHT, title=title, factor=factor)]
    parts.append(_build_names(panel, benches, x))
    for one, style in zip(panel.lines, styles, strict=True):
        parts.append(_history_line(one, panel, place, x, y, style))
    return picture(join(parts), height=_BOTTOM + 38, title=f"{panel.metric} over builds on {panel.place.title}")


def _build_names(panel: HistoryPanel, benches: list[tuple[str, str]], x: Scale) -> Markup:
    """Versions where they change and fit, and the days of the first and the last bench."""
    version = {moment.bench: moment.version for one in panel.lines for moment in one.moments}
    parts: list[Markup] = []
    free_from, last = 0.0, None
    for number_, (_, bench) in enumerate(benches):
        name = version[bench]
        if name and name != last and x(number_) - 3.2 * len(name) >= free_from:
            parts.append(text(x(number_), _BOTTOM + 16, name, anchor="middle"))
            free_from, last = x(number_) + 3.2 * len(name) + 5, name
    parts.append(text(_LEFT, _BOTTOM + 32, when(benches[0][0])[:10]))
    parts.append(text(_RIGHT, _BOTTOM + 32, when(benches[-1][0])[:10], anchor="end"))
    return join(parts)


def _history_line(
    one: HistoryLine, panel: HistoryPanel, place: dict[str, int], x: Scale, y: Scale, style: Style
) -> Markup:
    points = [(x(place[moment.bench]), y(moment.value)) for moment in one.moments]
    parts = [path(points, f"{style.colour} line")]
    for (at_x, at_y), moment in zip(points, one.moments, strict=True):
        if moment.low < moment.high:
            parts.append(line(at_x, y(moment.low), at_x, y(moment.high), f"{style.colour} whisker"))
        if moment.changed:
            parts.append(line(at_x, _TOP, at_x, _BOTTOM, "change"))
        more = {"data_tip": _moment_tip(moment, panel, style), "data_value": moment.value, "data_bench": moment.bench}
        parts.append(marker(style.shape, at_x, at_y, 3.8, f"{style.colour} mark", **more))
    return join(parts)


def _moment_tip(moment: Moment, panel: HistoryPanel, style: Style) -> str:
    unit = _DISPLAY.get(METRICS[panel.metric][1], (panel.unit, 1.0))[0]
    shown = number(moment.value, panel.unit if panel.unit in ("bytes", "share") else unit)
    changed = f"; changed: {moment.changed}" if moment.changed else ""
    build = f"{moment.version} " if moment.version else ""
    return f"{style.name} {build}{when(moment.at)}: {shown}, {moment.runs} runs, {moment.runtime_version}{changed}"


def trace_figure(trace: Trace, device: str) -> Markup:
    """A number of a device's state over time; readings during a run are dots, those before and after it are hollow."""
    top, bottom = 28.0, 92.0
    times = [minute for minute, _, _ in trace.points]
    x = Scale(low=0.0, high=max([*times, 0.1]) * 1.02, start=_LEFT, end=_RIGHT)
    low, high = padded([value for _, value, _ in trace.points])
    y = Scale(low=max(0.0, low), high=high, start=bottom, end=top)
    name = f"{trace.title}{', ' + trace.unit if trace.unit else ''}"
    parts = [
        value_axis(x, top=top, bottom=bottom, title="minutes since the first run"),
        side_axis(y, left=_LEFT, right=_RIGHT, title=name, count=3),
        path([(x(minute), y(value)) for minute, value, _ in trace.points], "c0 line thin"),
    ]
    for minute, value, phase in trace.points:
        kind = "c0 dot" if phase == "during" else "c0 hollow"
        tip = f"{phase} a run, minute {minute:.1f}: {number(value, trace.unit)}"
        parts.append(marker(0, x(minute), y(value), 2.4, kind, data_tip=tip))
    return picture(join(parts), height=bottom + 38, title=f"{trace.title} of {device}")
