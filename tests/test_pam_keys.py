"""Challenges with real gpg: which keys are taken, which are refused, and that only their owner learns a response."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pam_desk import FACTS, LONG_AGO, UID, WORKER, Desk, Forge, uid_of
from waiting import until

from unlatch.pam import as_user, certificate, challenge, record, response, worker
from unlatch.pam.accounts import Account
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.pam.record import Record

# pytest's own threads run while it forks; the service has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

RESPONSE = re.compile(r"[A-Za-z0-9]{10}\Z")


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()
    forge.make("ecc")
    forge.make("rsa", "rsa2048", "sign", "never")
    forge.gpg("--quick-add-key", forge.keys["rsa"], "rsa2048", "encr", "never")
    forge.make("signs", "ed25519", "sign", "never")
    forge.make("expired", "future-default", "default", "1d", options=("--faked-system-time", LONG_AGO))
    forge.make("revoked")
    forge.revoke("revoked")
    forge.make("twin", key="twin1")
    forge.make("twin", key="twin2", options=("--yes",))
    yield forge
    forge.close()


def refused(desk: Desk, service: str = "sshd") -> str:
    """Why there is no challenge: one printable line, and nothing is left behind."""
    with pytest.raises(Unfit) as caught:
        desk.challenge(service)
    assert caught.value.why.isprintable()
    assert list(desk.work.iterdir()) == []
    return caught.value.why


# What is made


@pytest.mark.parametrize("name", ["ecc", "rsa"])
def test_the_owner_of_the_key_reads_the_response(desk: Desk, name: str) -> None:
    """And beside it whose login it is, where, for what, from where and when."""
    desk.has(name)
    desk.entry(f"{{{name}}} notrust nosign none")
    made = desk.challenge()
    lines = desk.forge.read(made.armour).splitlines()
    assert lines[:3] == ["alice@db01 sshd", "from 203.0.113.5", "at 2026-09-21 14:13:20 UTC"]
    assert RESPONSE.match(lines[3])
    assert response.matches(made.response, lines[3].encode())
    assert len(lines) == 4
    assert (made.source, made.fingerprints, made.tls) == ("home", (desk.forge.keys[name],), None)
    assert made.armour.isascii()
    print(f"{name}: {len(made.armour)} bytes")


def test_every_challenge_has_its_own_response(desk: Desk) -> None:
    """What was asked before helps nobody."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    made = [desk.challenge() for _ in range(3)]
    assert len({bytes(each.response.reveal()) for each in made}) == 3
    assert len({each.armour for each in made}) == 3


@pytest.mark.parametrize("name", ["ecc", "rsa"])
def test_each_of_several_keys_opens_it(desk: Desk, name: str) -> None:
    """A second key in a safe is the way back in; nobody else is a recipient."""
    desk.has("ecc", "rsa", "twin1")
    desk.entry("{ecc},{rsa} notrust nosign none")
    made = desk.challenge()
    assert made.fingerprints == (desk.forge.keys["ecc"], desk.forge.keys["rsa"])
    alone = desk.root / "alone"
    alone.mkdir(mode=0o700)
    desk.forge.gpg("--import", feed=desk.forge.gpg("--export-secret-keys", desk.forge.keys[name]), home=alone)
    plain = desk.forge.gpg("--decrypt", feed=made.armour.encode(), home=alone).decode()
    subprocess.run(["gpgconf", "--homedir", alone, "--kill", "all"], check=True)
    assert response.matches(made.response, plain.splitlines()[-1].encode())
    packets = desk.forge.gpg("--list-packets", feed=made.armour.encode()).decode()
    assert packets.count(":pubkey enc packet:") == 2


def test_an_address_of_the_keyring_leads_to_the_key(desk: Desk) -> None:
    """In the account's own entry; what is kept is the full fingerprint."""
    desk.has("ecc", "rsa")
    desk.entry("ecc@example.org notrust nosign none")
    assert desk.challenge().fingerprints == (desk.forge.keys["ecc"],)


