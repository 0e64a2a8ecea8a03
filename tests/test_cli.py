"""The command: each subcommand as people and scripts use it, with a broker behind real sockets."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from certificates import self_signed
from fake_broker import PROMPT, Broker, admin_socket, page_server
from terminal import Terminal

from unlatch.cli import doors, voice
from unlatch.cli.config import summary
from unlatch.cli.main import COMMANDS, run
from unlatch.config import Loaded, Mistake
from unlatch.doctor.host import pam_places, served
from unlatch.errors import BadConfig, Denied, LinkOver, Malformed, NoBroker, Refused, SealBroken, Unreachable
from unlatch.prompt import AskerInfo, Key
from unlatch.settings import Settings

UNLATCH = Path(sys.executable).parent / "unlatch"


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "unlatch.toml"
    settings.write_text("")
    monkeypatch.setenv("UNLATCH_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("UNLATCH_CONFIG", str(settings))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "run"


def call(*arguments: str, feed: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run the real program without a terminal."""
    return subprocess.run(
        [UNLATCH, *arguments], input=feed.decode("latin-1"), encoding="latin-1",
        capture_output=True, timeout=60, start_new_session=True, check=False,
    )  # fmt: skip


def link_of(broker: Broker, public_url: str = "https://unlock.test/") -> bytes:
    return f"{public_url}{broker.link.ticket_text}#{broker.link.fragment}\n".encode()


# The whole command


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_of_every_command_ends_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help can be read in one go and is never an error."""
    assert run([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 45
    assert re.search(r'[$#] (eval "\$\()?unlatch', said) or name in ("agent", "config", "matrix")


@pytest.mark.parametrize(
    "arguments", [[], ["bogus"], ["status", "--bogus"], ["config"], ["ring", "--timeout", "0"], ["log", "--since", "x"]]
)
def test_wrong_usage_is_one_line_and_a_hint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, lower case, no full stop, nothing on standard output."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("unlatch: error: ")
    assert not err.splitlines()[0].endswith(".")


@pytest.mark.parametrize("command", [["answer"], ["status"], ["log"], []])
def test_a_link_as_an_argument_is_refused_and_not_repeated(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands in the shell's history and the process list: consider it leaked."""
    assert run([*command, "https://unlock.test/TICKET#FRAGMENT"]) == 2
    err = capsys.readouterr().err
    assert "consider it leaked" in err
    assert "TICKET" not in err


def test_every_foreseen_exception_has_words() -> None:
    """No exception of the core reaches people without a sentence, and what others wrote is cleaned."""
    assert voice.explain(NoBroker(["/run/x: gone\x1b[2J"])).hints == ("/run/x: gone\\x1b[2J",)
    assert "quota" not in voice.explain(Refused("quota", "too many")).text
    assert voice.explain(Refused("people", "")).hints
    assert voice.explain(BadConfig(["f:1: x"])).hints == ("f:1: x",)
    assert voice.explain(Denied()).code == voice.OVER
    assert voice.explain(SealBroken("stamp")).hints
    assert voice.explain(Malformed("line")).text == "malformed line"
    assert voice.explain(OSError(13, "Permission denied", "/x")).text == "/x: permission denied"
    for state in ("used", "expired", "withdrawn", "denied", "replaced", "elsewhere", "answered", "unknown"):
        assert voice.explain(LinkOver(state)).code == voice.OVER


