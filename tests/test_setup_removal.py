"""Who would be left without a pinentry: what is read from accounts, units and gpg-agent.conf, and what is said."""

import os
from pathlib import Path

import pytest
from real import absent

from unlatch.doctor.host import pam_places
from unlatch.setup import holders, removal
from unlatch.setup.holders import Account, Holder

PINENTRY = "/usr/bin/pinentry-unlatch"


def test_accounts_are_read_as_they_stand() -> None:
    """Seven fields, numbers where numbers belong, and a home that is more than the root directory."""
    passwd = (
        "root:x:0:0:root:/root:/bin/bash\n"
        "daemon:x:1:1:daemon:/:/usr/sbin/nologin\n"
        "api:x:999:998::/srv/api/:/bin/false\n"
        "+::::::\n"
        "broken:x:-1:0::/home/broken:\n"
        "short:x:1\n"
    )
    assert holders.accounts(passwd) == [Account("root", 0, 0, "/root"), Account("api", 999, 998, "/srv/api")]


@pytest.mark.parametrize(
    ("text", "user", "homes"),
    [
        ("[Service]\nUser=api\nEnvironment=GNUPGHOME=/srv/keys\n", "api", ["/srv/keys"]),
        ('[Service]\nEnvironment="GNUPGHOME=/srv/my keys" A=b\n', "", ["/srv/my keys"]),
        ("[Service]\n  Environment = A=b 'GNUPGHOME=/srv/keys/'\nUser = api\n", "api", ["/srv/keys"]),
        ('[Service]\nEnvironment=GNUPGHOME="/srv/keys"\n', "", ["/srv/keys"]),
        ("[Service]\nEnvironment=A=b \\\n  GNUPGHOME=%S/vault\n", "", ["/var/lib/vault"]),
        ("[Service]\nUser=a\nUser=b\nEnvironment=GNUPGHOME=/x\nEnvironment=GNUPGHOME=/y\n", "b", ["/x", "/y"]),
        ("[Service]\n# Environment=GNUPGHOME=/srv/keys\nEnvironment=OLD_GNUPGHOME=/z\n", "", []),
        ("[Service]\nEnvironment=GNUPGHOME=relative\nUser=%i\n", "", []),
    ],
)
def test_homes_of_units(text: str, user: str, homes: list[str]) -> None:
    """A unit may set GNUPGHOME in every way that systemd.exec(5) allows."""
    assert holders.homes_of_unit(text) == (user, homes)


def test_a_home_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is left for somebody's file, as on a network file system that hangs: it is unknown, not free of us."""
    if os.getuid() != 0:
        absent("only root looks as others")
    monkeypatch.setattr(holders, "SECONDS", 0.0)
    passwd = tmp_path / "passwd"
    passwd.write_text(f"anna:x:4242:4242::{tmp_path}:/bin/sh\n")
    found = list(holders.find(PINENTRY, str(passwd), str(tmp_path / "none"), ()))
    assert found == [Holder("anna", f"{tmp_path}/.gnupg/gpg-agent.conf", True, False)]


def test_all_time_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred homes that do not answer take no longer than the whole search may."""
    if os.getuid() != 0:
        absent("only root looks as others")
    monkeypatch.setattr(holders, "ALL_SECONDS", 0.0)
    passwd = tmp_path / "passwd"
    passwd.write_text("".join(f"u{uid}:x:{uid}:{uid}::/home/u{uid}:/bin/sh\n" for uid in range(4242, 4342)))
    found = list(holders.find(PINENTRY, str(passwd), str(tmp_path / "none"), ()))
    assert len(found) == 100
    assert not any(holder.known for holder in found)


@pytest.mark.parametrize(
    ("holder", "command"),
    [
        (Holder("api", "/home/api/.gnupg/gpg-agent.conf", True), "unlatch setup --undo --user api"),
        (Holder("api", "/srv/my keys/gpg-agent.conf", False),
         "unlatch setup --undo --user api --gnupghome '/srv/my keys'"),
        (Holder("everybody", holders.GLOBAL, False), f"take pinentry-program out of {holders.GLOBAL}"),
    ],
)  # fmt: skip
def test_the_way_back_is_a_command(holder: Holder, command: str) -> None:
    """What is to be typed, quoted for a shell."""
    assert removal.undo(holder) == command


def test_the_words_of_a_refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file is named once, then the error, then what to type; no control character of a path gets through."""
    two = Holder("anna", "/home/anna/.gnupg/gpg-agent.conf", True)
    late = Holder("bob", "/net/\x1b[2Jbob/.gnupg/gpg-agent.conf", True, False)
    monkeypatch.setattr(holders, "find", lambda: iter([two, two, late]))
    assert removal.check() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"unlatch: /home/anna/.gnupg/gpg-agent.conf (of anna) names {PINENTRY}",
        "unlatch: /net/\\x1b[2Jbob/.gnupg/gpg-agent.conf (of bob) could not be read in time",
        'unlatch: error: without this pinentry the next use of a key ends in "No pinentry" and "No secret key"',
        "unlatch: hint: unlatch setup --undo --user anna",
        "unlatch: hint: unlatch setup --undo --user bob",
        'unlatch: hint: or by hand: take "pinentry-program" out; then, as its user: gpgconf --kill gpg-agent',
        "unlatch: hint: to remove it all the same: UNLATCH_REMOVE=anyway dpkg --remove unlatch",
    ]
    monkeypatch.setattr(holders, "find", lambda: iter([]))
    assert (removal.check(), capsys.readouterr().err) == (0, "")


def test_a_service_that_asks_at_logins_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A line that names a module which is gone would let nobody in: the file is named, and how to open it."""
    (tmp_path / "sshd").write_text("auth required pam_unlatch.so\n")
    (tmp_path / "sshd.dpkg-old").write_text("auth required pam_unlatch.so\n")
    found = pam_places.uses(str(tmp_path))
    monkeypatch.setattr(holders, "find", lambda: iter([]))
    monkeypatch.setattr(pam_places, "uses", lambda: found)
    assert removal.check() == 1
    assert capsys.readouterr().err.splitlines() == [
        "unlatch: /etc/pam.d/sshd, line 1, names pam_unlatch.so",
        "unlatch: error: without this module nobody can log in by these services",
        "unlatch: hint: keep a root session open, put back what stood there, and log in once from elsewhere",
        "unlatch: hint: vi +1 /etc/pam.d/sshd",
        "unlatch: hint: to remove it all the same: UNLATCH_REMOVE=anyway dpkg --remove unlatch",
    ]
