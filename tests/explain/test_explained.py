"""`edgepack.explain` on the small project: what it says is what the network, the file and the build have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from small_project import PTQ, Project

from edgepack.bundle import read_bundle
from edgepack.core.errors import UsageError
from edgepack.explain import Account, explain
from edgepack.explain.account import CSV_HEAD, csv_rows, with_unique_titles
from edgepack.explain.draw import size_points
from edgepack.explain.page import explain_page
from tests.report.chromium import PROGRAM, browser

# Of the small project's network on (1, 8, 8), batch norms folded: weights with biases, and multiplications.
LAYERS = {
    "stem.0": (8 * 9 + 8, 8 * 9 * 64),
    "block.0": (8 * 9 + 8, 8 * 9 * 64),
    "block.3": (8 * 8 + 8, 8 * 8 * 64),
    "down.0": (16 * 8 * 9 + 16, 16 * 8 * 9 * 16),
    "classifier": (4 * 16 + 4, 4 * 16),
}

WIDE = PTQ + "activations_bits = 16\n"


@pytest.fixture(scope="module")
def bundle(built_project: Callable[[str], Project]) -> Path:
    (path,) = (built_project(PTQ).folder / "dist").glob("*.edgepack")
    return path


@pytest.fixture(scope="module")
def account(bundle: Path) -> Account:
    return explain(bundle)


def test_layers_have_the_names_and_the_sizes_of_the_network(account: Account) -> None:
    assert {one.name: (one.parameters, one.macs) for one in account.layers} == LAYERS


def test_every_byte_of_the_model_is_in_the_account_once(bundle: Path, account: Account) -> None:
    in_layers = sum(one.file_bytes for one in account.layers)

    assert in_layers + account.other_constants_bytes + account.structure_bytes == account.model_bytes
    assert account.model_bytes == read_bundle(bundle).variant().model.total_bytes


def test_the_wide_biases_of_layers_with_16_bit_activations_are_counted(
    built_project: Callable[[str], Project],
) -> None:
    """LiteRT's depthwise convolutions with int16 activations have int64 biases."""
    (bundle,) = (built_project(WIDE).folder / "dist").glob("*.edgepack")

    account = explain(bundle, profile="fast")

    assert {one.name: (one.parameters, one.macs) for one in account.layers} == LAYERS
    (depthwise,) = [one for one in account.layers if one.name == "block.0"]
    codes, scales, bias = 8 * 9, 2 * 8 * 4, 8 * 8
    assert depthwise.file_bytes == codes + scales + bias
    assert 8 * 9 < depthwise.nonzero_parameters <= depthwise.parameters
    assert sum(one.file_bytes for one in account.layers) + account.other_constants_bytes + account.structure_bytes == (
        account.model_bytes
    )


def test_the_description_is_the_sum_of_what_was_coded_and_shorter_than_the_file(account: Account) -> None:
    coded = sum(one.coded_bytes for one in account.layers) + account.other_constants_coded_bytes

    assert account.description_bits == 8 * (coded + account.structure_coded_bytes)
    assert account.description_bits < 8 * account.model_bytes
    assert f"{account.description_bits:,} bits" in account.meaning


def test_weights_of_eight_bits_cost_about_eight_bits_and_are_rounded_with_a_noise_that_fits(account: Account) -> None:
    for one in account.layers:
        assert one.bits_per_weight is not None and 3 < one.bits_per_weight < 9.5
        assert one.distinct_codes is not None and 8 < one.distinct_codes <= 255
        assert one.rounding_sqnr_db is not None and 30 < one.rounding_sqnr_db < 60
        assert one.output_sqnr_db is not None and one.output_sqnr_db > 20


def test_the_original_of_the_work_folder_stands_beside_each_layer(account: Account) -> None:
    for one in account.layers:
        assert one.original is not None
        assert (one.original.parameters, one.original.macs) == LAYERS[one.name]
        # Only rounded: as far from the original as the rounding's noise says.
        assert one.original.change_sqnr_db == pytest.approx(one.rounding_sqnr_db, abs=3)
    assert account.totals.original_parameters == sum(count for count, _ in LAYERS.values())


