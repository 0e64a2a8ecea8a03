"""The phone's part in a login, with a real broker and two persons: whom it rings, and what it takes for a yes."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from answerer import Page
from house import UNLATCH, House
from pam_phone_login import URL, login
from phone import Phone
from real import absent, real
from waiting import until

from unlatch.ask import Asker
from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.pam import asker, phone
from unlatch.pam.errors import Gone
from unlatch.prompt import Prompt

ARMOUR = "-----BEGIN PGP MESSAGE-----\n\nhF4DAAAAAAAAAAASAQdAnotreally\n=abcd\n-----END PGP MESSAGE-----\n"
RESPONSE = "aB3dE6gH9j"
# Accounts of every Debian; nobody logs in to them here.
MIA, NED, NOBODYS = "mail", "news", "games"


class Broker:
    """A real broker of root's, which rings one person for each of two accounts and a third for everybody's jobs."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            absent("only root asks about logins")
        self.house = House()
        self.mia, self.ned = Phone(self.house.root / "mia"), Phone(self.house.root / "ned")
        self.everybodys = self.house.phone
        people = {
            "mia": ([MIA], self.mia),
            "ned": ([pwd.getpwnam(NED).pw_uid], self.ned),
            "all": (["*"], self.everybodys),
        }
        lines = [f'public_url = "{URL}"', "probe = false", f'listen = "unix:{self.house.page}"', "[link]", "views = 3"]
        for name, (users, handset) in people.items():
            lines += [f"[people.{name}]", f"users = {json.dumps(users)}", f'notify = ["{name}"]']
            lines += [f"[notify.{name}]", f"command = {json.dumps(handset.command)}", "end_to_end = false"]
        self.house.settings.write_text("\n".join(lines))
        self.start()

    def start(self) -> None:
        self.process = self.house.start(UNLATCH, "serve")
        until(self.house.is_served, "the broker")

    def rung(self) -> list[str]:
        """Whose phones have rung."""
        phones = {"mia": self.mia, "ned": self.ned, "all": self.everybodys}
        return [name for name, handset in phones.items() if handset.messages("ring")]

    def trail(self) -> list[dict[str, object]]:
        lines = (self.house.runtime / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def kept() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.house.clear()


@pytest.fixture
def broker(kept: Broker) -> Broker:
    """The broker, and phones without messages."""
    until(lambda: not kept.house.ask_admin({"op": "list"})["prompts"], "the end of the test before")
    for handset in (kept.mia, kept.ned, kept.everybodys):
        for message in handset.directory.iterdir():
            message.unlink()
    return kept


def test_a_yes_needs_the_digits_of_the_session(broker: Broker) -> None:
    """Only the account's own person is rung; message and page say who, where, by what and from where; digits decide."""
    with login(broker.house.runtime, MIA, digits="07") as session:
        taken = session.taken()
        assert (taken["person"], taken["link"], taken["shown"]) == ("mia", "", "Taken(redacted)")
        ring = broker.mia.ring()
        assert (ring["kind"], ring["user"], ring["uid"], ring["words"]) == ("confirm", "root", 0, taken["words"])
        assert ring["title"] == "Login of mail by sshd, from 203.0.113.5"
        page = broker.house.open(ring["link"])
        assert page.prompt is not None
        assert page.prompt.digits
        text = page.prompt.text
        for line in (
            "User: mail",
            "Host: web03",
            "Service: sshd",
            "From: 203.0.113.5",
            "Time: 2025-06-15 15:06:40 UTC",
        ):
            assert line in text.splitlines()
        assert (page.stamp["user"], page.stamp["login"], page.stamp["person"]) == ("root", "mail", "mia")
        assert "07" not in ring["title"] + page.prompt.title + ring["text"].replace("15:06:40", "")
        page.allow("07")
        assert session.result() == "yes"
        assert page.verdict() == ("accepted", asker.PRESS_ENTER, None)
        session.stop()
    assert broker.rung() == ["mia"]


def test_who_is_named_by_uid_is_rung_too(broker: Broker) -> None:
    """And nobody else: not who answers for everybody's jobs, and not the other account's person."""
    with login(broker.house.runtime, NED) as session:
        assert session.taken()["person"] == "ned"
        broker.ned.ring()
        session.stop()
    broker.ned.end()
    assert broker.rung() == ["ned"]


@pytest.mark.parametrize("digits", ["43", "", "4", "042", "42 ", "42\n", "4x", "\u0664\u0662"])
def test_wrong_digits_are_a_no(broker: Broker, digits: str) -> None:
    """One attempt: whoever only has the link cannot say yes."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        page = broker.house.open(broker.mia.ring()["link"])
        page.allow(digits)
        assert session.result() == "no: wrong digits on the phone"
        verdict = page.verdict()
        assert (verdict.outcome, verdict.text) == ("denied", "The digits were wrong.")
        session.stop()


def test_a_secret_is_no_yes(broker: Broker) -> None:
    """An answer of another kind, even the digits themselves, is a no."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        page = broker.house.open(broker.mia.ring()["link"])
        page.unlock(b"42")
        assert session.result().startswith("no: ")
        session.stop()


def test_a_no_is_told(broker: Broker) -> None:
    """Deny on the page; the message says how it ended."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        page = broker.house.open(broker.mia.ring()["link"])
        page.deny()
        assert session.result() == "no: denied on the phone"
        assert page.verdict().outcome == "denied"
        session.stop()
    assert broker.mia.end()["outcome"] == "denied"


def test_without_a_person_of_its_own_nobody_is_rung(broker: Broker) -> None:
    """The one who answers for everybody's jobs does not answer for a login; the reason is for the log."""
    with login(broker.house.runtime, NOBODYS) as session:
        assert session.hear() == {
            "unfit": "the broker refuses it: no person is named for this user (people)",
            "rung": False,
        }
    with login(broker.house.runtime, "no-such-account") as session:
        assert session.hear() == {"unfit": "the broker refuses it: there is no such account (account)", "rung": False}
    assert broker.rung() == []
    assert [row.get("account") for row in broker.trail() if row["event"] == "refusal"][-2:] == [NOBODYS, None]


def test_the_end_of_the_login_withdraws(broker: Broker) -> None:
    """Stopped by the login: the link is dead, the message says so, and no process is left."""
    with login(broker.house.runtime, MIA) as session:
        assert session.taken()["alone"], "the process that waits holds descriptors of the login"
        page = broker.house.open(broker.mia.ring()["link"])
        assert len(session.children()) == 1
        session.stop()
        assert page.view().body == {"state": "withdrawn"}
    assert broker.mia.end()["outcome"] == "withdrawn"


def test_a_login_that_is_killed_withdraws_too(broker: Broker) -> None:
    """Nobody is left waiting behind a dead connection."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        page = broker.house.open(broker.mia.ring()["link"])
        (child,) = session.children()
        session.process.kill()
        until(lambda: page.view().status == 410, "the end of the prompt")
        until(lambda: not Path(f"/proc/{child}").exists(), "the end of the process that waits")


def test_what_kills_the_waiting_process_is_no_yes(broker: Broker) -> None:
    """An asker that dies is told as a failure, and its prompt is withdrawn."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        (child,) = session.children()
        os.kill(child, signal.SIGKILL)
        assert session.result() == "failed: the process that asks the broker ended"
        session.stop()
    assert broker.mia.end()["outcome"] == "withdrawn"


def test_time_passes(broker: Broker) -> None:
    """A prompt lives as long as the login may take."""
    with login(broker.house.runtime, MIA, seconds=1) as session:
        session.taken()
        assert session.result() == "failed: nobody answered the prompt in time"
        session.stop()
    assert broker.mia.end()["outcome"] == "expired"


def test_a_broker_that_is_started_anew_goes_on(broker: Broker) -> None:
    """The link that was sent goes on working, still for the account, and nobody is rung twice."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        page = broker.house.open(broker.mia.ring()["link"])
        until(broker.house.rings_are_told, "the asker's knowledge of the ring")
        broker.process.kill()
        broker.process.wait()
        broker.start()
        until(lambda: broker.house.answers_on(page), "the ticket in the new broker")
        assert page.stamp["login"] == MIA
        page.allow("42")
        assert session.result() == "yes"
        session.stop()
    assert len(broker.mia.messages("ring")) == 1
    assert broker.rung() == ["mia"]


def test_the_page_of_a_challenge_rings_nobody(broker: Broker) -> None:
    """Whoever has the link of the session decrypts the message and types the response; who lets in is the login."""
    with login(broker.house.runtime, NOBODYS, armour=ARMOUR, response=RESPONSE) as session:
        taken = session.taken()
        assert taken["person"] == ""
        assert taken["link"].startswith(URL)
        assert RESPONSE not in json.dumps(taken)
        page = broker.house.open(taken["link"])
        assert page.prompt is not None
        assert (page.prompt.kind, page.prompt.text, page.prompt.title) == (
            "challenge",
            ARMOUR,
            "Login of games by sshd, from 203.0.113.5",
        )
        assert page.prompt.qr
        assert RESPONSE.encode() not in page.details
        page.unlock(f" {RESPONSE}\n".encode())
        assert session.result() == f" {RESPONSE}\n"
        assert page.verdict() == ("accepted", asker.PRESS_ENTER, None)
        session.stop()
    assert broker.rung() == []


@pytest.mark.parametrize("typed", [b"aB3dE6gH9k", b"a", b"x" * 8192, b"\0\xff"])
def test_a_wrong_response_on_the_page(broker: Broker, typed: bytes) -> None:
    """The page says so; what was typed goes to the login, never more than a response could be."""
    with login(broker.house.runtime, MIA, armour=ARMOUR, response=RESPONSE) as session:
        page = broker.house.open(session.taken()["link"])
        page.unlock(typed)
        if typed.isascii():
            assert session.result() == typed[:1024].decode()
        assert page.verdict().outcome == "failed"


def test_a_no_on_the_page_of_a_challenge(broker: Broker) -> None:
    """Deny, or a yes that nobody asked for: neither is a response."""
    for answer in (Page.deny, Page.allow):
        with login(broker.house.runtime, MIA, armour=ARMOUR, response=RESPONSE) as session:
            page = broker.house.open(session.taken()["link"])
            answer(page)
            assert session.result() == "no: denied on the page"
            assert page.verdict().outcome == "denied"
            session.stop()


def test_a_message_that_is_too_long_has_no_page(broker: Broker) -> None:
    """It is refused before anything is put to the broker."""
    with login(broker.house.runtime, MIA, armour="x" * 4097, response=RESPONSE) as session:
        assert session.hear() == {"unfit": "the challenge is too long for the broker's page: 4097 characters"}


def test_no_broker(tmp_path: Path) -> None:
    """A directory without one, or no directory: a reason within the time, and nobody is kept waiting."""
    with login(tmp_path / "none", MIA) as session:
        assert session.hear() == {"unfit": f"{tmp_path}/none/askers is missing: this host has no broker"}
    (tmp_path / "askers").mkdir(mode=0o700)
    with login(tmp_path, MIA, put=0.3) as session:
        assert session.hear() == {"unfit": "the broker did not take the prompt within 0.3 s", "rung": False}
        assert session.process.wait(5) == 0
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(f"{tmp_path}/askers/broker.sock")
        hung.listen()
        with login(tmp_path, MIA, put=2) as session:
            assert session.hear() == {"unfit": "the broker did not take the prompt within 2 s"}, "it may ring yet"


def test_another_uid_cannot_ask_about_logins(broker: Broker) -> None:
    """By the kernel's word, whatever it sends."""
    askers = broker.house.runtime / "askers"
    script = (
        "import json, os, socket, sys\n"
        "from unlatch import base64url, seal\n"
        "from unlatch.prompt import Prompt, details_to_json\n"
        "owned = seal.new_link(os.urandom)\n"
        "prompt = Prompt('confirm', 'x', ('amber', 'canoe'), 0, digits=True)\n"
        "sealed = seal.seal_details(owned.link, seal.pad(details_to_json(prompt)), os.urandom)\n"
        "line = {'v': 1, 'op': 'register', 'owner': base64url.encode(owned.owner), 'fragment': owned.link.fragment,\n"
        "        'details': base64url.encode(sealed), 'account': sys.argv[2]}\n"
        "asker = socket.socket(socket.AF_UNIX)\n"
        "asker.connect(sys.argv[1])\n"
        "os.setresuid(5, 5, 5)\n"  # too late: what counts is who connected
        "asker.sendall(json.dumps(line).encode() + b'\\n')\n"
        "print(asker.makefile().readline())\n"
    )
    words = [sys.executable, "-c", script, str(askers / "broker.sock")]
    as_root = json.loads(subprocess.run([*words, NOBODYS], capture_output=True, timeout=20, check=True).stdout)
    assert (as_root["event"], as_root["why"]) == ("refused", "people")
    places = (broker.house.root, broker.house.runtime, askers)
    try:
        for place in places:
            place.chmod(0o755)
        (askers / "broker.sock").chmod(0o666)
        become = [real("setpriv"), "--reuid", "5", "--regid", "60", "--clear-groups"]
        words[2] = script.replace("os.setresuid(5, 5, 5)\n", "")
        told = subprocess.run([*become, *words, MIA], capture_output=True, timeout=20, check=True).stdout
        assert json.loads(told)["why"] == "account"
    finally:
        for place in places:
            place.chmod(0o700)
    assert broker.rung() == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Denied(), ("no", "denied in the chat")),
        (Expired(), ("failed", "nobody answered the prompt in time")),
        (Withdrawn(), ("failed", "the prompt was withdrawn")),
        (Refused("quota", "too often"), ("refused", "the broker refuses it: too often (quota)")),
        (Refused("\n", "a\x1b[2J\nuser=root"), ("refused", "the broker refuses it: a [2J user=root ()")),
        (NoBroker(["/run/unlatch/broker.sock: no"]), ("failed", "/run/unlatch/broker.sock: no")),
        (ValueError("quotes a secret"), ("failed", "unforeseen ValueError")),
        (Gone(), None),
        (BrokenPipeError(), None),
    ],
)  # fmt: skip
def test_no_end_of_a_prompt_but_a_yes_is_a_yes(error: Exception, told: tuple[str, str] | None) -> None:
    """Whatever ends the asker is a no or a failure in one printable line, or nothing if nobody is there to hear it."""

    def end() -> None:
        raise error

    assert asker.failure(end) == told


