"""One Synapse for all workers of a test run: started by the first that needs it, ended when the last has gone.

A keeper process (this file, run as a program) owns it and counts its tenants by their connections to a Unix socket.
Whatever kills a worker closes its connection, so nothing is left behind.
"""

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from matrix.synapse import BOOT_SECONDS, Synapse

EMPTY_SECONDS = 2.0  # how long an empty house is kept for the next tenant


class SharedSynapse(Synapse):
    """A homeserver that somebody else started: everything but starting and stopping."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = None


@contextlib.contextmanager
def shared(place: Path) -> Iterator[Synapse]:
    """The homeserver of a test run; ``place`` is a directory of its own, the same one for all workers."""
    place.mkdir(mode=0o700, exist_ok=True)
    with contextlib.closing(_move_in(place)) as tenancy:
        tenancy.settimeout(BOOT_SECONDS)
        said = tenancy.makefile("rb").readline()  # comes when it serves
        assert said, (place / "keeper.log").read_text()
        synapse = json.loads(said)
        yield SharedSynapse(Path(synapse["root"]), synapse["port"])


def _move_in(place: Path) -> socket.socket:
    with _alone(place):
        with contextlib.suppress(OSError):
            return _connect(place)
        with (place / "keeper.log").open("wb") as log:
            subprocess.run(  # comes back when the socket is there
                [sys.executable, "-m", "matrix.shared", place], cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True,
            )  # fmt: skip
        return _connect(place)


def _connect(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(place / "socket"))
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Nobody moves in while somebody moves in, or while the keeper closes."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(place: Path) -> None:
    """Run a homeserver for as long as anybody is connected, in a process of its own; returns when it can be called."""
    (place / "socket").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "socket"))
        listener.listen(64)
        if os.fork():
            return
        synapse = Synapse()
        try:
            synapse.start()
            synapse.wait()
            _serve(place, listener, json.dumps({"root": str(synapse.root), "port": synapse.port}).encode() + b"\n")
        finally:
            synapse.close()


def _serve(place: Path, listener: socket.socket, greeting: bytes) -> None:
    tenants: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([listener, *tenants], [], [], None if tenants else EMPTY_SECONDS)
        if listener in ready:
            tenant, _ = listener.accept()
            with contextlib.suppress(OSError):  # it may have gone while Synapse started
                tenant.sendall(greeting)
            tenants.append(tenant)
        for tenant in [one for one in tenants if one in ready]:  # tenants say nothing: this is their end
            tenants.remove(tenant)
            tenant.close()
        if not ready and not tenants:
            with _alone(place):
                if not select.select([listener], [], [], 0)[0]:
                    (place / "socket").unlink()
                    return


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
