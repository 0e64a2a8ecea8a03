"""A whole Debian whose logins go through pam_unlatch.so of the real package: sshd, login, su, sudo, vlock.

People type at terminals of the machine. Their secret keys are nowhere in it: a :class:`Holder` is somebody's own
computer or phone, which gets what the terminal shows and gives back what it decrypts.
"""

import json
import os
import re
import subprocess
import tempfile
import termios
from pathlib import Path
from typing import NamedTuple

from answerer import Page
from gnupg_home import forget
from machine import Done, Machine
from packages import Packages
from phone import Phone
from tenant import open_on_host
from terminal import Terminal
from waiting import PATIENCE, until

GPG = ("gpg", "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
ARMOUR = re.compile(r"-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----", re.DOTALL)
PASSWORDS = "@include common-auth\n"
MODULE = "auth required pam_unlatch.so"
# As Debian's own for each of them, shortened to what opens no user session of systemd's: that takes a second a login.
REST = "account required pam_unix.so\nsession required pam_permit.so\n"
FROM_NOBODY = "unlatch: this login cannot be confirmed"
NOT_ACCEPTED = "unlatch: not accepted"
HOST = "web03"
SERVICES = ("sshd", "login", "su", "su-l", "sudo", "vlock")
NAMES = {"alice": "future-default", "bob": "rsa3072", "carol": "future-default"}  # and the kinds of their keys
RECORDS = "etc/unlatch/pam"
PASSWORD = "crowbar 7"  # everybody's, where a first factor is wanted
PROMPT = "Response: "
IN = "logged in as"
ONCE = ("-o", "NumberOfPasswordPrompts=1")  # ssh asks once, not three times
KEY = ("-i", "/home/visitor/key")
SETTINGS = """\
public_url = "https://unlock.test/"
probe = false
[pam]
{pam}
{people}
"""
# Everybody has a phone of their own. The administrator's rings for all users, but for nobody's login.
PEOPLE = {"alice": "alice", "bob": "bob", "carol": "carol", "admin": "*"}
PERSON = """\
[people.{name}]
users = ["{user}"]
notify = ["{name}"]
[notify.{name}]
command = {command}
end_to_end = true
"""
SUDOERS = "bob ALL=(ALL) ALL\nDefaults timestamp_timeout=0\n"
SSHD = """\
UsePAM yes
KbdInteractiveAuthentication yes
PasswordAuthentication no
LoginGraceTime 660
MaxStartups 100
LogLevel VERBOSE
ListenAddress 127.0.0.1
ListenAddress ::1
Match User carol
    AuthenticationMethods publickey,keyboard-interactive
Match all
"""


class Message(NamedTuple):
    """A challenge, opened. ``keys`` are the long IDs it is encrypted to; ``signed`` a fingerprint, or empty."""

    who: str
    source: str
    at: str
    response: str
    keys: frozenset[str]
    signed: str


class Holder:
    """Who can decrypt: a GnuPG home of its own with one key."""

    def __init__(self, name: str, algorithm: str = "future-default") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="holder-", dir="/tmp"))
        self.name = name
        self.address = f"{name}@example.org"
        # One inotify instance for each agent instead of two: a user has 128, and each machine takes eight of them.
        (self.home / "gpg-agent.conf").write_text("disable-check-own-socket\n")
        self._gpg("--quick-gen-key", f"{name.title()} <{self.address}>", algorithm, "default", "never")
        if algorithm.startswith("rsa"):
            self._gpg("--quick-add-key", self.fingerprint, algorithm, "encr", "never")
        self.public = self._gpg("--armor", "--export").decode()

    @property
    def fingerprint(self) -> str:
        """The key's, in full."""
        listing = self._gpg("--list-keys", "--with-colons").decode()
        return str(re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[0])

    def learn(self, public: str) -> None:
        """Import a key, such as the one that the server signs with."""
        self._gpg("--import", feed=public)

    def read(self, screen: str) -> Message:
        """Decrypt the last challenge on a screen."""
        armour = ARMOUR.findall(screen)[-1]
        done = self._run("--status-fd", "2", "--decrypt", feed=armour)
        assert done.returncode == 0, done.stderr
        who, source, at, response = done.stdout.decode().splitlines()
        status = done.stderr.decode()
        signed = re.search(r"^\[GNUPG:\] VALIDSIG ([0-9A-F]{40})", status, re.MULTILINE)
        keys = re.findall(r"^\[GNUPG:\] ENC_TO ([0-9A-F]{16})", status, re.MULTILINE)
        return Message(who, source, at, response, frozenset(keys), signed[1] if signed else "")

    def cannot_read(self, screen: str) -> bool:
        """Whether the last challenge on a screen is not for this key."""
        return self._run("--decrypt", feed=ARMOUR.findall(screen)[-1]).returncode != 0

    def revoke(self) -> str:
        """The public key, revoked."""
        certificate = self.home / "openpgp-revocs.d" / f"{self.fingerprint}.rev"
        self._gpg("--import", feed=certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
        return self._gpg("--armor", "--export").decode()

    def close(self) -> None:
        """Forget the key."""
        forget(self.home)

    def _gpg(self, *options: str, feed: str = "") -> bytes:
        done = self._run(*options, feed=feed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _run(self, *options: str, feed: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*GPG, *options], env=self._environ(), input=feed.encode(), capture_output=True, timeout=60, check=False
        )

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "GNUPGHOME": str(self.home), "LANG": "C.UTF-8"}


