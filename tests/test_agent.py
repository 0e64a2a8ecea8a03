"""Our client of gpg-agent, with real agents where that can be, and scripted ones for what no agent would do."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import House
from real import absent, real
from scripted_agent import Scripted
from software_keys import PRESET, SoftwareKeys
from waiting import until

from unlatch.errors import Malformed
from unlatch.gnupg import finding, homes, processes
from unlatch.gnupg.agent import Agent, patiently
from unlatch.gnupg.errors import (
    BrokenPipe,
    CardDaemonEnded,
    Gone,
    GpgError,
    Live,
    NoAgent,
    NoReply,
    TwoAgents,
    UnknownCommand,
)
from unlatch.gnupg.homes import Home
from unlatch.runtime import Untrusted
from unlatch.secret import Secret

UID = os.getuid()


@pytest.fixture
def home(house: House) -> Home:
    """A GnuPG home without keys, and without an agent."""
    for program in ("gpgconf", "gpg-agent", "gpg-connect-agent"):
        real(program)
    (house.gnupg / "gpg-agent.conf").write_text("disable-scdaemon\n")
    return Home.find(house.environ(), UID, str(house.root))


def agents(house: House) -> list[int]:
    """The pids of this house's agents."""
    return [pid for pid in house.processes() if Path(f"/proc/{pid}/comm").read_text() == "gpg-agent\n"]


# Starting


def test_none_is_started_unless_that_is_wanted(house: House, home: Home) -> None:
    """A check changes nothing."""
    with pytest.raises(NoAgent, match=str(house.gnupg)):
        Agent.open(home, start=False)
    assert agents(house) == []


