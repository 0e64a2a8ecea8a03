"""A machine that is a backup server with a card in its reader, and on the same loopback the host that it saves."""

import ctypes
import os
import socket

from answerer import Page
from card import books
from card.card import Card
from card.pcsc import PORT, READERS
from card.reader import Notices, Reader
from machine import Machine
from packages import Packages
from tenant import host_phone, opened

_NET = 0x40000000  # CLONE_NEWNET
_LOG = "/run/pcscd.log"
# Debian's own unit, but that it goes on without clients and says which cards it sees.
_PCSCD = """\
[Service]
ExecStart=
ExecStart=/bin/sh -c 'exec /usr/sbin/pcscd --foreground --info $(/usr/sbin/pcscd --help | grep -o -- --disable-polkit)'
StandardOutput=file:{log}
"""
_libc = ctypes.CDLL(None, use_errno=True)


class BackupMachine:
    """With the package, the host's broker that rings ``phone``, and pcscd; ``card`` is in the reader."""

    def __init__(self, machine: Machine, packages: Packages) -> None:
        self.machine = machine
        machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
        self.phone = host_phone(machine)
        machine.run("systemctl", "start", "unlatch-page.socket", "unlatch.service")
        machine.write("/etc/systemd/system/pcscd.service.d/test.conf", _PCSCD.format(log=_LOG))
        machine.shell("systemctl daemon-reload; systemctl start pcscd.socket pcscd.service")
        self.reader = Reader(self._dial, self._commands, self._notices)
        self.card = Card(serial=0x51D00D)

    def open(self, link: str) -> Page:
        """Open a link on the phone: the viewed page."""
        return opened(link, self.machine.root / "run/unlatch-page/page.sock")

    def close(self) -> None:
        """Take the card out; no try was spent that was not announced."""
        self.reader.pull()
        books.enter(self.card.account.spent)
        self.card.account.settle()

    def _dial(self) -> socket.socket:
        line = _socket_of(self.machine.pid)
        try:
            line.connect(("127.0.0.1", PORT))
        except OSError:
            line.close()
            raise
        return line

    def _commands(self) -> list[list[str]]:
        return [command.split() for command in self.machine.commands()]

    def _notices(self) -> Notices:
        said = (self.machine.root / _LOG.lstrip("/")).read_text(errors="replace")
        return Notices(
            said.count(f"Card inserted into {READERS[0]}"),
            said.count(f"Card Removed From {READERS[0]}"),
        )


def _socket_of(pid: int) -> socket.socket:
    """A TCP socket of this process's network."""
    own, other = (os.open(f"/proc/{name}/ns/net", os.O_RDONLY) for name in ("thread-self", pid))
    try:
        _enter(other)
        try:
            return socket.socket()
        finally:
            _enter(own)
    finally:
        os.close(own)
        os.close(other)


def _enter(space: int) -> None:
    if _libc.setns(space, _NET):
        raise OSError(ctypes.get_errno(), "setns")
