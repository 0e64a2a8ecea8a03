"""``unlatch answer`` and the offer to keep: asked in the terminal, agreed to by --keep, and never assumed."""

import subprocess
from pathlib import Path

import pytest
from house import UNLATCH, House
from terminal import Terminal

# Asks with an offer, or without one, and prints what the answer says about keeping.
ASKER = """
import os, sys
from unlatch import runtime
from unlatch.ask import Asker
from unlatch.prompt import Prompt, Verdict
uid = os.geteuid()
asker = Asker(runtime.candidates(uid, os.environ, os.environ["HOME"]), uid=uid, environ=os.environ)
asker.open()
prompt = Prompt("passphrase", "Unlock sql-root", ("amber", "falcon"), 0, keep=int(sys.argv[1]))
question = asker.put(prompt)
if sys.argv[2:]:
    asker.orphan(question)
answer = asker.wait(question)
asker.verdict(question, Verdict("accepted"))
asker.close()
print(bytes(answer.secret.reveal()).decode(), answer.keep)
"""


def asks(house: House, seconds: int, *orphaned: str) -> "subprocess.Popen[bytes]":
    """An asker that waits; its link has been rung."""
    asker = house.start(Path(UNLATCH).parent / "python", "-c", ASKER, str(seconds), *orphaned)
    house.phone.ring()
    return asker


def said(asker: "subprocess.Popen[bytes]") -> str:
    out, errors = asker.communicate(timeout=30)
    assert asker.returncode == 0, errors
    return out.decode().strip()


@pytest.mark.parametrize(("typed", "keep"), [("yes", True), ("no", False), ("", False)])
def test_the_terminal_asks_the_same(house: House, typed: str, *, keep: bool) -> None:
    """After the passphrase, with the time until which it would be kept; Enter is no."""
    asker = asks(house, 28800)
    with Terminal([UNLATCH, "answer"], house.environ()) as terminal:
        terminal.expect("passphrase:")
        terminal.type("secret\n")
        terminal.expect("keep it for later requests until 20")
        terminal.expect("even if the program has given up? (yes/no) [no]")
        terminal.type(f"{typed}\n")
        terminal.expect("accepted")
        assert terminal.end() == 0
    assert said(asker) == f"secret {keep}"


def test_without_an_offer_nothing_is_asked(house: House) -> None:
    """Nor does --keep agree to what nobody offers."""
    asker = asks(house, 0)
    with Terminal([UNLATCH, "answer", "--keep"], house.environ()) as terminal:
        terminal.expect("passphrase:")
        terminal.type("secret\n")
        terminal.expect("accepted")
        assert terminal.end() == 0
        assert "keep it" not in terminal.screen
    assert said(asker) == "secret False"


@pytest.mark.parametrize(("option", "keep"), [(["--keep"], True), ([], False)], ids=["--keep", "without"])
def test_a_script_agrees_by_an_option(house: House, option: list[str], *, keep: bool) -> None:
    """And by nothing else."""
    asker = asks(house, 28800)
    link = house.phone.ring()["link"]
    house.run(UNLATCH, "answer", "--stdin", *option, feed=f"{link}\nsecret".encode())
    assert said(asker) == f"secret {keep}"


def test_a_program_that_has_given_up_is_named(house: House) -> None:
    """Whoever answers in the terminal learns that only a kept answer is of use."""
    asker = asks(house, 28800, "orphaned")
    with Terminal([UNLATCH, "answer", "--keep"], house.environ()) as terminal:
        terminal.expect("the program has ended; only an answer that may be kept")
        terminal.expect("passphrase:")
        terminal.type("secret\n")
        assert terminal.end() == 0
    assert said(asker) == "secret True"


@pytest.mark.parametrize("option", ["--confirm", "--deny"])
def test_a_yes_or_no_is_not_kept(house: House, option: str) -> None:
    """There is nothing to keep, and saying so is a mistake in the command line."""
    done = subprocess.run(
        [UNLATCH, "answer", option, "--keep"], env=house.environ(), capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert b"--keep is for an answer with a secret" in done.stderr
