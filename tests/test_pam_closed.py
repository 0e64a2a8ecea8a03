"""The fail-closed table: whatever is missing, broken or hostile, a login is denied. Each row: nobody is let in, the log
has one line that says why, and the session one that tells nothing.

What the module does when the service is dead, hung or talks nonsense: test_pam_module.py; keys and files one by one:
test_pam_keys.py, test_pam_home.py, test_pam_record.py.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pam_house import NEUTRAL, SSH, USERS, WORKER_UID, PamHouse, Word
from waiting import until

from unlatch.pam import log
from unlatch.wire import pam
from unlatch.wire.pam import Hello

DENIED = [Word(*NEUTRAL), Word("deny")]
GPG_HOME = ".gnupg"


@pytest.fixture(scope="module")
def shared() -> Iterator[PamHouse]:
    """One service for all rows."""
    house = PamHouse()
    try:
        house.line = f"{house.enrol('alice')} notrust nosign none"
        house.start()
        yield house
    finally:
        house.clear()


@pytest.fixture
def house(shared: PamHouse) -> PamHouse:
    """The shared service, as it was at first; alice has a good entry."""
    shared.configure()
    shared.shift()
    shared.entry("alice", shared.line)
    shared.quiet()
    return shared


def check(house: PamHouse, why: str, **login: object) -> None:
    """A login is denied, for this reason, in one line."""
    attempt = house.login(**login)  # type: ignore[arg-type]
    assert attempt.end() == DENIED
    line = house.logged("login denied")
    assert why in line.partition(" uid=0: ")[2]
    assert len(house.lines()) == 1


def other(house: PamHouse, *options: str, **key: str) -> str:
    """Another key of alice's, which her entry then names."""
    fingerprint = house.key("alice", *options, **key)
    house.entry("alice", f"{fingerprint} notrust nosign none")
    return fingerprint


# Whose login


@pytest.mark.parametrize("user", ["nobody-of-that-name", "", "../alice", "alice\u202e", "a" * 400, "-n", "alice bob"])
def test_an_unknown_user_is_denied(house: PamHouse, user: str) -> None:
    """Also under a name that no account could have."""
    check(house, "account", user=user)


def test_an_account_without_a_home_is_denied(house: PamHouse) -> None:
    """Its directory is not there, or is not named at all."""
    home = house.homes["carol"]
    home.rename(home.with_name("away"))
    check(house, "carol", user="carol")
    home.with_name("away").rename(home)
    passwd = (house.root / "passwd").read_text()
    (house.root / "passwd").write_text(passwd.replace(f":{home}:", "::"))
    house.quiet()
    check(house, "no home", user="carol")
    (house.root / "passwd").write_text(passwd)


# Which entry


def test_no_entry_is_denied(house: PamHouse) -> None:
    """An account that nobody enrolled."""
    check(house, ".auth_gpg", user="bob")


def test_a_service_that_the_administrator_does_not_list_is_denied(house: PamHouse) -> None:
    """The account's own entry does not count for sudo."""
    check(house, "auth_gpg", service="sudo")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def foreign(path: Path) -> None:
    path.chmod(0o644)
    os.chown(path, USERS["bob"], USERS["bob"])


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)
    os.chown(path, USERS["alice"], USERS["alice"])


def word(number: int, becomes: str) -> Callable[[Path], None]:
    """One word of the entry is another one."""

    def spoil(path: Path) -> None:
        words = path.read_text().split()
        words[number : number + 1] = [becomes]
        path.write_text(" ".join(words) + "\n")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (directory, "not a regular file"),
        (foreign, "belongs to"),
        (linked, "a symbolic link"),
        (fifo, "not a regular file"),
        (lambda path: path.chmod(0o200), "permission denied"),
        (lambda path: path.chmod(0o620), "others may write to it"),
        (lambda path: path.write_text("# nothing\n"), "no entry"),
        (lambda path: path.write_text("# much\n" * 10000), "larger than 4096 bytes"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not text"),
        (lambda path: path.write_text(path.read_text() * 2), ":2: a second entry"),
        (word(0, "nobody@example.org"), "no key nobody@example.org"),
        (word(0, "0" * 40), "no key 0000"),
        (word(0, "0123ABCD"), ":1: a key is a full fingerprint"),
        (word(1, "maybe"), ':1: the second word must be "trust" or "notrust"'),
        (word(2, "nobody@example.org"), "no key nobody@example.org to sign with"),
        (word(3, "webQrAuthTls"), ":1: webQrAuthTls needs two more words"),
        (word(3, "webQrAuthTls /no/key /no/cert"), "/no/key: no such file"),
    ],
    ids=["directory", "foreign", "symlink", "fifo", "unreadable", "group-writable", "empty", "huge", "no text", "two",
         "no such address", "no such key", "a short key", "no such word", "no such signer", "no TLS files named",
         "no TLS files"],
)  # fmt: skip
def test_a_bad_entry_is_denied(house: PamHouse, spoil: Callable[[Path], object], why: str) -> None:
    """Whatever is wrong with it; nothing of it is taken for another."""
    path = house.homes["alice"] / ".auth_gpg"
    spoil(path)
    try:
        check(house, why)
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def test_a_bad_record_is_denied_although_the_home_is_good(house: PamHouse) -> None:
    """Root's word about an account is never overruled by the account's own."""
    record = house.records / "alice"
    record.write_text("nonsense\n")
    try:
        check(house, str(record))
    finally:
        record.unlink()


