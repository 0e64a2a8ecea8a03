"""``unlatch pam enrol``, ``forget``, ``list`` and ``sign-key``: the real program as root of a machine of its own.

The machine is a mount namespace with an /etc, a /run and a /var/lib of its own; the one that runs the tests keeps its.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import UNLATCH
from pam_desk import LONG_AGO, PATH, Forge
from real import real

ALICE, WORKER = 4321, 4322
ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "alternatives", "localtime")


class Host:
    """The namespace, and alice's keyring in it."""

    def __init__(self, forge: Forge) -> None:
        for program in ("unshare", "nsenter", "setpriv", "mount"):
            real(program)
        self.forge = forge
        self.root = Path(tempfile.mkdtemp(prefix="host-", dir="/tmp"))
        self.root.chmod(0o755)
        self.etc = self.root / "etc"
        self.etc.mkdir()
        for name in ETC:
            subprocess.run(["cp", "-a", f"/etc/{name}", self.etc / name], check=False, capture_output=True)
        (self.etc / "unlatch").mkdir()
        self.home = self.root / "alice"
        for name, uid, home in (("alice", ALICE, self.home), ("unlatch-pam", WORKER, Path("/"))):
            with (self.etc / "passwd").open("a") as passwd:
                passwd.write(f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n")
        (self.home / ".gnupg").mkdir(parents=True, mode=0o700)
        script = [
            "mount --make-rprivate /", f"mount --bind {self.etc} /etc", "mount -t tmpfs -o mode=755 tmpfs /run",
            "mount -t tmpfs -o mode=755 tmpfs /var/lib", "mkdir -m 700 /run/unlatch-pam-work",
            f"chown {WORKER}:{WORKER} /run/unlatch-pam-work", "echo ready", "cat",
        ]  # fmt: skip
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", " && ".join(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    def has(self, name: str) -> str:
        """Import a key of the forge into alice's keyring; its fingerprint."""
        self.forge.gpg("--import", feed=self.forge.block(name), home=self.home / ".gnupg")
        subprocess.run(["chown", "-R", f"{ALICE}:{ALICE}", self.home], check=True)
        return self.forge.keys[name]

    def run(self, *words: str | Path, feed: bytes = b"", uid: int = 0) -> tuple[int, str, str]:
        """``unlatch pam`` with these words: code, output, messages."""
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *become, UNLATCH, "pam", *map(str, words)],
            input=feed, capture_output=True, timeout=60, cwd="/", env={"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8"},
            check=False,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def does(self, *words: str | Path, feed: bytes = b"") -> tuple[str, str]:
        """The same, and it must succeed: output and messages."""
        code, out, err = self.run(*words, feed=feed)
        assert code == 0, err
        return out, err

    def fails(self, *words: str | Path, says: str, hint: str = "", code: int = 1, feed: bytes = b"") -> None:
        """The same, and it must fail with this sentence and this hint, and leave the records as they were."""
        before = self.records()
        got, out, err = self.run(*words, feed=feed)
        assert (got, out) == (code, ""), err
        assert err.startswith("unlatch: error: ")
        assert says in err
        assert f"unlatch: hint: {hint}" in err
        assert self.records() == before

    def records(self) -> dict[str, bytes]:
        """All files of /etc/unlatch/pam."""
        folder = self.etc / "unlatch" / "pam"
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}

    def rows(self) -> list[dict[str, object]]:
        """What list --json says."""
        rows: list[dict[str, object]] = json.loads(self.run("list", "--json")[1])
        return rows

    def enter(self, *words: str) -> None:
        """Run a command as root where the namespace's files are."""
        namespace = f"--mount=/proc/{self._holder.pid}/ns/mnt"
        subprocess.run(["nsenter", namespace, *words], capture_output=True, check=False, timeout=60)

    def close(self) -> None:
        """End the namespace, and the agent of the signing key in it."""
        self.enter("gpgconf", "--homedir", "/var/lib/unlatch-pam/gnupg", "--kill", "all")
        self._holder.communicate(timeout=10)
        shutil.rmtree(self.root)


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()
    forge.make("alice")
    forge.make("spare")
    forge.make("expired", "future-default", "default", "1d", options=("--faked-system-time", LONG_AGO))
    forge.make("revoked")
    forge.revoke("revoked")
    yield forge
    forge.close()


@pytest.fixture
def host(forge: Forge) -> Iterator[Host]:
    host = Host(forge)
    yield host
    host.close()


