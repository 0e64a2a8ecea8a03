"""docs/logins.md as an administrator follows it, typed into a whole Debian: ssh with a second factor, and back."""

import re
from pathlib import Path

import pytest
from login_house import Holder
from machine import Machine
from packages import Packages
from terminal import Terminal
from waiting import until

PAGE = Path(__file__).parents[1] / "docs" / "logins.md"
SECTION = "ssh, from nothing to a second factor"
DROP_IN = "/etc/ssh/sshd_config.d/10-unlatch.conf"
KEY = "/root/visitor"  # somebody's private key, elsewhere


def blocks(heading: str, language: str) -> list[str]:
    """The fenced blocks of one section."""
    section = re.split(rf"^## {re.escape(heading)}$", PAGE.read_text(), flags=re.M)[1].split("\n## ")[0]
    return [text for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S) if found == language]


@pytest.fixture
def server(machine: Machine, packages: Packages) -> Machine:
    """A server where alice, rescue and root's visitor log in by public key, with the package and Debian's own files."""
    machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
    machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    for name in ("alice", "rescue"):
        machine.add_user(name)
        machine.shell(
            f"install -d -m 700 -o {name} -g {name} /home/{name}/.ssh; "
            f"install -m 600 -o {name} -g {name} {KEY}.pub /home/{name}/.ssh/authorized_keys"
        )
    machine.shell("systemctl start ssh.service")
    return machine


def ssh(server: Machine, user: str) -> Terminal:
    """A login from elsewhere."""
    known = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/root/known", "-o", "LogLevel=ERROR")
    return server.terminal("ssh", "-i", KEY, *known, f"{user}@127.0.0.1", "echo in as $(id -un)")


def come_in(server: Machine, user: str, holder: Holder | None = None) -> bool:
    """Whether this user is let in, with a response if somebody can give one."""
    with ssh(server, user) as terminal:
        if holder is not None:
            terminal.expect("Response: ")
            terminal.type(f"{holder.read(terminal.screen).response}\n")
        return terminal.end() == 0 and f"in as {user}" in terminal.screen


def listenings(server: Machine) -> int:
    """How often sshd has begun to listen; a reload is over with the next time, not when systemctl returns."""
    return server.shell("journalctl --sync; journalctl -u ssh.service -o cat").out.count("Server listening on 0.0.0.0")


def reload(server: Machine, script: str) -> None:
    """Type what reloads sshd, and wait for it."""
    before = listenings(server)
    server.shell(script)
    until(lambda: listenings(server) > before, "sshd, reloaded")


def test_the_guide_as_it_is_written(server: Machine) -> None:
    """Enrol, walk through it, change two files, reload: alice needs her key now, rescue does not; then take it back."""
    enrol, walk, check_and_reload = blocks(SECTION, "sh")
    (drop_in, line) = blocks(SECTION, "")
    holder = Holder("alice")
    try:
        server.write("/root/alice.asc", holder.public)
        before = (server.root / "etc/pam.d/sshd").read_text()
        assert come_in(server, "alice")

        said = server.shell(f"cd /root\n{enrol}")
        assert holder.fingerprint in said.err

        with server.terminal(*walk.split()) as terminal:
            terminal.expect("/usr/lib/")
            terminal.expect("pam_unlatch.so\n")
            terminal.expect("the service listens at /run/unlatch-pam/pam.sock")
            terminal.expect(f"{holder.fingerprint}, by")
            terminal.expect("KbdInteractiveAuthentication yes")  # Debian's own file says no
            terminal.expect("Response: ")
            terminal.type(f"{holder.read(terminal.screen).response}\n")
            terminal.expect("alice would be let in (PAM_SUCCESS)")
            for each in (line.strip(), *drop_in.split("\n\n")[0].splitlines()):
                terminal.expect(f"    {each}\n")
            assert terminal.end() == 0

        with server.terminal(*walk.split(), user="alice") as terminal:
            terminal.expect("Response: ")
            message = holder.read(terminal.screen)
            assert message.source.endswith("as told by a program of alice")
            terminal.type(f"{message.response}\n")
            terminal.expect("alice would be let in (PAM_SUCCESS)")

        server.write(DROP_IN, drop_in)
        assert before.count("@include common-auth\n") == 1
        server.write("/etc/pam.d/sshd", before.replace("@include common-auth\n", line))
        reload(server, check_and_reload)
        assert come_in(server, "alice", holder)
        assert come_in(server, "rescue")
        log = server.shell("journalctl --sync; journalctl -u unlatch-pam.service -g login -o cat").out
        assert re.findall(r"^login (\w+): user=alice service=sshd", log, re.M) == ["allowed"] * 3

        found = server.run("unlatch", "doctor", "logins", "login-grace", "login-keys", check=False)
        assert (found.code, found.out.count("\nok  ") + found.out.startswith("ok  ")) == (0, 3), found

        refused = server.run("apt-get", "remove", "--yes", "unlatch", check=False)
        assert refused.code != 0
        assert "/etc/pam.d/sshd, line" in refused.err + refused.out

        server.write("/etc/pam.d/sshd", before)
        reload(server, f"rm {DROP_IN}\n{check_and_reload}")
        assert come_in(server, "alice")
    finally:
        holder.close()
