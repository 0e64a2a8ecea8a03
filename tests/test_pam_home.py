"""~/.auth_gpg and the TLS files beside it: read with the account's rights, or the login is denied."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pam_desk import UID, Desk, Forge
from silent_disk import silent

from unlatch.pam import challenge, entry, home_entry
from unlatch.pam.errors import Unfit

# pytest's own threads run while it forks; the service has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

KEY = "A" * 40
LINE = f"{KEY} notrust nosign none\n"
TLS_LINE = f"{KEY} notrust nosign webQrNoAuthTls {{key}} {{certificate}}\n"


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()
    yield forge
    forge.close()


def why(desk: Desk) -> str:
    """Why the entry does not count."""
    with pytest.raises(Unfit) as caught:
        home_entry.read(desk.account)
    assert caught.value.why.isprintable()
    return caught.value.why


def test_the_entry_is_read(desk: Desk) -> None:
    """The account's own file, or one of root's that the account can read."""
    path = desk.file(".auth_gpg", LINE)
    assert home_entry.read(desk.account).keys == (KEY,)
    os.chown(path, 0, UID)
    path.chmod(0o640)
    assert home_entry.read(desk.account).keys == (KEY,)


def replaced(make: Callable[[Path], object]) -> Callable[[Desk], None]:
    """Put something else in the place of the file."""

    def change(desk: Desk) -> None:
        path = desk.home / ".auth_gpg"
        path.unlink()
        make(path)
        os.lchown(path, UID, UID)

    return change


def linked(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text(LINE)
    os.chown(target, UID, UID)
    path.symlink_to(target)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def mode(mode: int) -> Callable[[Desk], None]:
    return lambda desk: (desk.home / ".auth_gpg").chmod(mode)


def owner(uid: int) -> Callable[[Desk], None]:
    return lambda desk: os.chown(desk.home / ".auth_gpg", uid, uid)


def content(data: bytes) -> Callable[[Desk], None]:
    return lambda desk: (desk.home / ".auth_gpg").write_bytes(data) and None


BAD: dict[str, tuple[Callable[[Desk], None], str]] = {
    "absent": (lambda desk: (desk.home / ".auth_gpg").unlink(), "no such file"),
    "unreadable": (mode(0), "permission denied"),
    "root's": (owner(0), "permission denied"),
    "group-writable": (mode(0o660), "others may write to it"),
    "world-writable": (mode(0o602), "others may write to it"),
    "link": (replaced(linked), "a symbolic link"),
    "dangling": (replaced(lambda path: path.symlink_to("/nonexistent")), "a symbolic link"),
    "directory": (replaced(os.mkdir), "not a regular file"),
    "fifo": (replaced(os.mkfifo), "not a regular file"),
    "socket": (replaced(bound), "not a regular file"),
    "device": (replaced(lambda path: os.mknod(path, 0o020600, os.makedev(1, 5))), "not a regular file"),
    "huge": (content(b"#" * 4097), "larger than 4096 bytes"),
    "sparse": (replaced(sparse), "larger than 4096 bytes"),
    "empty": (content(b""), "no entry"),
    "binary": (content(b"\xff\xfe\0" * 9), "not text in UTF-8"),
    "mistaken": (content(LINE.replace("nosign", "").encode()), ".auth_gpg:1: an entry is"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_denies(desk: Desk, how: str) -> None:
    """At once, with its name and what is wrong with it."""
    desk.file(".auth_gpg", LINE)
    change, told = BAD[how]
    change(desk)
    began = time.monotonic()
    assert told in why(desk)
    assert time.monotonic() - began < home_entry.SECONDS / 2


def test_a_foreign_file_denies(desk: Desk) -> None:
    """Even one that the account can read and nobody else can write."""
    path = desk.file(".auth_gpg", LINE, 0o644)
    os.chown(path, UID + 1, UID + 1)
    assert why(desk) == f"{path}: belongs to uid {UID + 1}"


def test_a_foreign_home_denies(desk: Desk) -> None:
    """Who can write to it can put another keyring there, and who owns it can write to it."""
    desk.file(".auth_gpg", LINE)
    desk.home.chmod(0o770)
    assert why(desk) == f"{desk.home}: others may write to it (chmod go-w)"
    desk.home.chmod(0o755)
    os.chown(desk.home, UID + 1, UID + 1)
    assert why(desk) == f"{desk.home}: belongs to uid {UID + 1}"


@pytest.mark.parametrize("home", ["", "/nonexistent", "/dev/null", "/root/none"])
def test_no_home_denies(desk: Desk, home: str) -> None:
    """None in passwd, none on the disk, no directory, one that the account cannot enter."""
    desk.account = desk.account._replace(home=home)
    assert why(desk)


def test_a_home_that_never_answers_denies_in_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that waits for it is left to end; the login is not."""
    desk.file(".auth_gpg", LINE)
    monkeypatch.setattr(challenge, "FIND_SECONDS", 0.3)
    with silent(desk.home):
        began = time.monotonic()
        for look in (
            lambda: home_entry.read(desk.account, seconds=0.3),
            lambda: home_entry.read_tls(desk.account, entry.parse(LINE, ""), seconds=0.3),
            lambda: challenge.keys_of(desk.account, [KEY], trust=False),
        ):
            with pytest.raises(Unfit, match="took too long"):
                look()
        assert time.monotonic() - began < 8
    assert home_entry.read(desk.account).keys == (KEY,)


