"""Who comes back to end a grant: a timer of the systemd that owns the agent, or a child in the agent's own unit.

The end must come as long as the agent lives, else a grant would last for ever. So whoever ends it must live at least as
long as the agent does:

- A process in the agent's own unit does: systemd ends a unit's processes together.
- The user's systemd does when the agent is its service, or when it lingers (loginctl(1)): else it ends at logout, and
  an agent outside of it goes on.
- The system's systemd always does, but only root may give it timers.
- Anything else may end before the agent: then there is no grant with an end.

A timer of systemd stands still while the machine sleeps (systemd.timer(5), OnActiveSec=). So it gets the wall clock's
time as well, whichever comes first; ``grant_end`` looks at CLOCK_BOOTTIME and waits on if it came too early.
"""

import contextlib
import os
import signal
import sys
import time
from typing import NamedTuple

from unlatch import origin
from unlatch.errors import UnlatchError
from unlatch.gnupg.homes import Home

USER, SYSTEM, CHILD = "user", "system", "child"

SECONDS = 10.0  # for systemd to take a timer: 20 ms where nothing is wrong
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_LINGER = "/var/lib/systemd/linger"
# As in unlatch.start: nothing of site-packages or the environment decides what is imported.
_BOOT = (
    "import sys; sys.path += sys.argv.pop(1).split(':'); from unlatch.gnupg.grant_end import main; main(sys.argv[1:])"
)


class NoEnder(UnlatchError):
    """Nobody can end a grant here. ``why`` is "agent" (a unit of the system's), "linger", "systemd" or "failed"."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


class Place(NamedTuple):
    """What the choice depends on. Units are (the system's, the user's), as in :func:`unlatch.origin.units`."""

    uid: int
    agent_units: tuple[str, str]
    own_units: tuple[str, str]
    user_manager: bool  # the user's systemd can be reached
    lingers: bool
    system_manager: bool


def choose(place: Place) -> str:
    """Who ends a grant: USER, SYSTEM or CHILD.

    Raises:
        NoEnder
    """
    system_unit, user_unit = place.agent_units
    unit = user_unit or system_unit
    if unit.endswith(".service") and not unit.startswith("user@") and place.own_units == place.agent_units:
        return CHILD
    if place.user_manager and (place.lingers or (user_unit and system_unit == f"user@{place.uid}.service")):
        return USER
    if place.uid == 0 and place.system_manager:
        return SYSTEM
    if place.user_manager:
        raise NoEnder("linger", "the user's systemd ends at logout, and this gpg-agent goes on after it")
    if system_unit.endswith(".service"):
        raise NoEnder("agent", f"this gpg-agent belongs to {system_unit}, which nobody outside of it can end in time")
    raise NoEnder("systemd", "no systemd that would outlive this gpg-agent can be reached")


def look(uid: int, user: str, agent_pid: int) -> Place:
    """What is there."""
    return Place(
        uid=uid,
        agent_units=origin.units_of(agent_pid),
        own_units=origin.units_of(os.getpid()),
        user_manager=os.path.exists(f"/run/user/{uid}/systemd/private"),
        lingers=os.path.exists(f"{_LINGER}/{user}"),
        system_manager=os.path.exists("/run/systemd/private"),
    )


def schedule(who: str, home: Home, arguments: list[str], *, seconds: float, wall: float) -> str:
    """Have ``grant_end`` come back after ``seconds``, which is at ``wall`` (seconds since 1970). Names what will.

    Raises:
        NoEnder: it cannot be had.
    """
    if who == CHILD:
        return _start_child(home, arguments)
    unit = f"unlatch-grant-{os.getpid()}-{time.monotonic_ns()}"
    kept = [f"--setenv={name}={value}" for name, value in home.environment().items()]
    _run(
        "systemd-run", *_manager(who), "--quiet", "--collect", f"--unit={unit}", "--description=Ends an unlatch grant",
        f"--on-active={max(1, round(seconds))}", f"--on-calendar=@{int(wall) + 1}", "--timer-property=AccuracySec=1s",
        "--property=Type=oneshot", "--property=Restart=on-failure", "--property=RestartSec=30", *kept,
        *_command(arguments),
        uid=home.uid,
    )  # fmt: skip
    return f"{who} {unit}"


def cancel(uid: int, scheduled: str) -> None:
    """Take back what ``schedule`` named, when it is not needed any more. What is not there is as good."""
    who, _, name = scheduled.partition(" ")
    if who == CHILD:
        pid, _, started = name.partition(" ")
        with contextlib.suppress(OSError, ValueError):
            pidfd = os.pidfd_open(int(pid))
            if str(origin.started(int(pid))) == started:  # else another process has this pid now
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            os.close(pidfd)
    elif who in (USER, SYSTEM):
        with contextlib.suppress(NoEnder):
            _run("systemctl", *_manager(who), "--quiet", "stop", f"{name}.timer", uid=uid)


def _manager(who: str) -> list[str]:
    return ["--user"] if who == USER else []


def _start_child(home: Home, arguments: list[str]) -> str:
    """A process that waits in our unit: nobody's child, its own session, nothing of ours but what it needs to know."""
    import subprocess

    try:
        # The shell between us makes it nobody's child, and tells its pid.
        done = subprocess.run(
            ["/bin/sh", "-c", '"$0" "$@" >/dev/null & echo $!', *_command([*arguments, "--wait"])],
            check=True, cwd="/", env=home.environment(), start_new_session=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        pid = int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        raise NoEnder("failed", "no process can be started") from None
    return f"{CHILD} {pid} {origin.started(pid)}"


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-IS", "-c", _BOOT, ":".join(path for path in sys.path if path), *arguments]


def _run(*command: str, uid: int) -> None:
    import subprocess

    reach = {"PATH": _PATH, "XDG_RUNTIME_DIR": f"/run/user/{uid}"}
    try:
        done = subprocess.run(
            command, check=False, env=reach, timeout=SECONDS, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoEnder("failed", f"{command[0]}: {getattr(error, 'strerror', None) or 'no answer'}".lower()) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NoEnder("failed", f"{command[0]}: {said[-1][:200] if said else 'failed'}")
