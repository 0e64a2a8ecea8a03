"""``unlatch doctor`` itself: for whom, what it prints, how it ends, and that it keeps to itself what it must."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from doctor_asker import Patient, configure_agent
from house import PINENTRY, UNLATCH, House
from real import absent
from real_gnupg import PASSPHRASE, Keyring, finish
from service_user import NAME, UID
from terminal import Terminal

from unlatch.cli import voice
from unlatch.cli.doctor import command
from unlatch.doctor import registry, report
from unlatch.doctor.check import Finding, Situation, State


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    """A service user, for whom root calls doctor."""
    patient = Patient(house)
    yield patient
    patient.close()


def doctor(house: House, *arguments: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The command as the house's own user calls it."""
    return subprocess.run(
        [str(word) for word in (UNLATCH, "doctor", *arguments)],
        env=house.environ(**environ), cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def without_colours(text: str, _: State) -> str:
    return text


# Lines


LONG = Finding(
    "agent-pinentry", "problem", "the agent starts " + "another pinentry " * 12, "gpgconf --reload gpg-agent"
)


def test_a_finding_fits_into_80_columns() -> None:
    """Mark, name and sentence, folded under itself; then what to type, which is never folded."""
    first, *rest, hint = report.lines(LONG, voice.clean, without_colours)
    assert first.startswith("PROBLEM agent-pinentry     the agent starts")
    assert all(line.startswith(" " * 27) for line in rest)
    assert all(len(line) <= 80 for line in (first, *rest, hint))
    assert hint == "        $ gpgconf --reload gpg-agent"


def test_what_came_from_elsewhere_moves_no_cursor() -> None:
    """Paths and units may be called anything."""
    found = Finding("rules", "warning", "rule\x1b[2J\r\n1", "vi /x\x1b[2J\nsecond")
    lines = report.lines(found, voice.clean, without_colours)
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "        $ second"


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["ok", "ok"], "2 checked: all well"),
        (["ok", "warning", "problem", "warning"], "4 checked: 1 problem, 2 warnings"),
        (["unknown"], "1 checked: 1 unknown"),
    ],
)
def test_the_last_line_sums_up(states: list[State], said: str) -> None:
    """Problems first."""
    assert report.summary([Finding("x", state, "") for state in states]) == said


# Hints


def who(**changes: object) -> Situation:
    return Situation("api", 900, 900, "/srv/api", "/srv/api/.gnupg", {}, 900, "1")._replace(**changes)


def test_a_hint_is_for_whoever_types_it() -> None:
    """Root becomes the user, without root's own home; the user needs nothing, and sudo for what is root's."""
    assert who().as_user("gpgconf", "--kill", "all") == "gpgconf --kill all"
    other = who(gnupghome="/srv/my keys")
    assert other.as_user("gpgconf", "--kill", "all") == "GNUPGHOME='/srv/my keys' gpgconf --kill all"
    assert who(caller=0).as_user("true") == "runuser -u api -- env HOME=/srv/api true"
    assert (
        other._replace(caller=0).as_user("true") == "runuser -u api -- env HOME=/srv/api 'GNUPGHOME=/srv/my keys' true"
    )
    assert who().as_root("ls", "/x y") == "sudo ls '/x y'"
    assert who(caller=0).as_root("ls", "/x") == "ls /x"


def test_a_hint_cannot_be_broken_out_of() -> None:
    """A path with a shell's characters stays one word for the shell."""
    evil = "/srv/$(touch /x);'\" &"
    for line in (
        who().as_user("ls", evil),
        who(gnupghome=evil).as_user("ls"),
        who(gnupghome=evil, caller=0).as_user("ls"),
    ):
        script = (
            line.replace("runuser -u api --", "").replace(" ls", " env; :", 1)
            if "GNUPG" in line
            else f"echo {line[3:]}"
        )
        told = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=True, env={"PATH": "/bin"}
        ).stdout
        assert evil in told


# The command


def test_one_check_can_be_named(house: House) -> None:
    """Whoever has mended something looks again at that alone."""
    done = doctor(house, "gnupg-home", "socket-path")
    assert done.returncode == voice.OK
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["ok", "gnupg-home"], ["ok", "socket-path"]]
    assert done.stdout.endswith("2 checked: all well\n")


