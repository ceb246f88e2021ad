"""The page in a real browser: it renders, asks for nothing, fits a phone, and shows what the store holds."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.records import DeviceName, RunRecord, RunSummary
from edgepack.report.figures import Figures, figures_of
from edgepack.report.html import html_report, page_of
from edgepack.report.material import from_store
from edgepack.store.results import ResultStore, Where
from tests.report.chromium import PROGRAM, Page, browser
from tests.report.colour import SIGHTS, contrast, difference
from tests.report.synthetic import fleet, record

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
NOT_OUTSIDE = (
    "(() => { const wide = document.documentElement.clientWidth; return [...document.querySelectorAll('body *')]"
    + (
        ".filter((e) => { const box = e.getBoundingClientRect(); return box.width && box.right > wide + 1 && !e.closest('.scroll, .table-block') })"
        ".map((e) => e.outerHTML.slice(0, 120)); })()"
    )
)


TABLES_FIT = "[...document.querySelectorAll('.table-block')].every((one) => one.scrollWidth <= one.clientWidth)"


@pytest.fixture(scope="module")
def figures(store: ResultStore) -> Figures:
    return figures_of(from_store(store, (), Where(since="2026-11-20")))


@pytest.fixture(scope="module")
def file(figures: Figures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(figures), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture
def shown(page: Page, file: Path) -> Page:
    page.complaints.clear()
    page.requests.clear()
    page.open(file)
    return page


@needs_chromium
def test_the_page_renders_without_a_complaint_and_asks_for_nothing_but_itself(shown: Page, file: Path) -> None:
    sections = shown.evaluate("[...document.querySelectorAll('section')].map((one) => one.id)")

    assert sections == [
        "warnings", "summary", "distributions", "tradeoff", "memory", "profile", "history", "state", "excluded", "how",
    ]  # fmt: skip
    assert shown.evaluate("[...document.querySelectorAll('svg.figure')].every((one) => one.clientHeight > 60)")
    assert shown.complaints == []
    assert shown.requests == [file.resolve().as_uri()]


@needs_chromium
def test_the_numbers_of_the_table_are_the_stores(shown: Page, store: ResultStore) -> None:
    """Computed here from the store's runs, without the report's own code."""
    cells = shown.evaluate(
        "[...document.querySelectorAll('#summary tr[data-row]')].map((row) => ({device: row.dataset.device, kind: row.dataset.kind, "
        "runs: Number(row.querySelector('[data-figure=runs]').dataset.value), "
        "label: row.querySelector('.who span').textContent, numbers: Object.fromEntries([...row.querySelectorAll('[data-metric]')]"
        ".map((cell) => [cell.dataset.metric, 'value' in cell.dataset ? Number(cell.dataset.value) : null]))}))"
    )

    runs = store.summaries(Where(since="2026-11-20", status="complete", suite="standard"))
    assert len(cells) == 16
    for cell in cells:
        main = {"device": "latency_p50_ms", "emulated": "emulated_p50_ms", "instructions": "guest_instructions"}
        mine = [
            run
            for run in runs
            if (run.device.name, run.subject.label) == (cell["device"], cell["label"])
            and main[cell["kind"]] in run.metrics
        ]
        assert cell["runs"] == len(mine)
        for name, value in cell["numbers"].items():
            values = [run.metrics[name] for run in mine if name in run.metrics]
            assert value == {"peak_memory_bytes": max}.get(name, statistics.median)(values), (cell, name)


@needs_chromium
def test_the_embedded_json_is_the_figures(shown: Page, figures: Figures) -> None:
    embedded = json.loads(shown.evaluate("document.getElementById('figures').textContent"))

    assert embedded == figures.as_dict()


@needs_chromium
def test_what_is_drawn_is_what_the_embedded_json_says(shown: Page) -> None:
    lanes = shown.evaluate(
        "[...document.querySelectorAll('#distributions g[data-row]')].map((one) => Number(one.dataset.p50))"
    )
    moments = shown.evaluate(
        "[...document.querySelectorAll('#history [data-bench]')].map((one) => [one.dataset.bench, Number(one.dataset.value)])"
    )
    fronts = shown.evaluate(
        "[...document.querySelectorAll('#tradeoff [data-front]')].map((one) => [one.dataset.row, one.dataset.front])"
    )
    memory = shown.evaluate(
        "[...document.querySelectorAll('[data-memory=peak_bytes]')].map((one) => Number(one.dataset.value))"
    )
    embedded = json.loads(shown.evaluate("document.getElementById('figures').textContent"))

    assert lanes == [lane["p50"] for panel in embedded["distributions"] for lane in panel["lanes"]]
    assert moments == [
        [moment["bench"], moment["value"]]
        for panel in embedded["history"]["panels"]
        if any(len({moment["value"] for moment in line["moments"]}) > 1 for line in panel["lines"])
        for line in panel["lines"]
        for moment in line["moments"]
    ]
    points = {point["row"]: not point["beaten_by"] for panel in embedded["tradeoffs"] for point in panel["points"]}
    assert {row: front == "true" for row, front in fronts} == points
    assert memory == [line["peak_bytes"] for panel in embedded["memories"] for line in panel["lines"]]


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280, 1920])
def test_nothing_overflows_sideways(page: Page, file: Path, width: int) -> None:
    page.open(file, width=width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NOT_OUTSIDE) == []
    assert page.evaluate(TABLES_FIT)


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_overflow_nothing(page: Page, tmp_path: Path, width: int) -> None:
    runs = []
    for label in ("float", "bundle", "pruned"):
        run = record(label, "d" * 70)
        runs.append(replace(run, subject=replace(run.subject, label=label * 14, target="t" * 70, bundle="b" * 70)))
    path = tmp_path / "long.html"
    path.write_text(html_report([RunSummary.of(run) for run in runs], details=runs), encoding="utf-8")
    page.open(path, width=width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(NOT_OUTSIDE) == []
    assert width > 1120 or page.evaluate(TABLES_FIT)


@needs_chromium
def test_text_and_models_can_be_told_apart_in_light_and_dark_whatever_colours_one_sees(page: Page, file: Path) -> None:
    """WCAG 2.2: a contrast of 4.5 for text, 3 for marks."""
    for dark in (False, True):
        page.open(file, dark=dark)
        colours = page.evaluate(
            "(() => { const style = getComputedStyle(document.documentElement); return Object.fromEntries("
            "['paper', 'ink', 'soft', 'link', 'warn', 'warn-ground', 'proxy', 'proxy-ground', 'c0', 'c1', 'c2', 'c3', 'c4', 'c5']"
            ".map((name) => [name, style.getPropertyValue('--' + name).trim()])); })()"
        )
        for name in ("ink", "soft", "link"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, (dark, name)
        for name in ("warn", "proxy"):
            assert contrast(colours[name], colours[f"{name}-ground"]) >= 4.5, (dark, name)
        models = [colours[f"c{number}"] for number in range(6)]
        for colour in models:
            assert contrast(colour, colours["paper"]) >= 3, (dark, colour)
        for one, other in itertools.combinations(models, 2):
            for sight in SIGHTS:
                assert difference(one, other, sight=sight) >= 20, (dark, one, other, sight)


@needs_chromium
def test_a_tap_tells_what_a_mark_is_and_why_a_number_is_missing(shown: Page) -> None:
    shown.evaluate(
        "document.querySelector('#tradeoff [data-tip]').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    told = shown.evaluate("[document.getElementById('tip').hidden, document.getElementById('tip').textContent]")

    assert told[0] is False
    assert "Pareto" in told[1] or "as good" in told[1]


@needs_chromium
def test_rows_are_sorted_by_a_click_and_found_by_a_word(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "fleet.html"
    path.write_text(html_report(fleet(devices=40, runs=3), details=()), encoding="utf-8")
    page.open(path)

    page.evaluate("[...document.querySelectorAll('thead th')].find((one) => one.textContent == 'p50').click()")
    page.evaluate(
        "(() => { const input = document.querySelector('[data-filter]'); input.value = 'board-02'; input.dispatchEvent(new Event('input')); })()"
    )

    values = page.evaluate(
        "[...document.querySelectorAll('td[data-metric=latency_p50_ms]')].map((one) => Number(one.dataset.value))"
    )
    left = page.evaluate("[...document.querySelectorAll('tr[data-row]')].filter((one) => !one.hidden).length")
    assert values == sorted(values)
    assert left == 10


@needs_chromium
def test_the_page_can_be_printed(shown: Page) -> None:
    assert shown.pdf().startswith(b"%PDF-")


@needs_chromium
def test_names_from_a_device_or_a_bundle_are_text_and_never_markup(page: Page, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>'\"&"
    run = record("bundle", "pi5")
    run = replace(
        run,
        device=DeviceName(transport="ssh", name=evil),
        subject=replace(run.subject, bundle=evil, label=evil, target=evil, runtime_options={evil: evil}),
    )
    cut = replace(run, round=1, status="partial", report=None, reason=evil)
    runs: list[RunRecord] = [run, cut, replace(run, round=2, subject=replace(run.subject, version="2"))]
    path = tmp_path / "evil.html"
    path.write_text(html_report([RunSummary.of(one) for one in runs], details=runs), encoding="utf-8")
    page.complaints.clear()
    page.requests.clear()
    page.open(path)

    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelector('tr[data-row]').dataset.device") == evil
    assert page.complaints == []
    assert page.requests == [path.resolve().as_uri()]


def test_the_page_names_no_other_place(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    for word in ("http:", "https:", "@import", "url(", "src=", "<iframe", "fetch("):
        assert word not in text, word
    assert "Content-Security-Policy" in text


@needs_chromium
def test_emulated_numbers_are_marked_wherever_they_stand(shown: Page) -> None:
    """In each block, figure and device that shows one: words, not only a colour."""
    for kind, words in (("emulated", "no real device's time"), ("instructions", "a proxy, no latency")):
        texts = shown.evaluate(
            f"[...document.querySelectorAll('.table-block.{kind}, figure[data-kind={kind}], article[data-kind={kind}]')]"
            ".map((one) => one.textContent)"
        )
        assert len(texts) == 5  # table, distribution, trade-off, memory, state
        assert all(words in text for text in texts)
    mixed = shown.evaluate(
        "[...document.querySelectorAll('table.cards, figure')].filter((one) => new Set([...one.querySelectorAll('[data-kind]')]"
        ".map((inner) => inner.dataset.kind)).size > 1).length"
    )
    assert mixed == 0


def test_a_page_without_a_complete_run_says_so() -> None:
    run = replace(record("bundle", "pi5"), status="failed", report=None, reason="the runtime is missing")

    text = html_report([RunSummary.of(run)], details=[run])

    assert "No complete run" in text
    assert "the runtime is missing" in text
