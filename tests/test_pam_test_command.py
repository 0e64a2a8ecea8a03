"""``unlatch pam test``: the real module under the real libpam, at a terminal; the service says what it is told to."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from house import PATH, UNLATCH
from real import absent
from terminal import Terminal
from waiting import until

from unlatch.cli import pam_checks, pam_lines
from unlatch.cli.main import run
from unlatch.cli.pam_checks import Walk
from unlatch.doctor.check import Situation
from unlatch.pam.accounts import Account
from unlatch.settings import Person, Settings
from unlatch.wire import pam as wire

ROOT = Path(__file__).parents[1]
SETTINGS = '[pam]\nmode = "either"\nseconds = 600\n[people.anna]\nusers = ["root"]\nnotify = ["chat"]\n'
SETTINGS += '[notify.chat]\ncommand = ["/bin/true"]\n'


class Service:
    """A service that says these words to everybody, and remembers what it was told."""

    def __init__(self, directory: Path, words: Sequence[tuple[str, str]]) -> None:
        self.path = directory / "pam.sock"
        self.hellos: list[wire.Hello] = []
        self.answers: list[bytes] = []
        self.left = threading.Event()
        self._words = words
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(self.path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # shut down
                return
            with client:
                with contextlib.suppress(BrokenPipeError):
                    self._converse(client)
                if not _heard(client):
                    self.left.set()

    def _converse(self, client: socket.socket) -> None:
        self.hellos.append(wire.hello_from_packet(client.recv(wire.MAX_PACKET)))
        for word, text in self._words:
            client.send(wire.word_to_packet(word, text))
            if word in ("ask", "hide"):
                packet = _heard(client)
                if not packet:
                    return
                self.answers.append(wire.answer_from_packet(packet))

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


def _heard(client: socket.socket) -> bytes:
    """The next packet, or nothing: a module that is killed before it read all leaves a reset connection (unix(7))."""
    try:
        return client.recv(wire.MAX_PACKET)
    except ConnectionResetError:
        return b""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pam_unlatch.so, as the package has it."""
    if os.geteuid() != 0:
        absent("the module believes root's service only")
    folder = tmp_path_factory.mktemp("module")
    command = [sys.executable, str(ROOT / "tools/pam_module.py"), "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    return folder / "pam_unlatch.so"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which the module looks for the service: root's, with a short name."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def walk(place: Path, module: Path, *words: str) -> Terminal:
    """A person at a terminal who walks through a login of root."""
    (place / "unlatch.toml").write_text(SETTINGS)
    short = place / "pam.so"  # fits on a line
    if module.exists():
        shutil.copy(module, short)
    command: list[str | Path] = [UNLATCH, "pam", "test", "root", "--module", short, "--socket", place / "pam.sock"]
    environ = {"PATH": PATH, "HOME": "/nonexistent", "UNLATCH_CONFIG": str(place / "unlatch.toml"), "LANG": "C.UTF-8"}
    environ["TMPDIR"] = str(place)
    return Terminal([*command, *words], environ)


@pytest.fixture
def service(place: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    started = Service(place, request.param)
    yield started
    started.close()


ASKS = (("say", "Here it is:\n▀▄ \x1b[7mcode\x1b[0m"), ("ask", "Response: "))


@pytest.mark.parametrize("service", [(*ASKS, ("allow", ""))], indirect=True)
def test_it_shows_what_a_login_shows_and_what_to_write(service: Service, place: Path, module: Path) -> None:
    """What is in place, the texts as they are, the answer to the service, PAM's verdict, and the lines; exit 0."""
    with walk(place, module) as terminal:
        terminal.expect(f"ok      module             {place}/pam.so\n")
        terminal.expect(f"the service listens at {place}/pam.sock")
        terminal.expect("mode either        anna may approve, 6 times an hour at most")
        terminal.expect("/etc/pam.d/sshd does not ask us yet")
        assert "patience" not in terminal.screen  # what sshd needs for it is among the lines
        terminal.expect("Here it is:\n▀▄ \x1b[7mcode\x1b[0m\n")
        terminal.expect("Response: ")
        assert terminal.echoes()
        terminal.type("abcdefghij\n")
        terminal.expect("root would be let in (PAM_SUCCESS)")
        for line in pam_lines.lines("sshd", 600):
            terminal.expect(line)
        assert terminal.end() == 0
    assert service.answers == [b"abcdefghij"]
    arguments = ("mode=either", "after_first_factor")
    assert service.hellos == [wire.Hello("sshd", "root", tty="ssh", arguments=arguments)]


DENIES = (("hide", "PIN: "), ("warn", "unlatch: not accepted"), ("deny", ""))


@pytest.mark.parametrize("service", [DENIES], indirect=True)
def test_a_denied_login_is_code_3_and_where_the_reason_is(service: Service, place: Path, module: Path) -> None:
    """Nothing is recommended then; another service is told its terminal, and --mode goes before everything."""
    with walk(place, module, "--service", "su", "--mode", "challenge") as terminal:
        terminal.expect("PIN: ")
        assert not terminal.echoes()
        terminal.type("guess\n")
        terminal.expect("unlatch: not accepted")
        terminal.expect("unlatch: error: the login is denied (PAM_AUTH_ERR)")
        terminal.expect("journalctl -u unlatch-pam.service")
        assert terminal.end() == 3
        assert terminal.echoes()
        assert "/etc/pam.d/su," not in terminal.screen
    assert service.hellos[0].service == "su"
    assert service.hellos[0].tty.startswith("/dev/pts/")
    assert service.hellos[0].arguments == ("mode=challenge", "after_first_factor")


@pytest.mark.parametrize("service", [(("fail", ""),)], indirect=True)
def test_a_service_that_fails_lets_nobody_in(service: Service, place: Path, module: Path) -> None:
    """It is denied, and called by PAM's name."""
    with walk(place, module) as terminal:
        terminal.expect("it could not be confirmed (PAM_AUTHINFO_UNAVAIL)")
        terminal.expect('or, where no service answered: "journalctl -g pam_unlatch -n 5"')
        assert terminal.end() == 3
    assert len(service.hellos) == 1


@pytest.mark.parametrize("service", [(("ask", "waits:"),), (("say", "waits:"), ("wait", ""))], indirect=True)
def test_ctrl_c_ends_it_at_a_prompt_and_while_a_phone_rings(service: Service, place: Path, module: Path) -> None:
    """The service sees the login go, the terminal is as before, and no file is left."""
    before = set(Path("/tmp").glob("unlatch-pam-*"))
    with walk(place, module) as terminal:
        terminal.expect("waits:")
        made = set(Path("/tmp").glob("unlatch-pam-*")) - before  # perhaps those of other tests as well
        assert made
        assert not list(place.glob("unlatch-pam-*"))  # TMPDIR may be a directory of the user's who called su
        terminal.type("\x03")
        terminal.expect("unlatch: interrupted")
        assert terminal.end() == 130
        assert terminal.echoes()
    assert service.left.wait(20)
    assert "would be let in" not in terminal.screen
    until(lambda: not any(each.exists() for each in made), "the end of the directory")


def test_without_module_or_service_nothing_is_walked_through(place: Path) -> None:
    """Both are named, with what to type; exit 1."""
    if os.geteuid() != 0:
        absent("only root may walk through root's login")
    with walk(place, place / "missing.so") as terminal:
        terminal.expect(f"PROBLEM module             {place}/pam.so is not installed")
        terminal.expect(f"nobody listens at {place}/pam.sock")
        terminal.expect("$ systemctl enable --now unlatch-pam.socket")
        terminal.expect("unlatch: error: there is nothing to walk through until that is mended")
        assert terminal.end() == 1


def test_a_directory_that_others_may_write_is_not_believed(place: Path, module: Path) -> None:
    """As the module would refuse it."""
    place.chmod(0o777)
    service = Service(place, ASKS)
    with walk(place, module) as terminal:
        terminal.expect("others than root could put a socket into")
        terminal.expect(f"$ ls -ld {place}")
        assert terminal.end() == 1
    service.close()
    assert service.hellos == []


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("nobody-of-this-name",), "nobody-of-this-name: there is no such account", 1),
        (("root", "--service", "../sshd"), "a service is the name of a file in /etc/pam.d", 2),
        (("root", "--mode", "open"), "invalid value for '--mode'", 2),
    ],
)
def test_what_cannot_be_tried_is_said(words: tuple[str, ...], said: str, code: int, place: Path) -> None:
    """An unknown account, no service's name, no mode; before anybody is asked."""
    with Terminal([UNLATCH, "pam", "test", *words], {"PATH": PATH, "HOME": str(place)}) as terminal:
        terminal.expect(said)
        assert terminal.end() == code


