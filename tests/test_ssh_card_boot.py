"""A backup host with a card, from boot on: jobs without environment, one ring for each unlocking, none in between.

A job is what cron makes of a crontab: the few variables that cron sets, the lines of ``unlatch env --shell crontab``
above the job, no terminal, no session, and ``unlatch card check || exit 1`` before ssh.
"""

import re
import socket
import subprocess
import time

import pytest
from card.card import PIN, Card
from card.house import CardHouse
from card.sshd import SSHServer, agent_socket, card_key
from house import BIN, UNLATCH
from real_gnupg import finish
from waiting import PATIENCE, until

AT_ONCE = 5.0  # seconds; a job that asked somebody would take until somebody came
LOCKED = 7  # unlatch card check


class BackupHost:
    """A host whose gpg-agent runs, whose card is locked, and whose crontab has one job: log in and run ``date``."""

    def __init__(self, house: CardHouse, algorithm: str) -> None:
        self.house = house
        # The user's own ~/.gnupg: a job of cron has no GNUPGHOME.
        house.gnupg = house.gnupg.rename(house.root / ".gnupg")
        card = Card(serial=0x51D00D)
        card.generate("auth", algorithm)
        house.replace(card)
        self.card = card
        self.server = SSHServer(house)
        self.server.allow(card_key(house, agent_socket(house)))
        self.crontab = house.run(UNLATCH, "env", "--shell", "crontab").decode()

    def job(self, command: str) -> "subprocess.Popen[bytes]":
        """What cron starts for a line of the crontab (crontab(5): HOME, LOGNAME, SHELL, PATH and the lines above)."""
        variables = [line for line in self.crontab.splitlines() if line and not line.startswith("#")]
        # Matching quotes around the whole value are cron's to take away; nothing in between is special to it.
        words = [re.sub(r"^(\w+)=(['\"])(.*)\2$", r"\1=\3", line) for line in variables]
        bare = [f"HOME={self.house.root}", "LOGNAME=root", "SHELL=/bin/sh", f"PATH={BIN}:/usr/bin:/bin"]
        return self.house.start("env", "-i", *bare, *words, "/bin/sh", "-c", command)

    def backup(self) -> tuple[int, bytes, str, float]:
        """The job: exit code, output, messages, seconds."""
        begun = time.monotonic()
        ssh = " ".join(self.server.command("echo", "saved"))
        code, out, errors = finish(self.job(f"unlatch card check || exit 1; exec {ssh}"))
        return code, out, errors, time.monotonic() - begun

    def saves(self) -> bool:
        """Does the job succeed?"""
        return self.backup()[:2] == (0, b"saved\n")

    def watch(self) -> "subprocess.Popen[bytes]":
        """``unlatch card watch`` as a unit starts it; it has looked once."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(PATIENCE)
            manager.bind(f"{self.house.root}/notify")
            watching = self.house.start(UNLATCH, "card", "watch", NOTIFY_SOCKET=f"{self.house.root}/notify")
            assert manager.recv(64) == b"READY=1"
        return watching

    def rings(self) -> int:
        """How often the phone has rung."""
        return len(self.house.phone.messages("ring"))


@pytest.fixture
def host(card_house: CardHouse, request: pytest.FixtureRequest) -> BackupHost:
    """With an ed25519 key, unless the test names another algorithm."""
    return BackupHost(card_house, getattr(request, "param", "ed25519"))


def test_a_job_before_the_unlocking_fails_at_once(host: BackupHost) -> None:
    """No ring, no question, no try: the job says that the card is locked and ends."""
    code, out, errors, seconds = host.backup()
    assert (code, out) == (1, b"")
    assert "locked" in errors
    assert seconds < AT_ONCE
    code, _, _ = finish(host.job("unlatch card check"))
    assert code == LOCKED
    assert host.rings() == 0
    assert host.card.submitted() == 0


@pytest.mark.parametrize("host", ["rsa3072", "ed25519"], indirect=True)
def test_a_boot_day(host: BackupHost) -> None:
    """Unlock rings once and the job works; after a re-plug watch rings once, and it works again: one PIN each."""
    house = host.house
    unlocking = house.start(UNLATCH, "card", "unlock", "--wait")
    house.open(house.phone.ring_of("pin", 1)["link"]).unlock(PIN)
    code, _, errors = finish(unlocking)
    assert code == 0, errors
    watching = host.watch()
    for _ in range(3):
        assert host.saves()
    assert host.rings() == 1

    house.reader.remove()
    assert host.backup()[0] == 1
    house.reader.insert(host.card)
    ring = house.phone.ring_of("pin", 2)
    assert host.backup()[0] == 1  # while somebody is asked
    house.open(ring["link"]).unlock(PIN)
    until(host.saves, "the job after the re-plug")
    for _ in range(3):
        assert host.saves()
    assert host.rings() == 2
    assert host.card.submitted() == 2
    assert host.card.tries() == (3, 0, 3)
    assert watching.poll() is None


def test_unlock_waits_for_the_card_of_a_slow_reader(host: BackupHost) -> None:
    """At boot the card may come last: nobody is rung before it is there, and the job works after the answer."""
    house = host.house
    house.reader.remove()
    unlocking = house.start(UNLATCH, "card", "unlock", "--wait")
    until(lambda: any(words[-2:] == ["unlock", "--wait"] for words in house.pcsc.place.commands()), "the command")
    assert host.backup()[0] == 1
    assert host.rings() == 0
    house.reader.insert(host.card)
    house.open(house.phone.ring_of("pin")["link"]).unlock(PIN)
    code, _, errors = finish(unlocking)
    assert code == 0, errors
    assert host.saves()
    assert host.rings() == 1


def test_a_quick_replug_is_no_different(host: BackupHost) -> None:
    """A card that was away for less than scdaemon's look at it is locked all the same: check says so, watch rings."""
    host.house.unlock()
    host.watch()
    assert host.saves()
    host.house.reader.replug()
    assert host.backup()[0] == 1
    host.house.open(host.house.phone.ring_of("pin")["link"]).unlock(PIN)
    until(host.saves, "the job after the re-plug")
    assert host.rings() == 1
    assert host.card.submitted() == 2


def test_ten_jobs_at_once_after_one_unlocking(host: BackupHost) -> None:
    """Cron starts everything at the full hour: all log in, none asks."""
    host.house.unlock()
    ssh = " ".join(host.server.command("echo", "saved"))
    jobs = [host.job(f"unlatch card check || exit 1; exec {ssh}") for _ in range(10)]
    assert [finish(job)[:2] for job in jobs] == [(0, b"saved\n")] * 10
    assert host.rings() == 0
    assert host.card.submitted() == 1
