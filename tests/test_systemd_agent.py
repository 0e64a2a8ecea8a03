"""The password agent: systemd's questions and answers, with the real systemd-ask-password and no PID 1."""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import private_systemd
import pytest
from house import UNLATCH, House
from hypothesis import given
from hypothesis import strategies as st
from real import absent, real
from real_gnupg import finish
from waiting import until

from unlatch.errors import Malformed
from unlatch.wire import askfile

SECRET = b"correct horse"


# The files


def test_a_question_of_systemd_is_understood() -> None:
    """The example of the specification, with a comment, another section and a key that we do not know."""
    text = (
        b"# made by systemd\n[Other]\nSocket=/no\n[Ask]\nPID=19231\nSocket=/run/systemd/ask-password/sck.9ad85b\n"
        b"AcceptCached=0\nEcho=1\nNotAfter=7777\nSilent=0\nMessage=Please enter passphrase for disk one (luks):\n"
        b"Icon=drive-harddisk\nId=cryptsetup:/dev/sda5\n"
    )
    question = askfile.parse(text)
    assert question == askfile.Question(
        "/run/systemd/ask-password/sck.9ad85b",
        "Please enter passphrase for disk one (luks):",
        "cryptsetup:/dev/sda5",
        19231,
        7777,
        True,
        False,
    )
    assert question.title == "Please enter passphrase for disk one (luks)"