def test_an_unforeseen_exception_tells_its_place_and_not_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may quote anything, also a secret."""

    def fail() -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr("unlatch.cli.admin.find_admin", fail)
    assert run(["status"]) == 1
    err = capsys.readouterr().err
    assert "unforeseen RuntimeError at test_cli.py:" in err
    assert "canary" not in err


def test_a_reader_that_left_is_no_traceback(runtime: Path, tmp_path: Path) -> None:
    """unlatch log | head -1 ends quietly."""
    runtime.mkdir()
    record = json.dumps({"time": "2025-01-01T00:00:00Z", "event": "view", "text": "x" * 1000})
    (runtime / "audit.jsonl").write_text((record + "\n") * 2000)
    with subprocess.Popen([UNLATCH, "log"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_text_from_elsewhere_cannot_move_the_cursor() -> None:
    """Escapes are shown, line breaks only where lines are wanted."""
    assert voice.clean("a\x1b[31mb\x07\u202ec\nd\te") == "a\\x1b[31mb\\x07\\u202ec d e"
    assert voice.clean("a\nb\rc", lines=True) == "a\nb\\rc"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (59, "59 s"), (61, "1 min"), (3600, "1 h"), (3725, "1 h 2 min"), (86400 * 3, "3 days")],
)
def test_durations_are_said_as_people_do(seconds: float, words: str) -> None:
    """Two units at most."""
    assert voice.duration(seconds) == words


def test_the_commands_are_found_by_file() -> None:
    """Each name in the list is a file with a command."""
    folder = Path(voice.__file__).parent
    for name in COMMANDS:
        assert (folder / f"{name.replace('-', '_')}.py").exists()
    assert isinstance(sys.modules["unlatch.cli.main"].cli, click.Group)


# status


def test_status_without_a_broker_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is waiting then."""
    assert run(["status"]) == 0
    assert capsys.readouterr().out == "no broker is running; nothing is waiting\n"
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"broker": None, "prompts": [], "notifiers": [], "secrets": []}


