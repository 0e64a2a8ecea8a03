"""What a ring over Matrix costs: from gpg-agent's GETPIN to a message that another client of the homeserver sees.

The second half of `make bench`. The same message by matrix-nio, in a cold process of the same run, is what it is
compared with; both are seen by the same watcher, which waits in a sync and so sees an event a few milliseconds after
Synapse has accepted it. Our message is two events: the first sounds, the second brings the link (matrix/events.py).
"""

import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bench import BARE, STARTS, Bench, Row, milliseconds_to_end, resident, show
from house import House
from matrix.bot import Bot
from matrix.phone import MatrixPhone, Phones
from matrix.synapse import Synapse, User
from waiting import until

ROUNDS = 7
NIO = Path(".make/nio/bin/python")
SENDER = Path(__file__).with_name("nio_send.py")
MATRIX = '[people.admin]\nusers = ["*"]\nnotify = ["matrix"]\n[notify.matrix]\nmatrix = "{state}"\n'


class Seen(NamedTuple):
    """When something was seen, by CLOCK_MONOTONIC in seconds, and its id."""

    at: float
    event_id: str


class Watcher:
    """A plain client in the room: notes when encrypted events arrive."""

    def __init__(self, synapse: Synapse, user: User, room: str) -> None:
        self._synapse = synapse
        self._room = room
        self._token = synapse.login(user, "watcher")["access_token"]
        self._since = self._sync(0)["next_batch"]
        self.seen: list[Seen] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def first_after(self, moment: float) -> Seen:
        """The first event after a moment; waits for it."""
        return until(lambda: [seen for seen in self.seen if seen.at > moment], "an event")[0]

    def _watch(self) -> None:
        while True:
            try:
                said = self._sync(20_000)
            except (OSError, AssertionError, ValueError):  # the homeserver ends with the bench
                return
            now = time.monotonic()
            self._since = said["next_batch"]
            timeline = said.get("rooms", {}).get("join", {}).get(self._room, {}).get("timeline", {})
            self.seen += [Seen(now, event["event_id"]) for event in timeline.get("events", []) if _encrypted(event)]

    def _sync(self, milliseconds: int) -> dict[str, Any]:
        query = {"timeout": str(milliseconds)} | ({"since": self._since} if hasattr(self, "_since") else {})
        return self._synapse.call("GET", f"/_matrix/client/v3/sync?{urlencode(query)}", None, self._token)


class Place:
    """A homeserver, one room with the admin's phone, ours and theirs in it, and the watcher."""

    def __init__(self, house: House) -> None:
        self.synapse = Synapse()
        self.phones: Phones | None = None
        self._nio = tempfile.TemporaryDirectory(prefix="unlatch-nio-")
        try:
            self.synapse.start()
            self.synapse.wait()
            self.phones = Phones()
            self._fill(house, self.phones.new())
        except BaseException:
            self.close()
            raise

    def _fill(self, house: House, phone: MatrixPhone) -> None:
        admin, theirs = self.synapse.register(), self.synapse.register()
        master_key = phone.login(self.synapse, admin)
        bot = Bot(self.synapse, house.root / "matrix")
        room = phone.create(bot.user.user_id, theirs.user_id)
        bot.set_up(room, {phone.user_id: master_key})
        self.state = bot.state
        words = ["login", self._nio.name, self.synapse.url, theirs.user_id, theirs.password, room]
        subprocess.run([NIO, SENDER, *words], check=True, capture_output=True)
        self.watcher = Watcher(self.synapse, admin, room)

    def send_with_nio(self, text: str) -> tuple[float, float]:
        """Milliseconds from exec until the watcher saw it, and the process's largest size in MiB."""
        begun = time.monotonic()
        done = subprocess.run([NIO, SENDER, "send", self._nio.name, text], check=True, capture_output=True, text=True)
        said = json.loads(done.stdout)
        seen = until(lambda: [one for one in self.watcher.seen if one.event_id == said["event_id"]], "nio's event")
        return (seen[0].at - begun) * 1000, said["mib"]

    def close(self) -> None:
        """End it all."""
        if self.phones is not None:
            self.phones.close()
        self.synapse.close()
        self._nio.cleanup()


def _encrypted(event: dict[str, Any]) -> bool:
    return event.get("type") == "m.room.encrypted" and "ciphertext" in event["content"]


class Round(NamedTuple):
    """Milliseconds until a message sounded, until its link was there, and matrix-nio's; MiB of broker and of nio."""

    cold: float
    cold_link: float
    warm: float
    warm_link: float
    broker: float
    nio: float
    nio_size: float


def ring(bench: Bench, place: Place, number: int) -> tuple[float, float]:
    """Ask, see the message, withdraw; milliseconds until it sounded and until its link was there."""
    begun = time.monotonic()
    asker = bench.pinentry(number)
    sounded = place.watcher.first_after(begun)
    linked = place.watcher.first_after(sounded.at)
    asker.communicate(b"BYE\n", timeout=20)
    place.watcher.first_after(linked.at)  # its end: nothing of it is on its way any more
    return (sounded.at - begun) * 1000, (linked.at - begun) * 1000


def measure_round(bench: Bench, place: Place, number: int) -> Round:
    """A ring by a broker that has to be started, one by the same broker, and one by matrix-nio."""
    cold = ring(bench, place, 2 * number)
    warm = ring(bench, place, 2 * number + 1)
    (broker,) = bench.house.brokers()
    size = resident(broker)
    bench.stop_broker()
    return Round(*cold, *warm, size, *place.send_with_nio("web03: Unlock the key\namber canal, until 08:00 UTC"))


def rows(rounds: list[Round]) -> list[Row]:
    """The medians."""
    median = Round(*(statistics.median(column) for column in zip(*rounds, strict=True)))
    return [
        Row("matrix-nio, cold process: one event", median.nio, "ms"),
        Row("matrix-nio, largest resident", median.nio_size, "MiB"),
        Row("GETPIN to message, broker cold", median.cold, "ms", 500.0),
        Row("GETPIN to message, broker cold, against matrix-nio", median.cold / median.nio, "x", 0.25),
        Row("GETPIN to link, broker cold", median.cold_link, "ms"),
        Row("GETPIN to message, broker warm", median.warm, "ms", 200.0),
        Row("GETPIN to link, broker warm", median.warm_link, "ms"),
        Row("broker with Matrix, resident", max(each.broker for each in rounds), "MiB", 60.0),
    ]


def main() -> None:
    """Measure everything once."""
    house = House()
    bench = Bench(house)
    place = Place(house)
    try:
        # No look at the page first: there is no proxy here, and what a name server takes to say no is not ours.
        house.settings.write_text(f"probe = false\n{house.settings.read_text()}{MATRIX.format(state=place.state)}")
        bare = statistics.median(milliseconds_to_end(BARE) for _ in range(STARTS))
        show([Row("bare Python: python -I -c pass", bare, "ms")], bare)
        show(rows([measure_round(bench, place, number) for number in range(ROUNDS)]), bare)
    finally:
        house.clear()
        place.close()


if __name__ == "__main__":
    main()
