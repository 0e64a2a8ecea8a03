"""Who asks: from the owner's pid that gpg-agent names, up the process chain to the service, with its units.

All of it is a hint for the person on the page, as this host's /proc reports it; the kernel's word about the user comes
from the broker. The rules that hold here:
- What cannot be known is left empty. A missing owner, or a pid of another namespace, is "unknown" and never "dead":
  else a prompt from a container would be withdrawn before anybody saw it.
- The owner is held by its pidfd; an ancestor must have started when it did before, and still have the child that led
  to it, after it was read. A pid that was given to another process meanwhile cuts the chain off.
- An argument may be a secret: one is taken for a name only if it is a script's file.
- Every read is bounded. Nothing is retried.
"""

import os
import re
import select
from typing import NamedTuple

from unlatch.prompt import MAX_CHAIN, AskerInfo, Process

MAX_READ = 4096  # bytes of one /proc file; stat and cgroup have some hundred
# So that details with sixteen processes stay below seal.MAX_SEALED whatever their names are.
MAX_SHOWN = 200  # bytes of an argument list, characters of anything else
MAX_NAME = 32  # characters; the kernel's own names have 15

_INTERPRETER = re.compile(r"sh|dash|bash|ksh|zsh|perl|ruby|node|python(3(\.[0-9]+)?)?")
_MANAGERS = ("systemd", "init", "runit", "s6-svscan", "supervisord")


class Owner(NamedTuple):
    """The process that gpg-agent asks for. ``pidfd`` becomes readable when it ends; the caller closes it."""

    pid: int
    pidfd: int


class _Stat(NamedTuple):
    name: str
    parent: int
    started: int  # clock ticks since boot


def owner(option: str, nodename: str) -> Owner | None:
    """The process of ``OPTION owner=PID[/UID] HOST``, or None for unknown.

    Unknown is also what another host named, what does not exist here, and what is younger than this process: the agent
    had its client before it started us, so that pid belongs to another namespace, or was given away.
    """
    first, _, host = option.partition(" ")
    pid = first.partition("/")[0]
    if not (pid.isascii() and pid.isdigit() and 0 < int(pid) < 2**31) or host not in ("", nodename):
        return None
    try:
        pidfd = os.pidfd_open(int(pid))
    except OSError:
        return None
    found, ours = _stat(int(pid)), _stat(os.getpid())
    if found is None or ours is None or found.started > ours.started:
        os.close(pidfd)
        return None
    return Owner(int(pid), pidfd)


def ended(pidfd: int) -> bool:
    """Whether the process of this pidfd is gone (pidfd_open(2): it polls readable then)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def asker_info(who: Owner | None, *, tty: str = "", user_data: str = "") -> AskerInfo:
    """Everything about the asking process that can be known, claims of the agent included."""
    told = AskerInfo(tty=_printable(tty), user_data=_printable(user_data))
    if who is None:
        return told
    chain = _chain(who)
    system_unit, user_unit = units(_read(who.pid, "cgroup"))
    if not chain or ended(who.pidfd):  # what was read may be about another process
        return told
    return told._replace(
        command=" > ".join(process.name for process in reversed(chain[:3])),
        chain=tuple(chain),
        system_unit=_printable(system_unit),
        user_unit=_printable(user_unit),
    )


def units(cgroup: str) -> tuple[str, str]:
    """The system's and the user's unit of ``/proc/PID/cgroup`` (cgroups(7)); "" for none.

    ``/user.slice/user-1000.slice/user@1000.service/app.slice/backup.service`` is ``backup.service`` of the user manager
    that runs in the system's ``user@1000.service``. A unit's subgroups come after it and do not count.
    """
    paths = dict(_hierarchy(line) for line in cgroup.splitlines() if line.count(":") >= 2)
    path = paths.get("") or ""
    path = path if path not in ("", "/") else paths.get("name=systemd", "")
    named = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
    system = named[0] if named else ""
    in_manager = system.startswith("user@") and len(named) > 1
    return system, named[1] if in_manager else ""


def units_of(pid: int) -> tuple[str, str]:
    """The system's and the user's unit of a process; "" for none, or when it is gone."""
    return units(_read(pid, "cgroup"))


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot, which with its pid names it; None when it cannot be seen."""
    stat = _stat(pid)
    return None if stat is None else stat.started


def is_below(ancestor: int, most: int = 4) -> bool:
    """Whether a process is our parent, or at most so many generations further up."""
    pid = os.getpid()
    for _ in range(most):
        stat = _stat(pid)
        if stat is None:
            return False
        pid = stat.parent
        if pid == ancestor:
            return True
    return False


def _hierarchy(line: str) -> tuple[str, str]:
    _, controllers, path = line.split(":", 2)
    return controllers, path


def _chain(who: Owner) -> list[Process]:
    """The owner and its ancestors, up to what a service manager started."""
    chain: list[Process] = []
    pid = who.pid
    child: tuple[int, _Stat] | None = None
    while pid > 1 and len(chain) < MAX_CHAIN:
        stat = _stat(pid)
        if stat is None or (chain and stat.name in _MANAGERS):
            break
        arguments = _read(pid, "cmdline", MAX_SHOWN).split("\0")
        process = Process(
            pid, _printable(_name(pid, stat.name, arguments))[:MAX_NAME], _printable(" ".join(arguments).strip())
        )
        if not (_is_still(pid, stat) and (child is None or _is_still(*child))):
            break
        chain.append(process)
        pid, child = stat.parent, (pid, stat)
    return chain


def _is_still(pid: int, before: _Stat) -> bool:
    """Whether this is the process that it was, with the same parent (which lived all the while, then)."""
    now = _stat(pid)
    return now is not None and now[1:] == before[1:]


def _stat(pid: int) -> _Stat | None:
    """Name, parent and start of a process: proc(5), fields 2, 4 and 22 of stat. The name may hold blanks and ")"."""
    head, found, tail = _read(pid, "stat").rpartition(")")
    fields = tail.split()
    if not found or len(fields) < 20:
        return None
    return _Stat(head.partition("(")[2], int(fields[1]), int(fields[19]))


def _name(pid: int, name: str, arguments: list[str]) -> str:
    """What people call a process: a script by its file, not by what runs it (``bash /usr/bin/pass`` is "pass")."""
    script = arguments[1] if _INTERPRETER.fullmatch(name) and len(arguments) > 1 else ""
    # A relative path begins where the process works; join leaves an absolute one as it is.
    is_file = not script.startswith("-") and os.path.isfile(os.path.join(f"/proc/{pid}/cwd", script))
    return os.path.basename(script) if is_file else name


def _read(pid: int, name: str, most: int = MAX_READ) -> str:
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, most).decode("utf-8", "replace")
    except OSError:  # it ended between the two: ESRCH
        return ""
    finally:
        os.close(descriptor)


def _printable(text: str) -> str:
    """Text that can be shown and sent: no control characters, no lone surrogates (a tty's name is a file name)."""
    shown = text[:MAX_SHOWN].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in shown)
