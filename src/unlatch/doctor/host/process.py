"""Which process the broker is, by a word that can be believed, and what it was started with."""

import pwd
import subprocess
from typing import NamedTuple

from unlatch import runtime
from unlatch.doctor.check import Situation

SYSTEMCTL_SECONDS = 5.0
_USER = "unlatch"  # systemd/unlatch.sysusers
# What systemd gives the host's broker (systemd/system/unlatch.service), for when it does not run.
_HOST_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/",
    "LOGS_DIRECTORY": "/var/log/unlatch",
    "STATE_DIRECTORY": "/var/lib/unlatch",
}
_SYSTEMD = (1, 0)  # pid and uid
_MAX_PROC = 1 << 16


class Process(NamedTuple):
    """The broker's process (0: not known for certain) and its uid (-1: not known)."""

    pid: int
    uid: int


def process_of(place: runtime.Runtime, peer: runtime.Peer | None, said: int, situation: Situation) -> Process:
    """Which process the broker is, and whose. ``peer`` listened on its socket.

    ``said`` is what the broker says of its pid. That is not enough: a broker that somebody has taken over could name a
    process of root's, and its notifiers are tried under that uid, with what that process has in its environment. So
    somebody who may be believed must say the same: the kernel (unless systemd listened in its place), systemd, or we
    ourselves, if it is our own broker, which gains nothing by a lie.
    """
    listens = peer is not None and peer.pid == said
    if not place.host:
        ours = peer is not None and peer.uid == situation.uid == situation.caller
        return Process(said if listens or ours else 0, situation.uid)
    if peer is not None and listens and peer[:2] != _SYSTEMD:
        return Process(peer.pid, peer.uid)
    main = _main_process() if said else Process(0, -1)
    if main.pid == said and main.pid:
        return main
    try:
        return Process(0, pwd.getpwnam(_USER).pw_uid)
    except KeyError:
        return Process(0, -1)


def _main_process() -> Process:
    """What systemd knows of the host's broker (org.freedesktop.systemd1(5), MainPID and UID)."""
    command = ["systemctl", "show", "-p", "MainPID", "-p", "UID", "unlatch.service"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SYSTEMCTL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Process(0, -1)
    return read_main_process(done.stdout)


def read_main_process(said: str) -> Process:
    """The lines of "systemctl show"."""
    fields = dict(line.partition("=")[::2] for line in said.splitlines())
    pid, uid = fields.get("MainPID", ""), fields.get("UID", "")
    return Process(int(pid), int(uid)) if pid.isdigit() and uid.isdigit() else Process(0, -1)


def environment_of(place: runtime.Runtime, pid: int, situation: Situation) -> dict[str, str]:
    """What the broker was started with, if the kernel tells us, else what it would be started with."""
    words = _proc(pid, "environ").split("\0")
    real = dict(word.partition("=")[::2] for word in words if "=" in word)
    if real:
        return real
    if place.host:
        return dict(_HOST_ENVIRON)
    return dict(situation.environ) if situation.caller == situation.uid else {"HOME": situation.home}


def argument_of(pid: int, name: str) -> str | None:
    """What stands behind an option in a process's arguments."""
    words = _proc(pid, "cmdline").split("\0")
    return words[words.index(name) + 1] if name in words[:-1] else None


def _proc(pid: int, name: str) -> str:
    """A file of /proc/PID, "" when there is none for us."""
    if pid <= 0:
        return ""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(_MAX_PROC).decode("utf-8", "replace")
    except OSError:
        return ""
