"""A house with a card reader: every program of it runs in the reader's namespace, with a scdaemon of its own."""

import subprocess
from pathlib import Path

from house import PINENTRY, House
from terminal import Terminal
from waiting import until

from card import books
from card.card import PIN, Card
from card.pcsc import PCSC, READERS

# s2k-count: the agent would calibrate it to 100 ms for each use of a software key; those here protect nothing.
AGENT = """
pinentry-program {pinentry}
enable-ssh-support
s2k-count 65536
"""
# The internal driver would look for USB readers of the machine; another reader than vpcd's is none of ours.
SCDAEMON = 'disable-ccid\nreader-port "{reader}"\n'


class CardHouse(House):
    """``card`` is in ``reader``; ``second`` is an empty reader. Everything that is started here runs inside."""

    def __init__(self, pcsc: PCSC, card: Card) -> None:
        super().__init__()
        self.pcsc = pcsc
        self.reader, self.second = pcsc.readers
        pcsc.lay(card)
        (self.gnupg / "gpg-agent.conf").write_text(AGENT.format(pinentry=PINENTRY))
        self.use_reader(0)

    @property
    def card(self) -> Card:
        """The card in the first reader."""
        assert self.reader.card is not None, "there is no card"
        return self.reader.card

    def unlock(self, pin: bytes = PIN) -> None:
        """Verify the PIN by gpg-agent and scdaemon, which know of it from now on; without anything of ours."""
        (self.root / "pin").write_bytes(pin)
        words = ["OPTION pinentry-mode=loopback", f"/definqfile PASSPHRASE {self.root}/pin"]
        words.append(f"SCD CHECKPIN {self.card.application_id}")
        reply = self.run("gpg-connect-agent", *words, "/bye").decode()
        assert reply.splitlines()[-1] == "OK", reply
        assert self.card.verified()

    def replug(self) -> None:
        """Take the card out and put it back, slowly enough for scdaemon, which looks every 0.5 s, to see both.

        ``reader.replug()`` is as fast as pcscd allows, and then scdaemon 2.2 may go on believing that the PIN is
        verified.
        """
        card = self.card
        self.reader.remove()
        until(lambda: card.application_id not in self.serial(), "scdaemon's notice that the card went")
        self.reader.insert(card)
        until(lambda: card.application_id in self.serial(), "scdaemon's notice of the card")

    def serial(self) -> str:
        """What scdaemon says when it is asked for the card."""
        return self.run("gpg-connect-agent", "SCD SERIALNO", "/bye").decode()

    def replace(self, card: Card) -> None:
        """Put another card into the first reader before any program has talked to the one there."""
        self.pcsc.lay(card)

    def reader_names(self) -> list[str]:
        """The readers that scdaemon sees."""
        reply = self.run("gpg-connect-agent", "SCD GETINFO reader_list", "/bye").decode()
        return [name for line in reply.splitlines() if line.startswith("D ") for name in line[2:].split("%0A") if name]

    def use_reader(self, number: int | None) -> None:
        """Which reader scdaemon is told to use when it starts: 0, 1, or None for its own choice."""
        settings = "disable-ccid\n" if number is None else SCDAEMON.format(reader=READERS[number])
        (self.gnupg / "scdaemon.conf").write_text(settings)

    def start(self, *command: str | Path, **more: str) -> "subprocess.Popen[bytes]":
        with self.pcsc.place.births():
            return super().start(*self.pcsc.place.enter, *command, **more)

    def run(self, *command: str | Path, feed: bytes = b"", **more: str) -> bytes:
        with self.pcsc.place.births():
            return super().run(*self.pcsc.place.enter, *command, feed=feed, **more)

    def at_terminal(self, *command: str | Path, **more: str) -> Terminal:
        """A person at a terminal who types a command."""
        with self.pcsc.place.births():
            return Terminal([*self.pcsc.place.enter, *command], self.environ(**more))

    def apdu(self, text: str) -> str:
        """Send a command through gpg-agent and scdaemon; the answer with its status word, in hexadecimal."""
        reply = self.run("gpg-connect-agent", "--hex", f"SCD APDU {text}", "/bye").decode()
        return "".join(line[9:58].replace(" ", "") for line in reply.splitlines() if line.startswith("D["))

    def settle(self) -> None:
        """No try was spent that was not announced, on any card that was here.

        Raises:
            AssertionError: one was.
        """
        accounts = {id(card): card.account for reader in self.pcsc.readers for card in reader.cards}.values()
        for account in accounts:
            books.enter(account.spent)
        for account in accounts:
            account.settle()
