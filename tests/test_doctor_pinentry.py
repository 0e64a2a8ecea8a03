"""Doctor on the pinentry: the line that names it, where it lies, that it runs, and that the running agent starts it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_asker import Patient, configure_agent, look, situation, start_agent
from house import PINENTRY, UNLATCH, House
from real_gnupg import CANCELLED, Keyring, finish
from service_user import UID
from waiting import until

from unlatch import __version__
from unlatch.doctor.asker import agent_pinentry, pinentry_runs, pinentry_trial
from unlatch.doctor.asker.agent_pinentry import AGENT_PINENTRY
from unlatch.doctor.asker.pinentry_line import PINENTRY_LINE
from unlatch.doctor.asker.pinentry_place import PINENTRY_PLACE
from unlatch.doctor.asker.pinentry_runs import PINENTRY_RUNS
from unlatch.doctor.check import Finding

SPEAKING = """#!{shell}
echo "OK hello"
while read -r command what; do
    case "$command $what" in
    "GETINFO flavor") echo "D {flavor}" ;;
    "GETINFO version") echo "D {version}" ;;
    "GETINFO pid") echo "D $$" ;;
    CONFIRM*|GETPIN*|MESSAGE*) echo rung >> "$0.rung" ;;
    esac
    echo OK
    [ "$command" != BYE ] || exit 0
done
"""


def program(house: House, text: str, name: str = "pinentry-unlatch", mode: int = 0o755) -> Path:
    """A program of the house."""
    path = house.root / name
    path.write_text(text)
    path.chmod(mode)
    return path


def speaking(house: House, flavor: str = "unlatch", version: str = __version__, name: str = "pinentry-unlatch") -> Path:
    """A pinentry that says it is one, and notes when it is asked to ask."""
    return program(house, SPEAKING.format(flavor=flavor, version=version, shell="/bin/sh"), name)


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    """A service user, for whom root calls doctor."""
    patient = Patient(house)
    yield patient
    patient.close()


# pinentry-line: what doctor says of a line, and what the real agent does with it


WRONG = [
    ((), "has no line pinentry-program"),
    (("pinentry-program",), "without a path"),
    (("pinentry-program ~/pinentry-unlatch",), "knows no ~"),
    (("pinentry-program pinentry-unlatch",), "no absolute path"),
    (("pinentry-program {0} --verbose",), "not for an argument"),
    (("pinentry-program {0} # ours",), "not for a comment"),
    (("pinentry-program {0}-gone",), "which is not there"),
    (("pinentry-program={0}",), "has no line"),
    (("# pinentry-program {0}",), "has no line"),
    (("pinentry-program {0}", "pinentry-program /gone"), "which is not there"),
]
RIGHT = [
    ("pinentry-program {0}",),
    ("  pinentry-program \t {0} \t ",),
    ('pinentry-program "{0}"',),
    ("pinentry-program /gone", "pinentry-program {0}"),
    ("pinentry-program {0} with spaces",),
]


def started_by_the_agent(house: House) -> bool:
    """Whether a fresh agent starts our program, by the way of a real request that asks nothing."""
    start_agent(house)
    # Only whether it starts: what the file says is not what this looks at.
    found = look(AGENT_PINENTRY, house)
    house.run("gpgconf", "--kill", "gpg-agent")
    return "has started it" in found.text


@pytest.mark.parametrize(("lines", "text"), WRONG)
def test_pinentry_line_fails_as_gpg_agent_does(house: House, lines: tuple[str, ...], text: str) -> None:
    """Each mistake has its own sentence, and the real agent does not start the program either."""
    ours = speaking(house)
    configure_agent(house, *(line.format(ours) for line in lines))
    found = look(PINENTRY_LINE, house)
    assert found.state == "problem"
    assert text in found.text
    assert found.hint.startswith("unlatch setup")
    assert not started_by_the_agent(house)


@pytest.mark.parametrize("lines", RIGHT)
def test_pinentry_line_passes_as_gpg_agent_takes_it(house: House, lines: tuple[str, ...]) -> None:
    """Spaces, quotation marks, and the last line of several."""
    ours = speaking(house)
    speaking(house, name="pinentry-unlatch with spaces")
    configure_agent(house, *(line.format(ours) for line in lines))
    assert look(PINENTRY_LINE, house).state == "ok"
    assert started_by_the_agent(house)


def test_pinentry_line_fails_when_the_file_is_closed(house: House, patient: Patient) -> None:
    """Root wrote it, and the user cannot read it; then neither can the agent."""
    conf = configure_agent(house, f"pinentry-program {PINENTRY}")
    conf.chmod(0o600)
    found = patient.doctor("pinentry-line").findings["pinentry-line"]
    assert (found.state, "permission denied" in found.text) == ("problem", True)


# pinentry-place


def place(house: House, path: Path) -> Finding:
    configure_agent(house, f"pinentry-program {path}")
    return look(PINENTRY_PLACE, house)


def test_pinentry_place_passes(house: House) -> None:
    """It may be executed, and only root and the user could change it."""
    assert place(house, speaking(house)).state == "ok"


def test_pinentry_place_fails_when_there_is_none(house: House) -> None:
    """Nothing to look at is not well."""
    assert place(house, house.root / "gone").state == "unknown"


def test_pinentry_place_fails_when_it_may_not_be_executed(house: House) -> None:
    """A file without the bit."""
    file = program(house, "#!/bin/sh\n", mode=0o644)
    found = place(house, file)
    assert (found.state, "may not execute" in found.text) == ("problem", True)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_pinentry_place_fails_when_others_could_change_it(house: House, what: str) -> None:
    """Whoever may write to it, or to a directory above it, could collect passphrases."""
    folder = house.root / "bin"
    folder.mkdir()
    ours = speaking(house, name="bin/pinentry-unlatch")
    (ours if what == "file" else folder).chmod(0o777)
    found = place(house, ours)
    assert (found.state, "can change" in found.text) == ("problem", True)


def test_pinentry_place_fails_in_homes(house: House, patient: Patient) -> None:
    """Somebody's home: closed to the user at first, then hidden from services by ProtectHome=; a link does not help."""
    home = "/home/alex"
    link = house.root / "pinentry-unlatch"
    link.symlink_to(f"{home}/bin/pinentry-unlatch")
    ours = speaking(house, name="copy")
    script = f"mount -t tmpfs -o mode=755 tmpfs /home && mkdir -p {home}/bin && chmod 0700 {home}"
    assert patient.root("sh", "-c", f"{script} && cp {ours} {home}/bin/pinentry-unlatch").returncode == 0
    configure_agent(house, f"pinentry-program {home}/bin/pinentry-unlatch")
    closed = patient.doctor("pinentry-place").findings["pinentry-place"]
    assert (closed.state, f"cannot enter {home}" in closed.text) == ("problem", True)
    patient.root("chmod", "0755", home)
    for path in (f"{home}/bin/pinentry-unlatch", link):
        configure_agent(house, f"pinentry-program {path}")
        hidden = patient.doctor("pinentry-place").findings["pinentry-place"]
        assert (hidden.state, "ProtectHome=" in hidden.text) == ("warning", True)