def test_a_subkey_stands_for_its_whole_key(desk: Desk) -> None:
    """By its fingerprint, as gpg takes it; the primary key's is what the log will say."""
    desk.has("ecc")
    listing = desk.forge.gpg("--with-colons", "--list-keys", desk.forge.keys["ecc"]).decode()
    subkey = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[1]
    desk.entry(f"{subkey} notrust nosign none")
    assert desk.challenge().fingerprints == (desk.forge.keys["ecc"],)


def test_a_key_that_the_account_trusts_may_be_asked_for(desk: Desk) -> None:
    """With trust it must be valid by the account's own trust database; as it is not, the login is denied."""
    desk.has("ecc")
    for word in ("{ecc}", "ecc@example.org"):
        desk.entry(f"{word} trust nosign none")
        assert "not fully valid" in refused(desk)
    desk.trusts("ecc")
    for word in ("{ecc}", "ecc@example.org"):
        desk.entry(f"{word} trust nosign none")
        assert desk.challenge().fingerprints == (desk.forge.keys["ecc"],)


def test_a_signed_challenge_names_the_server(desk: Desk) -> None:
    """The key is the server's, made for it; the person's gpg says so."""
    signer = worker.make_signer("logins@db01.example", "Logins of db01", desk.places)
    assert worker.signer(signer.fingerprint, desk.places) == signer
    desk.has("ecc")
    for word in ("logins@db01.example", signer.fingerprint):
        desk.entry(f"{{ecc}} notrust {word} none")
        made = desk.challenge()
        verified = Path(tempfile.mkdtemp(prefix="signed-", dir=desk.root))
        desk.forge.gpg("--import", feed=desk.forge.gpg("--export-secret-keys", desk.forge.keys["ecc"]), home=verified)
        desk.forge.gpg("--import", feed=signer.block, home=verified)
        said = desk.forge.gpg("--status-fd", "1", "--decrypt", feed=made.armour.encode(), home=verified)
        subprocess.run(["gpgconf", "--homedir", verified, "--kill", "all"], check=True)
        assert f"VALIDSIG {signer.fingerprint} ".encode() in said
        print(f"signed: {len(made.armour)} bytes")


def test_the_signing_key_signs_and_does_nothing_else(desk: Desk) -> None:
    """Only the worker can read its secret half, and it has neither name nor use of a person's."""
    signer = worker.make_signer("logins@db01.example", "Logins of db01", desk.places)
    [key] = certificate.parse(desk.forge.gpg("--with-colons", "--show-keys", feed=signer.block))
    assert key.fingerprints == (signer.fingerprint,)
    assert set(key.uses.lower()) == {"s", "c"}
    secret = next((desk.signing / "private-keys-v1.d").iterdir())
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o077) == (uid_of(WORKER), 0)
    assert desk.signing.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("word", ["nobody@example.org", "A" * 40])
def test_who_cannot_sign_does_not_send_it_unsigned(desk: Desk, word: str) -> None:
    """Whether there is no key at all, or only another one."""
    desk.has("ecc")
    desk.entry(f"{{ecc}} notrust {word} none")
    assert f"no key {word} to sign with" in refused(desk)
    worker.make_signer("logins@db01.example", "Logins of db01", desk.places)
    assert f"no key {word} to sign with" in refused(desk)


# What is refused