def test_records_that_others_could_write_are_denied(house: PamHouse) -> None:
    """Even where there is none for this account: somebody could have removed it."""
    house.records.chmod(0o777)
    try:
        check(house, str(house.records))
    finally:
        house.records.chmod(0o755)


# Which key


def test_an_expired_key_is_denied(house: PamHouse) -> None:
    """The log names it."""
    fingerprint = other(house, "--faked-system-time", "20200101T000000!", expires="1d")
    check(house, f"{fingerprint} is expired")


def test_a_key_from_the_future_is_denied(house: PamHouse) -> None:
    """A clock that was set back makes one of every new key."""
    fingerprint = other(house, "--faked-system-time", "20980101T000000!")
    check(house, f"{fingerprint} is invalid")


def test_a_revoked_key_is_denied(house: PamHouse) -> None:
    """By its own certificate."""
    fingerprint = other(house)
    certificate = house.homes["alice"] / GPG_HOME / "openpgp-revocs.d" / f"{fingerprint}.rev"
    house.gpg("alice", "--import", feed=certificate.read_bytes().replace(b"\n:-----", b"\n-----"))
    check(house, f"{fingerprint} is revoked")


def test_a_key_that_cannot_encrypt_is_denied(house: PamHouse) -> None:
    """There is no challenge that it could open."""
    fingerprint = other(house, algorithm="ed25519", use="sign")
    check(house, f"{fingerprint} cannot encrypt")


def test_a_key_that_is_not_trusted_is_denied_with_trust(house: PamHouse) -> None:
    """With "trust" it must be valid by the account's trust database."""
    listing = house.gpg("alice", "--export")
    house.gpg("bob", "--import", feed=listing)
    house.entry("bob", house.line.replace("notrust", "trust"))
    try:
        check(house, "not fully valid", user="bob")
    finally:
        (house.homes["bob"] / ".auth_gpg").unlink()


# What the machine lacks


@pytest.mark.parametrize("script", ["exit 1", "kill -9 $$", "echo nonsense", "head -c 9000000 /dev/zero"])
def test_a_broken_gpg_is_denied(house: PamHouse, script: str) -> None:
    """Failing, killed, or talking without end."""
    fake = house.root / "fake-gpg"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    house.see(f"mount --bind {fake} /usr/bin/gpg")
    try:
        check(house, f"{house.homes['alice']}/.gnupg: no key ")
    finally:
        house.see("umount /usr/bin/gpg")


def test_a_missing_gpg_is_denied(house: PamHouse) -> None:
    """Nothing that could be run is there."""
    fake = house.root / "no-gpg"
    fake.write_bytes(b"")
    fake.chmod(0o644)
    house.see(f"mount --bind {fake} /usr/bin/gpg")
    try:
        check(house, "gpg cannot be run")
    finally:
        house.see("umount /usr/bin/gpg")


def test_a_full_disk_is_denied(house: PamHouse) -> None:
    """Where gpg works there is no room left."""
    house.see(f"mount -t tmpfs -o size=4k,mode=700,uid={WORKER_UID} tmpfs {house.work}; head -c 4096 /dev/zero > "
              f"{house.work}/full || true")  # fmt: skip
    try:
        check(house, "gpg cannot ")
    finally:
        house.see(f"umount {house.work}")


def test_a_missing_worker_is_denied(house: PamHouse) -> None:
    """The system user that makes the messages does not exist."""
    passwd = house.root / "passwd"
    text = passwd.read_text()
    passwd.write_text(text.replace("unlatch-pam:", "unlatch-other:"))
    try:
        check(house, "unlatch-pam is missing")
    finally:
        passwd.write_text(text)