def test_a_key_of_the_users_keyring_is_enrolled_by_its_fingerprint(host: Host) -> None:
    """The file is root's, tells what it is, and replaces the one before."""
    key, spare = host.has("alice"), host.has("spare")
    _, err = host.does("enrol", "alice", key)
    assert f"/etc/unlatch/pam/alice: logins of alice want {key}\n" in err
    assert "unlatch pam test alice" in err
    assert host.rows() == [{"user": "alice", "keys": [key], "sign_as": "", "web": "", "trouble": ""}]
    path = host.etc / "unlatch" / "pam" / "alice"
    assert (path.stat().st_uid, path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0, 0o644, 0o755)
    _, err = host.does("enrol", "alice", key.lower(), f"0x{spare}", "--web", "webQrBroker")
    assert "; the record before is gone\n" in err
    assert host.rows() == [{"user": "alice", "keys": [key, spare], "sign_as": "", "web": "webQrBroker", "trouble": ""}]
    assert host.does("list")[0] == f"alice  {key} {spare}  webQrBroker\n"


def test_an_address_of_the_users_keyring_is_not_enrolled(host: Host) -> None:
    """Whatever runs as the user could have put another key there: the fingerprint is shown, for somebody to compare."""
    key = host.has("alice")
    host.fails(
        "enrol", "alice", "alice@example.org", says="may lead to a key that somebody put there",
        hint=f"unlatch pam enrol alice {key}",
    )  # fmt: skip


def test_a_key_is_enrolled_from_a_file_or_standard_input(host: Host) -> None:
    """Armoured or not, by address or fingerprint, for an account without a keyring."""
    key, spare = host.forge.keys["alice"], host.forge.keys["spare"]
    file = host.root / "alice.asc"
    file.write_bytes(host.forge.block("alice"))
    host.does("enrol", "alice", "alice@example.org", "--file", file)
    armoured = host.records()
    assert host.rows()[0]["keys"] == [key]
    host.does("enrol", "alice", key, "--file", "-", feed=host.forge.gpg("--export", key))
    assert host.records() == armoured
    host.does(
        "enrol", "alice", "alice@example.org", spare, "--file", file, "--file", "-", feed=host.forge.block("spare")
    )
    assert host.rows()[0]["keys"] == [key, spare]


def test_a_key_from_a_file_must_be_the_one_that_is_named(host: Host) -> None:
    """One key in each file, that one, and a good one; the secret half of one is not stored."""
    alice, spare = (host.forge.block(name) for name in ("alice", "spare"))
    enrol = ("enrol", "alice", "alice@example.org", "--file", "-")
    host.fails(*enrol, feed=spare, says=f"the key is not alice@example.org, but {host.forge.keys['spare']}")
    host.fails(*enrol, feed=alice + spare, says="there is not one key, but 2")
    host.fails(*enrol, feed=b"", says="gpg can read no key")
    host.fails(*enrol, feed=b"nonsense", says="gpg can read no key")
    host.fails(*enrol, feed=bytes((1 << 20) + 1), says="larger than 1048576 bytes")
    host.fails("enrol", "alice", "revoked@example.org", "--file", "-", feed=host.forge.block("revoked"), says="revoked")
    host.fails("enrol", "alice", "alice@example.org", "--file", "/nonexistent", says="no such file")
    host.fails(*enrol, "--file", "/dev/null", code=2, says="each KEY comes from a --file of its own")
    secret = host.forge.gpg("--armor", "--export-secret-keys", host.forge.keys["alice"])
    host.run(*enrol, feed=secret)
    assert not any(b"PRIVATE" in content for content in host.records().values())


def test_what_could_not_log_in_is_not_enrolled(host: Host) -> None:
    """An unknown account or key, a bad key, a mistake on the command line, files that are not there."""
    key = host.has("alice")
    host.has("revoked")
    host.fails("enrol", "mallory", key, says="there is no such account")
    host.fails("enrol", "../passwd", key, says="cannot be the name of an account")
    host.fails("enrol", "alice", "ABCD1234", says="error: a key is a full fingerprint")
    host.fails("enrol", "alice", "F" * 40, says="no key", hint="or, exported by the person: unlatch pam")
    host.fails("enrol", "alice", host.forge.keys["revoked"], says="is revoked")
    host.fails("enrol", "alice", key, "--trust", says="not fully valid")
    host.fails("enrol", "alice", key, "--trust", "--file", "-", code=2, says="knows nothing of files")
    host.fails("enrol", "alice", key, key, says="each once")
    host.fails("enrol", "alice", key, "--web", "webQrAuthTls", says="needs two more words")
    tls = ("--tls-key", "/nonexistent", "--tls-certificate", "/nonexistent")
    host.fails("enrol", "alice", key, "--web", "webQrAuthTls", *tls, says="/nonexistent: no such file")
    host.fails("enrol", "alice", key, "--sign-as", "a@b", says="has no key a@b", hint="unlatch pam sign-key")


@pytest.mark.parametrize(
    "words",
    [
        ("enrol", "alice", "A" * 40),
        ("enrol", "alice", "a@b", "c@d", "--trust", "--web", "webQrBroker", "--file", "a.asc", "--file", "c.asc"),
        ("forget", "alice"),
        ("sign-key", "a@b.example"),
    ],
)
def test_only_root_changes_anything(host: Host, words: tuple[str, ...]) -> None:
    """Not the user whose key it is, above all."""
    code, out, err = host.run(*words, uid=ALICE)
    assert (code, out) == (1, "")
    assert err.startswith("unlatch: error: only root")
    assert f"unlatch: hint: sudo unlatch pam {' '.join(words)}\n" in err
    assert host.records() == {}


