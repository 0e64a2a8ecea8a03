"""What Unlatch costs, measured in one run: `make bench`.

Times are also given as multiples of what bare Python needs to start on this machine at this moment, because on a shared
machine only ratios can be trusted. A missed goal is printed as such and is no error.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from answerer import Page, UnixHTTP
from house import PINENTRY, PUBLIC_URL, UNLATCH, House
from real import real
from waiting import until

STARTS = 25  # samples of each program's start, interleaved
ANSWERS = 40  # real pinentries answered one after the other
CROWD_ANSWERS = 200
COLD_STARTS = 7
CROWDS = (1_000, 10_000)
QUIET_SECONDS = 3.0  # how long a waiting asker is watched for wake-ups
# Nobody is rung: no notifier takes part in what is measured.
SETTINGS = 'public_url = "{url}/"\nlisten = "unix:{page}"\n[quota]\nopen = 100000\nrings = 100000\n'
BARE = (sys.executable, "-I", "-c", "pass")


class Row(NamedTuple):
    """One line of the table. ``goal`` is an upper bound in the same unit, or None where there is none."""

    name: str
    value: float
    unit: str
    goal: float | None = None


class PhonePage(Page):
    """A page on a connection that is kept alive, as a browser's is; remembers when the answer was posted."""

    def __init__(self, link: str, place: Path) -> None:
        super().__init__(link, place)
        self.posted = 0  # nanoseconds, CLOCK_MONOTONIC
        self._connection = UnixHTTP(place)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request; "answer" is the one whose way is measured."""
        if path.endswith("/answer"):
            self.posted = time.monotonic_ns()
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


class Bench:
    """An isolated place with settings for ten thousand prompts, and real pinentries to measure in it."""

    def __init__(self, house: House) -> None:
        self.house = house
        house.settings.write_text(SETTINGS.format(url=PUBLIC_URL, page=house.page))
        self.askers = house.runtime / "askers" / "broker.sock"

    def pinentry(self, number: int = 0) -> "subprocess.Popen[bytes]":
        """A real pinentry that has been asked for the passphrase of the key with this number."""
        asker = subprocess.Popen(
            [PINENTRY], env=self.house.environ(), cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert asker.stdin is not None
        asker.stdin.write(b"SETKEYINFO n/%040X\nSETDESC Please unlock\nGETPIN\n" % number)
        asker.stdin.flush()
        return asker

    def links(self) -> list[str]:
        """The links of all open prompts; none while no broker runs."""
        try:
            prompts = self.house.ask_admin({"op": "list"})["prompts"]
        except OSError:
            return []
        return [f"{PUBLIC_URL}/{prompt['ticket']}#{prompt['fragment']}" for prompt in prompts]

    def has_open(self, count: int) -> bool:
        """Are exactly so many prompts open?"""
        return len(self.links()) == count

    def stop_broker(self) -> None:
        """End the broker, so that the next asker starts a fresh one."""
        for broker in self.house.brokers():
            self.house.end(broker)

    @contextlib.contextmanager
    def pinentries(self, count: int) -> Iterator[tuple[list["subprocess.Popen[bytes]"], list[str]]]:
        """Real pinentries that wait, and the links of their prompts."""
        askers = [self.pinentry(number) for number in range(count)]
        try:
            until(partial(self.has_open, count), "the prompts", 60)
            yield askers, self.links()
        finally:
            for asker in askers:
                asker.communicate(b"BYE\n", timeout=20)

    @contextlib.contextmanager
    def crowd(self, count: int) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
        """Open prompts of another process, and the links of a sample of them."""
        script = Path(__file__).with_name("crowd.py")
        crowd = subprocess.Popen(
            [sys.executable, script, self.askers, str(count), str(CROWD_ANSWERS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.house.environ(),
        )  # fmt: skip
        try:
            assert crowd.stdout is not None
            pairs = json.loads(crowd.stdout.readline())
            yield crowd, [f"{PUBLIC_URL}/{ticket}#{fragment}" for ticket, fragment in pairs]
        finally:
            crowd.communicate(timeout=30)


def measure_starts(house: House) -> list[Row]:
    """From exec to the greeting, against a bare Python and against the pinentry that people had before."""
    curses = real("pinentry-curses")
    ours, theirs, python = [], [], []
    for _ in range(STARTS):
        python.append(milliseconds_to_end(BARE))
        ours.append(milliseconds_to_line((str(PINENTRY),), house))
        theirs.append(milliseconds_to_line((curses,), house))
    bare, greeting = statistics.median(python), statistics.median(ours)
    return [
        Row("greeting, against bare Python", greeting / bare, "x", 1.0),
        Row("greeting, against pinentry-curses", greeting / statistics.median(theirs), "x"),
        Row("greeting", greeting, "ms"),
    ]


def measure_cold_start(bench: Bench) -> list[Row]:
    """From exec to a registered prompt when no broker runs yet: one asker, and twenty at once."""
    rows = []
    for count, goal in ((1, 200.0), (20, 450.0)):
        times = []
        for _ in range(COLD_STARTS):
            start = time.monotonic()
            with bench.pinentries(count):
                times.append((time.monotonic() - start) * 1000)
                assert len(bench.house.brokers()) == 1
            bench.stop_broker()
        name = "one asker" if count == 1 else f"{count} askers at once"
        rows.append(Row(f"cold start to registered, {name}", statistics.median(times), "ms", goal))
    return rows


def measure_waiting(bench: Bench) -> list[Row]:
    """What a waiting asker and a broker with one prompt hold, and whether the asker wakes up while it waits."""
    with bench.pinentries(1) as ((asker,), (link,)):
        page = PhonePage(link, bench.house.page)
        page.view()
        (broker,) = bench.house.brokers()
        time.sleep(1.0)  # the asker's warm-up and the broker's first page are over
        before = context_switches(asker.pid)
        time.sleep(QUIET_SECONDS)
        wakes = (context_switches(asker.pid) - before) / QUIET_SECONDS
        return [
            Row("waiting asker, resident", resident(asker.pid), "MiB", 22.0),
            Row("waiting asker, wake-ups", wakes, "/s", 0.0),
            Row("broker with one prompt, resident", resident(broker), "MiB"),
            Row("page, gzipped, in one request", page_kibibytes(page), "KiB", 12.0),
        ]


def measure_idle_broker(bench: Bench) -> list[Row]:
    """A broker that runs but was never asked anything."""
    with subprocess.Popen([UNLATCH, "serve"], env=bench.house.environ(), stderr=subprocess.PIPE) as serving:
        assert serving.stderr is not None
        serving.stderr.readline()  # it says when it waits for prompts
        row = Row("broker idle, resident", resident(serving.pid), "MiB", 26.0)
        serving.terminate()
    return [row]


def measure_answers(askers: list["subprocess.Popen[bytes]"], pages: list[PhonePage], among: str) -> list[Row]:
    """The way of an answer through broker and asker to gpg-agent's side of the pipe; a fresh process each time."""
    times = [time_to_d_line(askers, page) for page in pages]
    return [
        Row(f"posted answer to D line{among}, p50", statistics.median(times), "ms", 4.0),
        Row(f"posted answer to D line{among}, p90", statistics.quantiles(times, n=10)[8], "ms", 10.0),
    ]


