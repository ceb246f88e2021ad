"""Where a store may be, and what is said when it can't be there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres_server
import pytest
from made_runs import run
from sqlalchemy import text

from edgepack.core.errors import EdgepackError, EnvironmentProblem, UsageError
from edgepack.store.results import open_store
from edgepack.store.sql.connect import open_engine, reading
from edgepack.store.sql.place import place_of


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="edgepack-store-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def message_in_a_process(what: Callable[[], object], *, before: Callable[[], object]) -> str:
    """The message of an EdgepackError in a forked process that first limits itself by `before`."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        text = "no error"
        try:
            before()
            what()
        except EdgepackError as exc:
            text = str(exc)
        except BaseException as exc:  # noqa: BLE001  # told to the parent, which fails then
            text = f"not ours: {exc!r}"
        finally:
            os.write(write, text.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        message = pipe.read().decode()
    os.waitpid(child, 0)
    return message


def test_results_are_kept_in_the_users_data_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("EDGEPACK_STORE", raising=False)
    with open_store() as store:
        store.add([run()])

    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "other" / "team.db"))
    with open_store() as other:
        assert other.summaries() == []

    assert (tmp_path / "edgepack" / "results.sqlite").is_file()
    assert (tmp_path / "other" / "team.db").is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:secret@host/db", "edgepack keeps results in SQLite or PostgreSQL, not in 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///results.sqlite?mode=ro", "SQLite takes no options here"),
        ("postgresql://me:secret@host:port/db", "not a URL of a store"),
    ],
)
def test_a_url_of_no_store_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but my notes of many years\n" * 100)
    before = file.read_bytes()

    with pytest.raises(EnvironmentProblem, match=r"notes\.txt: is not a database, or damaged: move it away"):
        open_store(str(file))

    assert file.read_bytes() == before


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "cookies.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE cookies (name TEXT)")
    other.close()

    with pytest.raises(EnvironmentProblem, match=r"a database of something else \(it has tables: cookies\)"):
        open_store(str(file))

    with sqlite3.connect(file) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("cookies",)]
    other.close()


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    with open_store(str(file)) as store:
        store.add(run(i) for i in range(300))
    data = bytearray(file.read_bytes())
    data[4096 * 3 :: 2] = b"\xff" * len(data[4096 * 3 :: 2])
    file.write_bytes(data)

    with pytest.raises(EnvironmentProblem, match="damaged"), open_store(str(file)) as store:
        list(store.runs())


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is a folder: name a file in EDGEPACK_STORE"):
        open_store(str(tmp_path))


def test_a_file_in_the_place_of_its_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentProblem, match="its folder can't be made"):
        open_store(str(tmp_path / "file" / "results.sqlite"))


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_may_not_be_written_is_told(open_folder: Path, is_there: bool) -> None:
    file = open_folder / "results.sqlite"
    if is_there:
        with open_store(str(file)) as store:
            store.add([run()])
    open_folder.chmod(0o555)

    message = message_in_a_process(lambda: open_store(str(file)).add([run(1)]), before=become_nobody)

    assert message.startswith(f"results store {file}: can't be ")
    assert "EDGEPACK_STORE" in message


