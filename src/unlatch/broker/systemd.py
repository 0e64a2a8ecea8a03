"""What systemd gives a service and wants to hear: sockets by name, and when it is ready. Done without its library."""

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence

FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
NAMES = ("askers", "admin", "page")


def inherited_sockets(environ: Mapping[str, str], names: Sequence[str] = NAMES) -> dict[str, list[socket.socket]]:
    """Listening sockets by their FileDescriptorName (sd_listen_fds_with_names(3)); those of other names are closed.

    The variables may be meant for another process: then there are none.
    """
    found: dict[str, list[socket.socket]] = {name: [] for name in names}
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return found
    count = int(environ.get("LISTEN_FDS", "0"))
    given = environ.get("LISTEN_FDNAMES", "").split(":")
    for number, name in zip(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count), given, strict=False):
        os.set_inheritable(number, False)  # no notifier shall have it
        if name in found:
            found[name].append(socket.socket(fileno=number))
        else:
            os.close(number)
    return found


def tell(environ: Mapping[str, str], state: str) -> None:
    """sd_notify(3): "READY=1", "STOPPING=1". Does nothing where no service manager listens."""
    address = environ.get("NOTIFY_SOCKET")
    if address:
        path = "\0" + address[1:] if address[0] == "@" else address  # unix(7): an abstract name
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
            manager.sendto(state.encode("ascii"), path)
