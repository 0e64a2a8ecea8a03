"""Whom the lines of /etc/pam.d would shut out, as doctor sees it, and whom it leaves out because they would not."""

import os
from pathlib import Path

import pytest
from doctor_host import finding, situation_of
from house import House

from unlatch.doctor.host import login_accounts, pam_places, sudoers
from unlatch.doctor.host.login_accounts import Account, Facts
from unlatch.doctor.host.pam_places import Use
from unlatch.pam.worker import Places
from unlatch.settings import Person, Settings

NOWHERE = situation_of({"HOME": "/nonexistent"})._replace(caller=0)
FILE = "/etc/unlatch/unlatch.toml"
SSHD, SUDO, SU = (Use(name, 4, "required", "", True) for name in ("sshd", "sudo", "su"))
ALICE = Account("alice", 1000, True, True)
BOB = Account("bob", 1001, False, True)
ROOT = Account("root", 0, True, False)
GOOD = Facts((SSHD,), Settings(), FILE, frozenset({"alice"}), True, (ALICE,))
BOTH = "publickey,keyboard-interactive"


def loose(account: Account, *uses: Use, settings: Settings = GOOD.settings) -> Facts:
    """A host with this one, who has no key of record."""
    return GOOD._replace(uses=uses or (SSHD,), accounts=(account,), settings=settings)


def test_login_accounts_fails() -> None:
    """One line with the number, the first names and what to type; services in one breath."""
    many = tuple(Account(f"user{number}", 1000 + number, True, False) for number in range(12))
    (found,) = login_accounts.judge(GOOD._replace(uses=(SSHD, SU), accounts=(ALICE, *many)), NOWHERE)
    assert (found.state, found.text, found.hint) == (
        "warning",
        "12 accounts (user0, user1, user2 and 9 more) would be shut out by sshd and su: "
        "there is no key of record for them",
        "unlatch pam enrol user0 FINGERPRINT --file user0.asc",
    )
    assert login_accounts.judge(GOOD._replace(more=3), NOWHERE)[0].text.startswith("3 accounts that are not enrolled")


def test_login_accounts_fails_where_no_phone_is_rung() -> None:
    """By name or by number; "*" does not count, nor a person without a notifier, nor a key."""
    settings = Settings(
        pam_mode="approve",
        people=(Person("a", ("*",), ("push",)), Person("b", ("1001",), ("push",)), Person("c", ("alice",), ())),
    )
    (found,) = login_accounts.judge(GOOD._replace(settings=settings, accounts=(ALICE, BOB)), NOWHERE)
    assert (found.state, found.hint.split("\n")[0]) == ("warning", f"vi {FILE}")
    assert found.text == (
        "1 account (alice) would be shut out by sshd: no [people.NAME] table with a notifier names them"
    )


@pytest.mark.parametrize(
    "facts",
    [
        loose(BOB),
        loose(BOB._replace(methods=BOTH)),
        loose(ALICE._replace(name="carol", keys=False, methods="any")),
        loose(ROOT._replace(root="yes")),
        loose(ROOT._replace(password=False), SU),
        loose(BOB, SUDO, settings=Settings(pam_auth_gpg=("sshd",))),
        loose(BOB, SSHD._replace(arguments="mode=either timeout=9")),
        loose(BOB, settings=Settings(pam_mode="either", people=(Person("b", ("bob",), ("push",)),))),
        loose(BOB._replace(methods="keyboard-interactive:pam publickey,password")),
    ],
)
def test_who_is_shut_out(facts: Facts) -> None:
    """Where there is no way around us; root also as whom others become."""
    assert [each.state for each in login_accounts.judge(facts, NOWHERE)] == ["warning"]


@pytest.mark.parametrize(
    "facts",
    [
        GOOD,
        GOOD._replace(uses=(), whole=False),
        loose(BOB._replace(keys=False)),  # neither password nor key
        loose(BOB._replace(methods="any")),  # by key, past PAM
        loose(BOB._replace(methods=f"{BOTH} publickey")),  # the one exempted, as docs/logins.md has it
        loose(ROOT._replace(root="without-password")),  # sshd refuses it in any case
        loose(ROOT, SUDO),
        loose(BOB._replace(sudoer=False), SUDO),
        loose(BOB, settings=Settings(pam_auth_gpg=("sshd",))),
        loose(BOB, SSHD._replace(service="common-auth"), settings=Settings(pam_auth_gpg=("sshd",))),
        loose(BOB, SSHD._replace(arguments="moed=either")),  # denies everybody: "logins" says so
    ],
)
def test_login_accounts_passes(facts: Facts) -> None:
    """Enrolled, let in around us, or never let in at all."""
    assert [each.state for each in login_accounts.judge(facts, NOWHERE)] == ["ok"]


