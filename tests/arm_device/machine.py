"""An arm64 device without hardware: builds its image, starts and stops it. README.md says what is in it and how to use it.

python tests/arm_device/machine.py start | stop | build     (make arm-device, make arm-device-stop)
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Images are large and good for any checkout: several may share one folder.
FOLDER = Path(os.environ.get("ARM_DEVICE_FOLDER", HERE.parent.parent / ".arm-device"))
TO_RUN = ("qemu-system-aarch64", "ssh", "bash")
TO_BUILD = ("mmdebstrap", "cpio", "mkfs.ext4", "ssh-keygen")
PACKAGES = "qemu-system-arm mmdebstrap cpio e2fsprogs openssh-client adb"
START_LIMIT_S = 180.0


class NoArmDevice(Exception):
    """Why there is no arm64 device here, and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDevice:
    """A running machine. `ssh_config` has hosts 'arm-device' (user edge) and 'arm-device-root'; adb reaches it at 127.0.0.1:`adb_port`."""

    pid: int
    ssh_port: int
    adb_port: int
    deterministic: bool
    folder: str
    image: str

    @property
    def ssh_config(self) -> Path:
        return Path(self.folder) / "ssh_config"

    @property
    def key(self) -> Path:
        return Path(self.image) / "id_ed25519"

    @property
    def console(self) -> Path:
        return Path(self.folder) / "console.log"

    @property
    def adb_address(self) -> str:
        return f"127.0.0.1:{self.adb_port}"

    def ssh(self, *words: str, root: bool = True, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """One command on the device, beside whatever is tested; its words are quoted."""
        host = "arm-device-root" if root else "arm-device"
        command = ["ssh", "-F", str(self.ssh_config), host, shlex.join(words)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
        )


def find_image(*, build: bool) -> Path:
    """The image that these files describe, built where it is missing and may be. Raises NoArmDevice."""
    image = FOLDER / f"image-{_digest()}"
    if (image / "disk.ext4").is_file():
        return image
    missing = [tool for tool in TO_BUILD if not shutil.which(tool)]
    if missing:
        raise NoArmDevice(f"no image in {FOLDER}, and {', '.join(missing)} to build one isn't installed ({PACKAGES})")
    if os.geteuid() != 0:
        raise NoArmDevice(
            f"no image in {FOLDER}: building one needs root, once: 'sudo make arm-device-image' (running it does not)"
        )
    if not build:
        raise NoArmDevice(f"no image in {FOLDER}: 'make arm-device' builds it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (image / "disk.ext4").is_file():
            _build(image)
    return image


def _digest() -> str:
    files = [HERE / "build_image.sh", *sorted((HERE / "guest").iterdir()), *sorted((HERE / "wheels").iterdir())]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _build(image: Path) -> None:
    print(f"building the arm64 device's image, about a minute: {image}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="building-", dir=FOLDER) as folder:
        done = subprocess.run(
            [str(HERE / "build_image.sh"), folder],
            env=os.environ | {"PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            tail = "\n".join(done.stdout.strip().splitlines()[-15:])
            raise NoArmDevice(f"the image can't be built: {tail}")
        _give_to_the_user(Path(folder))
        Path(folder).rename(image)
        Path(folder).mkdir()  # for TemporaryDirectory to remove


def _give_to_the_user(folder: Path) -> None:
    """Who runs the image need not be root: the key opens nothing but this machine, and the folder is of the user who called sudo."""
    folder.chmod(0o755)
    (folder / "id_ed25519").chmod(0o644)
    if "SUDO_UID" in os.environ:
        os.chown(FOLDER, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def start(
    folder: Path, *, ssh_port: int = 0, adb_port: int = 0, deterministic: bool = False, dies_with_us: bool = False
) -> ArmDevice:
    """A machine that answers ssh; its files lie in `folder`, port 0 is any free one. Raises NoArmDevice."""
    missing = [tool for tool in TO_RUN if not shutil.which(tool)]
    if missing:
        raise NoArmDevice(f"{', '.join(missing)} isn't installed (Debian: {PACKAGES})")
    image = find_image(build=True)
    folder.mkdir(parents=True, exist_ok=True)
    ssh_port, adb_port = ssh_port or free_port(), adb_port or free_port()
    environment = os.environ | {"SSH_PORT": str(ssh_port), "ADB_PORT": str(adb_port)}
    environment |= {"ICOUNT": "1"} if deterministic else {}
    environment |= {"DIES_WITH_PARENT": "1"} if dies_with_us and shutil.which("setpriv") else {}
    with (folder / "qemu.log").open("w") as log:
        process = subprocess.Popen(
            [str(HERE / "boot.sh"), str(image), str(folder / "console.log")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    device = ArmDevice(
        pid=process.pid,
        ssh_port=ssh_port,
        adb_port=adb_port,
        deterministic=deterministic,
        folder=str(folder.resolve()),
        image=str(image.resolve()),
    )
    _write_ssh_config(device)
    (folder / "device.json").write_text(json.dumps(asdict(device)), encoding="utf-8")
    try:
        _wait_for_ssh(device, process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return device


def free_port() -> int:
    """A port that nothing listens on now, outside 5555 to 5585, which adb takes for emulators."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_ssh_config(device: ArmDevice) -> None:
    known_hosts = Path(device.folder) / "known_hosts"
    host_key = (Path(device.image) / "host_key.pub").read_text(encoding="utf-8").split()
    known_hosts.write_text(f"arm-device {host_key[0]} {host_key[1]}\n", encoding="utf-8")
    key = Path(device.folder) / "id_ed25519"
    key.write_bytes(device.key.read_bytes())
    key.chmod(0o600)
    common = (
        f"    HostName 127.0.0.1\n    Port {device.ssh_port}\n    IdentityFile {key}\n    IdentitiesOnly yes\n"
        f"    HostKeyAlias arm-device\n    UserKnownHostsFile {known_hosts}\n    BatchMode yes\n    ConnectTimeout 20\n"
    )
    device.ssh_config.write_text(
        f"Host arm-device\n    User edge\n{common}\nHost arm-device-root\n    User root\n{common}", encoding="utf-8"
    )


def _wait_for_ssh(device: ArmDevice, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    answer = "nothing yet"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log = (Path(device.folder) / "qemu.log").read_text(encoding="utf-8", errors="replace").strip()
            raise NoArmDevice(f"QEMU ended at once: {log}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = device.ssh("true", limit_s=30)
            if done.returncode == 0:
                return
            answer = done.stderr.strip()
        time.sleep(0.3)
    raise NoArmDevice(f"the machine doesn't answer ssh after {START_LIMIT_S:g} s: {answer}; see {device.console}")


def stop(device: ArmDevice) -> None:
    """End the machine; one that is gone is fine, a number that has become another process's is left alone."""
    deadline = time.monotonic() + 10
    number = signal.SIGTERM
    while _is_ours(device):
        with contextlib.suppress(ProcessLookupError):
            os.kill(device.pid, number)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(device.pid, os.WNOHANG)
        time.sleep(0.1)
        if time.monotonic() > deadline:
            number = signal.SIGKILL


def _is_ours(device: ArmDevice) -> bool:
    try:
        words = Path(f"/proc/{device.pid}/cmdline").read_bytes()
    except OSError:
        return False
    return f"file:{device.folder}/console.log".encode() in words or str(device.console).encode() in words


@contextlib.contextmanager
def running(folder: Path, *, deterministic: bool = False) -> Iterator[ArmDevice]:
    """A machine of one's own on free ports for as long as the block runs."""
    device = start(folder, deterministic=deterministic, dies_with_us=True)
    try:
        yield device
    finally:
        stop(device)


def _name(deterministic: bool) -> str:
    return "deterministic" if deterministic else "usual"


def _start_for_a_user(*, deterministic: bool) -> None:
    folder = FOLDER / _name(deterministic)
    device = _kept(folder)
    if device is None or not _is_ours(device):
        default = 2225 if deterministic else 2224
        device = start(
            folder,
            ssh_port=int(os.environ.get("SSH_PORT", default)),
            adb_port=int(os.environ.get("ADB_PORT", default + 13331)),
            deterministic=deterministic,
        )
    kind = "deterministic: its clock counts instructions" if deterministic else "its clock is an emulator's"
    print(f"The arm64 device runs ({kind}).")
    print(f"  ssh   ssh -F {device.ssh_config} arm-device     (or arm-device-root)")
    print(f"        EDGEPACK_SSH_CONFIG={device.ssh_config} edgepack bench BUNDLE --device ssh://arm-device")
    print(f"  adb   adb connect {device.adb_address}")
    print(f"  stop  make arm-device-stop     (console: {device.console})")


def _kept(folder: Path) -> ArmDevice | None:
    try:
        return ArmDevice(**json.loads((folder / "device.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _stop_for_a_user() -> None:
    for deterministic in (False, True):
        folder = FOLDER / _name(deterministic)
        device = _kept(folder)
        if device is not None:
            stop(device)
            shutil.rmtree(folder)
            print(f"stopped: {_name(deterministic)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="An arm64 device without hardware.")
    parser.add_argument("what", choices=("start", "stop", "build"))
    parser.add_argument("--deterministic", action="store_true", default=bool(os.environ.get("ICOUNT")))
    arguments = parser.parse_args()
    try:
        if arguments.what == "start":
            _start_for_a_user(deterministic=arguments.deterministic)
        elif arguments.what == "stop":
            _stop_for_a_user()
        else:
            print(find_image(build=True))
    except (NoArmDevice, OSError) as exc:
        sys.exit(f"arm-device: {exc}")


if __name__ == "__main__":
    main()
