"""Notifiers, each held to the same contract, and the ringer that drives them side by side."""

import asyncio
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from notifier_contract import ENDED, FRAGMENT, LINK, NOON, NOTICE, NotifierContract, run
from waiting import until

from unlatch.broker import ringing
from unlatch.broker.notice import Notice
from unlatch.broker.ringing import Ringer
from unlatch.notify import NotDelivered, Notifier, NotYet
from unlatch.notify.command import CommandNotifier
from unlatch.notify.terminal import Login, TerminalNotifier


class TestTerminal(NotifierContract):
    """The notifier of a broker in the foreground."""

    @pytest.fixture(autouse=True)
    def stream(self) -> None:
        self.output = io.StringIO()

    def make(self, *, over_ssh: bool = False) -> Notifier:
        return TerminalNotifier(self.output, Login("root", "web03", over_ssh), wall_clock=lambda: NOON)

    def told(self) -> str:
        return self.output.getvalue()

    def make_broken(self) -> Notifier:
        hung_up = io.StringIO()
        hung_up.close()
        return TerminalNotifier(hung_up, Login("root", "web03", False))

    @pytest.mark.parametrize("over_ssh", [True, False])
    def test_over_ssh_it_says_how_to_reach_the_page(self, over_ssh: bool) -> None:
        """A loopback address is another machine's to the person at the other end of ssh."""
        run(self.make(over_ssh=over_ssh).ring(NOTICE))
        assert ("ssh -L 8420:localhost:8420 root@web03" in self.told()) is over_ssh

    def test_a_qr_code_is_for_addresses_that_a_phone_can_reach(self) -> None:
        """None for loopback; for others the code is there, and no ssh line."""
        run(self.make(over_ssh=True).ring(NOTICE))
        assert "█" not in self.told()
        run(self.make(over_ssh=True).ring(NOTICE._replace(link="https://unlock.example.org/x#y")))
        assert "█" in self.told()
        assert self.told().count("ssh -L") == 1

    def test_what_an_asker_wrote_cannot_steer_the_terminal(self) -> None:
        """Escapes, newlines and reversed writing are shown as question marks."""
        run(self.make().ring(NOTICE._replace(title="\x1b]0;owned\x07", command="a\nb", user="\u202eevil")))
        assert "\x1b" not in self.told()
        assert "?]0;owned?" in self.told()
        assert "a?b" in self.told()
        assert "\u202e" not in self.told()

    def test_the_end_is_one_line(self) -> None:
        """How it ended, and for whom."""
        run(self.make().end(ENDED, "accepted"))
        assert self.told() == "accepted: backup@web03, pass: asks for a passphrase\n"


RECORDER = """
import json, os, sys
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({"argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(), "pgid": os.getpgrp(),
                           "pid": os.getpid(), "message": json.loads(sys.stdin.read())}) + "\\n")
print("noise", LINK := "x" * 100_000)
"""


