"""docs/installation.md, the environment in /opt, typed as it stands into a machine with systemd, and out again."""

import re
import shutil
from pathlib import Path

import pytest
from machine import Done, Machine
from packages import BUILDER, ROOT, copy_of_checkout, shell_block
from real import absent
from real_gnupg import PASSPHRASE, PLAINTEXT, finish
from tenant import Tenant, host_phone, open_on_host
from waiting import until

CHECKOUT = "/root/unlatch"
# In the place of the network: the wheels of the lock file, and the locked build backend.
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/srv/wheels",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say "no isolation"
    "PYTHONPATH": "/srv/build",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def type_in(machine: Machine, heading: str, marker: str) -> Done:
    """Type a block in the checkout, as root."""
    return machine.shell(f"cd {CHECKOUT}\n{shell_block(heading, marker)}", **OFFLINE)


@pytest.fixture
def prepared(machine: Machine, tmp_path: Path) -> Machine:
    """A machine with a checkout."""
    if not BUILDER.exists():
        absent("nothing to build a wheel with; tools/setup test fetches it")
    checkout = copy_of_checkout(tmp_path / "checkout")
    (checkout / ".make").unlink()
    shutil.copytree(checkout, machine.root / CHECKOUT.lstrip("/"))
    for wheels in (ROOT / ".make/wheels").iterdir():
        shutil.copytree(wheels, machine.root / "srv/wheels", dirs_exist_ok=True)
    shutil.copytree(next(BUILDER.parents[1].glob("lib/python3*/site-packages")), machine.root / "srv/build")
    machine.shell("mkdir -p /usr/local/share/man/man1 /usr/local/share/man/man5 /etc/tmpfiles.d /etc/sysusers.d")
    machine.shell("mkdir -p /etc/systemd/system/multi-user.target.wants /etc/systemd/system/sockets.target.wants")
    return machine


def test_in_and_out_as_written(prepared: Machine) -> None:
    """Program, user, units; a key is unlocked during an upgrade; removal, and only what the page says is left."""
    machine, before = prepared, prepared.files()
    said = type_in(machine, "A virtual environment in /opt", "-m venv").out
    assert re.search(r"^unlatch \d", said, re.MULTILINE)
    assert re.search(r"^pinentry-unlatch \d", said, re.MULTILINE)
    type_in(machine, "2. User and units", "systemd-sysusers")
    phone = host_phone(machine)
    # What the page says of Caddy's group is for hosts that have it.
    machine.shell(
        "sed -i s/caddy/www-data/ /etc/systemd/system/unlatch-page.socket.d/proxy.conf; systemctl daemon-reload"
    )
    type_in(machine, "3. The configuration", "unlatch config check")
    type_in(machine, "Day to day", "logrotate")
    machine.run("logrotate", "--debug", "/etc/logrotate.d/unlatch")
    machine.shell("test -x /usr/local/share/man/man1 && test -s /usr/local/share/man/man5/unlatch.toml.5")

    api = Tenant(machine, pinentry="/usr/local/bin/pinentry-unlatch")
    service = api.decrypt()
    page = open_on_host(machine, phone.ring()["link"])
    type_in(machine, "Upgrade and removal", "--force-reinstall")
    until(lambda: page.view().status == 200, "the link on the new broker")
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    api.shell("rm .gnupg/gpg-agent.conf; gpgconf --kill gpg-agent")

    type_in(machine, "Upgrade and removal", "systemctl disable")
    assert [command for command in machine.commands() if "unlatch" in command] == []
    left = {path for path in machine.files() - before if not path.startswith(("/home/api", "/run/", "/root/unlatch/"))}
    documented = {"/etc/unlatch", "/etc/unlatch/unlatch.toml", "/var/lib/unlatch", "/etc/subuid-", "/etc/subgid-"}
    documented |= {"/etc/unlatch/pam", "/var/lib/unlatch-pam"}
    documented |= {"/usr/local/share/man/man8"}  # empty; others' manuals go there too
    assert {path for path in left if not path.startswith(("/var/lib/unlatch/", "/var/mail"))} <= documented
    assert not list((machine.root / "run").glob("unlatch*"))
