"""Logins by PAM, as doctor sees them: the lines of /etc/pam.d, the module, its socket, and sshd's patience."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_host import finding, situation_of
from house import House
from real import absent, real
from waiting import until

from unlatch.doctor.host import login_keys, logins, pam_places
from unlatch.doctor.host.login_keys import Kept
from unlatch.doctor.host.logins import Facts, Patience
from unlatch.doctor.host.pam_places import Use
from unlatch.pam.worker import Places

NOWHERE = situation_of({"HOME": "/nonexistent"})
SUDO = Use("sudo", 3, "required", "", False)
GOOD = Facts((SUDO,), "/usr/lib/x/security/pam_unlatch.so", True, "", True, (), "/etc/unlatch/unlatch.toml", True, True)
PATIENT = Patience(True, 600, True, "660", "yes", "yes")


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("facts", "state", "text", "hint"),
    [
        (GOOD._replace(module=""), "problem", "sudo names pam_unlatch.so, which is not installed", "apt-get install"),
        (GOOD._replace(listens=False), "problem", "every login by sudo is refused", "enable --now unlatch-pam.socket"),
        (GOOD._replace(enabled=False), "problem", "after the next boot", "systemctl enable unlatch-pam.socket"),
        (GOOD._replace(untrusted="/run/x"), "problem", "put a socket into /run/x", "ls -ld /run/x"),
        (GOOD._replace(uses=(), listens=False), "warning", "could not be challenged", "enable --now"),
        (GOOD._replace(raising=("sudo",)), "warning", "~/.auth_gpg counts for sudo", "vi /etc/unlatch/unlatch.toml"),
        (
            GOOD._replace(uses=(SUDO._replace(control="optional"),)),
            "problem",
            "sudo:3: says optional",
            "vi +3 /etc/pam",
        ),
        (
            GOOD._replace(uses=(SUDO._replace(first=True, arguments="after_first_factor"),)),
            "problem",
            "anybody could ring",
            "vi +3",
        ),
    ],
)
def test_logins_fails(facts: Facts, state: str, text: str, hint: str) -> None:
    """What refuses everybody, and what lets too many in."""
    found = logins.judge(facts, NOWHERE)[-1]
    assert (found.state, text in found.text, hint in found.hint) == (state, True, True), found


def test_logins_passes(house: House) -> None:
    """With all in place; and on a host where no service asks."""
    (found,) = logins.judge(GOOD, NOWHERE)
    assert (found.state, found.text) == ("ok", "sudo can ask: the module is installed, and its socket listens")
    (found,) = logins.judge(GOOD._replace(uses=(SUDO._replace(arguments="after_first_factor"),)), NOWHERE)
    assert found.state == "ok"
    (found,) = logins.judge(GOOD._replace(booted=False, enabled=False), NOWHERE)
    assert found.state == "ok"
    (found,) = logins.judge(GOOD._replace(uses=(), records=False, listens=False), NOWHERE)
    assert found.state == "ok"
    assert finding(house, "logins").state == "ok"  # this machine's own files have no line of ours


def test_the_lines_that_ask_us_are_found(tmp_path: Path) -> None:
    """With brackets, paths, continuation of words and comments; only those of the type auth."""
    (tmp_path / "sshd").write_text(
        "# auth required pam_unlatch.so\n"
        "auth [success=done default=die]  /usr/lib/security/pam_unlatch.so mode=either  # a comment\n"
        "account required pam_unlatch.so\n"
    )
    (tmp_path / "login").write_text(
        "auth requisite pam_nologin.so\nauth required pam_unlatch.so\n"
        "@include common-auth\n-auth requisite pam_unlatch.so x\n"
    )
    (tmp_path / "folder").mkdir()
    assert pam_places.uses(str(tmp_path)) == (
        Use("login", 2, "required", "", True),
        Use("login", 4, "requisite", "x", False),
        Use("sshd", 2, "[success=done default=die]", "mode=either", True),
    )
    assert pam_places.uses(str(tmp_path / "missing")) == ()


def test_a_socket_listens_from_listen_on(short: Path) -> None:
    """Bound is not enough, and a stream's socket is none of ours; what is left of a dead one does not count."""
    path = str(short / "pam.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        assert not pam_places.listens(path)
        server.listen()
        assert pam_places.listens(path)
    assert not pam_places.listens(path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        assert not pam_places.listens(path)


def test_a_directory_that_others_may_write_is_named(short: Path) -> None:
    """As the module sees it."""
    path = str(short / "pam.sock")
    if os.geteuid() == 0:
        short.chmod(0o755)
        assert pam_places.untrusted(path) == ""
    short.chmod(0o775)
    assert pam_places.untrusted(path) == str(short)
    assert pam_places.untrusted("/nonexistent/pam.sock") == ""


@pytest.mark.parametrize(
    ("facts", "state", "text"),
    [
        (
            PATIENT._replace(grace="120"),
            "warning",
            "hangs up after 120 s, and a challenge lasts 600 s: LoginGraceTime 660",
        ),
        (PATIENT._replace(pam="no"), "problem", "UsePAM yes"),
        (PATIENT._replace(keyboard="no"), "problem", "KbdInteractiveAuthentication yes"),
        (PATIENT._replace(said=False), "unknown", "could not be asked"),
    ],
)
def test_login_grace_fails(facts: Patience, state: str, text: str) -> None:
    """sshd's default hangs up in the middle of a challenge."""
    found = logins.judge_patience(facts, NOWHERE)
    assert (found.state, text in found.text, bool(found.hint)) == (state, True, True), found


def test_login_grace_passes(house: House) -> None:
    """Long enough, without end, or not our business."""
    assert logins.judge_patience(PATIENT, NOWHERE).text == "sshd waits for 660 s"
    assert logins.judge_patience(PATIENT._replace(grace="0"), NOWHERE).state == "ok"
    assert finding(house, "login-grace").text == "sshd does not ask us"


def test_sshd_is_asked_for_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real sshd says what its file comes to for one user, in words that the judge knows."""
    key = tmp_path / "key"
    os.spawnl(os.P_WAIT, real("ssh-keygen"), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    file = tmp_path / "sshd_config"
    file.write_text(
        f"HostKey {key}\nUsePAM yes\nLoginGraceTime 660\nMatch User alice\nKbdInteractiveAuthentication no\n"
    )
    program = tmp_path / "sshd"
    # Debian's sshd wants /run/sshd, which its unit makes: it gets a /run of its own.
    unshare = f"{real('unshare')} {'-m' if os.geteuid() == 0 else '-rm'} sh -c"
    inside = f'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec {real("sshd")} -f {file} "$@"'
    program.write_text(f"#!/bin/sh\nexec {unshare} '{inside}' sshd \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = pam_places.sshd_settings("alice")
    keys = ("logingracetime", "usepam", "kbdinteractiveauthentication")
    assert [said[key] for key in keys] == ["660", "yes", "no"]
    assert pam_places.sshd_error() == ""
    file.write_text(file.read_text() + "Match all\nPermitRootLogni no\n")
    assert pam_places.sshd_settings() == {}
    assert f"{file}: line 7: Bad configuration option: PermitRootLogni" in pam_places.sshd_error()
    file.write_text(f"HostKey {key}\nKbdInteractiveAuthentication no\nAuthenticationMethods keyboard-interactive\n")
    facts = PATIENT._replace(said=False, error=pam_places.sshd_error())
    found = logins.judge_patience(facts, NOWHERE)
    assert (found.state, "it needs KbdInteractiveAuthentication yes" in found.text) == ("problem", True), found
    program.write_text("#!/bin/sh\nexit 255\n")
    assert pam_places.sshd_settings() == {}
    assert pam_places.sshd_error() == ""


# Keys of record

DAY = 86400


class Ring:
    """Real keys, and the records that root would keep of them."""

    def __init__(self, place: Path) -> None:
        self.records = place / "records"
        self.records.mkdir()
        place.chmod(0o755)
        self._home = place / "h"
        self._home.mkdir(mode=0o700)

    def keep(self, user: str, expires: str, *more: str) -> str:
        """A record of a new key, which can be encrypted to; gives its armoured block."""
        self._gpg("--quick-gen-key", f"{user}@x", "future-default", "default", expires)
        listing = self._gpg("--with-colons", "--list-keys", f"{user}@x").decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        if more:
            self._gpg("--quick-set-expire", fingerprint, *more, "*")
        block = self._gpg("--armor", "--export", fingerprint).decode()
        (self.records / user).write_text(f"{fingerprint} notrust nosign none\n{block}")
        return block

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True, timeout=30)

    def _gpg(self, *words: str) -> bytes:
        command = [real("gpg"), "--homedir", str(self._home), "--batch", "--quiet", "--no-tty"]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", *words]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture
def ring(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    if os.geteuid() != 0:
        absent("records are root's")
    made = Ring(short)
    monkeypatch.setattr(login_keys, "Places", lambda: Places(records=str(made.records)))
    yield made
    made.close()


def test_login_keys_fails(ring: Ring) -> None:
    """A key that expires soon, one that has no subkey for encryption any more, and a record that is none."""
    ring.keep("alice", "20d")
    ring.keep("bob", "0", "seconds=1")
    (ring.records / "carol").write_text("what is this\n")
    until(
        lambda: [each.user for each in login_keys.probe(NOWHERE).kept if each.trouble] == ["bob", "carol"], "bob's end"
    )
    alice, bob, carol = login_keys.judge(login_keys.probe(NOWHERE), NOWHERE)
    assert (alice.state, alice.text.startswith("the key of record of alice expires in 19 days")) == ("warning", True)
    assert alice.hint.endswith("unlatch pam enrol alice FINGERPRINT --file alice.asc")
    assert (bob.state, "a key has expired" in bob.text) == ("problem", True)
    assert (carol.state, "carol:1:" in carol.text) == ("problem", True)


def test_login_keys_have_no_home_where_a_user_could_put_a_gpg_conf(
    ring: Ring, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TMPDIR, which su keeps, may be a directory of the user's."""
    ring.keep("alice", "20d")
    monkeypatch.setattr(tempfile, "tempdir", str(short / "of-the-user"))  # there is none, so its use would fail
    assert [each.trouble for each in login_keys.probe(NOWHERE).kept] == [""]


def test_login_keys_passes(ring: Ring) -> None:
    """One that never expires, one that does in a year; and nobody's."""
    assert login_keys.judge(login_keys.probe(NOWHERE), NOWHERE)[0].text == "nobody has a key of record"
    ring.keep("alice", "never")
    ring.keep("bob", "1y")
    facts = login_keys.probe(NOWHERE)
    assert [(each.user, each.trouble) for each in facts.kept] == [("alice", ""), ("bob", "")]
    assert (facts.kept[0].days, 363 <= facts.kept[1].days <= 365) == (-1, True)
    (found,) = login_keys.judge(facts, NOWHERE)
    assert (found.state, found.text) == ("ok", "alice and bob can be challenged")


@pytest.mark.parametrize(
    ("listing", "days"),
    [
        ("pub:-:255:22:A:1:::-:::scESC::\nsub:-:255:18:B:1::::::e::\n", -1),
        ("pub:-:255:22:A:1:{10}::-:::scESC::\nsub:-:255:18:B:1::::::e::\n", 10),
        ("pub:-:255:22:A:1:::-:::scESC::\nsub:e:255:18:B:1:2:::::e::\nsub:-:255:18:C:1:{5}:::::e::\n", 5),
        ("pub:r:255:22:A:1:::-:::scESC::\nsub:-:255:18:B:1::::::e::\n", None),
        ("pub:-:255:22:A:1:::-:::scESCD::\nsub:-:255:18:B:1::::::e::\n", None),
        ("pub:-:255:22:A:1:::-:::scSC::\nsub:-:255:18:B:1::::::s::\n", None),
        ("", None),
    ],
)
def test_the_subkey_that_lasts_longest_decides(listing: str, days: int | None) -> None:
    """No longer than the primary key, and none that is revoked, disabled, or for something else."""
    now = time.time()
    for number in (5, 10):
        listing = listing.replace(f"{{{number}}}", str(int(now + number * DAY + 60)))
    assert login_keys.days_left(listing, now) == days


def test_a_host_with_many_records_is_looked_at_in_part() -> None:
    """It says so, and who has them all."""
    found = login_keys.judge(login_keys.Facts((Kept("alice", "", -1),), 3), NOWHERE)
    assert [(each.state, each.hint) for each in found] == [("warning", "unlatch pam list")]
