"""What cards cost: `make bench`. An emulated card behind real pcscd, scdaemon and gpg-agent (tests/card).

A real card takes longer for each of its commands; what is ours to spend is counted here. As in tools/bench.py, times
are also given as multiples of bare Python's start in the same run.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import BARE, STARTS, Row, show
from card.card import PIN, Card
from card.house import CardHouse
from card.pcsc import PCSC
from house import UNLATCH

ROUNDS = 11  # unlockings; each begins with pulling the card out, which pcscd notices after half a second
WITH_PARSER = "import sys; from unlatch.cli.main import main; sys.argv = ['unlatch', 'card', 'check']; main()"


def measure_unlocking(house: CardHouse) -> list[Row]:
    """From the PIN to the card's own word that it is unlocked; the person answers at once."""
    times = []
    child = house.start(sys.executable, Path(__file__), "unlock", PYTHONPATH=os.environ["PYTHONPATH"])
    assert child.stdout is not None
    for _ in range(ROUNDS):
        house.reader.replug()
        house.run("gpg-connect-agent", "SCD SERIALNO", "/bye")  # the new card is read once, by whoever comes first
        with (house.root / "go").open("w") as go:
            go.write("go\n")
        times.append(float(child.stdout.readline()))
    child.kill()
    return [Row("card unlock, from the PIN to the card's word", statistics.median(times), "ms", 10.0)]


def unlock_when_told(house: Path) -> None:
    """The child: unlock for each line that comes through the pipe ``go``, and print the milliseconds."""
    from unlatch.frontends.asking import StandardInput, Wanted
    from unlatch.gnupg.agent import Agent
    from unlatch.gnupg.card_unlock import unlock, visits
    from unlatch.gnupg.homes import Home
    from unlatch.secret import Secret

    class AtOnce(StandardInput):
        asked = 0.0

        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:  # noqa: ARG002
            self.asked = time.monotonic()
            return Secret(PIN)

    home, person = Home.find(os.environ, os.getuid(), str(house)), AtOnce()
    while (house / "go").read_text():
        unlock(visits(lambda: Agent.open(home), "", home.directory), person)
        print((time.monotonic() - person.asked) * 1000, flush=True)


def measure_check(house: CardHouse) -> list[Row]:
    """The whole process, in turn with bare Python and with the parser of all other commands."""
    commands = {"bare": BARE, "check": (str(UNLATCH), "card", "check"), "parser": (sys.executable, "-c", WITH_PARSER)}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(STARTS):
        for name, command in commands.items():
            times[name].append(milliseconds_to_end(house, command))
    bare, check, parser = (statistics.median(times[name]) for name in commands)
    return [
        Row("bare Python, in the card's namespace", bare, "ms"),
        Row("card check, whole process", check, "ms"),
        Row("card check, whole process, against bare Python", check / bare, "x"),
        Row("card check, after Python's own start", check - bare, "ms", 50.0),
        Row("card check, if it started as all others do", parser, "ms"),
    ]


def milliseconds_to_end(house: CardHouse, command: tuple[str, ...]) -> float:
    """From fork to exit, inside."""
    with house.pcsc.place.births():
        start = time.monotonic()
        subprocess.run(
            [*house.pcsc.place.enter, *command], env=house.environ(), cwd="/", check=True, stdin=subprocess.DEVNULL
        )
    return (time.monotonic() - start) * 1000


def main() -> None:
    """Measure everything once."""
    pcsc = PCSC()
    card = Card()
    for slot, algorithm in (("sign", "ed25519"), ("decrypt", "cv25519"), ("auth", "ed25519")):
        card.generate(slot, algorithm)
    house = CardHouse(pcsc, card)
    os.mkfifo(house.root / "go")
    try:
        house.run("gpgconf", "--launch", "gpg-agent")
        bare = statistics.median(milliseconds_to_end(house, BARE) for _ in range(STARTS))
        show(measure_unlocking(house), bare)
        show(measure_check(house), bare)
    finally:
        house.clear()
        pcsc.close()


if __name__ == "__main__":
    if "unlock" in sys.argv:
        unlock_when_told(Path(os.environ["HOME"]))
    else:
        main()
