"""One agent per home, on a real Debian: boot without a login, then sessions come and go (docs/agent.md)."""

import re

import pytest
from machine import Machine
from packages import Packages
from vault import FIND, NAME, PYTHON, UNIT, Vault

OWNED = f"/run/unlatch-agent/{NAME}/S.gpg-agent"
ENV = f"SSH_AUTH_SOCK='{OWNED}.ssh'; export SSH_AUTH_SOCK;\n"


@pytest.fixture
def vault(machine: Machine, packages: Packages) -> Vault:
    """A user with keys, nobody logged in, no agent."""
    return Vault(machine, packages)


def test_an_owned_agent_outlives_every_session(vault: Vault) -> None:
    """Unlocked after the boot, it is the one agent for jobs, sessions and sandboxes, until somebody ends it."""
    vault.own()
    # As far back as a running system can go in its boot, and up again.
    (earlier,) = vault.agents()
    vault.machine.run("systemctl", "isolate", "rescue.target")
    vault.wait_for_end_of(earlier)
    vault.machine.run("systemctl", "isolate", "multi-user.target")
    (pid,) = vault.agents()
    vault.unlock()

    def is_the_one(where: str) -> None:
        assert vault.is_unlocked(), where
        assert vault.find() == f"{pid} {where}"
        assert vault.run("unlatch", "env").out == ENV
        assert "ED25519" in vault.run("sh", "-c", 'eval "$(unlatch env)"; exec ssh-add -l').out, where
        assert vault.agents() == [pid], where

    is_the_one(f"{vault.gnupg}/S.gpg-agent")
    vault.login()
    is_the_one(f"/run/user/{vault.uid}/gnupg/S.gpg-agent")
    # A shell's line of old: where GnuPG itself says that the socket is.
    assert "ED25519" in vault.run("sh", "-c", "SSH_AUTH_SOCK=$(gpgconf --list-dirs agent-ssh-socket) ssh-add -l").out
    # Debian's own units stand back, or they would have listened there.
    listening = vault.run("systemctl", "--user", "list-sockets", XDG_RUNTIME_DIR=f"/run/user/{vault.uid}").out
    assert "dirmngr.socket" in listening
    assert "gpg-agent" not in listening
    for sandbox in ({"ProtectHome": "yes"}, {"ProtectHome": "tmpfs"}, {"ProtectHome": "yes", "PrivateNetwork": "yes"}):
        found = vault.service(PYTHON, "-IB", "-c", FIND, **sandbox)
        assert found.out.strip() == f"{pid} {OWNED}", sandbox
        assert "ED25519" in vault.service("env", f"SSH_AUTH_SOCK={OWNED}.ssh", "ssh-add", "-l", **sandbox).out, sandbox
    vault.logout()
    is_the_one(f"{vault.gnupg}/S.gpg-agent")


def test_a_job_that_never_stops_asking_makes_no_second_agent(vault: Vault) -> None:
    """While people log in and out, another job calls GnuPG again and again; whatever it started in between is ended."""
    vault.own()
    vault.unlock()
    (pid,) = vault.agents()
    loop = "cd; until [ -e stop ]; do gpg-connect-agent 'GETINFO pid' /bye; done"
    job = vault.machine.start("sh", "-c", loop, user=NAME)
    for _ in range(3):
        vault.login()
        assert vault.agents() == [pid]
        assert vault.find() == f"{pid} /run/user/{vault.uid}/gnupg/S.gpg-agent"
        vault.logout()
        assert vault.agents() == [pid]
    assert vault.is_unlocked()
    vault.run("sh", "-c", "cd; touch stop")
    out, _ = job.communicate(timeout=30)
    answers = out.decode().split("OK\n")
    assert answers.count(f"D {pid}\n") > 0.8 * len(answers)


def test_an_agent_that_ended_comes_back_alone_and_locked(vault: Vault) -> None:
    """Killed or told to end, logged in or not: the next client gets the unit's agent, nobody starts one of his own."""
    vault.own()
    for end, user in (
        ("kill -9 $(systemctl show -P MainPID unlatch-agent@vault)", ""),
        ("gpgconf --kill gpg-agent", NAME),
    ):
        vault.unlock()
        (before,) = vault.agents()
        vault.machine.shell(end, user=user)
        vault.wait_for_end_of(before)
        assert not vault.is_unlocked()
        (after,) = vault.agents()
        assert vault.machine.run("systemctl", "show", "-P", "MainPID", UNIT).out.strip() == str(after)
        vault.login()
        assert vault.find().split()[0] == str(after)
        vault.logout()


