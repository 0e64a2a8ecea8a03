"""The texts of the systemd units. There is one copy: ``systemd`` beside this file is a link to the source tree's, and
a wheel has the files in its place.
"""

import os
import re

_SOURCE = f"{os.path.dirname(os.path.abspath(__file__))}/systemd"
_PROGRAM = "/usr/local/bin/unlatch"  # what ExecStart= says in the source tree
# Units of others that ours extend, by the file that extends them; the Debian package has the same.
_EXTENDED = {
    "system/agent-places.conf": ("system/user-runtime-dir@.service",),
    "user/one-agent.conf": ("user/gpg-agent.socket", "user/gpg-agent-.socket", "user/gpg-agent.service"),
}
_KINDS = (".service", ".socket", ".timer", ".path", ".target")


def units(manager: str, program: str) -> dict[str, str]:
    """All units for "system" or "user" by name, starting this ``program``."""
    folder = f"{_SOURCE}/{manager}"
    names = sorted(name for name in os.listdir(folder) if name.endswith(_KINDS))
    return {name: _with_program(_read(f"{folder}/{name}"), program) for name in names}


def drop_ins() -> dict[str, str]:
    """What the host's units of agents need of others' units, by path below /etc/systemd."""
    extended = ((name, unit) for name, units in _EXTENDED.items() for unit in units)
    return {f"{unit}.d/unlatch.conf": _read(f"{_SOURCE}/{name}") for name, unit in extended}


def socket_drop_in(group: str) -> str:
    """The drop-in that gives the page's socket to the proxy's group."""
    return re.sub(r"^SocketGroup=.*$", f"SocketGroup={group}", _read(f"{_SOURCE}/system/proxy.conf"), flags=re.M)


def sysusers() -> str:
    """The broker's user."""
    return _read(f"{_SOURCE}/unlatch.sysusers")


def _with_program(text: str, program: str) -> str:
    # A path with white space would have to be quoted where units are read.
    return re.sub(rf"{_PROGRAM}(?![\w/-])", program.replace("\\", "\\\\"), text)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
