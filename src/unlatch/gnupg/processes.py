"""What /proc tells about agents and their sockets, for when a connection would do harm or cannot be made.

To connect is not harmless: behind a socket that systemd listens on, it starts an agent. An agent hides its descriptors
from its own user (Debian makes it undumpable), so which socket is whose cannot be seen; its command line can.
"""

import os
from collections.abc import Iterator

from unlatch.gnupg.homes import Home

_ACCEPTS = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix
_NAME = "gpg-agent"
_MAX_READ = 1 << 22  # bytes; a host of containers has thousands of mounts


def is_listening(path: str) -> bool:
    """Whether a socket that was bound to ``path`` listens, in our network namespace; the path itself may be hidden."""
    wanted = os.fsencode(path)
    try:
        with open("/proc/net/unix", "rb") as table:
            rows = [row for row in table if row.rstrip(b"\n").endswith(b" " + wanted)]
    except OSError:
        return False
    # proc(5): Num RefCount Protocol Flags Type St Inode Path
    return any(int(row.split(None, 4)[3], 16) & _ACCEPTS for row in rows)


def is_mounted(directory: str) -> bool:
    """Whether something is mounted on exactly this directory, as a sandbox does to hide what is below."""
    # proc(5), mountinfo: ID parent major:minor root mount-point ...
    rows = (line.split(" ") for line in _read("self", "mountinfo").splitlines())
    return any(row[4] == directory for row in rows if len(row) > 4)


def may_serve_too(home: Home, known: int = 0) -> bool:
    """Whether there is a process besides ``known`` that may be an agent of this home: this user's, and of no other."""
    return any(pid != known and _home_of(pid) in ("", home.directory) for pid in _agents_of(home.uid))


def started_for(home: Home) -> list[int]:
    """The pids of the agents that GnuPG's programs started for this home; systemd's are told no home."""
    return [pid for pid in _agents_of(home.uid) if _home_of(pid) == home.directory]


def _agents_of(uid: int) -> Iterator[int]:
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        status = dict(line.split(":\t", 1) for line in _read(pid, "status").splitlines() if ":\t" in line)
        if status.get("Name") == _NAME and status.get("Uid", "").split("\t")[0] == str(uid):
            yield pid


def _home_of(pid: int) -> str:
    """What the command line says: gpg-agent --homedir /home/zoe/.gnupg --use-standard-socket --daemon."""
    arguments = _read(pid, "cmdline").split("\0")
    return arguments[arguments.index("--homedir") + 1] if "--homedir" in arguments[:-1] else ""


def _read(pid: int | str, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return os.fsdecode(file.read(_MAX_READ))
    except OSError:
        return ""
