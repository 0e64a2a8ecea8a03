"""The Debian package on a host with a real systemd: its units, an upgrade with a prompt open, and the way out."""

import pytest
from machine import Machine
from packages import Packages, shell_block
from real_gnupg import GPG, LOOPBACK, PASSPHRASE, PLAINTEXT, finish
from tenant import Tenant, host_phone, open_on_host
from waiting import until

UNITS = ["unlatch.service", "unlatch.socket", "unlatch-admin.socket", "unlatch-page.socket"]
START = "systemctl enable --now unlatch-page.socket unlatch.service"


def install(machine: Machine, packages: Packages, *, old: bool = False) -> None:
    """dpkg -i."""
    deb = (packages.old() if old else packages.current()).deb
    machine.run("dpkg", "--install", machine.copy(deb, "/tmp/unlatch.deb"))


def states(machine: Machine, question: str) -> list[str]:
    """What systemctl says of our units."""
    return machine.run("systemctl", question, *UNITS, check=False).out.split()


def property_of(machine: Machine, name: str) -> str:
    return machine.run("systemctl", "show", "-P", name, "unlatch.service").out.strip()


def test_installing_starts_nothing(machine: Machine, packages: Packages) -> None:
    """User, directories and units are there; what is not configured does not take the place of anybody's broker."""
    install(machine, packages)
    assert states(machine, "is-enabled") == ["disabled"] * 4
    assert states(machine, "is-active") == ["inactive"] * 4
    assert not (machine.root / "run/unlatch").exists()
    stat = machine.shell("stat -c '%U:%G %a' /var/lib/unlatch /var/log/unlatch /etc/unlatch").out.splitlines()
    assert stat == ["unlatch:unlatch 700", "unlatch:unlatch 700", "root:root 755"]
    assert machine.run("systemd-analyze", "verify", "--man=no", *UNITS).err == ""
    machine.run("logrotate", "--debug", "/etc/logrotate.d/unlatch")


def test_a_service_is_unlocked_by_the_hosts_broker(machine: Machine, packages: Packages) -> None:
    """Installed by apt, set up as the guide says: a sandboxed broker, and a unit whose secret a person releases."""
    machine.run("apt-get", "install", "--yes", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
    machine.shell(shell_block("2. User and units", "/usr/share/doc/unlatch"))
    machine.shell(
        "sed -i s/caddy/www-data/ /etc/systemd/system/unlatch-page.socket.d/proxy.conf; systemctl daemon-reload"
    )
    phone = host_phone(machine)
    api = Tenant(machine)
    machine.shell(shell_block("3. The configuration", "unlatch config check"))
    assert states(machine, "is-active") == ["active"] * 4
    assert property_of(machine, "User") == "unlatch"
    machine.run("systemd-run", "--unit=job", "--uid=api", "-p", "StandardOutput=file:/run/out",
                "gpg", "--batch", "--quiet", "--decrypt", "/home/api/secret.gpg")  # fmt: skip
    ring = phone.ring()
    assert (ring["user"], ring["unit"]) == ("api", "job.service")
    page = open_on_host(machine, ring["link"])
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert until((machine.root / "run/out").read_bytes, "the plaintext") == PLAINTEXT
    machine.run("logrotate", "--force", "/etc/logrotate.d/unlatch")
    assert "accepted" in machine.run("unlatch", "log", "--since", "1d").out
    assert (machine.root / "var/log/unlatch/audit.jsonl.1").exists()
    api.run("unlatch", "status")


def test_a_users_own_broker_has_units_too(machine: Machine, packages: Packages) -> None:
    """Without the host's broker: the user's systemd holds the sockets, and starts the broker with the first asker."""
    install(machine, packages)
    api = Tenant(machine)
    phone = api.with_broker()
    machine.shell("loginctl enable-linger api")
    runtime = f"/run/user/{machine.shell('id -u api').out.strip()}"
    systemctl = ("systemctl", "--user")
    reach = {"user": "api", "XDG_RUNTIME_DIR": runtime}
    until(
        lambda: machine.run(*systemctl, "is-system-running", check=False, **reach).out == "running\n", "their systemd"
    )
    machine.run(*systemctl, "enable", "--now", "unlatch.socket", "unlatch-admin.socket", **reach)
    service = api.decrypt()
    page = api.open(phone.ring()["link"])
    assert machine.run(*systemctl, "is-active", "unlatch.service", **reach).out == "active\n"
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)