class TestCommand(NotifierContract):
    """The notifier that runs a program."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, *command: str, **environ: str) -> CommandNotifier:
        words = command or (sys.executable, "-I", "-c", RECORDER, str(self.folder / "told"))
        return CommandNotifier("phone", words, environ=environ, wall_clock=lambda: NOON)

    def told(self) -> str:
        return "\n".join(json.dumps(one["message"]) for one in self.records())

    def make_broken(self) -> Notifier:
        return self.make("/bin/sh", "-c", "cat >&2; exit 7")

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "told").read_text().splitlines()]

    def test_the_message_is_the_protocols(self) -> None:
        """Exactly the fields of docs/protocol.md section 6."""
        notifier = self.make()
        run(notifier.ring(NOTICE))
        run(notifier.end(ENDED, "denied"))
        ring, end = (one["message"] for one in self.records())
        assert ring == {
            "event": "ring", "id": "0123456789ab", "link": LINK, "words": ["amber", "canoe"], "host": "web03",
            "user": "backup", "uid": 34, "person": "zoe", "kind": "passphrase", "title": "Unlock the key of sql-root",
            "text": "", "command": "pass", "unit": "backup.service", "expires": "2001-09-09T01:47:40Z", "quiet": False,
            "outcome": "", "more": [], "page_trouble": "",
        }  # fmt: skip
        assert (end["event"], end["link"], end["outcome"]) == ("end", "", "denied")

    def test_the_program_knows_little_of_the_broker(self) -> None:
        """A fixed path, home and credentials; no link in its arguments; its own session; the root directory."""
        run(self.make(HOME="/h", LANG="C", CREDENTIALS_DIRECTORY="/c", NOTIFY_SOCKET="/n", PATH="/evil").ring(NOTICE))
        (record,) = self.records()
        environ = {key: value for key, value in record["environ"].items() if key != "LC_CTYPE"}  # Python's own
        assert environ == {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/h", "LANG": "C", "CREDENTIALS_DIRECTORY": "/c",
        }  # fmt: skip
        assert FRAGMENT not in str(record["argv"])
        assert record["cwd"] == "/"
        assert record["pgid"] == record["pid"]

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            (("/bin/sh", "-c", "exit 7"), "failed with exit status 7"),
            (("/bin/sh", "-c", "kill -9 $$"), "was killed by signal 9"),
            (("/nonexistent/program",), "cannot be started: No such file or directory"),
            (("/etc/passwd",), "cannot be started: Permission denied"),
        ],
    )
    def test_each_failure_has_its_words(self, command: tuple[str, ...], why: str) -> None:
        """What the status shows."""
        with pytest.raises(NotDelivered) as failure:
            run(self.make(*command).ring(NOTICE))
        assert failure.value.why == why

    def test_a_program_that_reads_nothing_may_succeed(self) -> None:
        """Its standard input is closed under our hands, which is its own affair."""
        run(self.make("/bin/true").ring(NOTICE._replace(text="x" * 4096)))

    def test_at_the_time_limit_the_whole_group_is_killed(self) -> None:
        """Children of the program die with it."""
        pids = self.folder / "pids"
        script = f"sleep 1000 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"

        async def story() -> None:
            task = asyncio.ensure_future(self.make("/bin/sh", "-c", script).ring(NOTICE))
            while not pids.exists():
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

        run(story())
        for pid in pids.read_text().split():
            until(lambda pid=pid: not _is_alive(pid), "the end of the group")  # type: ignore[misc]


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"  # init may be slow to reap
    except FileNotFoundError:
        return False


class Recorder:
    """A notifier that fails as often as told, takes as long as told, and notes what it was asked."""

    end_to_end = True

    def __init__(self, name: str, failures: int = 0, hang: bool = False) -> None:
        self.name = name
        self.calls: list[str] = []
        self.failures = failures
        self.hang = hang

    async def ring(self, notice: Notice) -> None:
        await self._call("quiet ring" if notice.quiet else "ring")

    async def remind(self, notice: Notice) -> None:
        await self._call("remind")

    async def end(self, notice: Notice, outcome: str) -> None:
        await self._call(outcome)

    async def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.hang:
            await asyncio.Event().wait()
        if self.failures:
            self.failures -= 1
            raise NotDelivered("no luck")


class Desk:
    """A ringer, and what it reported."""

    def __init__(self, *notifiers: Recorder, seconds: float = 10.0) -> None:
        self.reports: list[tuple[str, bool, str]] = []
        self.ringer = Ringer(lambda _, name, delivered, why: self.reports.append((name, delivered, why)))
        for notifier in notifiers:
            self.ringer.add(notifier, "recorder", seconds)

    async def quiet(self) -> None:
        """Wait until nothing is left to be said."""
        while self.ringer.busy:
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(ringing, "BACKOFF", (0.001,))


def ring(desk: Desk, *names: str, **changes: Any) -> None:
    desk.ringer.ring("p", NOTICE._replace(**changes), names)


def test_notifiers_ring_side_by_side() -> None:
    """One that hangs holds up nobody; its time is cut and its excuse reported."""

    async def story() -> None:
        good, hanging = Recorder("good"), Recorder("hanging", hang=True)
        desk = Desk(good, hanging, seconds=0.05)
        ring(desk, "hanging", "good")
        while ("hanging", False, "took longer than 0.05 s") not in desk.reports:
            await asyncio.sleep(0.01)
        assert desk.reports[0] == ("good", True, "")
        await desk.ringer.close(0.1)

    run(story())


def test_a_ring_is_tried_until_it_gets_through() -> None:
    """Each try is reported, and the status has the sums."""

    async def story() -> None:
        notifier = Recorder("phone", failures=5)
        desk = Desk(notifier)
        ring(desk, "phone")
        await desk.quiet()
        assert desk.reports == [("phone", False, "no luck")] * 5 + [("phone", True, "")]
        (row,) = desk.ringer.status()
        assert (row["delivered"], row["failed"], row["why"]) == (1, 5, "")

    run(story())


def test_the_end_overtakes_a_ring_that_does_not_get_through() -> None:
    """No link is sent after the prompt is over; where a try may have been heard, the end is told all the same."""

    async def story() -> None:
        notifier, unheard = Recorder("phone", failures=10**9), Recorder("unheard")
        desk = Desk(notifier, unheard)
        ring(desk, "phone")
        while len(notifier.calls) < 3:
            await asyncio.sleep(0)
        desk.ringer.end("p", ENDED, (), "withdrawn")
        await desk.quiet()
        last_ring = max(number for number, call in enumerate(notifier.calls) if call == "ring")
        assert notifier.calls[last_ring + 1 :] == ["withdrawn"] * ringing.MOST_TRIES["end"]
        assert unheard.calls == []

    run(story())


def test_messages_about_one_prompt_keep_their_order() -> None:
    """Ring, end, quiet ring of the next prompt: said one after the other, the newest last."""

    async def story() -> None:
        notifier = Recorder("phone")
        desk = Desk(notifier)
        ring(desk, "phone")
        await desk.quiet()
        desk.ringer.end("p", ENDED, ("phone",), "withdrawn")
        await asyncio.sleep(0)
        ring(desk, "phone", quiet=True)
        await desk.quiet()
        assert notifier.calls in (["ring", "withdrawn", "quiet ring"], ["ring", "quiet ring"])

    run(story())


def test_a_reminder_does_not_replace_a_ring_that_nobody_heard() -> None:
    """What is still to be said is the ring itself."""

    async def story() -> None:
        notifier = Recorder("phone", failures=3)
        desk = Desk(notifier)
        ring(desk, "phone")
        desk.ringer.remind("p", NOTICE, ("phone",))
        await desk.quiet()
        assert notifier.calls == ["ring"] * 4
        desk.ringer.remind("p", NOTICE, ("phone",))
        await desk.quiet()
        assert notifier.calls[-1] == "remind"

    run(story())


def test_a_notifiers_own_mistake_is_its_own() -> None:
    """An unforeseen exception is a failed try; its text, which may hold the link, is not told."""

    class Mistaken(Recorder):
        async def ring(self, notice: Notice) -> None:
            raise ValueError(notice.link)

    async def story() -> None:
        desk = Desk(Mistaken("bad"))
        ring(desk, "bad")
        while not desk.reports:
            await asyncio.sleep(0)
        assert desk.reports[0] == ("bad", False, "failed: ValueError")
        await desk.ringer.close(0.1)

    run(story())


def test_what_is_put_off_is_no_failure() -> None:
    """A notifier may choose to say it later: it is asked again, and nobody is told of a failure."""

    class Slow(Recorder):
        async def ring(self, notice: Notice) -> None:
            await super().ring(notice)
            if len(self.calls) < 3:
                raise NotYet("in a minute")

    async def story() -> None:
        notifier = Slow("phone")
        desk = Desk(notifier)
        ring(desk, "phone")
        await desk.quiet()
        assert notifier.calls == ["ring"] * 3
        assert desk.reports == [("phone", True, "")]

    run(story())


def test_unknown_notifiers_are_passed_over() -> None:
    """A person may list one whose settings are wrong: it shows in the status and rings nobody."""

    async def story() -> None:
        desk = Desk()
        desk.ringer.note_missing("tty", "terminal", "there is no terminal to print on")
        ring(desk, "tty")
        assert not desk.ringer.busy
        assert [row["why"] for row in desk.ringer.status()] == ["there is no terminal to print on"]

    run(story())


def test_closing_is_bounded() -> None:
    """The broker ends although a notifier hangs, and nothing goes on afterwards."""

    async def story() -> None:
        desk = Desk(Recorder("hanging", hang=True))
        ring(desk, "hanging")
        await asyncio.sleep(0)
        await desk.ringer.close(0.01)
        assert len(asyncio.all_tasks()) == 1
        assert not desk.ringer.busy

    run(story())


def test_a_denial_goes_from_the_notifier_to_the_prompt(tmp_path: Path) -> None:
    """The broker's door: which prompt the reply means, the end of that one, and how many that were."""
    from counter import QUESTION

    from unlatch import base64url, seal
    from unlatch.broker.actions import Peer
    from unlatch.broker.audit import Audit
    from unlatch.broker.connections import Connection
    from unlatch.broker.messages import Register
    from unlatch.broker.server import Broker, Surroundings
    from unlatch.prompt import details_to_json
    from unlatch.settings import NotifierSettings, Person, Settings

    told: list[dict[str, Any]] = []

    class Asker(Connection):
        def __init__(self) -> None:
            self.uid = 1000

        def send(self, event: dict[str, Any]) -> None:
            told.append(event)

    async def story() -> None:
        settings = Settings(
            people=(Person("zoe", ("*",), ("phone",)),),
            notifiers=(NotifierSettings("phone", "command", {"command": ("/bin/true",), "seconds": 10}, False),),
        )
        audit = Audit(str(tmp_path / "audit"), lambda: "2026-11-22T03:00:00Z", "/nonexistent/journal")
        broker = Broker(Surroundings(settings, {}, "web03", audit, [], loopback=False))
        broker.prepare()
        for words in (("amber", "canoe"), ("acorn", "alarm")):
            owned = seal.new_link(os.urandom)
            question = seal.pad(details_to_json(QUESTION._replace(words=words)))
            details = base64url.encode(seal.seal_details(owned.link, question, os.urandom))
            register = Register(owner=base64url.encode(owned.owner), fragment=owned.link.fragment, details=details)
            broker.perform(broker.pending.register(broker.now(), Peer(Asker(), 1000, 1000, "ada"), register))
        first, second = (row["id"] for row in broker.pending.prompts(broker.now(), 0))
        assert broker.deny("phone", first, "@zoe:example.org") == 0  # two in one message: which?
        assert broker.deny("phone", first, "@zoe:example.org", "acorn alarm") == 1
        assert [row["id"] for row in broker.pending.prompts(broker.now(), 0)] == [first]
        assert broker.deny("phone", second, "@zoe:example.org", "acorn alarm") == 0
        assert broker.deny("phone", first, "@zoe:example.org") == 1
        await broker.close()

    run(story())
    assert [event["outcome"] for event in told if event["event"] == "ended"] == ["denied", "denied"]
    denials = [line for line in (tmp_path / "audit").read_text().splitlines() if '"denial"' in line]
    assert len(denials) == 2
    assert '"by":"@zoe:example.org"' in denials[0]