def test_forget_removes_a_record(host: Host) -> None:
    """Also that of an account which is gone; and says when there was none."""
    host.does("enrol", "alice", host.has("alice"))
    _, err = host.does("forget", "alice")
    assert "alice has no key of record any more" in err
    assert host.records() == {}
    for name in ("alice", "../passwd", ""):
        host.fails("forget", name, says="has no key of record", hint="unlatch pam list")
    (host.etc / "unlatch" / "pam" / "gone").write_text("")
    host.does("forget", "gone")
    assert host.records() == {}


def test_list_names_what_is_wrong(host: Host) -> None:
    """With exit code 1, for its user cannot log in."""
    assert host.does("list") == ("nobody has a key of record\n", "")
    host.does("enrol", "alice", host.has("alice"))
    folder = host.etc / "unlatch" / "pam"
    (folder / "gone").write_bytes((folder / "alice").read_bytes())
    (folder / "daemon").write_text("nonsense\n")
    os.chown(folder / "alice", ALICE, ALICE)
    code, out, _ = host.run("list")
    assert code == 1
    told = dict(re.split(r" +", line, maxsplit=1) for line in out.splitlines())
    assert told["alice"] == f"/etc/unlatch/pam/alice: belongs to uid {ALICE}"
    assert told["daemon"].startswith("/etc/unlatch/pam/daemon:1: ")
    assert told["gone"] == "there is no such account"


def test_list_sees_what_has_gone_bad_since(host: Host) -> None:
    """A key that expired, another in its place, a signing key that is gone; only root can ask for that."""
    host.does("sign-key", "logins@db01.example")
    host.does("enrol", "alice", host.has("alice"), "--sign-as", "logins@db01.example")
    assert host.run("list")[0] == 0
    path = host.etc / "unlatch" / "pam" / "alice"
    kept = path.read_bytes()
    old = host.forge.keys["expired"]
    block = host.forge.block("expired")
    path.write_bytes(f"{old} notrust nosign none\n".encode() + block)
    assert host.rows()[0]["trouble"] == f"the key {old} is expired"
    path.write_bytes(kept.partition(b"-----")[0] + block)
    assert "is another one, or none" in str(host.rows()[0]["trouble"])
    path.write_bytes(kept)
    code, out, _ = host.run("list", uid=ALICE)
    assert (code, "signed by" in out) == (0, True)
    host.enter("rm", "-r", "/var/lib/unlatch-pam")
    assert "to sign with" in str(host.rows()[0]["trouble"])
    assert host.run("list")[0] == 1


def test_the_signing_key_is_made_once(host: Host) -> None:
    """Its public half is the output, its secret half the worker's; a record names it by fingerprint."""
    block, err = host.does("sign-key", "logins@db01.example")
    fingerprint = re.findall(r"made ([0-9A-F]{40}), which never expires", err)[0]
    again, err = host.does("sign-key", "logins@db01.example")
    assert again == block
    assert "made" not in err
    listing = host.forge.gpg("--with-colons", "--show-keys", feed=block.encode()).decode()
    assert f":{fingerprint}:\n" in listing
    assert "<logins@db01.example>" in listing
    host.does("enrol", "alice", host.has("alice"), "--sign-as", "logins@db01.example")
    assert host.rows()[0]["sign_as"] == fingerprint
    assert f"signed by {fingerprint}" in host.does("list")[0]
    for address in ("logins", fingerprint, "-x@y", "a b@c"):
        host.fails("sign-key", "--", address, says="a key is made for an address", code=2)


def test_without_the_worker_nothing_is_made(host: Host) -> None:
    """The package's system user is missing: the next command is named."""
    passwd = host.etc / "passwd"
    lines = passwd.read_text().splitlines(keepends=True)
    passwd.write_text("".join(line for line in lines if not line.startswith("unlatch-pam:")))
    for words in (("sign-key", "a@b.example"), ("enrol", "alice", "alice@example.org", "--file", "-")):
        host.fails(*words, feed=host.forge.block("alice"), says="unlatch-pam is missing", hint="systemd-sysusers")


def test_help_fits_a_screen(host: Host) -> None:
    """And each subcommand has an example."""
    out, _ = host.does("--help")
    assert [line.split()[0] for line in out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()] == [
        "enrol", "forget", "list", "serve", "sign-key", "test",
    ]  # fmt: skip
    for name in ("enrol", "forget", "list", "sign-key"):
        said, _ = host.does(name, "--help")
        assert "Example" in said
        assert len(said.splitlines()) <= 40