@pytest.mark.parametrize(
    "table", ["mode = 1", "seconds = 1", "what = 1", "auth_gpg = 'sshd'", "[", "auth_gpg = ['sshd'"]
)
def test_a_bad_configuration_is_denied(house: PamHouse, table: str) -> None:
    """Nothing is guessed; the log has the first mistake."""
    house.configure(table)
    check(house, "the configuration has mistakes: ")


def test_a_configuration_that_others_may_write_is_denied(house: PamHouse) -> None:
    """They could list services, or turn the mode."""
    house.settings.chmod(0o666)
    try:
        check(house, "others may write it")
    finally:
        house.settings.chmod(0o644)


@pytest.mark.parametrize("argument", ["mode=off", "nullok", "try_first_pass", "after_first_factor=1"])
def test_an_unknown_argument_is_denied(house: PamHouse, argument: str) -> None:
    """What other modules take for leave is none here."""
    check(house, f"the PAM line has an unknown argument: {log.value(argument)}", arguments=(argument,))


def test_approve_without_a_first_factor_is_denied(house: PamHouse) -> None:
    """And rings nobody."""
    house.configure('mode = "approve"\nauth_gpg = ["sshd"]')
    check(house, "no first factor")


def test_approve_without_a_broker_is_denied(house: PamHouse) -> None:
    """There is nobody who could ring."""
    house.configure('mode = "approve"\nauth_gpg = ["sshd"]')
    check(house, "this host has no broker", authinfo="publickey ssh-ed25519 AAAA\n")


# What comes over the socket


GOOD = pam.hello_to_packet(Hello("sshd", "alice", *SSH[:1], "", SSH[1]))


@pytest.mark.parametrize(
    "packet",
    [
        b"\0", b"unlatch-pam-1\0", b"garbage", GOOD[:-1], GOOD[:30], GOOD.replace(b"pam-1", b"pam-2"),
        GOOD + b"\0" * 20,
        GOOD.replace(b"alice", b"al\nice"), GOOD.replace(b"alice", b"\xff\xfe"), GOOD.replace(b"sshd", b""),
        GOOD.replace(b"alice", b"a" * 9000), b"x" * 16385, b"x" * 40000, pam.answer_to_packet(b"let me in"), b"allow\0",
    ],
    ids=["empty field", "version only", "garbage", "no end", "cut", "another version", "many fields", "line break",
         "no text", "no service", "long field", "too long", "far too long", "an answer", "a last word"],
)  # fmt: skip
def test_garbage_is_denied(house: PamHouse, packet: bytes) -> None:
    """Nobody knows for whom it would have been, and the service goes on."""
    assert house.connect(packet).end() == DENIED
    assert "no module of this release speaks like that" in house.logged("login denied: uid=0: ")
    assert len(house.lines()) == 1
    assert house.login().until_asked()


@pytest.mark.parametrize(
    "packet",
    [b"answer", b"answer\0", b"answer\0a\0b\0", b"allow\0", GOOD, pam.answer_to_packet(b"x" * 1025), b"x" * 100000],
    ids=["cut", "no field", "two fields", "a last word", "a second hello", "long", "far too long"],
)
def test_a_garbled_answer_is_denied(house: PamHouse, packet: bytes) -> None:
    """It is not a response."""
    login = house.login()
    login.until_asked()
    login.connection.send(packet)
    assert login.end() == DENIED
    assert "the module says what no module says" in house.logged("login denied")
    assert len(house.lines()) == 1


def test_an_answer_that_nobody_asked_for_is_denied(house: PamHouse) -> None:
    """It came before there was a challenge that it could answer."""
    login = house.login()
    login.type("guessed")
    assert login.end()[-1] != Word("allow")
    house.logged("login denied")


def test_a_conversation_that_hangs_is_killed_and_denied(house: PamHouse) -> None:
    """By the alarm that it cannot catch, or whoever sees it: the module hears the end of file."""
    login = house.login()
    login.until_asked()
    (child,) = house.children()
    os.kill(child, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")
    os.kill(child, signal.SIGALRM)
    os.kill(child, signal.SIGCONT)
    assert login.end() == []
    house.logged("the conversation took too long and was ended")


def test_a_stream_is_not_taken_for_packets(house: PamHouse) -> None:
    """Slow bytes cannot be sent at all: the kernel refuses a stream on this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream, pytest.raises(OSError, match="type for socket"):
        stream.connect(str(house.socket))