def test_ten_that_start_at_once_start_one(house: House, home: Home) -> None:
    """Whoever is first; all talk to the same one."""
    found: list[int] = []

    def look() -> None:
        with Agent.open(home, seconds=20) as agent:
            found.append(agent.pid)

    threads = [threading.Thread(target=look) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 10
    assert set(found) == set(agents(house))
    assert len(agents(house)) == 1


def test_what_we_start_inherits_nothing_of_ours(house: House, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It outlives us: own session, own parent, no variable and no descriptor but what it needs."""
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    with tempfile.TemporaryFile() as leak:
        os.set_inheritable(leak.fileno(), True)
        with Agent.open(home) as agent:
            pid = agent.pid
    process = Path(f"/proc/{pid}")
    assert b"SECRET_OF_THE_CALLER" not in (process / "environ").read_bytes()
    assert os.getsid(pid) != os.getsid(0)
    assert int((process / "stat").read_text().rpartition(")")[2].split()[1]) != os.getpid()
    assert not any("#" in os.readlink(entry) for entry in (process / "fd").iterdir())


def test_a_default_home_is_made_as_gnupg_makes_it(house: House) -> None:
    """gpg makes ~/.gnupg at the first use; so does the first agent. No other home is."""
    bare = {name: text for name, text in house.environ().items() if name != "GNUPGHOME"}
    home = Home.find(bare, UID, "/nowhere")
    assert home.is_default
    with Agent.open(home) as agent:
        agent.ask("NOP")
    assert oct(os.stat(home.directory).st_mode & 0o777) == "0o700"
    missing = Home.find(bare | {"GNUPGHOME": str(house.root / "none")}, UID, "/nowhere")
    with pytest.raises(NoAgent):
        Agent.open(missing)
    assert not (house.root / "none").exists()


def test_nobody_starts_an_agent_for_somebody_else(home: Home) -> None:
    """It would be root's agent in another's home, which that other could never use."""
    with pytest.raises(NoAgent, match="only its user"):
        Agent.open(home._replace(uid=UID + 1))


def test_one_that_cannot_start_says_why(house: House, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be, a program that is not there: the reason is told, nothing hangs."""
    with pytest.raises(NoAgent, match="error running"):
        Agent.open(home._replace(directory=f"{home.directory}/none"))
    monkeypatch.setattr(homes, "_PATH", "/nowhere")
    with pytest.raises(NoAgent, match="gpgconf: no such file or directory"):
        Agent.open(home)


# Places


def test_a_socket_that_a_dead_agent_left_is_no_agent(house: House, home: Home) -> None:
    """It is there, and refuses; a new agent takes its place."""
    with Agent.open(home) as agent:
        place, first = agent.socket, agent.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: not agents(house), "the agent's end")
    assert os.path.exists(place)
    with pytest.raises(NoAgent):
        Agent.open(home, start=False)
    with Agent.open(home) as agent:
        assert (agent.socket, agent.pid) == (place, *agents(house))


def test_an_agent_that_ends_while_it_greets_is_no_agent(home: Home) -> None:
    """It accepted, and hung up; whoever wants one may start one."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(home.sockets()[0])
        listener.listen()

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NoAgent):
            Agent.open(home, start=False)
        thread.join()


@pytest.mark.parametrize(
    "text",
    [
        "%Assuan%\nsocket={target}\n",
        "%Assuan%\nsocket=${{ELSEWHERE}}/S${{NOTHING}}.gpg-agent\n",
        "%Assuan%\nsocket={again}\n",
        "%Assuan%\nsocket={target}\nmore\n",
        "%Assuan%\nsocket={target}",
        "%Assuan%\r\nsocket={target}\r\n",
        "%Assuan% \nsocket={target}\n",
        "%Assuan%\n\nsocket={target}\n",
        "%Assuan%\n#\nsocket={target}\n",
        "%Assuan%\nsocket = {target}\n",
        "%Assuan%\nsocket={target} \n",
        "%Assuan%\nsocket=${{ELSEWHERE/S.gpg-agent\n",
        "%Assuan%\nsocket=$ELSEWHERE/S.gpg-agent\n",
        "%Assuan%\nsocket=\n",
        "%Assuan%\nsocket={twice}\n",
        " %Assuan%\nsocket={target}\n",
        "%Assuan%\nsocket={target}\n{long}\n",
        "",
    ],
)
def test_a_redirection_leads_where_it_leads_gnupg(
    house: House, home: Home, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the socket's place that names another: we follow if and only if gpg-connect-agent does."""
    elsewhere = house.root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    monkeypatch.setenv("ELSEWHERE", str(elsewhere))
    place = Path(
        next(filter(os.path.isdir, (os.path.dirname(each) for each in reversed(home.sockets())))), "S.gpg-agent"
    )
    target = Agent.open(home._replace(directory=str(elsewhere), is_default=False))
    with target:
        words = {
            "target": target.socket,
            "again": house.root / "again",
            "twice": house.root / "twice",
            "long": "x" * 512,
        }
        (house.root / "again").write_text("%Assuan%\nsocket={target}\n".format(**words))
        (house.root / "twice").write_text("%Assuan%\nsocket={again}\n".format(**words))
        if target.socket != str(elsewhere / "S.gpg-agent"):  # /run/user/UID is there
            (elsewhere / "S.gpg-agent").symlink_to(target.socket)
        place.write_text(text.format(**words))
        command = ["gpg-connect-agent", "--no-autostart", "GETINFO pid", "/bye"]
        theirs = subprocess.run(command, env=house.environ(ELSEWHERE=str(elsewhere)), capture_output=True, check=False)
        pid = f"D {target.pid}\n".encode()
        assert theirs.stdout.startswith(pid) or not theirs.stdout
        if theirs.stdout:
            with Agent.open(home, start=False) as ours:
                assert (ours.pid, ours.socket) == (target.pid, str(place))
        else:
            with pytest.raises(NoAgent):
                Agent.open(home, start=False)
    os.kill(target.pid, signal.SIGTERM)


def test_a_socket_whose_path_is_gone_is_not_hidden(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a logout an agent may listen on for a moment; only a sandbox hides, and only then none is started."""
    run = f"{home.directory}/run"
    for module in (homes, finding):
        monkeypatch.setattr(module, "RUN", run)
    place = home.sockets()[1]
    os.makedirs(os.path.dirname(place))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        os.unlink(place)
        assert processes.is_listening(place)
        assert finding.is_hidden(home) == ""
        monkeypatch.setattr(processes, "is_mounted", lambda directory: directory == run)
        assert finding.is_hidden(home) == place
    assert not processes.is_listening(place)
    assert finding.is_hidden(home) == ""


def test_what_is_mounted_is_known() -> None:
    """By the kernel's list of this namespace; a directory on a mount is none."""
    assert processes.is_mounted("/proc")
    assert not processes.is_mounted("/proc/self")
    assert not processes.is_mounted("/nowhere")


LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print(flush=True)
input()
"""


def test_somebody_elses_process_is_not_believed(home: Home) -> None:
    """A socket that another user listens on could collect passphrases."""
    if UID != 0:
        absent("only root can start another user's process")
    place = home.sockets()[0]
    os.chmod(home.directory, 0o777)
    os.chmod(os.path.dirname(home.directory), 0o711)
    listener = subprocess.Popen(
        ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-IS", "-c", LISTEN, place],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert listener.stdout is not None
    assert listener.stdout.readline() == b"\n"
    for start in (False, True):
        with pytest.raises(Untrusted, match="65534"):
            Agent.open(home, start=start)
    listener.communicate(b"\n", timeout=20)


def test_root_may_answer(house: House, home: Home) -> None:
    """systemd listens for a user's agent as root; that is no stranger."""
    if UID != 0:
        absent("only root is root")
    with Agent.open(home) as agent, Agent.at(agent.socket, 12345) as same:
        assert same.pid == agent.pid


# Trouble


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_hung_agent_is_told_from_none(home: Home) -> None:
    """Within the limit, before and in a command; nobody starts a second one beside it."""
    with Agent.open(home) as agent:
        with stopped(agent.pid):
            with pytest.raises(NoReply, match=r"did not answer within 0\.2 s"):
                Agent.open(home, seconds=0.2)
            with pytest.raises(NoReply, match=f"pid {agent.pid}") as told:
                agent.ask("GETINFO version", seconds=0.2)
            assert told.value.seconds == 0.2
        with pytest.raises(Gone):  # an answer that comes late would be taken for another's
            agent.ask("NOP")
    with Agent.open(home, start=False) as other:
        assert other.pid == agent.pid


def test_a_hung_agent_whose_queue_is_full(home: Home) -> None:
    """The kernel accepts 64 for it, and no more; that is the same trouble, and as soon over."""
    with Agent.open(home) as agent, contextlib.ExitStack() as crowd, stopped(agent.pid):
        for _ in range(200):
            connection = crowd.enter_context(socket.socket(socket.AF_UNIX))
            connection.setblocking(False)
            try:
                connection.connect(agent.socket)
            except BlockingIOError:
                break
        else:
            pytest.fail("the queue has no end")
        with pytest.raises(NoReply):
            Agent.open(home, seconds=0.2)


def test_a_hung_scdaemon_does_not_hang_us(house: House, home: Home) -> None:
    """The agent waits for it without a limit; we do not, and the agent goes on serving others."""
    real("/usr/lib/gnupg/scdaemon")
    (house.gnupg / "gpg-agent.conf").write_text("")
    with Agent.open(home) as agent:
        with stopped(int(agent.ask("SCD GETINFO pid"))), pytest.raises(NoReply):
            agent.ask("SCD SERIALNO", seconds=0.2)
        with Agent.open(home, start=False) as other:
            assert other.ask("GETINFO version")


def test_an_agent_that_is_killed_in_a_command_is_gone(house: House) -> None:
    """It waits for a person, and dies: the command ends at once."""
    waiting = house.root / "pinentry"
    waiting.write_text(f"#!/bin/sh\n: >{house.root}/asked\nexec sleep 60\n")
    waiting.chmod(0o755)
    made = SoftwareKeys(house, PRESET, pinentry=waiting)
    grip = made.make("a@x")
    made.lock_all()
    with made.agent() as agent:
        agent.ask(f"SIGKEY {grip}")
        agent.ask(f"SETHASH --hash=sha512 {'0' * 128}")

        def kill() -> None:
            until((house.root / "asked").exists, "a pinentry")
            os.kill(agent.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(Gone, match="hung up"):
            agent.ask("PKSIGN")
        killer.join()
        with pytest.raises(Gone):
            agent.ask("NOP")


def test_a_command_that_cannot_be_sent_spoils_nothing(home: Home) -> None:
    """Too long or no line at all: a mistake of the caller's, and the connection is as it was."""
    with Agent.open(home) as agent:
        for line in ("x" * 1001, "NOP\nKILLAGENT"):
            with pytest.raises(ValueError, match="not a line"):
                agent.ask(line)
        with pytest.raises(UnknownCommand):
            agent.ask("x" * 1000)


def test_an_exception_of_the_callers_ends_the_connection(house: House) -> None:
    """Whoever cannot answer an INQUIRE leaves the agent in the middle of a command."""
    made = SoftwareKeys(house)
    grip = made.make("a@x")

    def give_up(_: str) -> bytes:
        raise KeyboardInterrupt

    with made.agent() as agent:
        agent.ask("OPTION pinentry-mode=loopback")
        with pytest.raises(KeyboardInterrupt):
            agent.ask(f"PASSWD --verify {grip}", inquire={"PASSPHRASE": give_up})
        with pytest.raises(Gone):
            agent.ask("NOP")
    with made.agent() as agent:
        assert agent.status(f"KEYINFO {grip}") == [("KEYINFO", f"{grip} D - - - P - - -")]


@pytest.mark.parametrize(
    "passphrase", [b"100%25 %%", b" leading and trailing ", "Größe ½".encode(), b"\\\\ \t \x7f", b"x" * 255]
)
def test_a_passphrase_arrives_byte_for_byte(house: House, passphrase: bytes) -> None:
    """What Assuan escapes, and what it does not; as a Secret or as bytes; the Secret stays its owner's."""
    made = SoftwareKeys(house)
    grip = made.make("a@x", passphrase)
    made.lock_all()
    with made.agent() as agent:
        agent.ask("OPTION pinentry-mode=loopback")
        secret = Secret(passphrase)
        agent.ask(f"PASSWD --verify {grip}", inquire={"PASSPHRASE": lambda _: secret})
        assert secret == Secret(passphrase)
        agent.ask(f"PASSWD --verify {grip}", inquire={"PASSPHRASE": lambda _: passphrase})


# What no agent would do


@pytest.mark.parametrize(
    "speech",
    [
        pytest.param([b"S x\n" * 20] * 20_000, id="statuses without an end"),
        pytest.param([b"D " + b"x" * 900 + b"\n"] * 2000, id="data without an end"),
        pytest.param([b"x" * 5000], id="a line without an end"),
        pytest.param([b"HELLO\n"], id="no reply at all"),
        pytest.param([b"ERR x\n"], id="an error without a number"),
        pytest.param([b"D half"], id="half a line"),
    ],
)
def test_a_broken_agent_is_left(speech: list[bytes | None]) -> None:
    """Bounded, named, and nobody talks to it again."""
    with Scripted([None, *speech]) as agent:
        with pytest.raises((Malformed, Gone)):
            agent.ask("NOP")
        with pytest.raises(Gone):
            agent.ask("NOP")


def test_one_that_talks_without_an_end_is_cut_off() -> None:
    """The limit is for the whole command, not for each line of it."""
    with Scripted([None, b"S PROGRESS\n"], stay=True) as agent, pytest.raises(NoReply):
        agent.ask("NOP", seconds=0.2)


@pytest.mark.parametrize("pid", [b"ERR 67109115 Forbidden <GPG Agent>\n", b"D x\nOK\n", b"OK\n"])
def test_one_that_keeps_its_pid_to_itself(pid: bytes) -> None:
    """As the restricted socket does: then it is the pid of whoever listens."""
    with Scripted([], pid=pid) as agent:
        assert agent.pid == os.getpid()


def test_a_pinentry_that_is_launched_is_no_question() -> None:
    """The agent tells, and waits for an END."""
    scripted = Scripted([None, b"INQUIRE PINENTRY_LAUNCHED 12 curses\n", None, b"OK\n"])
    with scripted as agent:
        agent.ask("PKSIGN")
    assert scripted.heard[-1] == b"END"


def test_a_secret_is_wiped_from_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines made of it do not stay in memory."""
    sent: list[bytearray] = []
    from unlatch.wire.assuan import Client

    answer: Callable[[Client, bytes], bytearray] = Client.answer

    def note(client: Client, data: bytes) -> bytearray:
        sent.append(answer(client, data))
        return sent[-1]

    monkeypatch.setattr(Client, "answer", note)
    scripted = Scripted([None, b"INQUIRE PASSPHRASE\n", None, None, b"OK\n"])
    with scripted as agent:
        agent.ask("X", inquire={"PASSPHRASE": lambda _: Secret(b"canary")})
    assert scripted.heard[-2:] == [b"D canary", b"END"]
    assert sent == [bytearray(len(b"D canary\nEND\n"))]


# Patience


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pipe_until(clock: Clock, moment: float) -> str:
    """What a card says after killscd, until this moment."""
    if clock.now < moment:
        raise BrokenPipe(67141741, "Broken pipe")
    return "card"


def test_a_broken_pipe_is_waited_through() -> None:
    """For as long as the agent needs for a new scdaemon; other errors and longer ones are told."""
    clock = Clock()
    assert patiently(lambda: pipe_until(clock, 4.0), clock=lambda: clock.now, sleep=clock.sleep) == "card"
    assert clock.now < 4.2
    clock = Clock()
    with pytest.raises(BrokenPipe):
        patiently(lambda: pipe_until(clock, 60.0), seconds=8, clock=lambda: clock.now, sleep=clock.sleep)
    assert clock.now <= 8

    def ended() -> None:
        raise CardDaemonEnded(67125247, "End of file")

    with pytest.raises(CardDaemonEnded):
        patiently(ended, clock=lambda: 0.0, sleep=lambda _: pytest.fail("it waited"))

    def other() -> None:
        raise GpgError(1, "General error")

    with pytest.raises(GpgError, match="General error"):
        patiently(other, clock=lambda: 0.0, sleep=lambda _: pytest.fail("it waited"))


@pytest.mark.long
def test_the_real_pipe_heals(house: House, home: Home) -> None:
    """killscd with real scdaemon: the next command of a patient client works, on the same connection."""
    real("/usr/lib/gnupg/scdaemon")
    (house.gnupg / "gpg-agent.conf").write_text("")
    with Agent.open(home) as agent:
        first = agent.ask("SCD GETINFO pid")
        agent.ask("SCD KILLSCD")
        assert patiently(lambda: agent.ask("SCD GETINFO pid"), repeatable=True) != first


# Two


def test_two_agents_are_named_with_a_way_out() -> None:
    """Sockets, pids, and what to type."""
    error = TwoAgents(Live("/run/user/1000/gnupg/S.gpg-agent", 12), Live("/home/zoe/.gnupg/S.gpg-agent", 11))
    assert "pid 12 at /run/user/1000/gnupg/S.gpg-agent" in str(error)
    assert "pid 11 at /home/zoe/.gnupg/S.gpg-agent" in str(error)
    assert error.command == "kill 11"


def test_a_live_agent_costs_few_imports() -> None:
    """What checks in front of every job import: nothing slow, nothing to start processes with."""
    code = "import sys; from unlatch.gnupg import agent, homes; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-I", "-c", code], text=True).split())
    assert not loaded & {
        "subprocess",
        "unlatch.gnupg.launching",
        "unlatch.gnupg.processes",
        "pathlib",
        "hashlib",
        "json",
    }
