"""`edgepack results`: lists, shows, exports, deletes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from made_runs import run as made_run
from made_runs import subject

from edgepack.cli.results import FORMATS, complete_reference, complete_run
from edgepack.records import DeviceName
from edgepack.store import exports
from edgepack.store.results import open_store

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benches: one whole, one on another device with a run that was cut off and tried again, and a void one."""
    file = tmp_path / "results.sqlite"
    monkeypatch.setenv("EDGEPACK_STORE", str(file))
    phone = DeviceName(transport="adb", name="phone")
    with open_store() as store:
        store.add(
            made_run(i, bench="aaaa-1", subject=model) for i, model in enumerate((subject("bundle"), subject("float")))
        )
        store.add(
            [
                made_run(10, bench="bbbb-2", device=phone, status="partial"),
                made_run(11, bench="bbbb-2", device=phone, status="void"),
            ]
        )
        store.add([made_run(10, bench="bbbb-2", device=phone, status="partial", attempt=2, samples_ns=(7, 8, 9))])
    return file


def test_without_a_command_it_lists_the_benches(run: Call) -> None:
    output = run("results").output

    assert "aaaa-1" in output and "ssh:pi5" in output and "2 complete" in output
    assert "bbbb-2" in output and "adb:phone" in output and "1 partial, 1 void" in output
    assert output.splitlines()[-1].endswith("results.sqlite: 2 benches")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["aaaa-1", "bbbb-2"]),
        (("--device", "phone"), ["bbbb-2"]),
        (("--device", "ssh:pi5"), ["aaaa-1"]),
        (("--label", "float"), ["aaaa-1"]),
        (("--bundle", "digits"), ["aaaa-1", "bbbb-2"]),
        (("--version", "2"), []),
        (("--target", "arm64"), ["aaaa-1", "bbbb-2"]),
        (("--model", "abab"), ["aaaa-1", "bbbb-2"]),
        (("--runtime", "openvino"), []),
        (("--suite", "quick"), ["aaaa-1", "bbbb-2"]),
        (("--status", "void"), ["bbbb-2"]),
        (("--since", "2026-11-22T09:00:05"), ["bbbb-2"]),
        (("--limit", "1"), ["bbbb-2"]),
    ],
)
def test_the_list_is_filtered(run: Call, options: tuple[str, ...], names: list[str]) -> None:
    content = json.loads(run("results", "list", *options, "--json").output)

    assert [bench["bench"] for bench in content["benches"]] == names


def test_runs_are_listed_with_their_latency_and_how_they_ended(run: Call) -> None:
    output = run("results", "runs").output

    assert output.count("1.10 ms") == 3
    assert "partial the connection was lost" in output
    assert output.splitlines()[-1].endswith("4 runs")


def test_runs_of_one_bench_are_json(run: Call) -> None:
    content = json.loads(run("results", "runs", "aaaa", "--json").output)

    assert [one["subject"]["label"] for one in content["runs"]] == ["bundle", "float"]
    assert content["runs"][0]["metrics"]["latency_p50_ms"] == 1.1


def key_of(run: Call, *options: str) -> str:
    (one,) = json.loads(run("results", "runs", *options, "--json").output)["runs"]
    return str(one["key"])


def test_one_run_is_shown_whole(run: Call) -> None:
    output = run("results", "show", key_of(run, "--label", "float")[:8]).output

    for word in (
        "digits 1.0.0 float",
        "Cortex-A76",
        "litert 2.3.1",
        "3 measured, 2 of warm-up",
        "latency_p50_ms",
        "CONV_2D",
    ):
        assert word in output, word
    for line in ("accelerator: none", "swap: no swap", "energy: no sensor"):
        assert f"not told    {line}" in output
    assert "top1 75.00 % of 4 samples, 50.00 % agree with the verified outputs" in output
    assert "0.5 J of the whole device in 2.0 s (hwmon0, 10 Hz)" in output
    assert "before (0.1 s)" in output and "during (2.0 s)" in output and "51.5" in output


def test_other_attempts_at_a_run_are_shown(run: Call) -> None:
    output = run("results", "show", key_of(run, "--status", "partial")).output

    assert "attempt 2" in output
    assert "1: partial, 2026-11-22T09:00:10+00:00 the connection was lost" in output


def test_a_devices_last_words_are_no_commands_to_the_terminal(run: Call) -> None:
    with open_store() as store:
        store.add([made_run(40, status="failed", reason="\x1b]0;owned\x07 [bold]and\nso on")])

    output = run("results", "runs", "--status", "failed").output

    assert "\x1b" not in output and "\x07" not in output
    assert "failed \ufffd]0;owned\ufffd [bold]and so on" in output