def test_pinentry_place_fails_with_an_interpreter_in_a_home(house: House, patient: Patient) -> None:
    """A virtual environment outside of /home whose Python is inside."""
    ours = program(house, SPEAKING.format(flavor="unlatch", version=__version__, shell="/home/alex/sh"))
    patient.root("sh", "-c", "mount -t tmpfs -o mode=755 tmpfs /home && mkdir /home/alex && cp /bin/sh /home/alex/sh")
    configure_agent(house, f"pinentry-program {ours}")
    found = patient.doctor("pinentry-place").findings["pinentry-place"]
    assert (found.state, "/home/alex/sh is under /home" in found.text) == ("warning", True)


# pinentry-runs


def run(house: House, path: Path | str) -> Finding:
    configure_agent(house, f"pinentry-program {path}")
    return look(PINENTRY_RUNS, house)


def test_pinentry_runs_passes_and_rings_nobody(house: House) -> None:
    """The real one, with the real broker; nobody is rung, and no broker is started for it."""
    found = run(house, PINENTRY)
    assert (found.state, found.text) == ("ok", f"it starts and greets; version {__version__}")
    assert house.brokers() == []
    broker = house.start(UNLATCH, "serve", "--config", house.settings)
    until(house.is_served, "the broker")
    assert run(house, PINENTRY).text == f"it starts and greets; version {__version__}, as the broker's"
    assert house.phone.messages() == []
    broker.terminate()
    finish(broker)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/nonexistent/python3\n", "its interpreter is gone"),
        ("#!/bin/sh\nexit 1\n", "it ends at once"),
        ("#!/bin/sh\necho OK hello\nexit 1\n", "it ends"),
        ("#!/bin/sh\necho what?\ncat\n", "does not greet"),
        ("#!/bin/sh\nhead -c 100000 /dev/zero\ncat\n", "does not speak"),
        ("no script", "format error"),
    ],
)
def test_pinentry_runs_fails_when_it_is_broken(house: House, text: str, why: str) -> None:
    """An interpreter that an upgrade took away, packages that are gone, another program."""
    found = run(house, program(house, text))
    assert (found.state, why in found.text) == ("problem", True), found.text
    assert found.hint.endswith("--version")