def test_the_hosts_broker_that_is_down_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its directory is there, so askers wait for it: "nothing is waiting" would be wrong."""
    monkeypatch.delenv("UNLATCH_RUNTIME_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("unlatch.runtime.HOST_ASKERS", str(tmp_path))
    monkeypatch.setattr("unlatch.runtime.HOST_ADMIN", str(tmp_path / "admin"))
    for command in (["status"], ["answer", "--deny"]):
        assert run(command) == 1
        told = capsys.readouterr()
        assert "the host's broker does not run" in told.err
        assert "nothing is waiting" not in told.out + told.err


def test_status_shows_prompts_notifiers_and_broker(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything in words, and the same as JSON."""
    status = {
        "event": "status",
        "broker": {"pid": 7, "version": "1.2.3", "uptime": 90.5, "address": "127.0.0.1:8420", "listening": True},
        "prompts": [
            {"title": "Unlock\x1b", "state": "open", "user": "git", "uid": 1000, "command": "pass sql-root", "age": 61,
             "remaining": 3500, "delivery": {"matrix": "delivered"}, "person": "anna", "views": 1, "links": 1,
             "followers": ["root, by borg"], "unit": "backup.service", "key": "ABCD"},
        ],
        "notifiers": [
            {"name": "matrix", "kind": "command", "end_to_end": True, "delivered": 1, "failed": 2, "why": "took long"},
            {"name": "mail", "kind": "command", "end_to_end": False, "delivered": 0, "failed": 0, "why": ""},
        ],
    }  # fmt: skip
    monkeypatch.setattr("fake_broker.status_of", lambda broker: status)
    with admin_socket([Broker()], runtime):
        assert run(["status"]) == 0
        shown = capsys.readouterr().out
        assert run(["status", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {**{key: status[key] for key in ("broker", "prompts", "notifiers")}, "secrets": []}
    for text in (
        "version 1.2.3, pid 7, up 1 min, page at 127.0.0.1:8420, listening",
        "notifier matrix: command, end-to-end, 1 delivered, 2 failed, last: took long",
        "notifier mail: command, not end-to-end, 0 delivered, 0 failed, not used yet",
        "Unlock\\x1b", "git (uid 1000)", "pass sql-root", "anna, by matrix: delivered", "root, by borg",
        "backup.service",
    ):  # fmt: skip
        assert text in shown


def test_a_broker_that_says_something_else_is_told(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal is repeated in words; nonsense is called malformed."""
    with admin_socket([Broker()], runtime):
        for said, text in (
            ({"event": "refused", "why": "quota", "text": "too many connections"}, "too many connections"),
            ({"event": "status", "broker": 1}, "malformed status"),
            ({"event": "status", "broker": {}, "prompts": [1], "notifiers": []}, "malformed prompts"),
        ):
            monkeypatch.setattr("fake_broker.status_of", lambda broker, said=said: said)
            assert run(["status"]) == 1
            assert text in capsys.readouterr().err


def test_a_stale_socket_counts_as_no_broker(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broker that was killed leaves its socket behind."""
    with admin_socket([Broker()], runtime):
        pass
    assert run(["status"]) == 0
    assert "no broker" in capsys.readouterr().out


def test_a_socket_in_a_directory_that_others_may_write_is_not_trusted(
    runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody could have put it there."""
    with admin_socket([Broker()], runtime):
        (runtime / "admin").chmod(0o777)
        assert run(["status"]) == 1
        assert "mode 777" in capsys.readouterr().err
        (runtime / "admin").chmod(0o700)


# answer, from standard input


def test_a_secret_from_standard_input_travels_byte_for_byte(runtime: Path) -> None:
    """First line: the link; all that follows is the secret, newline, NUL and all."""
    broker = Broker()
    broker.right = b"\x00\xff two\nlines\n"
    with admin_socket([broker], runtime):
        done = call("answer", "--stdin", feed=link_of(broker) + broker.right)
    assert (done.returncode, done.stdout, done.stderr) == (0, "accepted\n", "")


def test_a_wrong_secret_is_code_3(runtime: Path) -> None:
    """Scripts can tell it from everything else; the prompt goes on under a link that they do not have."""
    broker = Broker()
    with admin_socket([broker], runtime):
        done = call("answer", "--stdin", feed=link_of(broker) + b"wrong")
    assert done.returncode == 3
    assert "wrong" in done.stderr


def test_a_further_question_is_code_5(runtime: Path) -> None:
    """A script answers one question; the next one goes on under a link that it does not have."""
    broker = Broker()
    broker.outcome = "next"
    with admin_socket([broker], runtime):
        done = call("answer", "--stdin", feed=link_of(broker) + b"weak")
    assert done.returncode == 5
    assert "another question follows" in done.stderr


@pytest.mark.parametrize(
    ("kind", "options", "feed", "code", "answer"),
    [
        ("confirm", ["--confirm"], b"", 0, "yes"),
        ("confirm", ["--deny"], b"", 0, "no"),
        ("notice", ["--confirm"], b"", 0, "yes"),
        ("passphrase", ["--deny"], b"", 0, "no"),
        ("passphrase", ["--confirm"], b"", 2, None),
        ("confirm", [], b"yes", 2, None),
        ("enrolment", ["--confirm"], b"", 1, None),
        ("passphrase", [], b"", 2, None),
        ("confirm", ["--confirm"], b"x", 2, None),
        ("passphrase", [], b"x" * 8193, 2, None),
        ("passphrase", ["--confirm", "--deny"], b"", 2, None),
        ("confirm", ["--confirm", "--digits", "4x"], b"", 2, None),
        ("confirm", ["--deny", "--digits", "42"], b"", 2, None),
    ],
)
def test_what_answers_what(
    runtime: Path, kind: str, options: list[str], feed: bytes, code: int, answer: str | None
) -> None:
    """A secret answers no yes-or-no, a yes answers no secret, and nothing is sent by mistake."""
    broker = Broker(PROMPT._replace(kind=kind))
    with admin_socket([broker], runtime):
        done = call("answer", "--stdin", *options, feed=link_of(broker) + feed)
    assert done.returncode == code, done.stderr
    assert [given.answer for given in broker.answers] == ([answer] if answer else [])


def test_digits_come_from_the_option_and_are_needed_where_the_session_shows_them(runtime: Path) -> None:
    """Without a terminal to ask on, a yes that needs digits is refused before anything is sent."""
    broker = Broker(PROMPT._replace(kind="confirm", digits=True))
    with admin_socket([broker], runtime):
        assert call("answer", "--stdin", "--confirm", feed=link_of(broker)).returncode == 1
        assert broker.answers == []
        assert call("answer", "--stdin", "--confirm", "--digits", "07", feed=link_of(broker)).returncode == 0
    assert broker.answers[0].digits == "07"


@pytest.mark.parametrize(
    "link", [b"", b"\n", b"not a link\n", b"http://unlock.test/x#y\n", b"\xff\n", b"x" * 5000 + b"\n"]
)
def test_what_is_no_link_is_told_and_not_repeated(link: bytes) -> None:
    """Plain http to another host is none either."""
    done = call("answer", "--stdin", feed=link + b"secret")
    assert done.returncode in (1, 2)
    assert "link" in done.stderr
    assert "not a link\n" not in done.stderr


def test_over_https_the_certificate_must_be_trusted(tmp_path: Path) -> None:
    """Verified by default; --ca-file names the authorities of an own one."""
    broker = Broker()
    authority = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with page_server(broker, context) as url:
        feed = link_of(broker, url) + broker.right
        done = call("answer", "--stdin", feed=feed)
        assert done.returncode == 1
        assert "certificate is not trusted" in done.stderr
        assert broker.answers == []
        done = call("answer", "--stdin", "--ca-file", str(authority), feed=feed)
    assert (done.returncode, done.stdout) == (0, "accepted\n"), done.stderr


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ((302, {"Location": "https://elsewhere.test/"}, b""), "redirect"),
        ((200, {}, b"x" * 200_000), "too long"),
        ((200, {}, b"<html>"), "malformed line"),
        ((200, {}, b"[" * 60_000), "malformed line"),
        ((404, {}, b"<html>"), "no broker knows this link"),
        ((502, {}, b"<html>"), "502"),
        ((410, {}, b'{"state": "expired"}'), "the link expired"),
        ((410, {}, b'{"state": 1}'), "malformed"),
    ],
)
def test_whatever_a_server_says_is_bounded_and_told(override: tuple[int, dict[str, str], bytes], text: str) -> None:
    """The other end may be anybody's."""
    with page_server(Broker(), override=override) as url:
        done = call("answer", "--stdin", feed=link_of(Broker(), url) + b"x")
    assert done.returncode in (1, 4)
    assert text in done.stderr


def test_a_server_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the whole exchange, and does not begin anew with every byte."""
    monkeypatch.setattr(doors, "REPLY_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    connection.sendall(b"x")
                    select.select([connection], [], [], 0.05)

        server = threading.Thread(target=drip)
        server.start()
        door = doors.RemoteDoor(f"http://127.0.0.1:{listener.getsockname()[1]}/", None)
        with pytest.raises(Unreachable, match="timed out"):
            door.post("x", "hello", {})
        server.join(10)
        assert not server.is_alive()


def test_a_broker_that_dies_in_mid_sentence_is_told(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its broken connection is not taken for a reader of ours that left."""
    with admin_socket([], runtime):  # it has no prompts to speak of: the thread that serves us fails and hangs up
        monkeypatch.setattr("threading.excepthook", lambda *args: None)
        done = call("status")
    assert done.returncode == 1
    assert "went away" in done.stderr


def test_a_dead_server_is_told() -> None:
    """Nobody listens on that port any more."""
    broker = Broker()
    with page_server(broker) as url:
        pass
    done = call("answer", "--stdin", feed=link_of(broker, url) + b"x")
    assert done.returncode == 1
    assert "connection refused" in done.stderr


# answer, at a terminal


@contextlib.contextmanager
def at_terminal(*arguments: str) -> Iterator[Terminal]:
    with Terminal([UNLATCH, *arguments], os.environ) as terminal:
        yield terminal


def test_one_prompt_is_shown_and_answered_without_echo(runtime: Path) -> None:
    """Everything the page shows; a wrong passphrase goes on with the next try."""
    asker = AskerInfo("pass sql-root", system_unit="backup.service")
    broker = Broker(PROMPT._replace(text="Two\nlines\x1b[2J", key=Key("Anna", "ABCD"), asker=asker, keeper="agent"))
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        terminal.expect("passphrase:")
        for text in ("web03", "git (uid 1000)", "Two", "lines\\x1b[2J", "Anna ABCD", "pass sql-root", "backup.service",
                     "amber falcon", "1 h", "gpg-agent"):  # fmt: skip
            assert text in terminal.screen
        assert not terminal.echoes()
        terminal.type("\n")
        terminal.expect("nothing was typed")
        terminal.expect("passphrase:")
        terminal.type("wrong\n")
        terminal.expect("unlatch: wrong")
        terminal.expect("passphrase:")
        terminal.type("correct horse\n")
        terminal.expect("accepted")
        assert terminal.end() == 0
        assert "wrong\n" in terminal.screen
        assert "correct horse" not in terminal.screen


def test_of_several_prompts_one_is_chosen_by_number(runtime: Path) -> None:
    """The list tells them apart: account and times by the broker's word, then words, title and command as claimed."""
    brokers = [Broker(PROMPT._replace(title=title)) for title in ("First", "Second")]
    with admin_socket(brokers, runtime), at_terminal("answer") as terminal:
        terminal.expect("1  git@web03, asked 1 min ago, 58 min left: words amber falcon, First, by pass")
        terminal.expect("answer which one (1-2)?")
        terminal.type("3\n")
        terminal.expect("answer which one (1-2)?")
        terminal.type("2\n")
        terminal.expect("passphrase:")
        terminal.type("correct horse\n")
        assert terminal.end() == 0
    assert (len(brokers[0].answers), len(brokers[1].answers)) == (0, 1)


def test_an_asker_does_not_word_the_yes(runtime: Path) -> None:
    """Whatever it calls the answers, we ask our own question; its words stand among the claims."""
    broker = Broker(PROMPT._replace(kind="confirm", ok="Refuse this and lock the key?", notok="Go\non"))
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        terminal.expect("\n| yes means  Refuse this and lock the key?\n")
        terminal.expect("| no means   Go on\n")
        terminal.expect("allow it? (yes/no)")
        terminal.type("no\n")
        terminal.expect("denied")
    assert [answer.answer for answer in broker.answers] == ["no"]


def test_what_an_asker_says_is_marked_on_every_line(runtime: Path) -> None:
    """However long, wide or broken a claim is, none of its lines poses as the kernel's word or as a question."""
    fake = "host  db1" + " " * 70 + "user  root (uid 0)\n  user  root (uid 0)\n\nallow it? (yes/no)"
    broker = Broker(
        PROMPT._replace(
            title=fake, text="漢" * 300, error=fake, label=fake, key=Key("x" * 300), asker=AskerInfo(command=fake)
        )
    )
    broker.stamp["followers"] = [fake]
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        terminal.expect("\npassphrase:")
    lines = terminal.screen.split("\n")
    sure = lines.index("checked by the kernel:")
    said = lines.index("as reported by web03:")
    assert lines[sure + 1 : said][:2] == ["  host       web03", "  user       git (uid 1000)"]
    assert len(lines[sure + 1 : said]) == 4
    assert all(line.startswith("| ") for line in lines[said + 1 : -1])
    assert all(len(line) + sum(not c.isascii() for c in line) <= 80 for line in lines)


def test_a_claim_in_the_list_stays_in_its_entry(runtime: Path) -> None:
    """A title of any length begins behind the account, is cut, and goes on below itself."""
    brokers = [Broker(PROMPT._replace(title=title)) for title in (" " * 70 + "2  root@db1" + "x" * 300, "Second")]
    with admin_socket(brokers, runtime), at_terminal("answer") as terminal:
        terminal.expect("answer which one (1-2)?")
    *entries, _ = terminal.screen.split("\n")
    assert [line[:14] for line in entries if not line.startswith("     ")] == ["  1  git@web03", "  2  git@web03"]
    assert len(entries) <= 6


def test_a_claim_in_the_status_stays_in_its_row(runtime: Path) -> None:
    """A title that a terminal would break does not pose as a row of its own."""
    broker = Broker(PROMPT._replace(title="x" * 200 + " user root (uid 0)"))
    with admin_socket([broker], runtime):
        lines = call("status").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "user root" in "".join(line for line in lines if line.startswith("  "))


@pytest.mark.parametrize("text", ["Enter passphrase for /k:", "Enter passphrase\n  for /k"])
def test_a_text_that_says_the_title_again_is_shown_once(runtime: Path, text: str) -> None:
    """As ssh-add and gpg ask; any other text is shown below the title."""
    broker = Broker(PROMPT._replace(title="Enter passphrase for /k", text=text))
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        terminal.expect("\npassphrase:")
    assert terminal.screen.count("Enter passphrase") == 1


def test_an_answer_of_which_nobody_knows_is_code_6(runtime: Path) -> None:
    """Neither accepted nor wrong: the last try for a key, or a card's PIN."""
    broker = Broker()
    broker.right_outcome = "unknown"
    with admin_socket([broker], runtime):
        done = call("answer", "--stdin", feed=link_of(broker) + broker.right)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("unlatch: handed on, and nobody says whether it was right")


def test_a_yes_is_asked_for_in_full(runtime: Path) -> None:
    """Neither Enter nor "y" allows anything; digits are asked where the session shows them."""
    broker = Broker(PROMPT._replace(kind="confirm", digits=True))
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        for typed in ("\n", "y\n", "yes\n"):
            terminal.expect("allow it? (yes/no)")
            terminal.type(typed)
        for typed in ("4\n", "42\n"):
            terminal.expect("the two digits")
            terminal.type(typed)
        terminal.expect("accepted")
        assert terminal.end() == 0
    assert [(given.answer, given.digits) for given in broker.answers] == [("yes", "42")]


def test_a_new_passphrase_is_typed_twice(runtime: Path) -> None:
    """Two that differ are asked for again."""
    broker = Broker(PROMPT._replace(kind="new-passphrase"))
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        for first, second in (("one", "two"), ("correct horse", "correct horse")):
            terminal.expect("passphrase:")
            terminal.type(f"{first}\n")
            terminal.expect("passphrase again:")
            terminal.type(f"{second}\n")
        assert terminal.end() == 0


@pytest.mark.parametrize("typed", ["\x03", "\x04"])
def test_leaving_keeps_the_prompt_open_and_the_terminal_sane(runtime: Path, typed: str) -> None:
    """Ctrl-C and Ctrl-D send nothing and bring the echo back."""
    broker = Broker()
    with admin_socket([broker], runtime), at_terminal("answer") as terminal:
        terminal.expect("passphrase:")
        assert not terminal.echoes()
        terminal.type(typed)
        terminal.expect("interrupted")
        assert terminal.echoes()
        assert terminal.end() == 130
    assert broker.answers == []


def test_a_link_can_be_typed_without_echo(runtime: Path) -> None:
    """--stdin at a terminal asks for link and secret, and shows neither."""
    broker = Broker()
    with page_server(broker) as url, at_terminal("answer", "--stdin") as terminal:
        terminal.expect("link (not shown):")
        terminal.type(link_of(broker, url).decode())
        terminal.expect("passphrase:")
        terminal.type("correct horse\n")
        assert terminal.end() == 0
        assert broker.link.fragment not in terminal.screen


def test_without_a_terminal_only_what_needs_none_is_done(runtime: Path) -> None:
    """A clear error, before anything is opened; one prompt can be denied without a question."""
    broker = Broker()
    with admin_socket([broker], runtime):
        done = call("answer")
        assert done.returncode == 1
        assert "no terminal" in done.stderr
        assert "--stdin" in done.stderr
        assert broker.posts == []
        assert call("answer", "--deny").returncode == 0
    assert broker.answers[0].answer == "no"


def test_nothing_to_answer_is_code_1(runtime: Path) -> None:
    """With a broker that has nothing, and without a broker."""
    assert "no broker is running" in call("answer", "--deny").stderr
    with admin_socket([], runtime):
        done = call("answer", "--deny")
    assert done.returncode == 1
    assert "nothing is waiting" in done.stderr


# log


def test_the_log_reads_the_rotated_file_first_and_passes_over_what_is_broken(
    runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken lines are counted, not fatal."""
    runtime.mkdir()
    old = {"time": "2025-01-01T00:00:00+00:00", "event": "prompt", "user": "git", "uid": 1000, "title": "a \x1b title"}
    new = {"time": datetime.now(UTC).isoformat(), "event": "answer", "outcome": "accepted", "why": ""}
    (runtime / "audit.jsonl.1").write_text(json.dumps(old) + "\n" + '{"time": "2025-\n')
    broken = b"\xff\n[1]\n{}\n" + b"[" * 70_000 + b"\n" + b'{"time": 3}\n\n'
    (runtime / "audit.jsonl").write_bytes(broken + json.dumps(new).encode())
    assert run(["log"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == '2025-01-01T00:00:00+00:00  prompt      user=git uid=1000 title="a \\u001b title"'
    assert out.splitlines()[1].endswith("answer      outcome=accepted")
    assert "broken lines passed over" in err
    assert run(["log", "--json", "--since", "1h"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [new]


def test_a_log_that_is_no_file_holds_up_nobody(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its directory is the broker's, and root reads it: a fifo there, or what a link leads to, is not opened."""
    runtime.mkdir()
    os.mkfifo(runtime / "fifo")
    (runtime / "audit.jsonl").symlink_to(runtime / "fifo")
    assert run(["log"]) == 1
    assert f"{runtime}/audit.jsonl is not a regular file" in capsys.readouterr().err


def test_no_value_in_the_log_poses_as_another(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is not a plain word is quoted: no blank of any kind begins a name=value of its own."""
    runtime.mkdir()
    for text in ("x\tuid=0", "x\nuid=0", "x\u2003uid=0", "x\u3164uid=0", 'x" uid=0', "a=b", "ä", "\u202eb"):
        record = {"time": "2025-01-01T00:00:00Z", "event": "prompt", "command": text, "unit": "b@1.service"}
        (runtime / "audit.jsonl").write_text(json.dumps(record) + "\n")
        assert run(["log"]) == 0
        said = capsys.readouterr().out.partition("command=")[2].removesuffix(" unit=b@1.service\n")
        assert json.loads(said, strict=False) in (text, text.encode("unicode_escape").decode())


@pytest.mark.parametrize("since", ["2h", "7200s", "1d", "hour ago"])
def test_since_takes_spans_and_times(runtime: Path, since: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is older is left out."""
    runtime.mkdir()
    now = datetime.now(UTC)
    times = [(now - timedelta(days=days)).isoformat() for days in (0, 400)]
    (runtime / "audit.jsonl").write_text("".join(json.dumps({"time": time, "event": "x"}) + "\n" for time in times))
    since = (now - timedelta(hours=1)).replace(tzinfo=None).isoformat() + "Z" if since == "hour ago" else since
    assert run(["log", "--json", "--since", since]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_log_reads_the_file_that_the_configuration_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no file at all is an empty log."""
    assert run(["log"]) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "unlatch.toml").write_text(f'audit.file = "{tmp_path}/trail"')
    (tmp_path / "trail").write_text('{"time": "2025-01-01T00:00:00Z", "event": "view"}\n')
    assert run(["log"]) == 0
    assert capsys.readouterr().out == "2025-01-01T00:00:00Z  view\n"


# config check, serve


def test_config_check_says_who_is_rung_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clean file is exit 0."""
    (tmp_path / "unlatch.toml").write_text(
        'people.anna = { users = ["ghost", 7], notify = ["chat"] }\n'
        'notify.chat.command = ["/bin/sh"]\nnotify.spare.command = ["/bin/sh"]\n'
    )
    assert run(["config", "check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/unlatch.toml: no mistakes",
        "links start with http://localhost:8420/",
        "anna is rung for ghost, 7 by chat",
        "every other user is refused",
        "no user of this host is called ghost (yet)",
        "the notifier spare is used by nobody",
    ]


def test_config_check_lists_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, for editors; what they amount to on standard error; exit 1."""
    file = tmp_path / "other.toml"
    file.write_text("listen = 1\nnotify.x = {}\n")
    assert run(["config", "check", "--config", str(file)]) == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[:2] for line in out.splitlines()] == [[f"{file}:1", "listen"], [f"{file}:2", "notify.x"]]
    assert "has 2 mistakes" in err
    assert "the broker will not start" in err


def test_config_check_says_that_nobody_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the host's file, where a service asks us: its logins read that file too."""
    found = Loaded(Settings(), (Mistake(served.HOST_CONFIG, 1, "pam.mode", "not accepted"),), served.HOST_CONFIG)
    assert len(summary(found)) == 2  # no service of this machine asks us
    monkeypatch.setattr(pam_places, "uses", lambda: (pam_places.Use("sshd", 4, "required", "", first=True),))
    assert summary(found)[-1] == "nor is anybody let in where a file of /etc/pam.d names pam_unlatch.so"
    assert len(summary(found._replace(path="/home/alice/unlatch.toml"))) == 2


def test_serve_does_not_start_with_a_fatal_mistake(tmp_path: Path) -> None:
    """All are listed, exit 1."""
    (tmp_path / "unlatch.toml").write_text("listen = 1\nlink.views = 0\n")
    done = call("serve")
    assert done.returncode == 1
    assert done.stderr.count("unlatch: config: ") == 2
    assert "error: " in done.stderr


def test_sigterm_at_a_prompt_brings_the_echo_back(runtime: Path) -> None:
    """A terminal is never left mute."""
    with admin_socket([Broker()], runtime), at_terminal("answer") as terminal:
        terminal.expect("passphrase:")
        child = int(Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()[0])
        os.kill(child, signal.SIGTERM)
        assert terminal.end() == 143
        assert terminal.echoes()