@pytest.mark.parametrize(
    ("names", "line", "why"),
    [
        (["ecc"], "{rsa} notrust nosign none", "no key"),
        (["ecc"], "nobody@example.org notrust nosign none", "no key nobody@example.org"),
        (["ecc"], "cc@example.org notrust nosign none", "no key cc@example.org"),
        ([], "{ecc} notrust nosign none", "no key"),
        (["expired"], "{expired} notrust nosign none", "expired"),
        (["revoked"], "{revoked} notrust nosign none", "revoked"),
        (["signs"], "{signs} notrust nosign none", "cannot encrypt"),
        (["twin1", "twin2"], "twin@example.org notrust nosign none", "stands for 2 keys"),
        (["ecc", "expired"], "{ecc},{expired} notrust nosign none", "expired"),
        (["ecc"], "{ecc},{rsa} notrust nosign none", "no key"),
    ],
    ids=["absent", "stranger", "part", "empty", "expired", "revoked", "signs-only", "twins", "one-bad", "one-absent"],
)
def test_a_key_that_cannot_be_used_denies_the_login(desk: Desk, names: list[str], line: str, why: str) -> None:
    """Every key of an entry must be one key that can be encrypted to."""
    desk.has(*names)
    desk.entry(line)
    assert why in refused(desk)


def test_a_disabled_key_denies_the_login(desk: Desk) -> None:
    """Who disabled it meant it, even where trust does not count."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    assert desk.challenge().armour
    fingerprint = desk.forge.keys["ecc"]
    edit = ("--no-batch", "--command-fd", "0", "--edit-key", fingerprint)
    desk.forge.gpg(*edit, feed=b"disable\nquit\n", home=desk.gnupg)
    desk.give(desk.gnupg)
    assert "disabled" in refused(desk)


def test_another_key_than_the_fingerprint_says_is_not_encrypted_to(desk: Desk) -> None:
    """Whatever a keyring exported: the worker looks by itself, and sees two for one too."""
    ecc, rsa = (desk.forge.keys[name] for name in ("ecc", "rsa"))
    both = desk.forge.gpg("--armor", "--export", ecc, rsa)
    for block in (desk.forge.block("rsa"), both, b"", b"nonsense", desk.forge.block("ecc")[:200]):
        with pytest.raises(Unfit):
            worker.encrypt(desk.account, bytearray(b"x"), [(ecc, block)], "", desk.places, "work")
        assert list(desk.work.iterdir()) == []
    for name in ("expired", "revoked", "signs"):
        keys = [(desk.forge.keys[name], desk.forge.block(name))]
        with pytest.raises(Unfit):
            worker.encrypt(desk.account, bytearray(b"x"), keys, "", desk.places, "work")


def test_a_spare_key_that_has_expired_shuts_nobody_out(desk: Desk) -> None:
    """Of a record's keys those count that can be used; the challenge says which, and none is none."""
    for names in (("ecc", "expired"), ("revoked", "ecc"), ("signs", "ecc", "expired")):
        keep(desk, *names)
        made = desk.challenge("sudo")
        assert made.fingerprints == (desk.forge.keys["ecc"],)
        assert desk.forge.read(made.armour).encode().endswith(bytes(made.response.reveal()) + b"\n")
    keep(desk, "revoked", "expired")
    with pytest.raises(Unfit, match="expired"):
        desk.challenge("sudo")


def keep(desk: Desk, *names: str) -> None:
    """Write a record of these keys."""
    keys = tuple(desk.forge.keys[name] for name in names)
    blocks = tuple(desk.forge.block(name).strip() for name in names)
    record.write(str(desk.records), "alice", Record(Entry(keys, False), blocks))


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b"{}", b"[1]", b'[["A", "eA=="]]', b'[["' + b"A" * 40 + b'", "%"]]', b"[" * 9000, b"\xff"],
    ids=range(8),
)
def test_what_the_account_says_of_its_keys_is_read_strictly(said: bytes) -> None:
    """The process that looks runs with the rights of somebody who may want to break this one."""
    with pytest.raises(Unfit):
        worker.keys_from_bytes(said, 1)