def measure_alone(bench: Bench) -> list[Row]:
    """Answers while hardly anybody else waits."""
    with bench.pinentries(ANSWERS) as (askers, links):
        return measure_answers(askers, [PhonePage(link, bench.house.page) for link in links], "")


def measure_crowd(bench: Bench, count: int) -> list[Row]:
    """Many open prompts on one broker: what each holds, and what an answer takes among them."""
    with bench.pinentries(ANSWERS) as (askers, real_links):
        (broker,) = bench.house.brokers()
        before = resident(broker)
        with bench.crowd(count) as (crowd, links):
            each = (resident(broker) - before) * 1024 / count
            times = [time_through_crowd(crowd, PhonePage(link, bench.house.page)) for link in links]
            percentiles = statistics.quantiles(times, n=100)
            rows = [
                Row(f"{count:,} waiting: broker, resident each", each, "KiB", 6.0),
                Row(f"{count:,} waiting: answer to asker, p50", percentiles[49], "ms"),
                Row(f"{count:,} waiting: answer to asker, p99", percentiles[98], "ms"),
            ]
            pages = [PhonePage(link, bench.house.page) for link in real_links]
            rows += measure_answers(askers, pages, f", {count:,} waiting")
    bench.stop_broker()
    return rows


def time_to_d_line(askers: list["subprocess.Popen[bytes]"], page: PhonePage) -> float:
    """Milliseconds from a posted answer to the `D` line of the pinentry that asked."""
    page.view()
    assert page.prompt is not None
    assert page.prompt.key is not None
    output = askers[int(page.prompt.key.grip, 16)].stdout
    assert output is not None
    page.unlock(b"correct horse battery staple")
    while not output.readline().startswith(b"D "):
        pass
    return (time.monotonic_ns() - page.posted) / 1e6


