"""Somebody who lives in a machine: a user with a GnuPG key whose passphrase only a person has."""

import json
import os
import subprocess
from pathlib import Path

from answerer import Page
from machine import Done, Machine
from phone import Phone
from real_gnupg import AGENT, GPG, LOOPBACK, OWNER, PASSPHRASE, PLAINTEXT

PINENTRY = "/usr/bin/pinentry-unlatch"
# Everybody is rung on the one phone.
SETTINGS = """\
public_url = "https://unlock.test/"
probe = false
{top}
[people.admin]
users = ["*"]
notify = ["phone"]
[notify.phone]
command = {command}
end_to_end = true
"""


class Tenant:
    """A user of a machine with a key, its ``gpg-agent.conf`` naming the package's pinentry."""

    def __init__(self, machine: Machine, name: str = "api", *, pinentry: str = PINENTRY) -> None:
        self.machine = machine
        self.name = name
        machine.add_user(name)
        self.home = f"/home/{name}"
        self.conf = f"{self.home}/.gnupg/gpg-agent.conf"
        self.shell("mkdir -m 700 .gnupg; cat >.gnupg/gpg-agent.conf", feed=AGENT.format(pinentry=pinentry).encode())
        self.run(*GPG, *LOOPBACK, "--quick-gen-key", OWNER, "future-default", "default", "never", feed=PASSPHRASE)
        self.shell(f"{' '.join(GPG)} --trust-model always -e -r '{OWNER}' >secret.gpg", feed=PLAINTEXT)
        self.run("gpg-connect-agent", "RELOADAGENT", "/bye")

    def run(self, *command: str, feed: bytes = b"", check: bool = True) -> Done:
        """Run a program as this user."""
        return self.machine.run(*command, user=self.name, feed=feed, check=check)

    def shell(self, script: str, *, feed: bytes = b"") -> Done:
        """Run a shell script as this user, at home."""
        return self.run("sh", "-euc", f"cd; {script}", feed=feed)

    def decrypt(self) -> "subprocess.Popen[bytes]":
        """A service that decrypts; its standard output is the plaintext."""
        return self.machine.start(*GPG, "--decrypt", f"{self.home}/secret.gpg", user=self.name)

    def with_broker(self) -> Phone:
        """Settings for a broker of this user's own, that is started when it is needed."""
        phone = _phone(self.machine, f"{self.home}/phone", self.name)
        page = f'listen = "unix:{self.home}/page.sock"'
        settings = SETTINGS.format(top=page, command=json.dumps(phone.command))
        self.shell("mkdir -p .config/unlatch; cat >.config/unlatch/unlatch.toml", feed=settings.encode())
        return phone

    def open(self, link: str) -> Page:
        """Open a link of the user's own broker."""
        return opened(link, self.machine.root / f"{self.home}/page.sock".lstrip("/"))


def host_phone(machine: Machine) -> Phone:
    """Settings for the host's broker, and the phone that it rings, which lies where that broker may write."""
    phone = _phone(machine, "/var/lib/unlatch/phone", "unlatch")
    machine.write("/etc/unlatch/unlatch.toml", SETTINGS.format(top="", command=json.dumps(phone.command)))
    return phone


def open_on_host(machine: Machine, link: str) -> Page:
    """Open a link of the host's broker, through the socket that the proxy has."""
    return opened(link, machine.root / "run/unlatch-page/page.sock")


def opened(link: str, place: Path) -> Page:
    """The viewed page."""
    page = Page(link, place)
    reply = page.view()
    assert reply.status == 200, reply
    return page


def _phone(machine: Machine, directory: str, owner: str) -> Phone:
    phone = Phone(machine.root / directory.lstrip("/"), directory)
    numbers = machine.shell(f"id -u {owner}; id -g {owner}").out.split()
    os.chown(phone.directory, int(numbers[0]), int(numbers[1]))
    return phone