def test_a_name_that_is_no_check(house: House) -> None:
    """A word for scripts is not ignored."""
    done = doctor(house, "gnupghome")
    assert (done.returncode, done.stdout) == (voice.USAGE, "")
    assert "there is no check called gnupghome" in done.stderr


def test_exit_codes(house: House) -> None:
    """0 all well or warnings only, 1 a problem, 6 something could not be found out."""
    configure_agent(house, "default-cache-ttl 60")
    assert doctor(house, "cache-times").returncode == voice.OK
    assert doctor(house, "pinentry-line").returncode == voice.FAILED
    assert doctor(house, "pinentry-place").returncode == voice.UNKNOWN
    assert doctor(house, "pinentry-place", "pinentry-line").returncode == voice.FAILED


def test_json(house: House) -> None:
    """A list of objects with four texts each, and nothing else on standard output."""
    done = doctor(house, "--json", "gnupg-home", "pinentry-line")
    found = json.loads(done.stdout)
    assert [each["check"] for each in found] == ["gnupg-home", "pinentry-line"]
    assert all(set(each) == {"check", "state", "text", "hint"} for each in found)
    assert done.returncode == voice.FAILED


def test_the_gnupghome_that_is_named(house: House) -> None:
    """--gnupghome wins over the environment, which wins over ~/.gnupg."""
    assert str(house.gnupg) in doctor(house, "gnupg-home").stdout
    assert f"{house.root}/other" in doctor(house, "gnupg-home", "--gnupghome", house.root / "other").stdout


def test_colours_are_for_terminals_only(house: House) -> None:
    """A terminal gets them unless NO_COLOR says otherwise; a pipe never does."""
    typed = [UNLATCH, "doctor", "gnupg-home"]
    assert "\x1b" not in doctor(house, "gnupg-home", TERM="xterm").stdout
    for more, expected in (
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ):
        with Terminal(typed, house.environ(**more)) as terminal:
            assert terminal.end() == 0
            assert ("\x1b[32m" in terminal.screen) is expected
            assert "gnupg-home" in terminal.screen


def test_root_without_gnupg_looks_at_the_host_only(house: House, patient: Patient) -> None:
    """On most servers root unlocks nothing, and that is no problem."""
    passwd = house.root / "passwd"  # mounted over the machine's, for this test
    passwd.write_text(re.sub(r"^(root:.*):/root:", r"\1:/nonexistent:", passwd.read_text(), flags=re.MULTILINE))
    done = patient.root(UNLATCH, "doctor")
    assert "root has no GnuPG home" in done.stderr
    assert not re.search(r"^\w+ +gnupg-home ", done.stdout, re.MULTILINE)
    assert re.search(r"^\w+ +broker ", done.stdout, re.MULTILINE)


# As another user


