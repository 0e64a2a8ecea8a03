"""What keeps everybody out and looks right: mistakes in sshd's file, a mistyped module, units that do not run."""

import os
from pathlib import Path

import pytest
from doctor_host import situation_of

from unlatch.doctor.host import login_units, logins, pam_places, pam_typos, sshd_error
from unlatch.doctor.host.login_units import Unit
from unlatch.doctor.host.logins import Facts
from unlatch.doctor.host.pam_places import Use
from unlatch.doctor.host.pam_typos import Typo

NOWHERE = situation_of({"HOME": "/nonexistent"})._replace(caller=0)
SOMEBODY = NOWHERE._replace(caller=1000)
SSHD = Use("sshd", 4, "required", "", True)
GOOD = Facts((SSHD,), "/usr/lib/x/security/pam_unlatch.so", True, "", True, (), "/etc/unlatch/unlatch.toml", True, True)
SOCKET = Unit("unlatch-pam.socket", "loaded", "enabled", "active", "listening")
SERVICE = Unit("unlatch-pam.service", "loaded", "indirect", "inactive", "dead")


@pytest.mark.parametrize(
    ("error", "state", "text", "hint"),
    [
        (
            'Disabled method "keyboard-interactive" in AuthenticationMethods list "keyboard-interactive"\r\nmore\r\n',
            "problem",
            "it needs KbdInteractiveAuthentication yes",
            "grep -rniE 'KbdInteractive|ChallengeResponse|AuthenticationMethods' /etc/ssh/sshd_config"
            " /etc/ssh/sshd_config.d\nsshd -t",
        ),
        (
            "/etc/ssh/sshd_config.d/10.conf: line 3: Bad configuration option: Foo\r\n"
            "/etc/ssh/sshd_config.d/10.conf: terminating, 1 bad configuration options\r\n",
            "problem",
            "sshd would not start again: /etc/ssh/sshd_config.d/10.conf: line 3: Bad configuration option: Foo",
            "vi +3 /etc/ssh/sshd_config.d/10.conf\nsshd -t",
        ),
        (
            "/etc/ssh/sshd_config line 2: Deprecated option UseLogin\r\n/etc/ssh/sshd_config line 9: no argument\r\n",
            "problem",
            "sshd would not start again: /etc/ssh/sshd_config line 9: no argument",
            "vi +9 /etc/ssh/sshd_config\nsshd -t",
        ),
        ("sshd: no hostkeys available -- exiting.\r\n", "problem", "no hostkeys available", "sshd -t"),
        ("Missing privilege separation directory: /run/sshd\r\n", "unknown", "/run/sshd", "sshd -t"),
        ("", "unknown", "could not be asked", "sshd -t"),
    ],
)
def test_login_grace_fails_with_what_sshd_says(error: str, state: str, text: str, hint: str) -> None:
    """It would not even restart; what only means that it cannot be asked here is no mistake of its file."""
    found = sshd_error.judge(error, NOWHERE)
    assert (found.state, text in found.text, found.hint) == (state, True, hint), found


def test_login_grace_passes_no_judgement_on_what_only_root_may_read() -> None:
    """Host keys are root's, and perhaps a file of the configuration; a bad line is a bad line for everybody."""
    assert sshd_error.judge("sshd: no hostkeys available -- exiting.\r\n", SOMEBODY).state == "unknown"
    found = sshd_error.judge("/etc/ssh/sshd_config: line 3: Bad configuration option: Foo\r\n", SOMEBODY)
    assert (found.state, found.hint) == ("problem", "sudo vi +3 /etc/ssh/sshd_config\nsudo sshd -t")


def test_what_sshd_says_is_cut() -> None:
    """A page of it helps nobody."""
    assert len(sshd_error.judge("x" * 9000, NOWHERE).text) < 400


def test_logins_fails_for_a_module_that_is_mistyped(tmp_path: Path) -> None:
    """A name nearly ours, or ours at a path where nothing is; with the line, and what it must say."""
    (tmp_path / "sshd").write_text(
        "account required pam_nologin.so\n"
        "auth required pam_unlach.so mode=either\n"
        "-auth sufficient /nowhere/pam_unlatch.so\n"
    )
    typos = pam_typos.find(pam_places.lines(str(tmp_path)))
    assert typos == (
        Typo("sshd", 2, "required", "pam_unlach.so"),
        Typo("sshd", 3, "sufficient", "/nowhere/pam_unlatch.so"),
    )
    first, second = logins.judge(GOOD._replace(uses=(), typos=typos), NOWHERE)
    assert (first.state, first.hint) == ("problem", "vi +2 /etc/pam.d/sshd")
    assert first.text == (
        "/etc/pam.d/sshd:2 names pam_unlach.so, which does not exist: every login there is refused; "
        "it must say pam_unlatch.so"
    )
    assert (second.state, "never asks anybody" in second.text) == ("problem", True)


