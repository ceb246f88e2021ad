"""What every store promises, whatever database it is in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace

import numpy as np
import pytest
from made_runs import CONDITIONS, DEVICE, ENVIRONMENT, report, run, subject
from sqlalchemy import text

from edgepack.core.errors import EnvironmentProblem, UsageError
from edgepack.records import DeviceName, RunRecord, RunSummary
from edgepack.store.results import Added, ResultStore, Where, open_store
from edgepack.store.sql.connect import open_engine, writing


def test_a_run_comes_back_as_it_was_added(store: ResultStore) -> None:
    record = run()

    store.add([record])

    assert list(store.runs()) == [record]


@pytest.mark.parametrize("status", ["complete", "partial"])
def test_the_run_of_these_tests_sets_every_field(status: str) -> None:
    """Else a field that is new in records.py could be lost on the way, and nobody would notice."""
    unset = set(unset_fields(run(status=status), "run"))  # type: ignore[arg-type]  # a Status

    assert unset <= MAY_BE_UNSET[status]


MAY_BE_UNSET = {
    "complete": {
        "run.reason",
        "run.samples_ns",
        "run.conditions.inputs_sha256",
        "run.report.environment.emulated",
        "run.report.environment.clock",
    },
    "partial": {"run.accuracy", "run.conditions.inputs_sha256"},
}


def unset_fields(value: object, where: str) -> Iterator[str]:
    """Fields of a record, and of records in it, that have their default."""
    if not is_dataclass(value):
        return
    for one in fields(value):
        found = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if found == default:
            yield f"{where}.{one.name}"
        for inner in found if isinstance(found, tuple) else [found]:
            yield from unset_fields(inner, f"{where}.{one.name}")


@pytest.mark.parametrize("status", ["partial", "failed", "void"])
def test_a_run_that_did_not_end_well_comes_back_too(store: ResultStore, status: str) -> None:
    record = run(status=status)  # type: ignore[arg-type]  # a Status

    store.add([record])

    assert list(store.runs()) == [record]


def test_samples_of_any_size_come_back(store: ResultStore) -> None:
    kinds = [(1, 2, 3), (70_000,), (2**33, 1), (2**62,), (), tuple(range(100_000))]
    records = [run(i, status="partial", samples_ns=samples) for i, samples in enumerate(kinds)]

    store.add(records)

    assert [record.samples_ns for record in store.runs()] == kinds


def test_the_summary_is_that_of_the_record(store: ResultStore) -> None:
    records = [run(0), run(1, status="partial"), run(2, status="void")]

    store.add(records)

    assert store.summaries() == [RunSummary.of(record) for record in records]


def test_the_same_run_twice_is_kept_once(store: ResultStore) -> None:
    assert store.add([run(0), run(1)]) == Added(inserted=2, replaced=0, ignored=0)
    assert store.add([run(1), run(2)]) == Added(inserted=1, replaced=0, ignored=1)
    assert store.add([run(3), run(3)]) == Added(inserted=1, replaced=0, ignored=1)

    assert [summary.round for summary in store.summaries()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kept", "new", "wins"),
    [
        ("partial", "complete", "complete"),
        ("failed", "partial", "partial"),
        ("partial", "void", "void"),
        ("void", "complete", "complete"),
        ("complete", "partial", "complete"),
        ("complete", "void", "complete"),
        ("void", "failed", "void"),
    ],
)
def test_the_better_attempt_is_kept(store: ResultStore, kept: str, new: str, wins: str) -> None:
    first, second = run(status=kept, attempt=1), run(status=new, attempt=2)  # type: ignore[arg-type]  # Status

    store.add([first])
    added = store.add([second])

    assert added == Added(inserted=0, replaced=int(wins == new), ignored=int(wins == kept))
    assert list(store.runs()) == [second if wins == new else first]
    assert [(other.status, other.attempt) for other in store.attempts(first.key)] == [
        (kept, 1) if wins == new else (new, 2)
    ]


def test_of_two_partial_attempts_the_later_is_kept(store: ResultStore) -> None:
    attempts = [run(status="partial", attempt=n, samples_ns=(n,)) for n in (1, 3, 2)]

    store.add(attempts)

    assert list(store.runs()) == [attempts[1]]
    assert [other.attempt for other in store.attempts(attempts[0].key)] == [1, 2]


def test_an_attempt_that_is_sent_twice_is_noted_once(store: ResultStore) -> None:
    store.add([run(attempt=2)])

    for _ in range(3):
        store.add([run(status="partial", attempt=1)])

    assert len(store.attempts(run().key)) == 1


def test_summaries_share_what_their_runs_share(store: ResultStore) -> None:
    store.add(run(i) for i in range(3))

    first, *others = store.summaries()

    for other in others:
        assert other.device is first.device
        assert other.subject is first.subject
        assert other.conditions is first.conditions
        assert other.environment is first.environment


def test_the_newest_come_with_a_limit_and_the_oldest_first(store: ResultStore) -> None:
    store.add(run(i) for i in (3, 1, 0, 2))

    assert [summary.round for summary in store.summaries()] == [0, 1, 2, 3]
    assert [summary.round for summary in store.summaries(limit=2)] == [2, 3]
    assert [record.round for record in store.runs(limit=2)] == [2, 3]


def filtered() -> list[RunRecord]:
    other = DeviceName(transport="adb", name="phone")
    suite = replace(CONDITIONS, suite="mlperf")
    return [
        run(0),
        run(1, device=other),
        run(2, subject=subject(model_sha256="0f" * 32)),
        run(3, subject=subject("bundle", version="2.0.0", target="intel", bundle="faces", runtime="onnxruntime")),
        run(4, conditions=suite, bench="b2"),
        run(5, status="void", started_at="2026-11-23T00:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    ("where", "rounds"),
    [
        (Where(), [0, 1, 2, 3, 4, 5]),
        (Where(device="pi5"), [0, 2, 3, 4, 5]),
        (Where(device="adb:phone"), [1]),
        (Where(device="ssh:phone"), []),
        (Where(label="float"), [2]),
        (Where(version="2.0.0"), [3]),
        (Where(bundle="faces"), [3]),
        (Where(target="intel"), [3]),
        (Where(runtime="onnxruntime"), [3]),
        (Where(model_sha256="0f" * 32), [2]),
        (Where(model_sha256="0f0f"), [2]),
        (Where(model_sha256="%"), []),
        (Where(bench="b2"), [4]),
        (Where(suite="mlperf"), [4]),
        (Where(status="void"), [5]),
        (Where(since="2026-11-22T09:00:04"), [4, 5]),
        (Where(since="2026-11-22T11:00:04+02:00"), [4, 5]),
        (Where(since="2026-11-23"), [5]),
        (Where(device="pi5", status="complete", bench="b1", target="arm64", label="bundle"), [0]),
    ],
)
def test_every_field_of_where_filters(store: ResultStore, where: Where, rounds: list[int]) -> None:
    store.add(filtered())

    assert [summary.round for summary in store.summaries(where)] == rounds
    assert [record.round for record in store.runs(where)] == rounds


def test_a_date_that_is_none_is_refused(store: ResultStore) -> None:
    with pytest.raises(UsageError, match="since 'yesterday': not a date or time"):
        store.summaries(Where(since="yesterday"))


def test_a_bench_is_described_by_its_runs(store: ResultStore) -> None:
    store.add(filtered())

    first, second = store.benches()

    assert (first.bench, first.started_at) == ("b1", "2026-11-22T09:00:00+00:00")
    assert first.runs == {"complete": 4, "void": 1}
    assert {device.name for device in first.devices} == {"pi5", "phone"}
    assert len(first.subjects) == 3
    assert second.suites == ("mlperf",)
    assert [bench.bench for bench in store.benches(Where(suite="mlperf"))] == ["b2"]


def test_a_bench_began_with_its_first_run_in_whatever_order_they_arrive(store: ResultStore) -> None:
    store.add([run(5), run(2)])
    store.add([run(1)])

    assert [bench.started_at for bench in store.benches()] == ["2026-11-22T09:00:01+00:00"]


def test_a_bench_is_found_by_id_prefix_and_age(store: ResultStore) -> None:
    store.add([run(0, bench="abc-1"), run(1, bench="abc-2"), run(2, bench="xyz")])

    found = {ref: store.resolve(ref) for ref in ("abc-1", "abc-2", "x", "latest", "latest~1", "latest~2")}

    assert found == {
        "abc-1": "abc-1",
        "abc-2": "abc-2",
        "x": "xyz",
        "latest": "xyz",
        "latest~1": "abc-2",
        "latest~2": "abc-1",
    }


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("abc", "2 benches begin so"),
        ("nothing", "no bench of that id"),
        ("latest~3", "there are 3 benches"),
        ("", "no bench of that id"),
    ],
)
def test_a_reference_that_names_no_single_bench_is_refused(store: ResultStore, reference: str, message: str) -> None:
    store.add([run(0, bench="abc-1"), run(1, bench="abc-2"), run(2, bench="xyz")])

    with pytest.raises(UsageError, match=message):
        store.resolve(reference)


def test_an_empty_store_says_what_to_do(store: ResultStore) -> None:
    with pytest.raises(UsageError, match="is empty: run 'edgepack bench' first"):
        store.resolve("latest")

    assert store.summaries() == [] and store.benches() == [] and len(store.values("latency_p50_ms")) == 0


def test_values_are_columns_of_one_metric(store: ResultStore) -> None:
    store.add(filtered())
    store.add([run(9, status="partial")])

    values = store.values("latency_p50_ms")

    summaries = [summary for summary in store.summaries() if "latency_p50_ms" in summary.metrics]
    assert values.value.tolist() == [summary.metrics["latency_p50_ms"] for summary in summaries]
    assert values.round.tolist() == [summary.round for summary in summaries]
    assert [values.devices[place] for place in values.device] == [summary.device for summary in summaries]
    assert [values.subjects[place] for place in values.subject] == [summary.subject for summary in summaries]
    assert [values.benches[place] for place in values.bench] == [summary.bench for summary in summaries]
    assert [values.all_conditions[place] for place in values.conditions] == [s.conditions for s in summaries]
    assert [values.environments[place] for place in values.environment] == [s.environment for s in summaries]
    assert values.value.dtype == np.float64 and values.device.dtype == np.int32


def test_an_unknown_metric_is_refused(store: ResultStore) -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'latency_p50'.*latency_p50_ms"):
        store.values("latency_p50")


def test_a_deleted_bench_leaves_nothing_behind(store: ResultStore) -> None:
    store.add([run(0), run(1), run(2, bench="b2", device=DeviceName(transport="adb", name="phone"))])

    assert store.delete("b1") == 2

    assert [summary.bench for summary in store.summaries()] == ["b2"]
    assert store.values("latency_p50_ms").devices == (DeviceName(transport="adb", name="phone"),)
    assert store.delete("b1") == 0


def test_a_deleted_run_may_be_added_again(store: ResultStore) -> None:
    store.add([run(0)])
    store.delete("b1")

    assert store.add([run(0)]).inserted == 1
    assert list(store.runs()) == [run(0)]


def test_what_was_added_is_there_for_another_process(store: ResultStore, store_url: str) -> None:
    store.add([run(0)])

    with open_store(store_url) as other:
        assert list(other.runs()) == [run(0)]


def test_runs_that_fail_in_the_middle_leave_the_transactions_before(store: ResultStore) -> None:
    def cut_off() -> Iterator[RunRecord]:
        yield from (run(i) for i in range(700))
        raise RuntimeError("the bench was interrupted")

    with pytest.raises(RuntimeError):
        store.add(cut_off())

    assert len(store.summaries()) == 500


def test_an_emulated_run_has_no_latency_in_the_store(store: ResultStore) -> None:
    environment = replace(ENVIRONMENT, emulated="QEMU", clock="guest_instructions")
    store.add([run(report=report(environment=environment), device=DEVICE)])

    (summary,) = store.summaries()

    assert summary.metrics["guest_instructions"] == 1_100_000
    assert not any(name.startswith("latency") for name in summary.metrics)
    assert len(store.values("latency_p50_ms")) == 0


def test_a_number_that_json_has_no_word_for_comes_back(store: ResultStore) -> None:
    before = replace(report().before, load_average=float("inf"), temperature_c=float("nan"))
    store.add([run(report=report(before=before))])

    (record,) = store.runs()

    assert record.report is not None
    assert record.report.before.load_average == float("inf")
    assert math.isnan(record.report.before.temperature_c or 0)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE subjects SET content = '{}'", "Subject: 4 validation errors"),
        ("UPDATE reports SET content = 'nothing'", "AgentReport: Expecting value"),
        ("UPDATE samples SET codec = 'zstd'", "samples are packed by 'zstd'"),
        ("UPDATE samples SET count = 7", "3 samples where 7 were kept"),
        ("UPDATE states SET content = '[]'", "DeviceState: "),
    ],
)
def test_a_row_that_was_changed_by_hand_is_told(store: ResultStore, statement: str, what: str) -> None:
    store.add([run()])
    engine = open_engine(store.place)
    with writing(engine, store.place) as connection:
        connection.execute(text(statement))
    engine.dispose()

    with pytest.raises(EnvironmentProblem, match=rf"a row can't be read \({what}.*was it changed by hand"):
        list(store.runs())


def test_a_field_that_only_a_newer_edgepack_knows_is_left_out(store: ResultStore) -> None:
    store.add([run()])
    engine = open_engine(store.place)
    with writing(engine, store.place) as connection:
        for table in ("subjects", "devices", "conditions", "environments", "states", "reports"):
            new = "'{\"taste\":7,' || substr(content, 2)"
            connection.execute(text(f"UPDATE {table} SET content = {new}".replace(":7", "\\:7")))
    engine.dispose()

    assert list(store.runs()) == [run()]