class LoginHouse:
    """The machine, one for all tests of a worker, with alice, bob and carol in it, who have keys of record.

    carol's sshd wants a public key before anything else. Whatever a test changes is as before after :meth:`settle`.
    """

    def __init__(self, machine: Machine, packages: Packages) -> None:
        self.machine = machine
        self.root = machine.root
        self._holders: list[Holder] = []
        machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
        machine.run("hostname", HOST)
        machine.write("/etc/hosts", f"127.0.0.1 localhost {HOST}\n::1 localhost\n")
        for name in ("alice", "bob", "carol", "visitor"):
            machine.add_user(name)
        machine.run("chpasswd", feed="".join(f"{name}:{PASSWORD}\n" for name in NAMES).encode())
        self._prepare_sshd()
        self.phones = {name: self._phone(name) for name in PEOPLE}
        self.configure()
        files = {name: self.root / "etc/pam.d" / name for name in SERVICES}
        self._debian = {name: file.read_text() for name, file in files.items() if file.exists()}
        self.stack()
        machine.write("/etc/sudoers.d/logins", SUDOERS, 0o440)
        self.alice, self.bob, self.carol = (self.holder(name, kind) for name, kind in NAMES.items())
        for holder in (self.alice, self.bob, self.carol):
            self.enrol(holder.name, holder)
        self._records = {path.name: path.read_bytes() for path in (self.root / RECORDS).iterdir()}
        machine.run("systemctl", "enable", "--now", "unlatch-pam.socket")

    def configure(self, pam: str = "") -> None:
        """Write unlatch.toml with these lines of [pam]. They count for the next login."""
        people = "".join(
            PERSON.format(name=name, user=user, command=json.dumps(self.phones[name].command))
            for name, user in PEOPLE.items()
        )
        self.machine.write("/etc/unlatch/unlatch.toml", SETTINGS.format(pam=pam, people=people))

    def configure_sshd(self, first: str = "") -> None:
        """Write sshd's settings, the ``first`` of which win, and have them read."""
        self.machine.write("/etc/ssh/sshd_config.d/logins.conf", first + SSHD)
        self.machine.run("systemctl", "restart", "ssh")  # which is there at once, as it is not after a reload

    def stack(self, service: str = "", *lines: str) -> None:
        """Write a file of /etc/pam.d with these lines for ``auth``; of all services of ours with the module alone."""
        for name in [service] if service else SERVICES:
            auth = "".join(f"{line}\n" for line in lines or (MODULE,))
            self.machine.write(f"/etc/pam.d/{name}", f"{auth}{REST}")

    def debian(self, service: str, line: str) -> None:
        """Debian's own file with this line below the password's, as docs/logins.md says."""
        self.machine.write(f"/etc/pam.d/{service}", self._debian[service].replace(PASSWORDS, f"{PASSWORDS}{line}\n"))

    def settle(self) -> None:
        """After a test: every login has ended and left nothing behind; then everything is as before."""
        try:
            until(lambda: not self.conversations(), "the end of all conversations")
            assert list((self.root / "run/unlatch-pam-work").iterdir()) == []
        finally:
            self._restore()

    def _restore(self) -> None:
        self.configure()
        self.stack()
        for path in (self.root / RECORDS).iterdir():
            path.unlink()
        for name, content in self._records.items():
            (self.root / RECORDS / name).write_bytes(content)
        for phone in self.phones.values():
            for message in phone.directory.iterdir():
                message.unlink()
        forget = "rm -rf /home/*/.auth_gpg /home/*/.gnupg /run/unlatch-pam-approvals/*"
        end = "systemctl stop unlatch-pam.service" if self.conversations() else ":"
        self.machine.shell(f"{forget}; {end}; systemctl start unlatch-pam.socket")
        self.lines()

    def conversations(self) -> list[str]:
        """The pids of the processes that hold a login each."""
        main = self.machine.run("systemctl", "show", "-P", "MainPID", "unlatch-pam.service").out.strip()
        return self.machine.run("pgrep", "-P", main, check=False).out.split() if main != "0" else []

    def holder(self, name: str, kind: str = "future-default") -> Holder:
        """Somebody with a new key."""
        holder = Holder(name, kind)
        self._holders.append(holder)
        return holder

    def enrol(self, user: str, *holders: Holder, sign_as: str = "", web: str = "") -> Done:
        """Make these the keys of record."""
        for holder in holders:
            self.machine.write(f"/root/{holder.fingerprint}.asc", holder.public)
        files = [word for each in holders for word in ("--file", f"/root/{each.fingerprint}.asc")]
        more = (["--sign-as", sign_as] if sign_as else []) + (["--web", web] if web else [])
        keys = [holder.fingerprint for holder in holders]
        return self.machine.run("unlatch", "pam", "enrol", *more, *files, user, *keys)

    def carry(self, user: str, holder: Holder, entry: str) -> None:
        """Put a key into the keyring of an account, and an entry into its ~/.auth_gpg, as the account itself does."""
        self.machine.run("gpg", "--batch", "--quiet", "--import", user=user, feed=holder.public.encode())
        self.machine.run("sh", "-c", "umask 077; cat >~/.auth_gpg", user=user, feed=f"{entry}\n".encode())

    def start_broker(self) -> None:
        """Start the host's broker, if it is not there."""
        self.machine.run("systemctl", "enable", "--now", "unlatch-page.socket", "unlatch.service")

    def open(self, link: str) -> Page:
        """Open a link on a phone."""
        return open_on_host(self.machine, link)

    def rings(self) -> dict[str, int]:
        """How often each phone has rung since the test began; those that have not are left out."""
        count = {name: len(phone.messages("ring")) for name, phone in self.phones.items()}
        return {name: number for name, number in count.items() if number}

    def ssh(self, user: str, *options: str, address: str = "127.0.0.1") -> Terminal:
        """A visitor's ssh to an account of this machine, which says who it is and ends."""
        return self.machine.terminal(
            "ssh", "-o", "IdentityAgent=none", *options, f"{user}@{address}", f"echo {IN} $(id -un)", user="visitor"
        )

    def waits(self, program: str) -> bool:
        """Whether a program that has asked something reads by now. Many overlook a Ctrl-C that comes in between."""
        states = self.machine.run("ps", "-C", program, "-o", "stat=", check=False).out.split()
        return bool(states) and all(state.startswith("S") for state in states)

    def lines(self) -> list[str]:
        """What the service and the module have logged of logins since the last look."""
        self.machine.run("journalctl", "--sync")
        cursor = ("--cursor-file=/run/login-house.cursor", "--quiet", "--output=cat")
        return [line for line in self.machine.run("journalctl", *cursor).out.splitlines() if "login " in line]

    def verdict(self, seconds: float = PATIENCE) -> str:
        """The line for the one login that has ended since the last look; waits for it."""
        (line,) = self.verdicts(1, seconds)
        return line

    def verdicts(self, number: int, seconds: float = PATIENCE) -> list[str]:
        """The same for so many logins."""
        found: list[str] = []

        def look() -> bool:
            found.extend(line for line in self.lines() if re.search(r"login (allowed|denied):", line))
            return len(found) >= number

        until(look, f"{number} lines in the log", seconds)
        assert len(found) == number, found
        return found

    def everything_logged(self) -> str:
        """The whole journal, in all its fields."""
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "--quiet", "--output=export").out

    def close(self) -> None:
        """Forget everybody's keys."""
        for holder in self._holders:
            holder.close()

    def _phone(self, name: str) -> Phone:
        """A phone where the broker may write."""
        directory = f"/var/lib/unlatch/{name}"
        phone = Phone(self.root / directory.lstrip("/"), directory)
        self.machine.run("chown", "unlatch:unlatch", directory)
        return phone

    def _prepare_sshd(self) -> None:
        """A visitor's first key, which opens nothing alone, and a server that the visitor knows."""
        self.machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/visitor/key")
        self.machine.shell(
            "chown visitor: /home/visitor/key*; mkdir -m 700 /home/carol/.ssh; "
            "cp /home/visitor/key.pub /home/carol/.ssh/authorized_keys; chown -R carol: /home/carol/.ssh; "
            "for each in 127.0.0.1 ::1; do sed s/^/$each' '/ /etc/ssh/ssh_host_ed25519_key.pub; done "
            ">/etc/ssh/ssh_known_hosts"
        )
        self.configure_sshd()