def test_only_root_may_examine_another(house: House) -> None:
    """An unprivileged caller gets one clear error and the command for root."""
    done = doctor(house, "--as", "no-such-user")
    assert done.returncode == voice.FAILED
    assert "no user of this host is called no-such-user" in done.stderr
    if os.getuid() != 0:
        absent("only root can call it as somebody else")
    become = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", UNLATCH, "doctor", "--as", "nobody"]
    refused = subprocess.run(
        become, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == voice.FAILED
    assert refused.stderr == (
        "unlatch: error: only root can run the checks as another user\n"
        'unlatch: hint: as root: "unlatch doctor --as nobody"\n'
    )
    assert refused.stdout == ""


def test_its_programs_get_gnupghome_and_path_and_nothing_else(house: House, patient: Patient) -> None:
    """What root has in its environment, on its input or as its terminal, the user's pinentry never sees."""
    spy = house.root / "spy"
    seen = house.root / "seen"
    spy.write_text(f"#!/bin/sh\n{{ tr '\\0' '\\n' </proc/$$/environ; id -u; id -G; readlink /proc/$$/cwd; }} >{seen}\n")
    spy.chmod(0o755)
    configure_agent(house, f"pinentry-program {spy}")
    words = [UNLATCH, "doctor", "--as", NAME, "pinentry-runs"]
    patient.root(*words, CANARY="secret", GNUPGHOME="/root/keys", DISPLAY=":0")
    lines = seen.read_text().splitlines()
    assert {line.partition("=")[0] for line in lines if "=" in line} <= {"GNUPGHOME", "PATH", "PWD"}  # PWD is sh's own
    assert f"GNUPGHOME={house.gnupg}" in lines
    assert lines[-3:] == [str(UID), str(UID), "/"]


def test_a_hostile_user_gets_no_word_onto_roots_terminal(house: House, patient: Patient) -> None:
    """A pinentry that lies in every field: what root sees is ours, and what root would type is quoted."""
    evil = house.root / "x;touch pwned"
    evil.write_text('#!/bin/sh\necho "OK"\nwhile read -r c; do printf "D \\033[2J;reboot\\nOK\\n"; done\n')
    evil.chmod(0o755)
    configure_agent(house, f"pinentry-program {evil}")
    done = patient.root(UNLATCH, "doctor", "--as", NAME, "pinentry-line", "pinentry-place", "pinentry-runs")
    assert "\x1b" not in done.stdout
    hints = [line.removeprefix("        $ ") for line in done.stdout.splitlines() if line.startswith("        $ ")]
    assert hints
    for hint in hints:
        patient.root("sh", "-c", f"cd {house.root} && set -- {hint} && true")
        assert ";touch" not in re.sub(r"'[^']*'", "", hint)
    assert not (house.root / "pwned").exists()


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc", "/root/.ssh/id_ed25519"])
def test_root_is_never_told_to_change_what_the_user_has_named(house: House, patient: Patient, path: str) -> None:
    """A user who names root's file as pinentry gets no chmod of it out of root, and none starts it."""
    configure_agent(house, f"pinentry-program {path}")
    done = patient.doctor("pinentry-line", "pinentry-place", "pinentry-runs", "agent-pinentry")
    assert done.findings
    for found in done.findings.values():
        assert path not in found.hint


def test_everything_at_once_for_a_service_user(house: House, patient: Patient) -> None:
    """The whole list as root types it: every check reports, in 80 columns, in bounded time, and nobody is rung."""
    os.chown(configure_agent(house, f"pinentry-program {PINENTRY}"), UID, UID)
    done = patient.root(UNLATCH, "doctor", "--as", NAME)
    assert done.stderr == ""
    assert re.search(r"^\d+ checked: ", done.stdout.splitlines()[-1])
    for check in registry.ALL:
        assert re.search(rf"^\w+ +{check.name} ", done.stdout, re.MULTILINE), check.name
    lines = [line for line in done.stdout.splitlines() if not line.startswith("        $ ")]
    assert max(map(len, lines)) <= 80
    assert re.search(r"^ok +pinentry-line ", done.stdout, re.MULTILINE)
    assert house.phone.messages() == []


def test_no_secret_and_no_link_is_ever_shown(house: House) -> None:
    """With a prompt open and a passphrase in the cache, neither stands anywhere in what doctor says."""
    keyring = Keyring(house, agent="allow-preset-passphrase\n")
    canary = PASSPHRASE.hex().upper()
    house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {keyring.keygrips()[1]} -1 {canary}", "/bye")
    service = keyring.sign()
    ring = house.phone.ring()
    done = doctor(house)
    ticket, fragment = ring["link"].rsplit("/", 1)[1].split("#")
    for secret in (ring["link"], ticket, fragment, PASSPHRASE.decode(), canary):
        assert secret not in done.stdout + done.stderr
    page = house.open(ring["link"])
    page.deny()
    finish(service)


def test_its_manual_tells_of_every_option() -> None:
    """Nothing that --help knows is missing there, and no state of a finding."""
    page = (Path(__file__).parents[1] / "man/unlatch-doctor.1").read_text()
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        assert f".It {option.opts[0].replace('--', 'Fl Fl ')}" in page
    assert all(f"\n.Cm {mark}" in page for mark in report.MARKS.values())
    for code in (voice.OK, voice.FAILED, voice.USAGE, voice.UNKNOWN):
        assert f"\n.It {code}\n" in page
