"""Real pcscd with vpcd's two virtual readers, in a namespace: one for all tests of a worker, cards come and go."""

import contextlib
import functools
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from real import absent, real
from waiting import listens, until

from card.card import Card
from card.namespace import Namespace
from card.reader import Notices, Reader

PORT = 0x8C7B  # vpcd's first reader; the second one is at the next port
DRIVER = "libifdvpcd.so"
_SCDAEMON = ("/usr/lib/gnupg", "/usr/libexec", "/usr/lib/gnupg2")  # in no PATH
READERS = ("Virtual PCD 00 00", "Virtual PCD 00 01")
_READER = 'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{port:#06X}\nLIBPATH {driver}\nCHANNELID {port:#06X}\n'


class PCSC:
    """A namespace, pcscd in it, and a hand at each reader. The first reader has a card except when a test takes it."""

    def __init__(self) -> None:
        real("pcscd")
        if not any(Path(place, "scdaemon").exists() for place in _SCDAEMON):
            absent("scdaemon is not installed; tools/setup test installs it")
        self.driver = _driver()
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-pcsc-", dir="/tmp"))
        self.place = Namespace()
        self.log = self.root / "pcscd.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.readers = [
            Reader(
                functools.partial(self._dial, PORT + number),
                self.place.commands,
                functools.partial(self._notices, name),
            )
            for number, name in enumerate(READERS)
        ]
        self.start()

    def start(self, readers: bool = True) -> None:
        """Start pcscd, with both readers or with none, and wait until programs can talk to it."""
        self._has_readers = readers
        configuration = self.root / "reader.conf"
        configuration.write_text(_READER.format(port=PORT, driver=self.driver) if readers else "")
        # One that was killed leaves its socket and the file with its pid.
        shutil.rmtree(self.place.run / "pcscd", ignore_errors=True)
        self.log.unlink(missing_ok=True)
        (self.place.run / "pcscd").mkdir(mode=0o755)
        words = ["pcscd", "--foreground", "--info", *_without_polkit(), "--config", str(configuration)]
        self._daemon = self.place.start(*words, log=self.log)
        until(lambda: listens(self._socket), "pcscd's socket")

    def stop(self) -> None:
        """Kill pcscd. Both cards stay where they are, but nobody looks: after a new start they have to be inserted."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        for reader in self.readers:
            reader.pull()

    @property
    def pid(self) -> int:
        """pcscd's, by its number outside."""
        assert self._daemon is not None
        return self._daemon.pid

    def is_whole(self) -> bool:
        """Does pcscd run with its readers?"""
        return self._daemon is not None and self._daemon.poll() is None and self._has_readers and self._socket.exists()

    @property
    def _socket(self) -> Path:
        return self.place.run / "pcscd" / "pcscd.comm"

    def clear(self) -> None:
        """Undo what the last test did."""
        for reader in self.readers:
            reader.untouch()
        self.place.sweep({self._daemon.pid} if self._daemon else set(), {"pcscd"})

    def lay(self, card: Card) -> None:
        """A new test begins with this card in the first reader, and none in the second."""
        if not self.is_whole():
            self.stop()
            self.start()
        first, second = self.readers
        second.remove()
        before = first.card
        if before and first.is_inserted() and before.answer_to_reset() == card.answer_to_reset():
            first.exchange_silently(card)  # nobody talks to it: no need to wait until pcscd looks
        else:
            first.remove()
            first.insert(card)

    def close(self) -> None:
        """End everything."""
        self.stop()
        self.place.sweep(set(), set())
        self.place.close()
        shutil.rmtree(self.root)

    def _notices(self, reader: str) -> Notices | None:
        """How often this pcscd has seen a card come to this reader and go, which it says in its log."""
        if self._daemon is None or self._daemon.poll() is not None:
            return None
        said = self.log.read_text(errors="replace")
        came = said.count(f"Card inserted into {reader}")
        # Of a card that is there before its first look it tells the ATR only; a test puts one into the first reader.
        if reader == READERS[0]:
            came += max(0, said.count("Card ATR: ") - said.count("Card inserted into "))
        return Notices(came, said.count(f"Card Removed From {reader}"))

    def _dial(self, port: int) -> socket.socket:
        line = self.place.socket()
        try:
            line.connect(("127.0.0.1", port))
        except OSError:
            line.close()
            raise
        return line


def _driver() -> str:
    """vpcd's driver, which is no program: where its own configuration says, or where Debian puts drivers."""
    named: list[str] = []
    with contextlib.suppress(OSError):
        named = re.findall(r"^LIBPATH\s+(\S+)", Path("/etc/reader.conf.d/vpcd").read_text(), re.MULTILINE)
    paths = [*map(Path, named), *Path("/usr/lib/pcsc").glob(f"drivers/serial/{DRIVER}")]
    found = next((str(path) for path in paths if path.exists()), None)
    if found is None:
        absent(f"vpcd's driver {DRIVER} is not installed; tools/setup test installs it")
    return str(found)


@functools.cache
def _without_polkit() -> list[str]:
    """pcscd asks polkit from version 2 on in Debian; there is no D-Bus inside."""
    help_text = subprocess.run([real("pcscd"), "--help"], capture_output=True, text=True, check=False).stdout
    return ["--disable-polkit"] if "--disable-polkit" in help_text else []