def become_nobody() -> None:
    """Root may write everywhere."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def test_a_full_disk_is_told_and_the_store_stays_whole(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    with open_store(str(file)) as store:
        store.add([run(0)])

    def limit() -> None:  # what a write past it answers is not ENOSPC, but takes the same way through SQLite
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    noisy = [run(i, status="partial", samples_ns=tuple(range(i, i + 20_000))) for i in range(1, 100)]
    message = message_in_a_process(lambda: open_store(str(file)).add(noisy), before=limit)

    assert "free some space and run again" in message
    with open_store(str(file)) as store:
        assert list(store.runs()) == [run(0)]
        assert store.add(noisy).inserted == 99


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_really_full_disk_is_told_and_the_store_stays_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        with open_store(str(disk / "results.sqlite")) as store:
            store.add([run(0)])
            noisy = [run(i, status="partial", samples_ns=tuple(range(i, i + 20_000))) for i in range(1, 100)]

            with pytest.raises(EnvironmentProblem, match="no space left on the disk; nothing was half written"):
                store.add(noisy)

            assert list(store.runs()) == [run(0)]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_the_driver_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"  # what a missing package looks like to `import`
        "from edgepack.store.results import open_store\n"
        "open_store('postgresql://me:secret@localhost/results')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    said = done.stderr.splitlines()[-1]
    assert said.endswith("the driver psycopg is not installed: pip install 'edgepack[postgres]'")
    assert "results store postgresql://me:***@localhost/results" in said


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/results", "no server answers there: start it, or correct EDGEPACK_STORE"),
        ("postgresql:///results?host=/nowhere/at/all", "no server answers there: start it, or correct EDGEPACK_STORE"),
        ("postgresql://me:secret@no-such-host.invalid/results", "no such host: correct EDGEPACK_STORE"),
    ],
)
def test_a_server_that_is_not_there_is_told_without_the_password(url: str, message: str) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        open_store(url)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_the_server_lacks_is_told(postgres: postgres_server.Server) -> None:
    with pytest.raises(EnvironmentProblem, match=r'database "nothing" does not exist.*createdb'):
        open_store(postgres.url("nothing"))


def test_a_user_who_may_not_make_tables_is_told(postgres: postgres_server.Server) -> None:
    postgres.sql("CREATE ROLE guest LOGIN")

    with pytest.raises(EnvironmentProblem, match=r"permission denied for schema public: grant the user CREATE"):
        open_store(postgres.url("postgres").replace("edgepack@", "guest@"))


def test_a_user_who_owns_no_tables_reads_and_writes_but_adds_no_column(postgres: postgres_server.Server) -> None:
    url = postgres.schema()
    name = url.rpartition("%3D")[2]
    with open_store(url) as store:
        store.add([run(0)])
    postgres.sql(
        f"CREATE ROLE member LOGIN; GRANT USAGE ON SCHEMA {name} TO member; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO member"
    )
    members = url.replace("edgepack@", "member@")
    with open_store(members) as store:
        assert store.add([run(0), run(1)]).inserted == 1

    postgres.sql(f"ALTER TABLE {name}.metrics DROP COLUMN energy_mj")

    with pytest.raises(EnvironmentProblem, match=r"must be owner of table metrics: open the store once as their owner"):
        open_store(members)
    open_store(url).close()
    with open_store(members) as store:
        assert len(store.summaries()) == 2


def test_a_statement_on_the_server_ends_in_time(postgres: postgres_server.Server) -> None:
    place = place_of(postgres.schema())
    engine = open_engine(place)

    with reading(engine, place) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "10min"
    engine.dispose()


def test_tables_of_our_names_that_are_not_ours_are_left_alone(postgres: postgres_server.Server) -> None:
    url = postgres.schema()
    name = url.rpartition("%3D")[2]
    postgres.sql(f"CREATE TABLE {name}.runs (id int)")

    with pytest.raises(EnvironmentProblem, match=r"a database of something else \(it has tables: runs\)"):
        open_store(url)


def test_tables_of_other_names_may_lie_beside_ours(postgres: postgres_server.Server) -> None:
    url = postgres.schema()
    name = url.rpartition("%3D")[2]
    postgres.sql(f"CREATE TABLE {name}.customers (id int)")

    with open_store(url) as store:
        assert store.add([run()]).inserted == 1


def test_a_server_that_goes_away_is_told_and_nothing_is_half_there() -> None:
    if reason := postgres_server.why_not():
        pytest.skip(reason)
    with postgres_server.server() as own, open_store(own.url("postgres")) as store:
        store.add([run(0)])

        def cut_off() -> Iterator[object]:
            yield from (run(i) for i in range(1, 600))
            own.stop()
            yield from (run(i) for i in range(600, 1200))

        with pytest.raises(EnvironmentProblem, match="server"):
            store.add(cut_off())  # type: ignore[arg-type]  # runs
        own.start()

        assert len(store.summaries()) == 501
        assert store.add(run(i) for i in range(1200)).ignored == 501
