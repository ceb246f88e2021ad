"""What is asked of a device's shell, in words that dash, busybox and Android's mksh with toybox understand alike.

A command runs in a session of its own with two watchers in another: one reads the shell's standard input, which ends when the link does, however it ended;
the other sleeps until the command should be long over, for a link that dies without anybody noticing. Each kills both sessions.
(The sleep is left out where the clock counts instructions, as tests/arm_device does: idle time passes at once there.)
How the command ended is told by a last line of standard error with a word that nobody else knows: `adb shell` ends with 0 when its link breaks.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_DEADLINE_GRACE_S = 30.0
_FULL_KB = 64
_RUNNING = ".running"  # the number of the session that runs in a private folder now
NO_PLACE, NO_PROGRAM, NO_FOLDER = "no-place", "no-program", "no-folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a watched command ended: its exit code (negative: killed by that signal), or what kept it from being started.

    `notes` are what the device's state says about a bad end: memory that ran out, a full disk.
    """

    returncode: int
    trouble: str | None = None
    notes: tuple[str, ...] = ()


def open_folder(name: str, bases: Sequence[str]) -> str:
    """Make a private folder in the first of `bases` that can be written. Prints its path, the boot's id, and for each older one its name and idle seconds."""
    listed = " ".join(map(shlex.quote, bases))
    return f"""
umask 077
for base in {listed} none; do [ -d "$base" ] && [ -w "$base" ] && break; done
command -v setsid >/dev/null || base=none
[ "$base" != none ] && mkdir "$base/{name}" && echo "$base/{name}" || {{ echo {NO_PLACE}; exit 3; }}
cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown
now=$(date +%s)
for old in "$base"/edgepack-*; do [ -d "$old" ] && echo "${{old##*/}} $((now - $(stat -c %Y "$old")))"; done
true"""


def remove_folders(folders: Sequence[str]) -> str:
    """Kill what still runs in private folders, and remove them."""
    return f"""
cd /
for folder in {" ".join(map(shlex.quote, folders))}; do
  {_kill_session('"$folder"')}
  rm -rf "$folder"
done
true"""


def kill_running(folder: str) -> str:
    """Kill what runs in a private folder."""
    return f"{_kill_session(shlex.quote(folder))}\ntrue"


def _kill_session(folder: str) -> str:
    """A session counts only while its leader works in the folder: numbers of processes are used again."""
    return (
        f'running=$(cat {folder}/{_RUNNING} 2>/dev/null) && case "$(readlink /proc/$running/cwd)" in {folder}*) '
        f"kill -9 -$running 2>/dev/null ;; esac"
    )


def run_watched(
    argv: Sequence[str], *, folder: str, environment: Mapping[str, str], unset: Sequence[str], word: str, limit_s: float
) -> str:
    """Run a command in a private folder with both watchers; `word` begins the last line of standard error."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"""
exec 3<&0 </dev/null
cd {shlex.quote(folder)} || {{ echo "{word} {NO_FOLDER}" >&2; exit 1; }}
unset {" ".join(unset)}
{exports}command -v {shlex.quote(argv[0])} >/dev/null || {{ echo "{word} {NO_PROGRAM}" >&2; exit 1; }}
ooms() {{ grep -s '^oom_kill ' /proc/vmstat | cut -d ' ' -f 2; }}
before=$(ooms)
trap 'kill -9 -$p $p; kill -9 -$w $w; exit 1' HUP TERM
setsid {shlex.join(argv)} 3<&- & p=$!
echo $p >{_RUNNING}
setsid sh -c '{{ grep -qs edgepack.clock=instructions /proc/cmdline || {{ sleep {limit_s + _DEADLINE_GRACE_S:.0f}; kill -9 -$0 $0; kill -9 -$$; }}; }} & read line; kill -9 -$0 $0; kill -9 -$$' $p <&3 3<&- >/dev/null 2>&1 & w=$!
exec 3<&-
wait $p; code=$?
{{ kill -9 -$p; kill -9 -$w $w; rm -f {_RUNNING}; }} 2>/dev/null
set -- $(df -k . 2>/dev/null | tail -n 1)
after=$(ooms)
echo "{word} $code ${{before:-0}} ${{after:-0}} ${{4:-unknown}}" >&2"""


def ending_of(stderr: str, word: str) -> tuple[str, Ending | None]:
    """What a watched command wrote to standard error, and how it ended; None when nothing tells, so the link broke."""
    written, found, last = stderr.rpartition(f"{word} ")
    if not found:
        return stderr, None
    told = last.split()
    if told and told[0] in (NO_PROGRAM, NO_FOLDER):
        return written, Ending(returncode=127, trouble=told[0])
    if not told or not told[0].isdigit():
        return written, None
    code = int(told[0])
    code = 128 - code if 128 < code < 193 else code  # POSIX shells say 128 + signal
    return written, Ending(returncode=code, notes=_notes(code, [int(word) for word in told[1:] if word.isdigit()]))


def _notes(code: int, state: Sequence[int]) -> tuple[str, ...]:
    """`state` is how often the kernel ended processes for want of memory, before and after (since Linux 4.13), and the free kilobytes of the folder's disk."""
    notes = []
    if code == -9 and len(state) > 1 and state[1] > state[0]:
        notes.append("the device ran out of memory and its kernel (OOM killer) ended the process")
    if code != 0 and len(state) > 2 and state[2] < _FULL_KB:
        notes.append("the device's disk is full; free some space there")
    return tuple(notes)