def test_an_upgrade_with_prompts_open_loses_none(machine: Machine, packages: Packages) -> None:
    """dpkg exchanges the package and starts the broker anew: links that were sent work there, nobody is rung again."""
    install(machine, packages, old=True)
    phone = host_phone(machine)
    tenants = [Tenant(machine, name) for name in ("api", "shop")]
    machine.shell(START)
    services = [tenant.decrypt() for tenant in tenants]
    pages = [open_on_host(machine, link) for link in phone.links(2)]
    before, rings = property_of(machine, "MainPID"), len(phone.messages("ring"))
    install(machine, packages)
    assert property_of(machine, "MainPID") != before
    for page in pages:
        until(lambda page=page: page.view().status == 200, "the link on the new broker")
        page.unlock(PASSPHRASE)
        assert page.verdict().outcome == "accepted"
    assert [finish(service)[:2] for service in services] == [(0, PLAINTEXT)] * 2
    assert len(phone.messages("ring")) == rings
    assert "version 0.0.9" not in machine.run("unlatch", "status").out
    assert states(machine, "is-active") == ["active"] * 4


def test_an_upgrade_starts_nothing_that_was_stopped(machine: Machine, packages: Packages) -> None:
    """Who stopped the broker had a reason; and policy-rc.d, where there is one, is asked before one is started anew."""
    install(machine, packages, old=True)
    host_phone(machine)
    machine.shell(f"{START}; systemctl stop {' '.join(UNITS)}")
    install(machine, packages)
    assert states(machine, "is-active") == ["inactive"] * 4
    machine.shell("systemctl start unlatch.service")
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    before = property_of(machine, "MainPID")
    install(machine, packages)
    assert property_of(machine, "MainPID") == before


@pytest.mark.parametrize("how", ["--remove", "--purge"])
def test_removal_leaves_no_trace(machine: Machine, packages: Packages, how: str) -> None:
    """A prompt is open and answers were given: removed, nothing runs or listens; purged, nothing at all is left."""
    before, users = machine.files(), machine.shell("cat /etc/passwd").out
    install(machine, packages)
    machine.write("/etc/systemd/system/unlatch-page.socket.d/proxy.conf", "[Socket]\nSocketGroup=www-data\n")
    phone = host_phone(machine)
    machine.shell(f"systemctl daemon-reload; {START}")
    ring = machine.start("unlatch", "ring")
    open_on_host(machine, phone.ring()["link"])
    done = machine.run("dpkg", how, "unlatch")
    assert "ended 1 process that waited" in done.err
    code, _, errors = finish(ring)
    assert (code, "Traceback" in errors) == (128 + 15, False)
    assert not list((machine.root / "run").glob("unlatch*"))
    assert [command for command in machine.commands() if "unlatch" in command] == []
    assert states(machine, "is-active") == ["inactive"] * 4
    left = {path for path in machine.files() - before if not path.startswith("/run/")}
    if how == "--purge":
        assert left == set()
        assert machine.shell("cat /etc/passwd").out == users
        assert not (machine.root / "var/log/unlatch").exists()
    else:
        assert {path for path in left if not path.startswith(("/etc/", "/var/"))} == set()
        assert "/etc/unlatch/unlatch.toml" in left


def test_removal_gives_the_agents_back(machine: Machine, packages: Packages) -> None:
    """A unit owned the user's gpg-agent: without the package, GnuPG starts one of its own and works as before."""
    install(machine, packages)
    host_phone(machine)
    api = Tenant(machine)
    machine.shell(f"{START}; systemctl enable --now unlatch-agent@api.service")
    until(lambda: "S.gpg-agent" in api.shell("find .gnupg -type l").out, "the way to the one agent")
    machine.shell("sed -i /^pinentry-program/d ~/.gnupg/gpg-agent.conf", user="api")
    machine.run("dpkg", "--purge", "unlatch")
    assert not (machine.root / "run/unlatch-agent").exists()
    assert not list((machine.root / "etc/systemd/system").rglob("unlatch*"))
    plain = api.run(*GPG, *LOOPBACK, "--decrypt", "/home/api/secret.gpg", feed=PASSPHRASE)
    assert plain.out.encode() == PLAINTEXT


def test_setup_and_the_way_back(machine: Machine, packages: Packages) -> None:
    """What setup has connected holds the package; what the refusal says to type takes it back byte for byte."""
    install(machine, packages)
    api = Tenant(machine, pinentry="/usr/bin/pinentry-curses")
    before = api.shell("cat .gnupg/gpg-agent.conf").out
    machine.run(
        "unlatch", "setup", "--user", "api", "--yes", "--public-url", "https://unlock.test/", "--person", "alex",
        "--notify", "command=/bin/true", "--proxy", "none", "--cache-hours", "8", "--no-ring",
    )  # fmt: skip
    assert "pinentry-program /usr/bin/pinentry-unlatch\n" in api.shell("cat .gnupg/gpg-agent.conf").out
    assert states(machine, "is-active")[0] == "active"
    refused = machine.run("apt-get", "purge", "--yes", "unlatch", check=False)
    assert refused.code != 0
    told = f"{refused.out}{refused.err}"
    hint = next(line for line in told.splitlines() if "setup --undo" in line).partition("hint: ")[2]
    machine.shell(f"{hint} --yes")
    assert api.shell("cat .gnupg/gpg-agent.conf").out == before
    machine.run("apt-get", "purge", "--yes", "unlatch")
    assert not list((machine.root / "var/lib").glob("unlatch*"))