def test_a_walk_needs_a_terminal(place: Path) -> None:
    """Without one it says how to have it over ssh."""
    environ = {"PATH": PATH, "HOME": str(place)}
    done = subprocess.run(
        [UNLATCH, "pam", "test", "root"], env=environ, stdin=subprocess.DEVNULL, capture_output=True,
        start_new_session=True, timeout=30, check=False, text=True,
    )  # fmt: skip
    if os.geteuid() == 0:
        assert (done.returncode, "ssh -t HOST unlatch pam test root" in done.stderr) == (1, True), done
        assert "unlatch answer" not in done.stderr
    else:
        assert "only root" in done.stderr


def test_nobody_walks_through_the_login_of_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is for root; nothing is asked."""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert run(["pam", "test", "root"]) == 1
    said = capsys.readouterr().err
    assert "only root and root can walk through a login of root" in said
    assert 'as root: "unlatch pam test root"' in said


# What is looked at


ALICE = Account("alice", 4242, 4242, "/home/alice")
WALK = Walk(ALICE, "sshd", "approve", "/x.so", "/x.sock", ())
HERE = Situation("alice", 4242, 4242, "/home/alice", "/home/alice/.gnupg", {}, 0, "")


@pytest.mark.parametrize(
    ("users", "mode", "approvals", "state"),
    [
        (("alice",), "approve", 6, "ok"),
        (("4242",), "either", 6, "ok"),
        (("*",), "approve", 6, "problem"),
        (("*",), "either", 6, "warning"),
        (("bob",), "challenge", 6, "ok"),
        (("alice",), "approve", 0, "warning"),
    ],
)
def test_only_who_is_named_for_the_account_may_approve(
    users: tuple[str, ...], mode: str, approvals: int, state: str
) -> None:
    """By name or uid; a star is not this account's own person."""
    settings = Settings(people=(Person("anna", users, ("chat",)),), pam_approvals=approvals)
    assert pam_checks.rung(WALK._replace(mode=mode), settings, "/etc/unlatch/unlatch.toml", HERE).state == state


@pytest.mark.parametrize(
    ("text", "seconds"), [("LOGIN_TIMEOUT\t\t660\n", 660), ("# LOGIN_TIMEOUT 5\n", 60), ("LOGIN_TIMEOUT 0\n", 0)]
)
def test_login_waits_for_what_login_defs_says(text: str, seconds: int, tmp_path: Path) -> None:
    """A minute where it says nothing."""
    (tmp_path / "login.defs").write_text(text)
    assert pam_checks.login_timeout(str(tmp_path / "login.defs")) == seconds
    assert pam_checks.login_timeout("/nonexistent") == 60


@pytest.mark.parametrize(
    ("service", "there"), [("sshd", True), ("login", True), ("su", True), ("sudo", True), ("vlock", False)]
)
def test_the_lines_stand_in_the_documentation(service: str, there: bool) -> None:
    """What the command prints, docs/logins.md explains, word for word."""
    page = (ROOT / "docs/logins.md").read_text()
    for line in pam_lines.lines(service, 600, there=there):
        assert line.startswith("#") or f"\n{line}\n" in page, line
    assert f"/etc/pam.d/{service}" in page
