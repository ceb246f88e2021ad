"""A real PostgreSQL server for tests, from Debian's package, on a Unix socket that only this machine sees."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_USER = "edgepack"
_TIMEOUT_S = 120


def programs() -> Path | None:
    """The folder of initdb and pg_ctl: the newest of Debian's, or that on the PATH; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    own = shutil.which("pg_ctl")
    folders = [*reversed(found), *([Path(own).resolve().parent] if own else [])]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


def why_not() -> str | None:
    """Why no server can be started here; None where one can."""
    if programs() is None:
        return "no PostgreSQL server is installed (apt install postgresql)"
    if os.getuid() == 0 and _account() is None:
        return "initdb refuses root, and there is no user 'postgres' to run as"
    return None


@dataclass(slots=True)
class Server:
    """A running server; `schema()` makes an empty place and answers with its URL."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@/{database}?host={self.folder}"

    def schema(self) -> str:
        """The URL of a new schema, which is as good as a new database and made in no time."""
        name = f"store{next(self._numbers)}"
        self.sql(f"CREATE SCHEMA {name}")
        return self.url("postgres") + f"&options=-csearch_path%3D{name}"

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """What psql prints for a statement."""
        command = ["psql", "-X", "-A", "-t", "-q", "-h", str(self.folder), "-U", _USER, "-d", database, "-c", statement]
        return self.run(command)

    def stop(self, mode: str = "immediate") -> None:
        self.run(["pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop"])

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=50"
        log = str(self.folder / "log")
        self.run(["pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", "start"])

    def run(self, command: list[str]) -> str:
        folder = programs()
        assert folder is not None
        account = _account() if os.getuid() == 0 else None
        who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with (self.folder / "said").open("w+") as said:  # no pipe: the server that pg_ctl starts would hold it open
            done = subprocess.run(
                [str(folder / command[0]), *command[1:]],
                stdout=said,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
                cwd=self.folder,
                **who,  # type: ignore[call-overload]  # user and group, or neither
            )
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, f"{command[0]}: {text}"
        return text


@contextmanager
def server() -> Iterator[Server]:
    """A server of its own in a folder of its own; both are gone afterwards. The folder's name is short: a socket's path has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="edgepack-pg-"))
    if os.getuid() == 0 and (account := _account()) is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    running = Server(folder)
    try:
        running.run(["initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync"])
        running.start()
        yield running
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
