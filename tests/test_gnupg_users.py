"""Whoever asks, and from whichever namespace: a bare service user, containers, and users the kernel cannot name."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import UNLATCH, House
from real import absent, real
from real_gnupg import PASSPHRASE, PLAINTEXT, Keyring, finish
from service_user import NAME, UID, ServiceUser
from waiting import listens, until

from unlatch import base64url, seal


@pytest.fixture
def vault(house: House) -> Iterator[ServiceUser]:
    """A service user whose home holds GnuPG's and our settings where programs look without being told."""
    places = {house.gnupg: ".gnupg", house.settings: ".config/unlatch/unlatch.toml"}
    Keyring(house)
    house.run("gpgconf", "--kill", "all")
    for path, name in places.items():
        (house.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, house.root / name)
    user = ServiceUser(house)
    yield user
    user.close()


def test_a_service_user_without_runtime_directory_or_environment(house: House, vault: ServiceUser) -> None:
    """No /run/user/UID, no tty, no variable at all, cwd /: the user's own broker starts below its home."""
    service = vault.start("/usr/bin/gpg", "--batch", "--quiet", "--no-tty", "--decrypt", house.root / "secret.gpg")
    ring = house.phone.ring()
    assert (ring["user"], ring["uid"]) == (NAME, UID)
    page = house.open(ring["link"])
    assert (page.stamp["user"], page.stamp["uid"]) == (NAME, UID)
    page.unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, PLAINTEXT)
    socket_path = house.root / ".local/state/unlatch/run/askers/broker.sock"
    assert socket_path.stat().st_uid == UID
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("namespaces", [("--pid", "--fork", "--mount-proc"), ("--user", "--map-root-user")], ids=str)
def test_a_service_in_another_namespace(house: House, namespaces: tuple[str, ...]) -> None:
    """gpg, agent and asker in a pid or user namespace of their own, the broker outside: its kernel's word counts."""
    keyring = Keyring(house)
    house.run("gpgconf", "--kill", "all")
    serving = house.start(UNLATCH, "serve", "--config", house.settings)
    until(house.is_served, "the broker outside")
    service = house.start(
        real("unshare"), *namespaces, "gpg", "--batch", "--quiet", "--no-tty", "--decrypt", keyring.secret
    )
    page = house.open(house.phone.ring()["link"])
    assert page.stamp["uid"] == os.getuid()
    page.unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert house.brokers() == []  # none was started on demand
    serving.terminate()
    finish(serving)


def test_an_owner_of_another_namespace_is_unknown_not_dead(house: House) -> None:
    """gpg in a container names a pid that means nothing outside: the prompt stays, and the chain is merely unknown."""
    if os.getuid() != 0:
        absent("only root can choose pids in a namespace")
    keyring = Keyring(house)
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    gpg = f"gpg --batch --quiet --no-tty --decrypt {keyring.secret}"
    script = f"echo {highest - 3} >/proc/sys/kernel/ns_last_pid; {gpg}; exit $?"
    service = house.start(real("unshare"), "--pid", "--fork", "--mount-proc", "sh", "-c", script)
    page = house.open(house.phone.ring()["link"])
    page.unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert page.verdict().outcome == "accepted"


def test_the_overflow_uid_is_refused(house: House) -> None:
    """A broker in a user namespace sees all unmapped users as one; it rings for none of them."""
    if os.getuid() != 0:
        absent("only root can connect as another user")
    house.root.chmod(0o755)
    house.runtime.chmod(0o755)
    service = house.start(real("unshare"), "--user", "--map-root-user", UNLATCH, "serve", "--config", house.settings)
    askers = house.runtime / "askers" / "broker.sock"
    until(lambda: listens(askers), "the askers' socket")
    askers.parent.chmod(0o755)
    askers.chmod(0o666)
    reply = register_as(UID, askers)
    assert (reply["event"], reply["why"]) == ("refused", "uid")
    assert house.phone.messages() == []
    service.terminate()
    finish(service)


def register_as(uid: int, path: Path) -> dict[str, Any]:
    """Register a prompt as another user: the kernel notes the effective uid at connect(2)."""
    owned = seal.new_link(os.urandom)
    message = {
        "v": 1, "op": "register", "owner": base64url.encode(owned.owner), "fragment": owned.link.fragment,
        "details": base64url.encode(seal.seal_details(owned.link, seal.pad(b"{}"), os.urandom)),
        "coalesce": "", "seconds": 0, "beside": "", "after": "", "rung": False, "views": [], "told": [],
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10)
        os.seteuid(uid)
        try:
            asker.connect(str(path))
        finally:
            os.seteuid(0)
        asker.sendall(json.dumps(message).encode() + b"\n")
        reply: dict[str, Any] = json.loads(asker.makefile("rb").readline())
        return reply
