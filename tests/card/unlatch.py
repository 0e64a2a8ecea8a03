"""``unlatch card`` in a house with a card: run it, and what a person or a script sees of it."""

import subprocess
from typing import NamedTuple

from house import UNLATCH

from card.card import PIN
from card.house import CardHouse


class Ended(NamedTuple):
    """How a command ended. ``hints`` are the lines that say what to do."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence that says what is wrong."""
        [error] = [line for line in self.err.splitlines() if line.startswith("unlatch: error: ")]
        return error.removeprefix("unlatch: error: ")

    @property
    def hints(self) -> list[str]:
        """The next steps."""
        lines = self.err.splitlines()
        return [line.removeprefix("unlatch: hint: ") for line in lines if line.startswith("unlatch: hint: ")]


def card(house: CardHouse, *words: str, feed: bytes = b"", seconds: float = 30, **more: str) -> Ended:
    """Run ``unlatch card`` as a script does: no terminal."""
    with house.pcsc.place.births():
        process = subprocess.Popen(
            [*house.pcsc.place.enter, str(UNLATCH), "card", *words],
            env=house.environ(**more), cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    try:
        out, err = process.communicate(feed, timeout=seconds)
    finally:
        process.kill()
        process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


def unlock(house: CardHouse, pin: bytes = PIN) -> None:
    """Unlock the card in the quickest way."""
    done = card(house, "unlock", "--stdin", feed=pin)
    assert done.code == 0, done.err