def test_without_the_work_folder_the_original_is_unknown_and_the_reason_is_said(bundle: Path, tmp_path: Path) -> None:
    account = explain(bundle, work_folder=tmp_path / "nowhere", profile="fast")

    assert {one.original for one in account.layers} == {None}
    assert "nowhere" in account.unknown["original"]
    assert account.totals.original_parameters is None


def test_the_quality_is_that_of_the_bundle(bundle: Path, account: Account) -> None:
    metric = read_bundle(bundle).variant().metric

    assert metric is not None and account.quality is not None
    assert (account.quality.value, account.quality.float_value) == (metric.value, metric.float_value)
    assert account.quality.samples == metric.samples
    assert "loss" in account.unknown


def test_histograms_count_every_weight(account: Account) -> None:
    for one in account.layers:
        assert one.histogram is not None and one.original is not None and one.original.histogram is not None
        assert sum(one.histogram.counts) == one.weights == sum(one.original.histogram.counts)
        assert one.histogram.unit == "weight"
        assert one.histogram.high == pytest.approx(one.original.histogram.high, rel=0.02)


def test_rows_for_a_spreadsheet_have_every_layer_and_every_column(account: Account) -> None:
    rows = csv_rows(with_unique_titles([account, account]))

    assert len(rows) == 2 * len(LAYERS)
    assert {row["bundle"] for row in rows} == {account.title, f"{account.title} (2)"}
    assert all(set(row) == set(CSV_HEAD) for row in rows)


def test_layers_are_timed_when_asked_and_else_the_way_to_it_is_said(bundle: Path, account: Account) -> None:
    assert "--latency" in account.unknown["latency_ms"]

    timed = explain(bundle, profile="fast", latency=True)
    times = [one.latency_ms for one in timed.layers]

    # LiteRT counts whole microseconds, of which operators this small may take none.
    assert timed.latency_ms is not None and timed.latency_ms >= 0
    assert all(one.latency_ms is not None or "latency_ms" in one.unknown for one in timed.layers)
    assert 0 <= sum(time for time in times if time is not None) <= timed.latency_ms + 1e-9
    assert any(time is not None for time in times)
    assert "latency_ms" not in timed.unknown
    assert ">ms</th>" in explain_page([timed])
    assert ">ms</th>" not in explain_page([account])


def test_an_unknown_variant_is_refused_with_the_names_that_there_are(bundle: Path) -> None:
    with pytest.raises(UsageError, match="arm64"):
        explain(bundle, target="gpu")


def test_the_page_holds_the_account_and_fetches_nothing(account: Account) -> None:
    page = explain_page([account])
    embedded = page.partition('<script type="application/json" id="account">')[2].partition("</script>")[0]

    assert json.loads(embedded)["models"] == [json.loads(json.dumps(account.as_dict()))]
    assert "http://" not in page and "https://" not in page
    assert "default-src 'none'" in page
    assert page.count('aria-label="Weights of ') == len(LAYERS)


def test_names_of_layers_are_text_on_the_page_never_markup(account: Account) -> None:
    hostile = replace(account.layers[0], name="<script>alert(1)</script>")

    page = explain_page([replace(account, layers=(hostile, *account.layers[1:]))])

    assert "<script>alert(1)" not in page
    assert "<script>alert(1)" in unescape(page)


def test_a_model_without_a_quality_has_no_place_against_size(account: Account) -> None:
    bare = replace(account, quality=None)

    assert size_points(bare) == ()
    assert "unknown" in bare.meaning
    assert 'id="size"' not in explain_page([bare])
    assert [one.what for one in size_points(account)] == ["original", "file", "coded"]


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_the_page_fits_a_phone_and_a_desk_and_complains_of_nothing(account: Account, tmp_path: Path) -> None:
    path = tmp_path / "explained.html"
    long = replace(account.layers[0], name="layer." * 30)
    other = replace(account, title="t" * 90, layers=(long, *account.layers[1:]))
    path.write_text(explain_page([account, other]), encoding="utf-8")

    with browser() as page:
        for width in (390, 1280):
            page.open(path, width=width)

            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("[...document.querySelectorAll('svg.figure')].every((one) => one.clientHeight > 40)")
        assert page.complaints == []
        assert set(page.requests) == {path.resolve().as_uri()}