def test_without_the_unit_there_are_two_and_both_are_named(vault: Vault) -> None:
    """What Debian does by itself: a job's agent in the home, a session's in /run/user; we never make the second."""
    vault.run("gpgconf", "--launch", "gpg-agent")
    (first,) = vault.agents()
    in_home, in_run = f"{vault.gnupg}/S.gpg-agent", f"/run/user/{vault.uid}/gnupg/S.gpg-agent"
    vault.unlock()
    vault.login()
    assert vault.find() == f"{first} {in_home}", "systemd listens in /run/user, but there is no agent behind it"
    assert vault.agents() == [first]
    assert not vault.is_unlocked(), "gpg asks the other place, and that makes the second agent"
    (second,) = set(vault.agents()) - {first}
    complaint = vault.find()
    assert complaint.startswith("TwoAgents ")
    assert f"pid {second} at {in_run}" in complaint
    assert f"pid {first} at {in_home}" in complaint
    command = complaint.splitlines()[1]
    assert command == f"kill {first}", "the one that GnuPG does not use now"
    vault.run("sh", "-c", command)
    vault.wait_for_end_of(first)
    assert vault.find() == f"{second} {in_run}"
    hidden = vault.service(PYTHON, "-IB", "-c", FIND.replace("start=False", "start=True"), ProtectHome="yes")
    assert re.match(rf"NoAgent .*{in_run} is hidden from this process", hidden.out)
    assert vault.agents() == [second], "nobody started one for the sandbox"
    warned = vault.run("unlatch", "env")
    assert warned.out == f"SSH_AUTH_SOCK='{in_run}.ssh'; export SSH_AUTH_SOCK;\n"
    assert "valid only while vault is logged in" in warned.err
    assert UNIT in warned.err


def test_the_unit_takes_over_a_running_host(vault: Vault) -> None:
    """Started while two other agents live and a session is open, it ends them and leads both places to its own."""
    vault.run("gpgconf", "--launch", "gpg-agent")
    vault.login()
    vault.run("gpg-connect-agent", "/bye")
    others = vault.agents()
    assert len(others) == 2
    vault.own()
    (pid,) = vault.agents()
    assert pid not in others
    assert vault.find() == f"{pid} /run/user/{vault.uid}/gnupg/S.gpg-agent"
    said = vault.machine.run("journalctl", "-o", "cat", "-u", f"unlatch-agent-places@{NAME}").out
    assert all(f"(pid {other}) was ended" in said for other in others)
    assert vault.machine.run("systemctl", "start", f"unlatch-agent-places@{NAME}").code == 0
    assert vault.machine.run("journalctl", "-o", "cat", "-u", f"unlatch-agent-places@{NAME}").out.count("leads to") == 6
    vault.logout()
    assert vault.find() == f"{pid} {vault.gnupg}/S.gpg-agent"


def test_without_the_unit_again_gnupg_helps_itself(vault: Vault) -> None:
    """Switched off, nothing is left that stands in the way: links that lead nowhere are replaced by a new agent."""
    vault.own()
    vault.machine.run(
        "systemctl", "disable", "--now", UNIT, *(f"unlatch-agent{n}@{NAME}.socket" for n in ("", "-ssh", "-extra"))
    )
    assert vault.agents() == []
    assert vault.find().startswith("NoAgent ")
    vault.run("gpg-connect-agent", "/bye")
    (pid,) = vault.agents()
    assert vault.find() == f"{pid} {vault.gnupg}/S.gpg-agent"


TWO_CARD_USERS = """
import os
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.homes import Home
home = Home.find(os.environ, os.getuid(), os.path.expanduser("~"))
with Agent.open(home, start=False) as one, Agent.open(home, start=False) as other:
    print(one.ask("SCD GETINFO pid"), other.ask("SCD GETINFO pid"))
"""


def test_a_card_has_two_users_also_after_a_logout(vault: Vault) -> None:
    """scdaemon's socket does not go with /run/user: the second client would hear "No SmartCard daemon"."""
    vault.own()
    vault.login()
    vault.run("gpg-connect-agent", "SCD GETINFO pid", "/bye")
    vault.logout()
    first, second = vault.run(PYTHON, "-IB", "-c", TWO_CARD_USERS).out.split()
    assert first == second


def test_another_home_than_the_default(machine: Machine, packages: Packages) -> None:
    """/etc/unlatch/agent-USER.env names it; env repeats it, for all formats alike."""
    vault = Vault(machine, packages, home=f"/home/{NAME}/keys")
    machine.write(f"/etc/unlatch/agent-{NAME}.env", f"GNUPGHOME={vault.gnupg}\n")
    vault.own()
    vault.unlock()
    (pid,) = vault.agents()
    vault.login()
    assert vault.is_unlocked()
    assert vault.agents() == [pid]
    assert vault.run("unlatch", "env").out == f"{ENV}GNUPGHOME='{vault.gnupg}'; export GNUPGHOME;\n"
    elsewhere = machine.run("unlatch", "env", user=NAME)  # the default home is not the unit's
    assert "valid only while" in elsewhere.err
    # A drop-in of our making, started by the real systemd: whatever the path holds, a service gets just that.
    name = """/srv/a "b" 50% %h $HOME \\n 'c'"""
    drop_in = machine.run("unlatch", "env", "--shell", "systemd", GNUPGHOME=name).out
    machine.write("/etc/systemd/system/job.service.d/agent.conf", drop_in)
    machine.write("/etc/systemd/system/job.service", "[Service]\nType=oneshot\nExecStart=sh -c 'env -0 >/srv/seen'\n")
    machine.shell("systemctl daemon-reload; systemctl start job")
    assert f"GNUPGHOME={name}" in (machine.root / "srv/seen").read_text().split("\0")
