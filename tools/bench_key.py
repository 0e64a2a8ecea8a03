"""What keys in software cost: the check in front of jobs, and unlocking without the human. Part of `make bench`.

The check is measured as a job runs it, a whole process each time, interleaved with bare Python.
"""

import statistics
import subprocess
import time

from bench import BARE, STARTS, Row, milliseconds_to_end, show
from house import UNLATCH, House
from software_keys import FIRST, PRESET, YEARS, SoftwareKeys

from unlatch.gnupg import keys
from unlatch.gnupg.gate import Watch
from unlatch.secret import Secret

ROUNDS = 40


def milliseconds_to_check(home: SoftwareKeys, *what: str) -> float:
    """From fork to exit of ``unlatch key check``, which must find the key unlocked."""
    start = time.monotonic()
    subprocess.run([UNLATCH, "key", "check", *what], check=True, env=home.house.environ(), stdin=subprocess.DEVNULL)
    return (time.monotonic() - start) * 1000


def measure_checks(home: SoftwareKeys) -> tuple[list[Row], float]:
    """Each goal is 50 ms after Python's own start."""
    grip = home.grips("a@x")[0]
    times: dict[str, list[float]] = {"bare": [], "keygrip": [], "address": []}
    for _ in range(STARTS):
        times["bare"].append(milliseconds_to_end(BARE))
        times["keygrip"].append(milliseconds_to_check(home, grip))
        times["address"].append(milliseconds_to_check(home, "a@x"))
    bare, by_grip, by_address = (statistics.median(taken) for taken in times.values())
    rows = [
        Row("bare Python: python -I -c pass", bare, "ms"),
        Row("key check, by keygrip", by_grip, "ms", 50.0 + bare),
        Row("key check, by address (asks gpg)", by_address, "ms", 50.0 + bare),
    ]
    return rows, bare


def measure_unlocking(home: SoftwareKeys) -> list[Row]:
    """From the answer to the proof, and a look of a waiting gate; the key's own derivation is made cheap here."""
    grip = home.grips("a@x")[0]
    unlocking, looking = [], []
    with home.agent() as agent, Watch(home.agent, [grip], interval=3600.0) as watch:
        watch.wait(10.0)
        for _ in range(ROUNDS):
            keys.clear(agent, grip)
            start = time.monotonic()
            keys.verify(agent, grip, Secret(FIRST))
            keys.keep(agent, grip, Secret(FIRST))
            unlocking.append((time.monotonic() - start) * 1000)
            start = time.monotonic()
            keys.agent_key(agent, grip)
            looking.append((time.monotonic() - start) * 1000)
    return [
        Row("unlock a key: verify, preset, prove", statistics.median(unlocking), "ms", 10.0),
        Row("one look of a gate that waits", statistics.median(looking), "ms", 1.0),
    ]


def main() -> None:
    """Measure everything once."""
    house = House()
    try:
        home = SoftwareKeys(house, PRESET + YEARS)
        home.make("a@x")
        done = home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)
        assert done[0] == 0, done
        rows, bare = measure_checks(home)
        show(rows, bare)
        show(measure_unlocking(home), bare)
    finally:
        house.clear()


if __name__ == "__main__":
    main()