def test_pinentry_runs_fails_when_it_hangs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its time, and is ended."""
    monkeypatch.setattr(pinentry_trial, "SECONDS", 0.2)
    found = run(house, program(house, "#!/bin/sh\nexec cat\n"))
    assert (found.state, "says nothing" in found.text) == ("problem", True)
    assert house.processes_called(b"pinentry-unlatch") == []


def test_pinentry_runs_fails_when_it_is_another(house: House) -> None:
    """A real one that wants a terminal."""
    found = run(house, "/usr/bin/pinentry-curses")
    assert (found.state, "another pinentry (curses)" in found.text) == ("problem", True)


def test_pinentry_runs_fails_with_another_release(house: House) -> None:
    """Command, pinentry and broker must be one release."""
    found = run(house, speaking(house, version="9.9.9"))
    assert (found.state, "version 9.9.9" in found.text) == ("problem", True)


def test_pinentry_runs_fails_with_a_broker_of_another_release(house: House) -> None:
    """An upgrade that did not restart the broker."""
    facts = pinentry_runs.Facts("/usr/bin/pinentry-unlatch", pinentry_trial.Trial("", "unlatch", "1", ""), "2", True)
    found = pinentry_runs.judge(facts, situation(house, version="1"))
    assert (found.state, "the broker 2" in found.text) == ("problem", True)
    assert found.hint.endswith("systemctl restart unlatch.service")


# agent-pinentry


def test_agent_pinentry_passes_without_a_ring(house: House) -> None:
    """No agent; then a real agent that starts the real pinentry for doctor and asks it nothing."""
    configure_agent(house, f"pinentry-program {PINENTRY}")
    assert look(AGENT_PINENTRY, house).text.startswith("no agent runs now")
    pid = start_agent(house)
    found = look(AGENT_PINENTRY, house)
    assert (found.state, found.text) == ("ok", f"the running agent (pid {pid}) has started it")
    assert house.phone.messages() == []
    assert house.brokers() == []


def test_agent_pinentry_passes_and_forgets_nothing(house: House) -> None:
    """What the agent has in its cache stays there, and no pinentry is asked to ask."""
    ours = speaking(house)
    keyring = Keyring(house, pinentry=ours, agent="allow-preset-passphrase\n")
    grip = keyring.keygrips()[0]
    house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {grip} -1 41", "/bye")
    assert look(AGENT_PINENTRY, house).state == "ok"
    told = house.run("gpg-connect-agent", f"KEYINFO {grip}", "/bye").decode()
    assert told.split()[6] == "1"
    assert not (house.root / "pinentry-unlatch.rung").exists()


def test_agent_pinentry_fails_until_the_agent_has_read_the_file(house: House) -> None:
    """The file was changed under a running agent: the hint's reload mends it."""
    configure_agent(house, "pinentry-program /usr/bin/pinentry-curses")
    start_agent(house)
    configure_agent(house, f"pinentry-program {PINENTRY}")
    found = look(AGENT_PINENTRY, house)
    assert (found.state, "another pinentry (curses)" in found.text) == ("problem", True)
    assert "before that was changed" in found.text
    house.run("sh", "-c", found.hint)
    assert look(AGENT_PINENTRY, house).state == "ok"


def test_agent_pinentry_fails_when_the_path_is_an_old_one(house: House) -> None:
    """Two installations, and the agent still starts the one that the file no longer names."""
    configure_agent(house, f"pinentry-program {speaking(house, name='old')}")
    start_agent(house)
    configure_agent(house, f"pinentry-program {speaking(house, name='new')}")
    found = look(AGENT_PINENTRY, house)
    assert (found.state, f"names {house.root}/new" in found.text) == ("problem", True)


def test_agent_pinentry_fails_when_it_cannot_be_started(house: House) -> None:
    """The agent itself says nothing about that to whoever asks."""
    configure_agent(house, "pinentry-program /nonexistent")
    start_agent(house)
    found = look(AGENT_PINENTRY, house)
    assert (found.state, "cannot start its pinentry" in found.text) == ("problem", True)


def test_agent_pinentry_fails_with_another_release(house: House) -> None:
    """What the agent starts is older than this command."""
    configure_agent(house, f"pinentry-program {speaking(house, version='0.0.1')}")
    start_agent(house)
    assert "version 0.0.1" in look(AGENT_PINENTRY, house).text


def test_agent_pinentry_fails_to_know_while_somebody_is_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent has one pinentry at a time; doctor does not wait, and the person's prompt goes on."""
    monkeypatch.setattr(agent_pinentry, "SECONDS", 0.3)
    keyring = Keyring(house)
    service = keyring.sign()
    page = house.open(house.phone.ring()["link"])
    assert look(AGENT_PINENTRY, house).state == "unknown"
    page.deny()
    code, _, said = finish(service)
    assert code != 0
    assert CANCELLED in said
    assert len(house.phone.messages("ring")) == 1


def test_the_bare_environment_is_enough(house: House, patient: Patient) -> None:
    """As root for the service user: all four checks of the real pinentry, with GNUPGHOME and PATH and nothing else."""
    os.chown(configure_agent(house, f"pinentry-program {PINENTRY}"), UID, UID)
    patient.run("gpgconf", "--launch", "gpg-agent")
    done = patient.doctor("pinentry-line", "pinentry-runs", "agent-pinentry")
    assert {each.state for each in done.findings.values()} == {"ok"}, done.out
    assert done.code == 0
    patient.run("gpgconf", "--kill", "gpg-agent")
