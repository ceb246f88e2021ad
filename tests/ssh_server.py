"""A real sshd of a test's own on this machine: its own host key, config and port; no root needed."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arm_device.machine import free_port

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer:
    """`config` is an ssh config with a host 'board' that logs in here; its lines may be changed by a test."""

    port: int
    config: Path
    known_hosts: Path
    key: Path
    host_key: Path
    pid: int

    def variant(self, name: str, **settings: str) -> Path:
        """Another config: the same host with other settings."""
        lines = [line for line in self.config.read_text().splitlines() if line.split()[0] not in settings]
        path = self.config.with_name(name)
        path.write_text("\n".join([*lines, *(f"    {key} {value}" for key, value in settings.items())]) + "\n")
        return path


def why_no_sshd() -> str | None:
    """None where an sshd can be started."""
    if SSHD is None or not shutil.which("ssh") or not shutil.which("sftp"):
        return "sshd, ssh or sftp is not installed (Debian: openssh-server openssh-client)"
    return None


@contextlib.contextmanager
def running_sshd(folder: Path, *, with_sftp: bool = True) -> Iterator[SshServer]:
    """One that runs while the block does."""
    assert SSHD is not None
    host_key, key = folder / "host_key", folder / "id"
    for path in (host_key, key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60)
    port, authorized = free_port(), folder / "authorized_keys"
    authorized.write_bytes(key.with_suffix(".pub").read_bytes())
    sftp = next((path for path in SFTP_SERVERS if Path(path).exists()), "internal-sftp")
    settings = [
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {host_key}", f"AuthorizedKeysFile {authorized}",
        "PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
        "PermitRootLogin yes", *([f"Subsystem sftp {sftp}"] if with_sftp else []),
    ]  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a root sshd separates its privileges
    log = (folder / "sshd.log").open("w")
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        server = _described(folder, port, host_key, key, process.pid)
        _wait(folder, server, process)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        log.close()


def _described(folder: Path, port: int, host_key: Path, key: Path, pid: int) -> SshServer:
    known, config = folder / "known_hosts", folder / "ssh_config"
    known.write_text("board " + " ".join(host_key.with_suffix(".pub").read_text().split()[:2]) + "\n")
    config.write_text(
        f"Host board\n    HostName 127.0.0.1\n    Port {port}\n    User {getpass.getuser()}\n    HostKeyAlias board\n"
        f"    IdentityFile {key}\n    IdentitiesOnly yes\n    IdentityAgent none\n    UserKnownHostsFile {known}\n    GlobalKnownHostsFile none\n"
    )
    return SshServer(port=port, config=config, known_hosts=known, key=key, host_key=host_key, pid=pid)


def _wait(folder: Path, server: SshServer, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError((folder / "sshd.log").read_text())
        done = subprocess.run(
            ["ssh", "-F", str(server.config), "-o", "BatchMode=yes", "board", "true"],
            capture_output=True,
            timeout=30,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError((folder / "sshd.log").read_text())