def test_a_home_that_the_account_serves_is_not_waited_for(desk: Desk) -> None:
    """It decides when it answers, and who waits there cannot even be killed: each try would leave a process behind."""
    desk.file(".auth_gpg", LINE)
    with silent(desk.home, UID):
        assert why(desk).endswith("permission denied")


def test_the_tls_files_are_read_with_the_entry(desk: Desk) -> None:
    """From the home on, or by an absolute path; the key is a secret from then on."""
    desk.file("key.pem", "KEY")
    desk.file("certificate.pem", "CERTIFICATE", 0o644)
    for key, certificate in (
        ("key.pem", "certificate.pem"),
        ("~/key.pem", "~/certificate.pem"),
        (desk.home / "key.pem", desk.home / "certificate.pem"),
    ):
        desk.file(".auth_gpg", TLS_LINE.format(key=key, certificate=certificate))
        found = home_entry.read_tls(desk.account, home_entry.read(desk.account))
        assert (bytes(found[0].reveal()), found[1]) == (b"KEY", b"CERTIFICATE")
        assert "KEY" not in repr(found)


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem"])
@pytest.mark.parametrize("how", ["absent", "root's", "link", "fifo", "writable", "huge"])
def test_a_bad_tls_file_denies(desk: Desk, name: str, how: str) -> None:
    """A file of root's above all, which the account could have shown to everybody."""
    desk.file("key.pem", "KEY")
    desk.file("certificate.pem", "CERTIFICATE")
    desk.file(".auth_gpg", TLS_LINE.format(key="key.pem", certificate="certificate.pem"))
    path = desk.home / name
    match how:
        case "root's":
            os.chown(path, 0, 0)
        case "writable":
            path.chmod(0o620)
        case "huge":
            path.write_bytes(bytes(entry.MAX_TLS + 1))
        case _:
            path.unlink()
    if how == "link":
        path.symlink_to("/etc/passwd")
    if how == "fifo":
        os.mkfifo(path)
        os.chown(path, UID, UID)
    found = home_entry.read(desk.account)
    with pytest.raises(Unfit, match=name):
        home_entry.read_tls(desk.account, found)


def test_the_whole_challenge_is_denied_with_its_entry(desk: Desk) -> None:
    """What is wrong with the file is what the log will say."""
    desk.file(".auth_gpg", LINE, 0o666)
    with pytest.raises(Unfit, match="others may write to it"):
        challenge.find(desk.account, "sshd", desk.settings, desk.places)