def test_a_service_that_is_not_listed_does_not_count_the_home(desk: Desk) -> None:
    """Sudo and su are not: what runs as the user could enrol a key of its own."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    for service in ("sudo", "su", "su-l", "login", "SSHD", "sshd2", ""):
        assert "no key of record" in refused(desk, service)


def test_a_user_id_cannot_pose_as_a_line_of_a_listing(desk: Desk) -> None:
    """Somebody else's key may be called anything, line separators that gpg does not escape included."""
    name = "x\u2028pub\u2028fpr:" + ":" * 8 + "A" * 40 + ":\u0085pub:u:1:2:3:4:::u:::ESC: <odd@example.org>"
    desk.forge.gpg("--quick-gen-key", name, "ed25519", "sign", "never")
    [found] = certificate.parse(desk.forge.gpg("--with-colons", "--list-keys", "odd@example.org"))
    assert len(found.fingerprints) == 1
    assert found.names == (("u", name),)
    assert "E" not in found.uses


# The outside world fails


def test_without_a_home_there_is_no_challenge(desk: Desk) -> None:
    """One that is not named, or not there."""
    for home, why in (("", "has no home"), ("/nonexistent", "no such file")):
        account = desk.account._replace(home=home)
        with pytest.raises(Unfit, match=why):
            challenge.find(account, "sshd", desk.settings, desk.places)
        with pytest.raises(Unfit, match=why):
            challenge.keys_of(account, ["A" * 40], trust=False)


def test_a_keyring_that_others_can_replace_does_not_count(desk: Desk) -> None:
    """As OpenSSH refuses keys in a home that others may write to."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    for directory in (desk.home, desk.gnupg):
        for mode in (0o770, 0o707):
            directory.chmod(mode)
            assert f"{directory}: others may write to it" in refused(desk)
        directory.chmod(0o700)
        os.chown(directory, UID + 1, UID)
        assert refused(desk)
        os.chown(directory, UID, UID)
    assert desk.challenge().armour


def test_without_gpg_the_login_is_denied(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for where root alone can put it."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    monkeypatch.setattr(as_user, "PATH", str(desk.root / "empty"))
    assert refused(desk) == "gpg cannot be run: no such file or directory"


def program(desk: Desk, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a gpg before the real one."""
    place = desk.root / "bin"
    place.mkdir()
    (place / "gpg").write_text(f"#!/bin/sh\n{script}\n")
    (place / "gpg").chmod(0o755)
    monkeypatch.setattr(as_user, "PATH", f"{place}:{as_user.PATH}")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 2", "no key"),
        ("echo gpg: went wrong >&2; exit 2", "went wrong"),
        ("kill -9 $$", "no key"),
        ("exit 0", "no key"),
        ("exec cat /dev/zero", "too much output"),
        ("exec cat /dev/urandom >&2", "no key"),
        ("printf '\\033]0;owned\\007' >&2; exit 2", "?]0;owned?"),
    ],
    ids=["fails", "says-why", "killed", "silent", "floods", "floods-errors", "escapes"],
)
def test_a_gpg_that_fails_denies_the_login(desk: Desk, monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    """However it fails, the line for the log is one printable line."""
    desk.entry("{ecc} notrust nosign none")
    program(desk, monkeypatch, script)
    assert why in refused(desk)


def test_a_gpg_that_hangs_is_killed_in_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first step and in the second; nothing of it stays, neither process nor directory."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    pids = desk.root / "pids"
    pids.touch()
    pids.chmod(0o666)
    for step, seconds in (("alice", (challenge, "FIND_SECONDS")), (WORKER, (worker, "ENCRYPT_SECONDS"))):
        with monkeypatch.context() as context:
            script = f'[ $USER != {step} ] || {{ echo $$ >> {pids}; exec sleep 1000; }}\nexec /usr/bin/gpg "$@"'
            program(desk, context, script)
            context.setattr(*seconds, 0.5)
            assert "took too long" in refused(desk)
        shutil.rmtree(desk.root / "bin")
    started = pids.read_text().split()
    assert len(started) == 2
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started), "the end of every gpg")