def test_logins_passes_modules_that_are_there_or_another_s(tmp_path: Path) -> None:
    """Our own bare name is told of elsewhere; a module that is there may be called as it likes; others are not ours."""
    module = tmp_path / "pam_unlatch2.so"
    module.touch()
    lines = ("pam_unlatch.so", str(module), "pam_unix.so", "pam_nothere.so", "/lib/$ISA/security/pam_unlatch.so")
    (tmp_path / "login").write_text("".join(f"auth required {name}\n" for name in lines))
    assert pam_typos.find(pam_places.lines(str(tmp_path))) == ()
    assert len(pam_places.uses(str(tmp_path))) == 2


def test_many_mistyped_lines_are_told_of_in_part(tmp_path: Path) -> None:
    """The report stays readable."""
    (tmp_path / "login").write_text("auth required pam_unlach.so\n" * 50)
    assert len(pam_typos.find(pam_places.lines(str(tmp_path)))) == pam_typos.MOST


@pytest.mark.parametrize(
    "name", ["pam_unlach.so", "pam_unlatch", "pam-unlatch.so", "libpam_unlatch.so", "PAM_Unlatch.so"]
)
def test_names_near_ours(name: str) -> None:
    """As fingers and memory make them."""
    assert pam_typos.is_near(name)


def test_no_module_of_this_machine_is_near_ours() -> None:
    """Nobody is told that a module of PAM's own was meant as ours."""
    (directory,) = {os.path.dirname(pam_places.module_path("pam_unix.so"))}
    names = [name for name in os.listdir(directory) if "unlatch" not in name]
    assert len(names) > 20
    assert not list(filter(pam_typos.is_near, names))


@pytest.mark.parametrize(
    ("units", "text", "hint"),
    [
        (
            (SOCKET, SERVICE._replace(load="masked", file="masked")),
            "unlatch-pam.service is masked, so systemd does not start it: logins by sshd are refused",
            "systemctl unmask unlatch-pam.service\nsystemctl enable --now unlatch-pam.socket",
        ),
        (
            (SOCKET._replace(load="masked", file="masked-runtime"), SERVICE),
            "unlatch-pam.socket is masked",
            "systemctl unmask --runtime unlatch-pam.socket\nsystemctl enable --now unlatch-pam.socket",
        ),
        (
            (SOCKET, SERVICE._replace(active="failed", sub="failed")),
            "unlatch-pam.service failed: logins",
            "systemctl status unlatch-pam.service\nsystemctl restart unlatch-pam.service",
        ),
        (
            (SOCKET, SERVICE._replace(active="activating", sub="auto-restart")),
            "ends again and again",
            "journalctl -n 20 -u unlatch-pam.service\nsystemctl restart unlatch-pam.service",
        ),
        (
            (SOCKET, SERVICE._replace(load="bad-setting")),
            "cannot use the file of unlatch-pam.service",
            "systemd-analyze verify unlatch-pam.service\nsystemctl restart unlatch-pam.service",
        ),
    ],
)
def test_logins_fails_for_units_that_do_not_run(units: tuple[Unit, ...], text: str, hint: str) -> None:
    """The socket still listens, or enabling it alone would not help; where no line asks yet, it is a warning."""
    (found,) = logins.judge(GOOD._replace(units=units), NOWHERE)
    assert (found.state, text in found.text, found.hint) == ("problem", True, hint), found
    (found,) = logins.judge(GOOD._replace(units=units, listens=False, enabled=False), NOWHERE)
    assert found.hint == hint
    assert logins.judge(GOOD._replace(units=units, uses=()), NOWHERE)[0].state == "warning"
    assert logins.judge(GOOD._replace(units=units, uses=(), records=False), NOWHERE)[0].state == "ok"


def test_logins_passes_with_a_service_that_nobody_needed_yet() -> None:
    """Inactive is how it waits for its socket."""
    assert logins.judge(GOOD._replace(units=(SOCKET, SERVICE)), NOWHERE)[0].state == "ok"
    assert logins.judge(GOOD._replace(units=(SOCKET, SERVICE._replace(active="active", sub="running"))), NOWHERE)


def test_systemctl_is_read_by_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order it prints them; a systemctl that fails, or floods, says nothing that is believed."""
    said = (
        "LoadState=masked\nActiveState=inactive\nSubState=dead\nUnitFileState=masked\nId=unlatch-pam.socket\n\nNew=1\n"
    )
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert login_units.ask() == (Unit("unlatch-pam.socket", "masked", "masked", "inactive", "dead"),)
    program.write_text("#!/bin/sh\nexit 1\n")
    assert login_units.ask() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert login_units.ask() == ()
