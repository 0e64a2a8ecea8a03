"""What a login costs, by a real sshd in a whole Debian that has the package. Part of `make bench`.

The same login with pam_permit.so is what there was before, interleaved. What the person's own gpg needs to decrypt is
no cost of the host, so it is taken off and shown by itself.
"""

import statistics
import tempfile
import time
from pathlib import Path

from bench import BARE, Row, milliseconds_to_end, show
from login_house import IN, LoginHouse
from machine import machine
from packages import Packages

LOGINS = 25  # of each kind
ALONE, CROWD = 60, 200  # challenges, one after the other and eight at once
AT_ONCE = 8
CLIENT = Path(__file__).with_name("challenged.py")
PERMIT = "auth required pam_permit.so"
OURS = "auth required pam_unlatch.so"


def milliseconds_to_be_let_in(house: LoginHouse, *, challenged: bool) -> tuple[float, float]:
    """From ssh's start to its end, less what the person took; and what the person took."""
    person = 0.0
    start = time.monotonic()
    with house.ssh("alice") as terminal:
        if challenged:
            terminal.expect("Response: ")
            shown = time.monotonic()
            response = house.alice.read(terminal.screen).response
            person = time.monotonic() - shown
            terminal.type(f"{response}\n")
        code = terminal.end()
        taken = time.monotonic() - start - person
        assert code == 0, terminal.screen
        assert f"{IN} alice" in terminal.screen
    return taken * 1000, person * 1000


def measure_logins(house: LoginHouse) -> list[Row]:
    """The same sshd, the same user, by turns; /etc/pam.d/sshd is read anew for each login."""
    permit, ours, people = [], [], []
    for _ in range(LOGINS):
        house.stack("sshd", PERMIT)
        permit.append(milliseconds_to_be_let_in(house, challenged=False)[0])
        house.stack("sshd", OURS)
        taken, person = milliseconds_to_be_let_in(house, challenged=True)
        ours.append(taken)
        people.append(person)
    before, after = statistics.median(permit), statistics.median(ours)
    return [
        Row("login by ssh with pam_permit.so", before, "ms"),
        Row("login by ssh with the right response", after, "ms"),
        Row("what the challenge adds", after - before, "ms"),
        Row("with the challenge, against pam_permit.so", after / before, "x"),
        Row("the person's own gpg --decrypt, not counted above", statistics.median(people), "ms"),
    ]


def measure_challenges(house: LoginHouse) -> list[Row]:
    """From a module's first packet to its prompt, without sshd."""
    house.machine.copy(CLIENT, "/tmp/challenged.py")
    rows = []
    for count, at_once in ((ALONE, 1), (CROWD, AT_ONCE)):
        words = ("/usr/lib/unlatch/bin/python3", "-I", "/tmp/challenged.py", str(count), str(at_once))
        seconds = float(house.machine.run(*words).out)
        rows.append(Row(f"challenges, {at_once} at once", count / seconds, "/s"))
    return rows


def main() -> None:
    """Measure everything once."""
    bare = statistics.median(milliseconds_to_end(BARE) for _ in range(9))
    with tempfile.TemporaryDirectory() as directory, machine(systemd=True) as made:
        house = LoginHouse(made, Packages(Path(directory, "packages")))
        try:
            show([Row("bare Python: python -I -c pass", bare, "ms")], bare)
            show(measure_logins(house), bare)
            show(measure_challenges(house), bare)
        finally:
            house.close()


if __name__ == "__main__":
    main()
