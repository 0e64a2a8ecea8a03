"""docs/guides/backups-over-ssh-with-a-card.md, typed as it stands into a machine with systemd, sshd and a card."""

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from answerer import Page
from backup_machine import BackupMachine
from machine import Done, Machine
from packages import Packages
from waiting import until

GUIDE = "usr/share/doc/unlatch/docs/guides/backups-over-ssh-with-a-card.md"
PIN, ADMIN = b"271828", b"31415926"
SAVED = "home/vault/web03/www/index.html"
JOB = "pull-web03.service"


class Guide:
    """The page as the package has installed it, and a person who types what it says."""

    def __init__(self, host: BackupMachine) -> None:
        self.host = host
        self.machine = host.machine
        self.text = (self.machine.root / GUIDE).read_text()
        self.rung = 0

    def type_in(self, heading: str, number: int = 0, *, feed: str = "") -> Done:
        """Type a block of the section with this heading; what apt would fetch is there already."""
        _, where, user, script = self._block(heading, number)
        assert where in ("the backup server", "web03")
        script = "".join(line for line in script.splitlines(keepends=True) if not line.startswith("apt "))
        return self._as(user, script.replace("PUBLIC-KEY", feed))

    def start(self, heading: str, number: int = 0) -> "subprocess.Popen[bytes]":
        """The same, without waiting for the end."""
        _, _, user, script = self._block(heading, number)
        return self.machine.start("runuser", "-l", user, "-c", f"set -eu\n{script}")

    def files(self) -> None:
        """Write the files that the page shows."""
        for path, text in re.findall(r"^`(/etc/[^`]+)`:\n\n```ini\n(.*?)^```$", self.text, re.M | re.S):
            self.machine.write(path, text)

    def crontab(self) -> tuple[list[str], str]:
        """The lines with variables, and the command, of the crontab."""
        (block,) = re.findall(r"^```crontab\n(.*?)^```$", self.text, re.M | re.S)
        lines = block.splitlines()
        return lines[:-1], lines[-1].split(maxsplit=5)[5]

    def answer(self, pin: bytes) -> Page:
        """Take the next ring."""
        self.rung += 1
        page = self.host.open(self.host.phone.ring(self.rung)["link"])
        page.unlock(pin)
        return page

    def check(self) -> int:
        """``unlatch card check``, as a job."""
        return self.machine.run("unlatch", "card", "check", user="vault", check=False).code

    def _as(self, user: str, script: str) -> Done:
        return self.machine.run("runuser", "-l", user, "-c", f"set -eu\n{script}")

    def _block(self, heading: str, number: int) -> tuple[str, str, str, str]:
        sections = re.split(r"^## ", self.text, flags=re.M)
        (section,) = (each for each in sections if each.startswith(f"{heading}\n"))
        block = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)[number]
        role = re.match(r"# on (.+), as (\w+)\n", block)
        assert role, block
        return role[0], role[1], role[2], block