class Locked:
    """A screen that bob has locked with vlock, which throws away what was typed before it began to read."""

    def __init__(self, logins: LoginHouse) -> None:
        self._logins = logins
        self.terminal = logins.machine.terminal("vlock", user="bob")

    def press_enter(self) -> None:
        """Begin to unlock."""
        self.terminal.expect("press [ENTER]")
        self._type("\n", lines=False)

    def answer(self, text: str) -> None:
        """Type what was asked for."""
        self._type(text, lines=True)

    def _type(self, text: str, *, lines: bool) -> None:
        def reads() -> bool:  # it waits, and the terminal is as it sets it before that: by lines, or key by key
            by_lines = bool(self.terminal.flags() & termios.ICANON)
            return self._logins.waits("vlock-main") and by_lines == lines and not self.terminal.echoes()

        until(reads, "a vlock that reads")
        self.terminal.type(text)


def challenged(terminal: Terminal, holder: Holder) -> Message:
    """Wait for a challenge, and open it."""
    terminal.expect(PROMPT)
    return holder.read(terminal.screen)


def is_let_in(terminal: Terminal, name: str) -> bool:
    """Whether that is how it ends."""
    code = terminal.end()
    assert (code == 0) == (f"{IN} {name}" in terminal.screen), terminal.screen
    return code == 0