def test_gpg_starts_no_process_of_the_account(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyboxd that the account's common.conf names would be any program, among the service's own processes."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    program(desk, monkeypatch, '[ $USER != alice ] || /bin/true\nexec /usr/bin/gpg "$@"')
    assert "Cannot fork" in refused(desk)


def test_a_full_disk_denies_the_login(desk: Desk) -> None:
    """Where gpg works there is no room: nothing is encrypted, nothing is left."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", desk.work], check=True)
    try:
        os.chown(desk.work, uid_of(WORKER), -1)
        (desk.work / "filler").write_bytes(bytes(4096))
        with pytest.raises(Unfit) as caught:
            desk.challenge()
        assert caught.value.why.isprintable()
        assert os.listdir(desk.work) == ["filler"]
    finally:
        subprocess.run(["umount", desk.work], check=True)
    assert desk.challenge().armour


def test_without_the_worker_nothing_is_made(desk: Desk) -> None:
    """Nor by root, nor for the worker's own login, which its processes could read."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    own = desk.places
    for name, why in (("no-such-user", "is missing"), ("root", "nor as root")):
        desk.places = own._replace(worker=name)
        assert why in refused(desk)
    keys = [(desk.forge.keys["ecc"], desk.forge.block("ecc"))]
    account = Account(WORKER, uid_of(WORKER), 60, "/")
    plain = bytearray(b"secret")
    with pytest.raises(Unfit):
        worker.encrypt(account, plain, keys, "", own, "work")
    assert plain == bytes(6)


def test_a_killed_worker_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is cleared by the next process."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    program(desk, monkeypatch, '[ $USER = alice ] && exec /usr/bin/gpg "$@"\nkill -9 $PPID')
    assert refused(desk) == f"looking as {WORKER} ended without an answer"


# Who learns the response

SCAN = """
import json, os, sys
needle = sys.stdin.buffer.read()
needle = bytes(byte ^ 1 for byte in needle)  # so that it does not stand in this process's input
found, seen = [], 0
for pid in sys.argv[1:] or filter(str.isdigit, os.listdir("/proc")):
    try:
        memory = open(f"/proc/{pid}/mem", "rb", 0)
        maps = [line.split()[:2] for line in open(f"/proc/{pid}/maps")]
    except OSError:
        continue
    if int(pid) == os.getpid():
        continue
    seen += 1
    for span, rights in maps:
        start, end = (int(each, 16) for each in span.split("-"))
        if rights[0] != "r" or end - start > 1 << 28 or start >= 1 << 47:
            continue
        try:
            memory.seek(start)
            if needle in memory.read(end - start):
                found.append(int(pid))
        except (OSError, OverflowError):
            pass
print(json.dumps([seen, sorted(set(found))]))
"""


def scan(needle: bytes, uid: int, *pids: str) -> tuple[int, list[int]]:
    """How many processes this uid can read the memory of, and which of them hold these bytes."""
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    done = subprocess.run(
        [*words, "/usr/bin/python3", "-ISc", SCAN, *pids],
        input=bytes(byte ^ 1 for byte in needle), capture_output=True, timeout=120, check=True, cwd="/", env={},
    )  # fmt: skip
    seen, found = json.loads(done.stdout)
    return seen, found


def test_nothing_that_runs_as_the_account_ever_has_the_response(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every gpg of a challenge stands still, the account looks into all memory that it may read (ptrace(2)).

    It reads that of a process of its own in which the response was planted, so it can see; it finds it nowhere else.
    Root finds it in the gpg that encrypts, so it was there to be found.
    """
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    halts = desk.root / "halts"
    halts.touch()
    halts.chmod(0o666)
    # A gpg that stops itself when it has read what it is to encrypt; the input stays in a pipe and in its memory.
    stand = (
        "import os,signal,sys;text=sys.stdin.buffer.read();"
        f"open('{halts}','a').write(f'{{os.getpid()}} {{os.getuid()}}\\\\n');os.kill(os.getpid(),signal.SIGSTOP);"
        "r,w=os.pipe();os.write(w,text);os.close(w);os.dup2(r,0);os.execv('/usr/bin/gpg',['gpg',*sys.argv[1:]])"
    )
    program(desk, monkeypatch, f'exec /usr/bin/python3 -ISc "{stand}" "$@"')
    drawn = [bytes(range(3, 243, 15)), b"work-directory-1"]
    expected = response.draw(lambda _: drawn[0])
    known = bytes(expected.reveal())
    victim = subprocess.Popen(
        ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "/usr/bin/python3", "-ISc",
         "import sys; kept = sys.stdin.buffer.read(10); print(flush=True); sys.stdin.buffer.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env={},
    )  # fmt: skip
    assert victim.stdin is not None
    assert victim.stdout is not None
    victim.stdin.write(known)
    victim.stdin.flush()
    victim.stdout.readline()
    asking = os.fork()
    if asking == 0:
        code = 1
        try:
            made = desk.challenge(random=lambda _: drawn.pop(0))
            code = 0 if response.matches(made.response, desk.forge.read(made.armour).splitlines()[-1].encode()) else 2
        finally:
            os._exit(code)
    try:
        users = walk(halts, known, victim.pid)
        assert os.waitstatus_to_exitcode(os.waitpid(asking, 0)[1]) == 0
    finally:
        victim.stdin.close()
        victim.wait()
        victim.stdout.close()
    assert users == [UID, UID, uid_of(WORKER), uid_of(WORKER)]


def walk(halts: Path, known: bytes, victim: int) -> list[int]:
    """Let four gpgs go on, one after the other, having looked at each; who ran them."""
    users: list[int] = []
    while len(users) < 4:
        pid, uid = until(lambda: halts.read_text().split()[2 * len(users) : 2 * len(users) + 2], "the next gpg")
        until(lambda pid=pid: " T " in Path(f"/proc/{pid}/stat").read_text(), "that it stands still")
        users.append(int(uid))
        if len(users) in (1, 4):  # the account's first, and the one that encrypts; a look takes a second
            seen, found = scan(known, UID)
            assert seen >= 1
            assert found == [victim]
            assert scan(known, UID, pid) == (0, [])  # not even that which runs under its own uid
        if len(users) == 4:
            assert scan(known, 0, pid) == (1, [int(pid)])
        os.kill(int(pid), signal.SIGCONT)
    return users


def test_the_worker_keeps_no_response(desk: Desk) -> None:
    """The text is wiped where it was made, and the log's line of a challenge would not hold it."""
    desk.has("ecc")
    desk.entry("{ecc} notrust nosign none")
    made = desk.challenge()
    shown = bytes(made.response.reveal()).decode()
    assert shown not in repr(made)
    assert shown not in str(made)
    plain = challenge.text(FACTS, made.response)
    assert shown.encode() in plain
    keys = [(desk.forge.keys["ecc"], desk.forge.block("ecc"))]
    worker.encrypt(desk.account, plain, keys, "", desk.places, "work")
    assert plain == bytes(len(plain))


def test_facts_are_one_line_each(desk: Desk) -> None:
    """A client's name for itself cannot pose as a further line of the challenge, nor push the response away."""
    facts = FACTS._replace(source="x\nfrom 10.0.0.1\r\x1b[2J" + "y" * 500, host="h\0")
    lines = challenge.text(facts, response.draw(os.urandom)).decode().splitlines()
    assert len(lines) == 4
    assert lines[0] == "alice@h? sshd"
    assert lines[1].startswith("from x?from 10.0.0.1??[2J")
    assert len(lines[1]) < 100
    assert challenge.text(FACTS._replace(source=""), response.draw(os.urandom)).decode().splitlines()[1] == "from here"
