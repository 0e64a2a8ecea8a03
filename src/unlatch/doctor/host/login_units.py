"""The units behind the module, as systemd has them: a socket may listen for a service that cannot start."""

import subprocess
from typing import NamedTuple

from unlatch.doctor.check import Situation

SOCKET, SERVICE = "unlatch-pam.socket", "unlatch-pam.service"
SECONDS = 5.0
_MAX_SAID = 8192  # bytes
_PROPERTIES = "Id,LoadState,UnitFileState,ActiveState,SubState"


class Unit(NamedTuple):
    """What "systemctl show" says of a unit: LoadState, UnitFileState, ActiveState and SubState."""

    name: str
    load: str
    file: str
    active: str
    sub: str


def ask() -> tuple[Unit, ...]:
    """Ask systemd; nothing where it does not answer."""
    command = ["systemctl", "--no-pager", "show", f"--property={_PROPERTIES}", SOCKET, SERVICE]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return read(done.stdout[:_MAX_SAID].decode("utf-8", "replace"))


def read(said: str) -> tuple[Unit, ...]:
    """Blocks of NAME=VALUE with an empty line between two units; systemctl(1), show. Pure."""
    blocks = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.split("\n\n"))
    return tuple(Unit(*(block.get(key, "") for key in _PROPERTIES.split(","))) for block in blocks if "Id" in block)


def stuck(units: tuple[Unit, ...], situation: Situation) -> tuple[str, str] | None:
    """Why a unit does not run, or will not, and what to type; None if all is well. The socket, on which the service
    hangs, comes first.
    """
    for unit in units:
        restart = situation.as_root("systemctl", "restart", unit.name)
        if unit.load == "masked":
            runtime = ["--runtime"] if unit.file == "masked-runtime" else []
            unmask = situation.as_root("systemctl", "unmask", *runtime, unit.name)
            start = situation.as_root("systemctl", "enable", "--now", SOCKET)
            return f"{unit.name} is masked, so systemd does not start it", f"{unmask}\n{start}"
        if unit.load in ("error", "bad-setting"):
            verify = situation.as_root("systemd-analyze", "verify", unit.name)
            return f"systemd cannot use the file of {unit.name}", f"{verify}\n{restart}"
        if unit.active == "failed":
            return f"{unit.name} failed", f"{situation.as_root('systemctl', 'status', unit.name)}\n{restart}"
        if unit.sub.startswith("auto-restart"):
            journal = situation.as_root("journalctl", "-n", "20", "-u", unit.name)
            return f"{unit.name} ends again and again", f"{journal}\n{restart}"
    return None