def test_raw_samples_are_one_a_line(run: Call) -> None:
    whole = run("results", "show", key_of(run, "--label", "float"), "--samples").output
    partial = run("results", "show", key_of(run, "--status", "partial"), "--samples").output

    assert whole.splitlines() == [
        "warmup\t1500000",
        "warmup\t1400000",
        "measured\t1000000",
        "measured\t1200000",
        "measured\t1100000",
    ]
    assert partial.splitlines() == ["partial\t7", "partial\t8", "partial\t9"]


def test_a_run_is_json_with_samples_only_where_they_are_wanted(run: Call) -> None:
    key = key_of(run, "--label", "float")

    without = json.loads(run("results", "show", key, "--json").output)
    whole = json.loads(run("results", "show", key, "--json", "--samples").output)

    assert "samples_ns" not in without["report"]
    assert whole["report"]["samples_ns"] == [1_000_000, 1_200_000, 1_100_000]
    assert without["metrics"] == whole["metrics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "zzz"), "no run's key begins so"),
        (("show", ""), "no run's key begins so"),
        (("runs", "cccc"), "no bench of that id"),
        (("runs", "latest~2"), "there are 2 benches"),
        (("list", "--since", "soon"), "since 'soon': not a date or time"),
        (("export", "--format", "csv", "--device", "nowhere"), "nothing to export"),
        (("export", "--format", "csv", "--samples"), "format csv has no place for raw samples"),
    ],
)
def test_what_is_not_there_is_told(run: Call, arguments: tuple[str, ...], message: str) -> None:
    assert message in run("results", *arguments, code=2).output


def test_a_bench_is_deleted_only_after_a_yes(call: Call) -> None:
    from click.testing import CliRunner

    from edgepack.cli import app

    no = CliRunner().invoke(app, ["results", "delete", "aaaa"], input="n\n")
    yes = CliRunner().invoke(app, ["results", "delete", "aaaa"], input="y\n")

    assert no.exit_code == 130
    assert "Delete bench aaaa-1 of 2026-11-22T09:00:00+00:00, 2 runs on ssh:pi5, from" in no.output
    assert yes.exit_code == 0
    assert "aaaa-1: 2 runs deleted" in yes.output
    assert [bench["bench"] for bench in json.loads(call("results", "list", "--json").output)["benches"]] == ["bbbb-2"]


def test_a_script_deletes_without_a_question(run: Call) -> None:
    assert json.loads(run("results", "delete", "latest", "--yes", "--json").output) == {
        "bench": "bbbb-2",
        "deleted_runs": 2,
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_to_a_file(run: Call, tmp_path: Path, name: str) -> None:
    file = tmp_path / "deep" / "out"

    output = run("results", "export", "aaaa", "--format", name, "-o", file).output

    assert file.stat().st_size > 100
    assert output.strip().endswith("out")


def test_a_refused_export_leaves_the_old_file(run: Call, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("old")

    run("results", "export", "--format", "bmf", "--status", "void", "-o", file, code=2)

    assert file.read_text() == "old"
    assert [other.name for other in tmp_path.glob(".out*")] == []


def test_an_export_goes_to_standard_output(shell: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = shell("results", "export", "aaaa", "--format", "bmf", EDGEPACK_STORE=os.environ["EDGEPACK_STORE"])

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 2


def test_the_command_offers_every_format_of_the_table() -> None:
    assert list(exports.FORMATS) == list(FORMATS)


def test_a_shell_completes_benches_and_runs(run: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import click

    def complete(word: str) -> list[str]:
        return complete_reference(click.Context(click.Command("x")), click.Argument(["x"]), word)

    assert complete("") == ["latest", "bbbb-2", "aaaa-1"]
    assert complete("a") == ["aaaa-1"]
    assert complete("lat") == ["latest"]
    keys = complete_run(click.Context(click.Command("x")), click.Argument(["x"]), "")
    assert keys == [one["key"] for one in reversed(json.loads(run("results", "runs", "--json").output)["runs"])]
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "none.sqlite"))
    assert complete("") == []
    assert not (tmp_path / "none.sqlite").exists()
    monkeypatch.setenv("EDGEPACK_STORE", "mysql://nothing")
    assert complete("") == []


def test_an_empty_store_is_listed_as_empty(run: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "new.sqlite"))

    assert run("results").output.strip().endswith("new.sqlite: 0 benches")
    assert "is empty: run 'edgepack bench' first" in run("results", "runs", "latest", code=2).output
