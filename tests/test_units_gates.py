"""The units that unlock keys, on a real Debian with systemd as its first process: services wait, nobody else does."""

from pathlib import Path

import pytest
from machine import Machine
from packages import Packages
from real_gnupg import PASSPHRASE
from tenant import Tenant, host_phone, open_on_host
from vault import NAME, Vault
from waiting import until

EXAMPLES = Path(__file__).parents[1] / "systemd" / "examples"
GATE = f"unlatch-key@{NAME}.service"
BROKER = "systemctl start unlatch-page.socket unlatch.service"
API = """\
[Service]
User=api
ExecStart=/bin/sh -c 'date >>/home/api/started; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def vault(machine: Machine, packages: Packages) -> Vault:
    """A host with a broker, and a user whose agent is a unit's and whose keys are locked."""
    vault = Vault(machine, packages)
    vault.own()
    return vault


def job(machine: Machine, unit: str) -> str:
    """What systemd has still to do for a unit: "start waiting", "start running"; "" for nothing."""
    lines = machine.run("systemctl", "list-jobs", "--no-legend", "--plain").out.splitlines()
    return next((" ".join(line.split()[2:]) for line in lines if line.split()[1] == unit), "")


def state(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).out.strip()


def started(machine: Machine) -> int:
    """How often the service has been started."""
    file = machine.root / "home/api/started"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_service_of_another_user_waits_for_a_person(vault: Vault) -> None:
    """The drop-in of the examples: it starts when the key is unlocked, and after a lock its next start waits again."""
    machine = vault.machine
    phone = host_phone(machine)
    machine.shell(BROKER)
    machine.add_user("api")
    machine.write("/etc/systemd/system/api.service", API)
    machine.write(
        "/etc/systemd/system/api.service.d/unlatch.conf", (EXAMPLES / "api.service.d/unlatch.conf").read_text()
    )
    machine.run("systemctl", "enable", GATE, "api.service")
    # What a boot does with what is enabled.
    machine.run("systemctl", "start", "--no-block", "multi-user.target")
    ring = phone.ring()
    assert (ring["user"], ring["unit"]) == (NAME, GATE)
    assert (job(machine, GATE), job(machine, "api.service")) == ("start running", "start waiting")
    assert started(machine) == 0
    # The boot goes on: nothing but the service is ordered after the gate. systemd names them in no order.
    before = machine.run("systemctl", "show", "-P", "Before", GATE).out.split()
    assert sorted(before) == ["api.service", "shutdown.target"]
    assert GATE in machine.run("systemctl", "show", "-P", "Wants", "multi-user.target").out.split()
    assert machine.run("systemctl", "show", "-P", "TimeoutStartUSec", GATE).out == "infinity\n"

    open_on_host(machine, ring["link"]).unlock(PASSPHRASE)
    until(lambda: started(machine) == 1, "the service")
    assert vault.is_unlocked()
    assert (state(machine, GATE), state(machine, "api.service")) == ("inactive", "active")

    machine.run("systemctl", "restart", "api.service")
    until(lambda: started(machine) == 2, "the service's new start")
    assert len(phone.messages("ring")) == 1

    vault.run("unlatch", "key", "lock")
    assert state(machine, "api.service") == "active"
    machine.run("systemctl", "restart", "--no-block", "api.service")
    ring = phone.ring(2)
    assert started(machine) == 2
    open_on_host(machine, ring["link"]).unlock(PASSPHRASE)
    until(lambda: started(machine) == 3, "the service")


def test_a_denied_gate_stays_shut(vault: Vault) -> None:
    """The service fails with its dependency, is not started, and nobody is rung again by systemd."""
    machine = vault.machine
    phone = host_phone(machine)
    machine.shell(BROKER)
    machine.add_user("api")
    machine.write("/etc/systemd/system/api.service", API)
    machine.write(
        "/etc/systemd/system/api.service.d/unlatch.conf", (EXAMPLES / "api.service.d/unlatch.conf").read_text()
    )
    machine.write(f"/etc/unlatch/agent-{NAME}.env", f"UNLATCH_KEYS={vault.grips[0]}\n")
    machine.run("systemctl", "daemon-reload")
    starting = machine.start("systemctl", "start", "api.service")
    open_on_host(machine, phone.ring()["link"]).deny()
    _, errors = starting.communicate(timeout=30)
    assert b"dependency" in errors
    assert machine.run("systemctl", "show", "-P", "ExecMainStatus", GATE).out == "4\n"
    assert (state(machine, GATE), state(machine, "api.service")) == ("failed", "inactive")
    assert started(machine) == 0
    assert len(phone.messages("ring")) == 1


def test_a_users_own_gate(machine: Machine, packages: Packages) -> None:
    """Under the user's systemd, with the user's broker and Debian's agent: the instance names the key."""
    machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
    api = Tenant(machine)
    phone = api.with_broker()
    api.shell("echo allow-preset-passphrase >>.gnupg/gpg-agent.conf; gpgconf --kill gpg-agent")
    key = next(
        line.split(":")[4]
        for line in api.run("gpg", "--list-keys", "--with-colons").out.splitlines()
        if line[:3] == "pub"
    )
    unit = f"[Unit]\nRequires=unlatch-key@{key}.service\nAfter=unlatch-key@{key}.service\n"
    unit += (
        "[Service]\nType=oneshot\nExecStart=/usr/bin/gpg --batch --pinentry-mode cancel -o %h/plain -d %h/secret.gpg\n"
    )
    api.shell("mkdir -p .config/systemd/user; cat >.config/systemd/user/job.service", feed=unit.encode())
    machine.run("loginctl", "enable-linger", "api")
    runtime = f"/run/user/{machine.run('id', '-u', 'api').out.strip()}"
    systemctl = ("env", f"XDG_RUNTIME_DIR={runtime}", "systemctl", "--user")
    until(lambda: api.run(*systemctl, "is-system-running", check=False).out == "running\n", "their systemd")
    api.run(*systemctl, "enable", "--now", "unlatch.socket", "unlatch-admin.socket")
    starting = machine.start(*systemctl, "start", "job.service", user="api")
    page = api.open(phone.ring()["link"])
    assert starting.poll() is None
    assert not (machine.root / "home/api/plain").exists()
    page.unlock(PASSPHRASE)
    assert starting.wait(timeout=30) == 0, machine.run("journalctl", "-n", "40").out
    assert (machine.root / "home/api/plain").exists()
