"""The texts of the systemd units. There is one copy: ``systemd`` beside this file is a link to the source tree's, and
a wheel has the files in its place.
"""

import os
import re

_SOURCE = f"{os.path.dirname(os.path.abspath(__file__))}/systemd"
_PROGRAM = "/usr/local/bin/unlatch"  # what ExecStart= says in the source tree
_KINDS = (".service", ".socket", ".timer", ".path", ".target")


def units(manager: str, program: str) -> dict[str, str]:
    """The broker's units for "system" or "user" by name, starting this ``program``.

    Templates (agents and cards of one user) are left out: they are wanted by few, and not without their drop-ins.
    """
    folder = f"{_SOURCE}/{manager}"
    names = sorted(name for name in os.listdir(folder) if name.endswith(_KINDS) and "@" not in name)
    return {name: _with_program(_read(f"{folder}/{name}"), program) for name in names}


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
