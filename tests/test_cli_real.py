"""The commands with the real broker and real askers, each a process of its own."""

import json
import os
import signal
import subprocess
from pathlib import Path

from house import UNLATCH, House
from terminal import Terminal
from waiting import until

# An asker as a front end is one: asks, and goes on after a wrong passphrase.
ASKER = """
import os, sys
from unlatch import runtime
from unlatch.ask import Asker
from unlatch.prompt import Prompt, Verdict
uid = os.geteuid()
asker = Asker(runtime.candidates(uid, os.environ, os.environ["HOME"]), uid=uid, environ=os.environ)
asker.open()
question = None
for attempt in (1, 2, 3):
    prompt = Prompt("passphrase", "Unlock sql-root", ("amber", "falcon"), 0, attempt=(attempt, 3))
    question = asker.put(prompt, after=question)
    answer = asker.wait(question)
    if answer.answer == "no":
        asker.verdict(question, Verdict("denied"))
        sys.exit(1)
    if bytes(answer.secret.reveal()) == b"right\\n\\xff":
        asker.verdict(question, Verdict("accepted"))
        print("unlocked")
        sys.exit(0)
"""


def start_asker(house: House) -> subprocess.Popen[bytes]:
    return house.start(Path(UNLATCH).parent / "python", "-c", ASKER)


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def answer(house: House, *options: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [UNLATCH, "answer", *options], env=house.environ(), input=feed, capture_output=True, timeout=60,
        start_new_session=True, check=False,
    )  # fmt: skip


def test_a_test_ring_goes_the_whole_way(house: House) -> None:
    """Rung, shown in status, answered with OK from the terminal, told to the phone, written to the log."""
    ring = house.start(UNLATCH, "ring", "--timeout", "60")
    message = house.phone.ring()
    status = json.loads(house.run(UNLATCH, "status", "--json"))
    assert [prompt["kind"] for prompt in status["prompts"]] == ["notice"]
    shown = house.run(UNLATCH, "status").decode()
    assert "A test: press OK" in shown
    assert f"pid {house.brokers()[0]}" in shown
    done = answer(house, "--stdin", "--confirm", feed=message["link"].encode() + b"\n")
    assert (done.returncode, done.stdout) == (0, b"accepted\n"), done.stderr
    code, out, err = end_of(ring)
    assert (code, out) == (0, b"answered (phone delivered it)\n"), err
    assert " ".join(message["words"]).encode() in err
    assert house.phone.end()["outcome"]
    log = house.run(UNLATCH, "log", "--since", "10m").decode()
    assert len(log.splitlines()) >= 3
    ticket, fragment = message["link"].rpartition("/")[2].split("#")
    assert ticket not in log
    assert fragment not in log
    again = answer(house, "--stdin", "--confirm", feed=message["link"].encode() + b"\n")
    assert again.returncode == 4
    assert b"answered already" in again.stderr


def test_a_test_ring_that_is_denied_or_forgotten_says_so(house: House) -> None:
    """Both are code 4."""
    ring = house.start(UNLATCH, "ring")
    house.phone.ring()
    assert answer(house, "--deny").returncode == 0
    code, _, err = end_of(ring)
    assert code == 4
    assert b"denied" in err
    code, _, err = end_of(house.start(UNLATCH, "ring", "--timeout", "1"))
    assert code == 4
    assert b"expired" in err


def test_a_test_ring_can_be_taken_back(house: House) -> None:
    """Ctrl-C withdraws it: the phone hears of its end."""
    ring = house.start(UNLATCH, "ring")
    house.phone.ring()
    os.kill(ring.pid, signal.SIGINT)
    assert end_of(ring)[0] == 130
    house.phone.end()
    until(lambda: not json.loads(house.run(UNLATCH, "status", "--json"))["prompts"], "an empty status")


def test_a_user_whom_no_person_lists_is_refused(house: House) -> None:
    """The broker's word arrives with what to do about it."""
    house.configure()
    settings = house.settings.read_text().replace('users = ["*"]', 'users = ["nobody-else"]')
    house.settings.write_text(settings)
    code, _, err = end_of(house.start(UNLATCH, "ring", "--timeout", "20"))
    assert code == 1
    assert b"unlatch: error: the broker refused" in err
    assert b"[people.NAME]" in err


def test_mistakes_in_the_file_are_told_before_anything_rings(house: House) -> None:
    """A test that starts in vain says why."""
    house.settings.write_text("listen = 1\n")
    code, _, err = end_of(house.start(UNLATCH, "ring"))
    assert code == 1
    assert b"unlatch.toml:1: listen" in err


def test_wrong_then_right_at_the_terminal(house: House) -> None:
    """The dialogue goes on by itself under a new ticket, and nothing rings a second time."""
    asker = start_asker(house)
    house.phone.ring()
    with Terminal([UNLATCH, "answer"], house.environ()) as terminal:
        terminal.expect("Unlock sql-root")
        terminal.expect("1 of 3")
        terminal.expect("passphrase:")
        terminal.type("wrong\n")
        terminal.expect("unlatch: wrong")
        terminal.expect("2 of 3")
        terminal.expect("passphrase:")
        terminal.type("\x03")
        assert terminal.end() == 130
    link = house.ask_admin({"op": "list"})["prompts"][0]
    feed = f"https://unlock.test/{link['ticket']}#{link['fragment']}\n".encode() + b"right\n\xff"
    assert answer(house, "--stdin", feed=feed).returncode == 0
    assert end_of(asker) == (0, b"unlocked\n", b"")
    assert len(house.phone.messages("ring")) == 1


def test_a_broker_killed_while_somebody_types_costs_nothing(house: House) -> None:
    """The asker comes back to a new broker, and the answer that is typed then arrives."""
    asker = start_asker(house)
    house.phone.ring()
    with Terminal([UNLATCH, "answer"], house.environ()) as terminal:
        terminal.expect("passphrase:")
        (broker,) = house.brokers()
        os.kill(broker, signal.SIGKILL)
        terminal.type("wrong\n")
        terminal.expect("unlatch: wrong")
        terminal.expect("2 of 3")
        terminal.expect("passphrase:")
    assert answer(house, "--deny").returncode == 0
    assert end_of(asker)[0] == 1


def test_serve_prints_the_link_where_nobody_is_configured(house: House) -> None:
    """No configuration at all: the foreground broker shows the link, and unlatch ring is answered there."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    with Terminal([UNLATCH, "serve"], house.environ()) as serve:
        serve.expect("waiting for prompts; the page is at http://localhost:")
        ring = house.start(UNLATCH, "ring", "--timeout", "60")
        serve.expect("http://localhost:")
        assert answer(house, "--confirm").returncode == 0
        code, _, err = end_of(ring)
        assert code == 0
        assert b'there is no notifier, so no phone rings: "unlatch setup" adds one' in err
        serve.type("\x03")
        assert serve.end() in (0, 130)