def asking(broker: Broker, account: str = "", *, silent: bool = False) -> tuple[Asker, str]:
    """An asker of root's with one prompt, and why the broker refused that, or nothing."""
    where = phone.place({"UNLATCH_RUNTIME_DIR": str(broker.house.runtime)})
    asker = Asker([where], uid=0, environ={})
    asker.open()
    question = asker.put(Prompt("notice", "Hello", ("amber", "canoe"), 0), account=account, silent=silent)
    try:
        asker.settle(question)
    except Refused as refused:
        return asker, refused.text
    assert question.registered
    return asker, ""


def test_strangers_at_the_door_do_not_take_the_room_of_roots_jobs(broker: Broker) -> None:
    """However many connections logins make, root's own prompts find theirs; and one account leaves room for another."""
    room = 80  # four for each of 20 prompts
    strangers = [asking(broker, NED, silent=True) for _ in range(room + 2)]
    try:
        said = [why for _, why in strangers]
        assert said[:20] == [""] * 20
        assert set(said[20:room]) == {"this user has too many open prompts"}
        assert set(said[room:]) == {"too many connections ask about this account's logins"}
        for account in ("", MIA):
            asker, why = asking(broker, account)
            asker.close()
            assert why == ""
    finally:
        for asker, _ in strangers:
            asker.close()


def test_status_and_log_say_whose_login_it_is(broker: Broker) -> None:
    """What an administrator sees while it waits, and reads later."""
    with login(broker.house.runtime, MIA) as session:
        session.taken()
        broker.mia.ring()
        status = broker.house.run(UNLATCH, "status").decode()
        assert re.search(r"login +mail\n", status)
        assert "Login of mail by sshd, from 203.0.113.5" in status
        session.stop()
    assert re.search(r"prompt .*user=root .*account=mail .*kind=confirm", broker.house.run(UNLATCH, "log").decode())