@pytest.mark.parametrize(
    "text",
    [b"", b"[Ask]\n", b"[Ask]\nSocket=relative\n", b"Socket=/run/x\n", b"[Ask]\nSocket=/x\nPID=-1\n",
     b"[Ask]\nSocket=/x\nNotAfter=soon\n", b"[Ask]\nSocket=/x\nPID=99999999999999999999\n", b"x" * 70000],
    ids=lambda text: str(text[:30]),
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(text: bytes) -> None:
    """No socket, a relative one, numbers that are none, and a file that is too long are Malformed."""
    with pytest.raises(Malformed):
        askfile.parse(text)


@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_else(data: bytes) -> None:
    """Any bytes are a question or Malformed."""
    with contextlib.suppress(Malformed):
        askfile.parse(b"[Ask]\nSocket=/x\n" + data)


@pytest.mark.parametrize(
    ("pid", "not_after", "alive", "over"),
    [(0, 0, False, False), (7, 0, True, False), (7, 0, False, True), (7, 100, True, True), (7, 101, True, False)],
)
def test_a_question_is_over_when_nobody_waits(pid: int, not_after: int, alive: bool, over: bool) -> None:
    """Its program is gone, or its time is."""
    question = askfile.Question("/x", "", "", pid, not_after, False, False)
    assert askfile.is_over(question, 100, alive=alive) is over


# The agent


class Asking:
    """A private directory of questions with our agent at it; systemd's programs see it as the system's own."""

    def __init__(self, house: House, *options: str) -> None:
        self.house = house
        self.directory = house.root / "ask-password"
        self.directory.mkdir(mode=0o755)
        self.agent = house.start(UNLATCH, "systemd-agent", "--directory", self.directory, *options)
        assert self.agent.stderr is not None
        assert b"watching" in self.agent.stderr.readline()

    def answer(self, number: int = 1, secret: bytes = SECRET) -> None:
        self.house.open(self.house.phone.ring(number)["link"]).unlock(secret)


@pytest.fixture
def asking(house: House) -> Asking:
    if os.getuid():
        absent("systemd takes answers of root only")
    return Asking(house)


def plant(asking: Asking, name: str = "ask.one", **fields: object) -> socket.socket:
    """A question of our own with a listening socket, written as systemd writes: beside, then renamed."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = asking.directory / f"sck.{name}"
    door.bind(str(path))
    door.settimeout(20)
    values = {"PID": os.getpid(), "Socket": path, "Message": "Passphrase of the volume:", "Id": "test:volume"} | fields
    beside = asking.directory / f"tmp.{name}"
    beside.write_text("[Ask]\n" + "".join(f"{key}={value}\n" for key, value in values.items()))
    beside.rename(asking.directory / name)
    return door


@pytest.fixture
def system(house: House) -> House:
    """A house in whose mount namespace /run is fresh: agent and systemd-ask-password meet there as on a real host."""
    if os.getuid():
        absent("systemd takes answers of root only")
    return house


def in_one_world(house: House, script: str) -> "subprocess.Popen[bytes]":
    """A shell in a namespace with a /run of its own, and our agent at the system's place, ready."""
    real("systemd-ask-password")
    start = (
        "mount -t tmpfs none /run; mkdir -p /run/systemd/ask-password; "
        f"{UNLATCH} systemd-agent 2>/run/told & agent=$!; "
        "while ! grep -q watching /run/told; do :; done; "
    )
    return house.start(
        "unshare", "--mount", "sh", "-c", f"{start}{script}; code=$?; kill $agent; wait $agent; exit $code"
    )


def test_systemd_ask_password_is_answered(system: House) -> None:
    """The real program prints what was typed on the phone; the question's Id is the key that the page shows."""
    running = in_one_world(system, "systemd-ask-password --no-tty --id=cryptsetup:/dev/sdb1 'Passphrase of sdb1:'")
    page = system.open(system.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.title == "Passphrase of sdb1"
    assert page.prompt.key is not None
    assert page.prompt.key.name == "cryptsetup:/dev/sdb1"
    page.unlock(SECRET)
    assert page.verdict().outcome == "unknown"
    code, out, err = finish(running)
    assert (code, out) == (0, SECRET + b"\n"), err


def test_a_denial_cancels_the_question(system: House) -> None:
    """Deny on the phone ends systemd-ask-password with an error at once."""
    running = in_one_world(system, "systemd-ask-password --no-tty --timeout=0 'Passphrase:'")
    system.open(system.phone.ring()["link"]).deny()
    code, out, _ = finish(running)
    assert code
    assert out == b""


def test_a_killed_program_withdraws_its_question(system: House) -> None:
    """A program that was killed leaves its file behind; its prompt ends all the same."""
    running = in_one_world(system, "systemd-ask-password --no-tty --timeout=0 'One:'")
    system.phone.ring()
    (asked,) = (pid for pid in system.processes_called(b"One:") if _name(pid) == "systemd-ask-pas")
    os.kill(asked, signal.SIGKILL)
    assert system.phone.end()["outcome"] == "withdrawn"
    assert finish(running)[0]


def test_the_time_of_a_question_is_the_persons(system: House) -> None:
    """A question with a time limit is over on the phone too."""
    running = in_one_world(system, "systemd-ask-password --no-tty --timeout=2 'Two:'")
    system.phone.ring()
    assert system.phone.end()["outcome"] in ("withdrawn", "expired")
    assert finish(running)[0]


def test_another_agent_that_is_faster_withdraws_ours(asking: Asking) -> None:
    """Somebody types at the console: the file goes away, and with it our prompt."""
    door = plant(asking)
    ring = asking.house.phone.ring()
    (asking.directory / "ask.one").unlink()
    assert asking.house.phone.end()["outcome"] == "withdrawn"
    assert ring["kind"] == "passphrase"
    door.close()


def test_an_answer_that_comes_too_late_is_told(asking: Asking) -> None:
    """When the socket is gone as the answer arrives, the page says that it was of no use."""
    door = plant(asking)
    page = asking.house.open(asking.house.phone.ring()["link"])
    door.close()
    (asking.directory / "sck.ask.one").unlink()
    page.unlock(SECRET)
    verdict = page.verdict()
    assert (verdict.outcome, verdict.text) == ("failed", "Somebody else answered first.")


def test_the_datagram_is_a_plus_and_the_bytes(asking: Asking) -> None:
    """The answer is what systemd expects: "+" and the secret, no newline, no zero byte."""
    door = plant(asking)
    asking.answer()
    assert door.recv(100) == b"+" + SECRET
    door.close()


def test_two_questions_ring_twice_and_are_answered_apart(asking: Asking) -> None:
    """Each question has its own prompt and its own answer."""
    doors = [plant(asking, f"ask.{name}", Id=f"test:{name}") for name in ("one", "two")]
    for link in asking.house.phone.links(2):
        page = asking.house.open(link)
        assert page.prompt is not None
        assert page.prompt.key is not None
        page.unlock(page.prompt.key.name.encode())
    assert [door.recv(100) for door in doors] == [b"+test:one", b"+test:two"]
    for door in doors:
        door.close()


@pytest.mark.parametrize("what", ["stale", "late", "link", "foreign", "garbage", "other name"])
def test_what_is_no_open_question_rings_nobody(asking: Asking, what: str) -> None:
    """A dead program's file, one whose time is over, a link, another user's file and garbage are passed over."""
    name = "sck.other" if what == "other name" else "ask.bad"
    fields: dict[str, object] = {}
    if what == "stale":
        fields["PID"] = _dead_pid()
    if what == "late":
        fields["NotAfter"] = 1
    if what == "link":
        (asking.directory / "elsewhere").write_text("[Ask]\nSocket=/x\n")
        (asking.directory / name).symlink_to("elsewhere")
    elif what == "garbage":
        (asking.directory / name).write_bytes(os.urandom(200))
    elif what == "foreign":
        beside = asking.directory / "tmp.bad"
        beside.write_text(f"[Ask]\nSocket=/x\nPID={os.getpid()}\n")
        os.chown(beside, 65534, 65534)
        beside.rename(asking.directory / name)
    else:
        plant(asking, name, **fields).close()
    plant(asking, "ask.good").close()
    ring = asking.house.phone.ring()
    assert len(asking.house.phone.messages("ring")) == 1
    assert ring["title"] == "Passphrase of the volume"


def test_only_the_wanted_ids_are_taken(house: House) -> None:
    """With --id other questions are left to other agents."""
    asking = Asking(house, "--id", "nginx:*")
    plant(asking, "ask.volume", Id="cryptsetup:/dev/sda").close()
    plant(asking, "ask.nginx", Id="nginx:key", Message="TLS key:").close()
    assert house.phone.ring()["title"] == "TLS key"
    assert len(house.phone.messages("ring")) == 1


def test_the_agent_ends_politely(asking: Asking) -> None:
    """SIGTERM withdraws what is open and ends with 0; no child is left."""
    plant(asking).close()
    asking.house.phone.ring()
    asking.agent.send_signal(signal.SIGTERM)
    assert asking.agent.wait(20) == 0
    assert asking.house.phone.end()["outcome"] == "withdrawn"
    until(lambda: not asking.house.processes_called(b"systemd-agent"), "the end of the agent's children")


def _dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


BY_PATH = """
    place = pathlib.Path("/run/user/0/systemd/ask-password")
    assert systemctl("start", "unlatch-systemd-agent.path") == ""
    before = systemctl("is-active", "unlatch-systemd-agent.path", "unlatch-systemd-agent.service").split()
    (place / "ask.new").write_text(f"[Ask]\\nPID={{os.getpid()}}\\nSocket={{place}}/sck.x\\nMessage=Volume:\\n")
    (place / "ask.new").rename(place / "ask.one")
    phone = pathlib.Path({phone!r})
    while not list(phone.glob("[0-9]*")):
        assert time.monotonic() < end + 60, systemctl("status", "unlatch-systemd-agent.service")
        time.sleep(0.05)
    after = systemctl("is-active", "unlatch-systemd-agent.service").strip()
    print(json.dumps({{"before": before, "after": after, "mode": oct(place.stat().st_mode & 0o777)}}))
"""


def test_the_path_unit_starts_the_agent(house: House) -> None:
    """A user's systemd makes the directory, and starts the agent with the first question; a person is rung."""
    units = house.root / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    variables = "".join(f"Environment={name}={text}\n" for name, text in house.environ().items())
    for unit in (Path(__file__).parents[1] / "systemd" / "user").glob("unlatch-systemd-agent.*"):
        # As root the command would watch the system's directory.
        command = f"{UNLATCH} systemd-agent --directory %t/systemd/ask-password\n{variables}"
        (units / unit.name).write_text(unit.read_text().replace("/usr/local/bin/unlatch systemd-agent\n", command))
    seen = private_systemd.run(BY_PATH.format(phone=str(house.phone.directory)), house.root)
    assert seen == {"before": ["active", "inactive"], "after": "active", "mode": "0o700"}
    assert house.phone.ring()["title"] == "Volume"
