"""pinentry-unlatch as a process: signals, ends of file, owners that die, rules, and what is imported when."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from house import PINENTRY, House
from waiting import PATIENCE, until

CANCELLED = b"ERR 83886179 Operation cancelled <Pinentry>"
GRIP = "A" * 40


class Agent:
    """The agent's end of one pinentry."""

    def __init__(self, house: House, *command: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            command or [str(PINENTRY)], env=house.environ(**environ), cwd="/", bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._buffer = b""

    def say(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(line + "\n" for line in lines).encode())

    def reply(self) -> list[bytes]:
        """All lines up to OK or ERR; what there is at the end of file."""
        lines = [self.line()]
        while lines[-1] and not lines[-1].startswith((b"OK", b"ERR")):
            lines.append(self.line())
        return [line for line in lines if line]

    def line(self) -> bytes:
        """The next line; nothing at the end of file."""
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], "no reply"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def ask(self, *lines: str) -> None:
        """Set up and put a question: every line but the last is answered with OK."""
        self.say(*lines)
        assert [self.reply() for _ in lines] == [[b"OK Pleased to meet you"]] + [[b"OK"]] * (len(lines) - 1)

    def end(self) -> tuple[int, str]:
        """Exit status and messages."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_at_once(house: House, number: int) -> None:
    """The agent gets a cancel, the process is gone, the prompt is withdrawn."""
    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    started = time.monotonic()
    agent.process.send_signal(number)
    assert agent.reply()[-1] == CANCELLED
    code, errors = agent.end()
    assert time.monotonic() - started < 5
    assert code == 1
    assert errors == "unlatch: error: stopped: told to stop by a signal\n"
    assert house.phone.end()["outcome"] == "withdrawn"
    assert until(lambda: page.view().body, "the withdrawal") == {"state": "withdrawn"}


def test_the_owner_dies(house: House) -> None:
    """gpg-agent leaves its pinentry running when gpg is killed; we see it, and nobody is asked for nothing."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        agent = Agent(house)
        agent.ask(f"OPTION owner={owner.pid} {os.uname().nodename}", "SETDESC x", "GETPIN")
        house.phone.ring()
        owner.kill()
        assert agent.reply()[-1] == CANCELLED
    assert agent.end() == (1, "unlatch: error: gone: the program that asked has ended\n")
    assert house.phone.end()["outcome"] == "withdrawn"


def test_the_agent_hangs_up(house: House) -> None:
    """The end of its stream while a person is asked withdraws the prompt."""
    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    house.phone.ring()
    assert agent.end() == (1, "unlatch: error: gone: gpg-agent has hung up\n")
    assert house.phone.end()["outcome"] == "withdrawn"