def test_login_accounts_passes_on_a_host_that_asks_nobody(house: House) -> None:
    """This machine's own files have no line of ours; and what takes root is said to."""
    assert finding(house, "login-accounts").text == "no service in /etc/pam.d asks us"
    (found,) = login_accounts.judge(GOOD._replace(whole=False), NOWHERE._replace(caller=1000))
    assert (found.state, found.hint) == ("unknown", "sudo unlatch doctor login-accounts")


def test_the_hosts_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells, passwords, keys in homes, sudo's rules, and sshd's word for each that is not enrolled and logs in."""
    for name in ("bob", "dave", "eve"):
        (tmp_path / name / ".ssh").mkdir(parents=True)
    (tmp_path / "bob/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA\n")
    (tmp_path / "dave/.ssh/authorized_keys").touch()
    os.mkfifo(tmp_path / "eve/.ssh/authorized_keys")
    rows = ["alice:x:1000:1000::/nowhere:/bin/bash", "daemon:x:1:1::/:/usr/sbin/nologin", "broken line", "+::::::"]
    rows += [f"{name}:x:{uid}:27::{tmp_path}/{name}:" for uid, name in enumerate(("bob", "dave", "eve"), 1001)]
    (tmp_path / "passwd").write_text("\n".join([*rows, "carol:x:1009:1009::/nowhere:/bin/sh"]))
    (tmp_path / "shadow").write_text("bob:!:1::::::\ncarol:$y$x:1::::::\neve:*:1::::::\ndave:!$y$x:1::::::\n")
    (tmp_path / "sudoers").write_text("%sudo ALL=(ALL:ALL) ALL\n")
    (tmp_path / "group").write_text("sudo:x:27:\n")
    (tmp_path / "records").mkdir()
    (tmp_path / "records/alice").touch()
    (tmp_path / "sshd").write_text('#!/bin/sh\necho "authenticationmethods publickey"\necho "permitrootlogin no"\n')
    (tmp_path / "sshd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("passwd", "shadow"):
        monkeypatch.setattr(login_accounts, f"_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(login_accounts, "_GROUPS", str(tmp_path / "group"))
    monkeypatch.setattr(login_accounts, "_SUDOERS", (str(tmp_path / "sudoers"), str(tmp_path / "sudoers.d")))
    monkeypatch.setattr(login_accounts, "Places", lambda: Places(records=str(tmp_path / "records")))
    monkeypatch.setattr(pam_places, "uses", lambda: (SSHD, SUDO))
    situation = situation_of({"HOME": str(tmp_path)})
    facts = login_accounts.probe(situation)
    assert (set(facts.records), facts.whole, facts.more) == ({"alice"}, True, 0)
    assert facts.accounts == (
        Account("bob", 1001, False, True, True, "publickey", "no"),
        Account("dave", 1002, False, False, True),
        Account("eve", 1003, False, False, True),
        Account("carol", 1009, True, False, False, "publickey", "no"),
    )
    (found,) = login_accounts.judge(facts, situation)
    assert found.text.startswith("1 account (bob) would be shut out by sudo: ")
    monkeypatch.setattr(login_accounts, "MOST", 1)
    assert (len(login_accounts.probe(situation).accounts), login_accounts.probe(situation).more) == (1, 3)
    (tmp_path / "shadow").unlink()
    assert not login_accounts.probe(situation).whole


def test_sudoers_are_read_for_names() -> None:
    """Rules and aliases; not who is asked for no password, nor what is said of hosts and commands."""
    text = (
        "# zed ALL=ALL\nDefaults:yan env_reset\nroot ALL=(ALL) ALL\nalice, %ops db01 = (bob) /bin/ls\n"
        "User_Alias ADMINS = carol, \\\n dave\nrescue ALL=(ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n"
    )
    words = sudoers.named([text, "", "erin ALL=ALL\n"])
    assert words == {"root", "alice", "%ops", "carol", "dave", "erin"}
    group = "ops:x:50:frank,grace\nbad\n"
    gids = {"frank": "9", "gus": "50", "hal": "9", "erin": "9"}
    assert [sudoers.may(name, gid, words, group) for name, gid in gids.items()] == [True, True, False, True]
    assert sudoers.may("hal", "9", frozenset({"ALL"}), "")