def time_through_crowd(crowd: "subprocess.Popen[str]", page: PhonePage) -> float:
    """Milliseconds from a posted answer to the asker's socket."""
    assert crowd.stdout is not None
    page.view()
    page.unlock(b"correct horse battery staple")
    ticket, arrived = crowd.stdout.readline().split()
    assert ticket == page.link.ticket_text
    return (int(arrived) - page.posted) / 1e6


def page_kibibytes(page: PhonePage) -> float:
    """The size of the document as it travels."""
    assert isinstance(page.place, Path)
    connection = UnixHTTP(page.place)
    connection.request("GET", f"/{page.link.ticket_text}", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.headers["Content-Encoding"] == "gzip"
    return len(response.read()) / 1024


def milliseconds_to_end(command: tuple[str, ...]) -> float:
    """From fork to exit."""
    start = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return (time.monotonic() - start) * 1000


def milliseconds_to_line(command: tuple[str, ...], house: House) -> float:
    """From fork to the first line of output."""
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=house.environ()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        elapsed = (time.monotonic() - start) * 1000
        process.communicate(b"BYE\n", timeout=20)
    return elapsed


def resident(pid: int) -> float:
    """Resident memory in MiB (proc(5), VmRSS): shared pages count in full."""
    return status_number(pid, "VmRSS") / 1024


def context_switches(pid: int) -> int:
    """How often the process went to sleep so far: once for each time that it woke up."""
    return status_number(pid, "voluntary_ctxt_switches")


def status_number(pid: int, field: str) -> int:
    """One number of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def verdict(row: Row) -> str:
    """Whether the goal was met, in words."""
    if row.goal is None:
        return ""
    if row.value <= row.goal:
        return "met"
    return f"missed by {100 * (row.value / row.goal - 1):.0f} %" if row.goal else "missed"


def show(rows: list[Row], bare: float) -> None:
    """Print rows as they come, so that a run that is stopped has said something."""
    for row in rows:
        multiple = f"{row.value / bare:6.2f} x bare" if row.unit == "ms" else ""
        goal = "" if row.goal is None else f"<= {row.goal:g}"
        print(f"{row.name:<52}{row.value:9.2f} {row.unit:<4}{multiple:<14}{goal:>9}  {verdict(row)}", flush=True)


def main() -> None:
    """Measure everything once."""
    house = House()
    started = time.monotonic()
    try:
        bench = Bench(house)
        bare = statistics.median(milliseconds_to_end(BARE) for _ in range(STARTS))
        show([Row("bare Python: python -I -c pass", bare, "ms")], bare)
        show(measure_starts(house), bare)
        show(measure_idle_broker(bench), bare)
        show(measure_cold_start(bench), bare)
        show(measure_waiting(bench), bare)
        show(measure_alone(bench), bare)
        bench.stop_broker()
        for count in CROWDS:
            show(measure_crowd(bench, count), bare)
    finally:
        house.clear()
    print(f"measured in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
