"""The texts of the systemd units, as they are in the source tree: there is one copy, and packages carry that one."""

import os
import re

from unlatch.errors import UnlatchError

_PROGRAM = "/usr/local/bin/unlatch"  # what ExecStart= says in the source tree
_KINDS = (".service", ".socket", ".timer", ".path", ".target")


class NoUnits(UnlatchError):
    """No units came with this installation."""


def source() -> str:
    """The directory that holds system/, user/ and unlatch.sysusers: in the package, or of the checkout it runs from.

    Raises:
        NoUnits
    """
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (f"{here}/systemd", os.path.normpath(f"{here}/../../../systemd")):
        if os.path.isfile(f"{folder}/unlatch.sysusers"):
            return folder
    raise NoUnits("this installation has no systemd units")


def units(manager: str, program: str) -> dict[str, str]:
    """The units for "system" or "user" by name, starting this ``program``."""
    folder = f"{source()}/{manager}"
    names = sorted(name for name in os.listdir(folder) if name.endswith(_KINDS))
    return {name: _with_program(_read(f"{folder}/{name}"), program) for name in names}


def socket_drop_in(group: str) -> str:
    """The drop-in that gives the page's socket to the proxy's group."""
    return re.sub(r"^SocketGroup=.*$", f"SocketGroup={group}", _read(f"{source()}/system/proxy.conf"), flags=re.M)


def sysusers() -> str:
    """The broker's user."""
    return _read(f"{source()}/unlatch.sysusers")


def _with_program(text: str, program: str) -> str:
    # A path with white space would have to be quoted where units are read.
    return re.sub(rf"{_PROGRAM}(?![\w/-])", program.replace("\\", "\\\\"), text)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
