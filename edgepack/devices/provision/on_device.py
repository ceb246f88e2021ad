"""Runs on the device, by its own Python (3.9 or newer, standard library only): says which wheels fit, and unpacks them into a folder for packages.

    python on_device.py facts                          which Python, processor and C library; where packages are kept
    python on_device.py have FOLDER                    which wheels are unpacked there already
    python on_device.py unpack FOLDER WHEEL SHA256     unpack one; doing it twice is fine
    python on_device.py finish FOLDER                  all are there

FOLDER is absolute. It is complete when it has no '.part' at its end. Each answer is one line of JSON; {"error": …} with exit code 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import struct
import sys
import zipfile
from typing import Any, Callable, Dict, List, Optional

DONE = ".edgepack-unpacked"


def facts() -> Dict[str, Any]:
    """What pip must know of this Python."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return {
        "version": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "glibc": glibc(),
        "musl": any(name.startswith("ld-musl") for name in list_of("/lib")),
        "packages": cache + "/edgepack/packages",
        "free_bytes": free_bytes(cache),
    }


def glibc() -> Optional[List[int]]:
    """[2, 36], or None where the C library is another."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name == "glibc":
            return [int(part) for part in version.split(".")[:2]]
    return None


def list_of(folder: str) -> List[str]:
    """The names in a folder, none where it can't be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def free_bytes(folder: str) -> int:
    """Room on the disk that the folder is, or will be, on."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder or "/")
    return disk.f_bavail * disk.f_frsize


def have(folder: str) -> Dict[str, Any]:
    """Whether all is there; else the digests of the wheels that are."""
    if os.path.isdir(folder):
        return {"complete": True, "wheels": []}
    return {"complete": False, "wheels": list_of(folder + ".part/" + DONE)}


def unpack(folder: str, wheel: str, sha256: str) -> Dict[str, Any]:
    """Unpack a wheel as PEP 427 says, without scripts and headers; it is removed from where it was put."""
    part = folder + ".part"
    os.makedirs(part + "/" + DONE, exist_ok=True)
    with open(part + "/" + DONE + "/.lock", "w") as lock, open(wheel, "rb") as file:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two hosts may bring the same wheels at once
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
        if digest.hexdigest() != sha256:
            raise OSError("the wheel did not arrive whole")
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                target = place_of(entry.filename)
                if target and not entry.is_dir():
                    extract(archive, entry, part + "/" + target)
    open(part + "/" + DONE + "/" + sha256, "w").close()
    os.unlink(wheel)
    return {}


def place_of(name: str) -> Optional[str]:
    """Where a wheel's file goes; None for what isn't a package's. Raises OSError for a name that leads out of the folder."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise OSError("the wheel has a file that leads out of the folder: " + name)
    if parts[0].endswith(".data"):
        return "/".join(parts[2:]) if len(parts) > 2 and parts[1] in ("purelib", "platlib") else None
    return name


def extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: str) -> None:
    """One file, whole or not there."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(entry) as source, open(target + ".part", "wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    os.replace(target + ".part", target)


def finish(folder: str) -> Dict[str, Any]:
    """Give the folder its name; another host may have been first."""
    if not os.path.isdir(folder):
        shutil.rmtree(folder + ".part/" + DONE)
        os.rename(folder + ".part", folder)
    return {}


WORDS: Dict[str, Callable[..., Any]] = {"facts": facts, "have": have, "unpack": unpack, "finish": finish}

if __name__ == "__main__":
    try:
        answer = WORDS[sys.argv[1]](*sys.argv[2:])
    except (OSError, zipfile.BadZipFile) as exc:
        print(json.dumps({"error": str(exc)}))
        sys.exit(1)
    print(json.dumps(answer))