@pytest.mark.parametrize("owner", ["1 another-host", f"{2**31 - 1} {os.uname().nodename}", "nonsense"])
def test_an_unknown_owner_is_not_dead(house: House, owner: str) -> None:
    """A client that is not of this host, or not visible here, is asked for like any other."""
    agent = Agent(house)
    agent.ask(f"OPTION owner={owner}", "SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.asker.chain == ()
    page.unlock(b"secret")
    assert agent.reply() == [b"D secret", b"OK"]
    agent.say("BYE")
    assert page.verdict().outcome == "accepted"
    assert agent.end() == (0, "")


def test_end_of_file_after_an_answer_means_accepted(house: House) -> None:
    """As gpg-agent ends its pinentry; a signal instead means that nobody knows."""
    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    page.unlock(b"secret")
    assert agent.reply() == [b"D secret", b"OK"]
    assert agent.end() == (0, "")
    assert page.verdict().outcome == "accepted"

    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    page = house.open(house.phone.ring(2)["link"])
    page.unlock(b"secret")
    assert agent.reply() == [b"D secret", b"OK"]
    agent.process.terminate()
    assert agent.end()[0] == 1
    assert page.verdict().outcome == "failed"


def test_a_confirmation_in_the_same_process_goes_on_on_the_page(house: House) -> None:
    """After a passphrase, another question leads the open page on: "next", nothing was wrong, nobody is rung again."""
    house.configure(end_to_end=True)
    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    page.unlock(b"a")
    assert agent.reply() == [b"D a", b"OK"]
    agent.say("SETDESC Weak. Take it anyway?", "CONFIRM")
    verdict = page.verdict()
    assert verdict.outcome == "next"
    page = page.follow(verdict)
    assert page.prompt is not None
    assert page.prompt.kind == "confirm"
    page.allow()
    assert [agent.reply(), agent.reply()] == [[b"OK"], [b"OK"]]
    assert page.verdict().outcome == "accepted"
    assert len(house.phone.messages("ring")) == 1
    assert agent.end() == (0, "")


def test_a_card_takes_one_wrong_pin_for_each_ring(house: House) -> None:
    """The open page does not go on to the next try: it hears what was wrong, and the person is rung with a new link."""
    agent = Agent(house)
    agent.ask("SETKEYINFO s/" + GRIP, "SETPROMPT PIN", "SETDESC Please unlock the card", "GETPIN")
    for number, error in ((2, "Bad PIN (try 2 of 3)"), (3, "Bad PIN (try 3 of 3)")):
        page = house.open(house.phone.ring(number - 1)["link"])
        page.unlock(b"000000")
        assert agent.reply() == [b"D 000000", b"OK"]
        agent.say(f"SETERROR {error}", "GETPIN")
        verdict = page.verdict()
        assert (verdict.outcome, verdict.next_link) == ("failed", None)
        assert error in verdict.text
        assert agent.reply() == [b"OK"]
        assert not house.phone.ring(number)["quiet"]
    page = house.open(house.phone.ring(3)["link"])
    page.unlock(b"000000")
    assert agent.reply() == [b"D 000000", b"OK"]
    agent.say("BYE")
    assert page.verdict().outcome == "unknown"
    assert agent.end() == (0, "")


@pytest.mark.parametrize("lines", [["SETKEYINFO s/" + GRIP], ["SETPROMPT PIN"]])
def test_nobody_says_whether_a_card_took_its_pin(house: House, lines: list[str]) -> None:
    """gpg-agent leaves before the card has seen the PIN, so its BYE is no yes; page, message and log say that."""
    agent = Agent(house)
    agent.ask(*lines, "SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    page.unlock(b"123456")
    assert agent.reply() == [b"D 123456", b"OK"]
    agent.say("BYE")
    verdict = page.verdict()
    assert (verdict.outcome, "does not say" in verdict.text) == ("unknown", True)
    assert house.phone.end()["outcome"] == "unknown"
    assert agent.end() == (0, "")


def test_a_terminal_that_is_not_ours_shows_no_digits(house: House) -> None:
    """A file is no terminal; without one there are no digits, and nothing is written to it."""
    file = house.root / "not-a-terminal"
    file.write_bytes(b"")
    house.configure(end_to_end=True)
    agent = Agent(house)
    agent.ask(f"OPTION ttyname={file}", "SETDESC Really?", "CONFIRM")
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.digits is False
    page.deny()
    assert agent.reply() == [CANCELLED]
    assert agent.end() == (0, "")
    assert file.read_bytes() == b""


def test_an_answer_of_the_wrong_kind_is_no_answer(house: House) -> None:
    """A yes to a passphrase, which no page of ours gives, is a cancel."""
    agent = Agent(house)
    agent.ask("SETDESC x", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    page.allow()
    assert agent.reply()[-1] == CANCELLED
    assert page.verdict().outcome == "failed"
    assert agent.end()[0] == 0


LOCAL = """\
#!/bin/sh
echo "OK local"
while read -r line; do
  echo "$line" >>"$0.heard"
  case $line in
    GETPIN) printf 'D typed here\\nOK\\n' ;;
    BYE) echo OK; exit 3 ;;
    OPTION*) printf '# a comment\\nERR 1 unknown\\n' ;;
    *) echo OK ;;
  esac
done
"""


def local_pinentry(house: House) -> Path:
    program = house.root / "local-pinentry"
    program.write_text(LOCAL)
    program.chmod(0o755)
    house.configure(tables=f'[[rule]]\nuser_data = "interactive"\naction = "tty"\npinentry = "{program}"')
    return program


def test_a_local_pinentry_hears_all_that_was_said(house: House) -> None:
    """By rule another pinentry takes over, with the settings so far, and its replies and exit status are ours."""
    program = local_pinentry(house)
    agent = Agent(house)
    agent.ask("OPTION pinentry-user-data=interactive", "OPTION grab", "SETDESC a%0Ab", "NOP", "GETPIN")
    assert agent.reply() == [b"D typed here", b"OK"]
    agent.say("SETERROR no", "GETPIN", "BYE")
    assert [agent.reply() for _ in range(3)] == [[b"OK"], [b"D typed here", b"OK"], [b"OK"]]
    assert agent.end() == (3, "")
    heard = Path(f"{program}.heard").read_text().split("\n")
    assert heard == [
        "OPTION pinentry-user-data=interactive", "OPTION grab", "SETDESC a%0Ab", "GETPIN",
        "SETERROR no", "GETPIN", "BYE", "",
    ]  # fmt: skip
    assert house.brokers() == []


def test_user_data_also_comes_by_the_environment(house: House) -> None:
    """PINENTRY_USER_DATA of the process counts where the agent does not pass it on."""
    local_pinentry(house)
    agent = Agent(house, PINENTRY_USER_DATA="interactive")
    agent.ask("GETPIN")
    assert agent.reply() == [b"D typed here", b"OK"]
    assert agent.end()[0] == 0


@pytest.mark.parametrize("program", ["/nonexistent/pinentry", "/bin/true", "/etc/passwd"])
def test_a_local_pinentry_that_is_none(house: House, program: str) -> None:
    """It is not there, ends at once, or is no program: a cancel with a reason, no hanging."""
    house.configure(tables=f'[[rule]]\naction = "tty"\npinentry = "{program}"')
    agent = Agent(house)
    agent.ask("SETDESC OK", "GETPIN")
    assert agent.reply()[-1] == CANCELLED
    code, errors = agent.end()
    assert code == 0
    assert program in errors


def test_a_dead_owner_ends_the_local_pinentry_too(house: House) -> None:
    """A dialogue at a terminal for somebody who is gone is taken away."""
    house.configure(tables='[[rule]]\naction = "tty"\npinentry = "/bin/cat"')
    program = local_pinentry(house)
    program.write_text("#!/bin/sh\necho OK\nread -r line; echo OK; read -r line; echo '# shown'; exec sleep 60\n")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        agent = Agent(house, PINENTRY_USER_DATA="interactive")
        agent.ask(f"OPTION owner={owner.pid} {os.uname().nodename}", "GETPIN")
        assert agent.line() == b"# shown"
        owner.kill()
        assert agent.reply() == []
    assert agent.end() == (1, "")


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ('[[rule]]\naction = "refuse"', "refused-rule: a rule refuses this prompt"),
        ('[[rule]]\naction = "refuse"\nunits = "x"', "refused-config: the rules cannot be read: "),
        ("[[rule", "refused-config: the rules cannot be read: "),
    ],
)
def test_refused_in_one_line(house: House, tables: str, reason: str) -> None:
    """A refusal is immediate, starts no broker, and says why in one line to people and in gpg-agent's log."""
    house.configure(tables=tables)
    agent = Agent(house)
    agent.ask("GETPIN")
    status, error = agent.reply()
    assert status.startswith(b"S ERROR unlatch.refused-")
    assert error == CANCELLED
    code, errors = agent.end()
    assert code == 0
    assert errors.startswith(f"unlatch: error: {reason}")
    assert errors.count("\n") == 1
    assert house.brokers() == []


def test_no_broker_is_one_line(house: House) -> None:
    """A runtime directory that others may write to is not used; the reason names it."""
    house.runtime.chmod(0o777)
    (house.runtime / "askers").mkdir()
    (house.runtime / "askers").chmod(0o777)
    agent = Agent(house)
    agent.ask("GETPIN")
    assert agent.reply()[-1] == CANCELLED
    code, errors = agent.end()
    assert code == 0
    assert errors.startswith("unlatch: error: no-broker: ")
    assert str(house.runtime) in errors
    assert errors.count("\n") == 1


def test_nothing_is_imported_once_somebody_is_rung(house: House) -> None:
    """An upgrade in the middle of a prompt, wrong tries and all, breaks nothing."""
    agent = Agent(house, sys.executable, "-IS", "-X", "importtime", str(PINENTRY))
    agent.say("SETDESC x", "GETPIN")
    assert agent.reply() == [b"OK"]
    page = house.open(house.phone.ring()["link"])
    assert agent.process.stderr is not None
    os.set_blocking(agent.process.stderr.fileno(), False)
    before = agent.process.stderr.read()
    assert b"unlatch.seal" in before
    page.unlock(b"wrong")
    assert agent.reply() == [b"D wrong", b"OK"]
    agent.say("SETERROR Bad Passphrase (try 2 of 3)", "GETPIN")
    assert agent.reply() == [b"OK"]
    page = page.follow(page.verdict())
    page.unlock(b"secret")
    assert agent.reply() == [b"D secret", b"OK"]
    agent.say("BYE")
    assert page.verdict().outcome == "accepted"
    code, after = agent.end()
    assert (code, after) == (0, "")


def test_it_can_be_called_by_a_link_and_from_anywhere(house: House) -> None:
    """A symbolic link in another directory finds the package; an unknown option is no error."""
    link = house.root / "pinentry"
    link.symlink_to(PINENTRY)
    agent = Agent(house, str(link), "--display", ":0")
    agent.ask("NOP", "NOP")
    assert agent.reply() == [b"OK"]
    assert agent.end() == (0, "")


@pytest.mark.parametrize(("option", "first"), [("--version", "pinentry-unlatch "), ("--help", "Usage: ")])
def test_options_for_people(option: str, first: str) -> None:
    """Help and version come without a greeting."""
    done = subprocess.run([str(PINENTRY), option], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.startswith(first)
    assert "Pleased" not in done.stdout