@pytest.fixture
def guide(machine: Machine, packages: Packages) -> Iterator[Guide]:
    """A backup server with a new card, and web03 on its loopback."""
    host = BackupMachine(machine, packages)
    with (machine.root / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 web03.example.org\n")
    machine.write("/srv/www/index.html", "saved\n")
    machine.run("systemctl", "start", "ssh.service")
    host.reader.insert(host.card)
    yield Guide(host)
    host.close()


def test_the_guide_from_start_to_finish(guide: Guide) -> None:
    """Each block works as written: card, agent, server, first login, unlocking, job, cron; rings only where it says."""
    machine, card = guide.machine, guide.host.card
    saved = machine.root / SAVED
    guide.type_in("1. A user, and a way to the card")
    guide.type_in("1. A user, and a way to the card", 1)
    guide.type_in("2. The agent, from boot on")
    init(guide)
    guide.type_in("4. The server lets it in", feed=(machine.root / "home/vault/card.pub").read_text().strip())
    assert "ED25519" in guide.type_in("5. The first login").out
    login = guide.start("5. The first login", 1)
    if guide.check():
        assert guide.answer(PIN).verdict().outcome == "accepted"
    _, errors = login.communicate(timeout=60)
    assert login.returncode == 0, errors
    assert saved.read_text() == "saved\n"

    rings = guide.rung
    guide.type_in("6. Once for each boot")
    until(lambda: state(machine, "unlatch-card@vault") == "inactive", "the end of the unlocking of an unlocked card")
    until(lambda: state(machine, "unlatch-card-watch@vault") == "active", "the watch")
    assert "locked, as after a boot" in guide.type_in("6. Once for each boot", 1).out
    # A job while the card is locked: skipped at once, by timer and by cron.
    saved.unlink()
    guide.files()
    guide.type_in("7. The job")
    assert machine.run("systemctl", "show", "-P", "Result", JOB).out == "exec-condition\n"
    assert cron(guide) == 1
    assert not saved.exists()

    assert guide.answer(PIN).verdict().outcome == "accepted"
    until(lambda: guide.check() == 0, "the unlocked card")
    machine.run("systemctl", "start", JOB)
    assert saved.read_text() == "saved\n"
    saved.unlink()
    assert cron(guide) == 0
    assert saved.read_text() == "saved\n"
    assert len(guide.host.phone.messages("ring")) == guide.rung == rings + 1
    assert card.tries() == (3, 0, 3)
    # The key can do nothing else there.
    env = "SSH_AUTH_SOCK=/run/unlatch-agent/vault/S.gpg-agent.ssh"
    other = machine.run("env", env, "ssh", "puller@web03.example.org", "id", user="vault", check=False)
    assert "uid=" not in other.out


def test_a_boot_after_the_guide(guide: Guide) -> None:
    """Both units are enabled, the card is locked: the job is skipped, one ring, then it works; a re-plug rings once."""
    machine, reader = guide.machine, guide.host.reader
    guide.type_in("1. A user, and a way to the card")
    guide.type_in("1. A user, and a way to the card", 1)
    guide.host.card.generate("auth", "ed25519")
    machine.run("systemctl", "enable", "unlatch-agent@vault", "unlatch-card@vault", "unlatch-card-watch@vault")
    reader.remove()
    # What a boot does with what is enabled. The card's reader is slow.
    machine.run("systemctl", "start", "--no-block", "multi-user.target")
    until(lambda: state(machine, "unlatch-card@vault") == "activating", "the unit that waits for the card")
    assert guide.check() != 0
    assert guide.host.phone.messages("ring") == []
    reader.insert(guide.host.card)
    ring = guide.host.phone.ring()
    assert (ring["user"], ring["unit"]) == ("vault", "unlatch-card@vault.service")
    assert guide.check() == 7
    guide.answer(b"123456")
    until(lambda: state(machine, "unlatch-card@vault") == "inactive", "the unit's end")
    assert guide.check() == 0
    until(lambda: state(machine, "unlatch-card-watch@vault") == "active", "the watch")
    unit = machine.run("systemctl", "start", "unlatch-card@vault.service")  # a gate that is open
    assert unit.code == 0
    # Seen unlocked by the watch, or it would not ring for it.
    seen = "is unlocked"
    until(lambda: seen in machine.run("journalctl", "-o", "cat", "-u", "unlatch-card-watch@vault").out, seen)

    card = guide.host.card
    reader.remove()
    reader.insert(card)
    ring = guide.host.phone.ring(2)
    assert ring["unit"] == "unlatch-card-watch@vault.service"
    guide.answer(b"123456")
    until(lambda: guide.check() == 0, "the unlocked card")
    assert len(guide.host.phone.messages("ring")) == 2
    assert card.submitted() == 2


def test_a_denied_card_is_left_alone(guide: Guide) -> None:
    """The unit has failed, and systemd does not start it again."""
    machine = guide.machine
    guide.type_in("1. A user, and a way to the card")
    guide.type_in("1. A user, and a way to the card", 1)
    guide.host.card.generate("auth", "ed25519")
    guide.type_in("2. The agent, from boot on")
    starting = machine.start("systemctl", "start", "unlatch-card@vault.service")
    guide.host.open(guide.host.phone.ring()["link"]).deny()
    starting.communicate(timeout=30)
    assert starting.returncode != 0
    assert machine.run("systemctl", "show", "-P", "ExecMainStatus", "unlatch-card@vault.service").out == "4\n"
    assert state(machine, "unlatch-card@vault") == "failed"
    assert guide.host.card.submitted() == 0


def init(guide: Guide) -> None:
    """Step 3; the PINs are asked on the phone, as there is no terminal."""
    setting_up = guide.start("3. The card")
    for _ in range(2):
        guide.rung += 1
        ring = guide.host.phone.ring(guide.rung)
        page = guide.host.open(ring["link"])
        page.unlock(ADMIN if "admin" in ring["title"].lower() else PIN)
        assert page.verdict().outcome == "accepted"
    out, errors = setting_up.communicate(timeout=60)
    assert setting_up.returncode == 0, errors
    assert b"rsa3072" in out.lower(), out


def cron(guide: Guide) -> int:
    """What cron does with the crontab: its variables, without the quotes around them, and no others."""
    lines, command = guide.crontab()
    words = [line.replace("'", "") for line in lines]
    assert lines[0] in guide.machine.run("unlatch", "env", "--shell", "crontab", user="vault").out.splitlines()
    script = f"cd; exec env -i HOME=/home/vault {shlex.join(words)} /bin/sh -c {shlex.quote(command)}"
    return guide.machine.run("sh", "-c", script, user="vault", check=False).code


def state(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).out.strip()
