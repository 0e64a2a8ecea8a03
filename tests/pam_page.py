"""Serves one challenge's page as a login does, from a process of its own: the page is a fork of it.

Reads one line of JSON, prints one line of JSON (or why there is no page), and closes the page with its standard input.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unlatch.pam import accounts
from unlatch.pam.errors import Unfit
from unlatch.pam.web import Tls, open_page
from unlatch.secret import Secret
from unlatch.settings import Settings


@contextlib.contextmanager
def served(
    armour: str, web: str, *, tls: tuple[Path, Path] | None = None, ports: tuple[int, int], seconds: float = 60,
    address: str = "127.0.0.1", host: str = "",
) -> Iterator[SimpleNamespace]:  # fmt: skip
    """A page: ``url``, ``name``, ``password``; ``pid`` is the login's process, ``response`` what only that may know (in
    hex). Without a page: ``why``.
    """
    asked = {
        "armour": armour, "web": web, "tls": [str(path) for path in tls] if tls else None, "ports": ports,
        "seconds": seconds, "address": address, "host": host,
    }  # fmt: skip
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as login:
        assert login.stdin is not None
        assert login.stdout is not None
        login.stdin.write(json.dumps(asked).encode() + b"\n")
        login.stdin.flush()
        yield SimpleNamespace(pid=login.pid, **json.loads(login.stdout.readline()))
    assert login.returncode in (0, -9), "the login's process failed"


def holds(pid: int, needle: bytes) -> bool:
    """Whether these bytes are anywhere in a process's memory."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            with contextlib.suppress(OSError, OverflowError):  # pages that nobody may read
                memory.seek(begin)
                if needle in (memory.read(end - begin) or b""):
                    return True
    return False


def server() -> accounts.Account:
    """Who serves the page: nobody, or ourselves where only root could make it another."""
    return accounts.by_uid(65534 if os.geteuid() == 0 else os.geteuid())


def _main(asked: dict[str, Any]) -> None:
    settings = Settings()._replace(
        pam_web_address=asked["address"], pam_web_ports=tuple(asked["ports"]), pam_web_host=asked["host"]
    )
    tls = [Path(path).read_bytes() for path in asked["tls"] or ()]
    response = _response()
    try:
        page = open_page(
            asked["armour"], asked["web"], Tls(Secret(tls[0]), tls[1]) if tls else None, settings,
            server=server(), random=os.urandom, seconds=asked["seconds"], forget=[response],
        )  # fmt: skip
    except Unfit as unfit:
        print(json.dumps({"why": unfit.why}), flush=True)
        return
    print(json.dumps({**page.link._asdict(), "response": response.reveal().hex()}), flush=True)
    sys.stdin.read()
    page.close()


def _response() -> Secret:
    """A secret of which this process has one copy."""
    drawn = bytearray(24)
    with open("/dev/urandom", "rb", buffering=0) as source:
        source.readinto(drawn)
    response = Secret(drawn)
    drawn[:] = bytes(24)
    return response


if __name__ == "__main__":
    _main(json.loads(sys.stdin.readline()))
