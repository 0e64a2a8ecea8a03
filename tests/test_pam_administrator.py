"""What an administrator types beside the guide, on a whole Debian with logins: a walk, doctor, and a hasty removal."""

import pytest
from login_house import LoginHouse, challenged

from unlatch.cli import pam_lines


@pytest.mark.parametrize(("user", "claim"), [("", ""), ("alice", "a program of alice, which says ")])
def test_a_walk_shows_what_a_login_shows(logins: LoginHouse, user: str, claim: str) -> None:
    """By the module of the package and the service of systemd, as root and as the account itself; then the lines."""
    with logins.machine.terminal("unlatch", "pam", "test", "alice", user=user) as terminal:
        terminal.expect("security/pam_unlatch.so\n")
        terminal.expect("the service listens at /run/unlatch-pam/pam.sock")
        terminal.expect(f"{logins.alice.fingerprint}, by")
        terminal.expect("/etc/pam.d/sshd asks us, in line 1")
        message = challenged(terminal, logins.alice)
        assert (message.who, message.source) == ("alice@web03 sshd", f"from {claim}ssh")
        terminal.type(f"{message.response}\n")
        terminal.expect("alice would be let in (PAM_SUCCESS)")
        for line in pam_lines.lines("sshd", 600):
            terminal.expect(f"    {line}\n")
        assert terminal.end() == 0
    assert logins.verdict().startswith("login allowed: user=alice service=sshd from=ssh uid=")


def test_a_wrong_response_in_a_walk(logins: LoginHouse) -> None:
    """It is denied as at a login, and the reason stands where the command says."""
    with logins.machine.terminal("unlatch", "pam", "test", "alice", "--service", "sudo") as terminal:
        challenged(terminal, logins.alice)
        terminal.type("wrong\n")
        terminal.expect("unlatch: not accepted")
        terminal.expect('the reason: "journalctl -u unlatch-pam.service -n 5"')
        assert terminal.end() == 3
    assert logins.verdict().endswith(": wrong response")


def test_doctor_says_when_it_is_well_and_when_the_next_boot_locks_everybody_out(logins: LoginHouse) -> None:
    """Six services ask, sshd waits for as long as they take; a socket that is not enabled is a problem now."""
    words = ("unlatch", "doctor", "logins", "login-grace", "login-keys")
    found = logins.machine.run(*words, check=False)
    assert [line.split()[:2] for line in found.out.splitlines() if line[0] != " "][:3] == [
        ["ok", each] for each in words[2:]
    ]
    assert found.code == 0
    logins.machine.run("systemctl", "disable", "unlatch-pam.socket")
    found = logins.machine.run(*words, check=False)
    logins.machine.run("systemctl", "enable", "unlatch-pam.socket")
    assert (found.code, "$ systemctl enable unlatch-pam.socket" in found.out) == (1, True), found


def test_doctor_sees_a_service_that_is_masked_behind_a_socket_that_listens(logins: LoginHouse) -> None:
    """As this machine's own systemctl puts it; and sshd's file with a mistake, in sshd's own words."""
    logins.machine.run("systemctl", "mask", "unlatch-pam.service")
    found = logins.machine.run("unlatch", "doctor", "logins", check=False)
    logins.machine.run("systemctl", "unmask", "unlatch-pam.service")
    assert (found.code, "$ systemctl unmask unlatch-pam.service" in found.out) == (1, True), found
    broken = logins.root / "etc/ssh/sshd_config.d/00-broken.conf"
    broken.write_text("PermitRootLogni no\n")
    found = logins.machine.run("unlatch", "doctor", "login-grace", check=False)
    broken.unlink()
    said = "line 1: Bad configuration option: PermitRootLogni"
    assert (found.code, said in " ".join(found.out.split())) == (1, True), found


def test_a_package_that_logins_need_does_not_go(logins: LoginHouse) -> None:
    """dpkg is refused, each line is named, and the module is still there."""
    refused = logins.machine.run("dpkg", "--remove", "unlatch", check=False)
    assert refused.code != 0
    for service in ("sshd", "sudo", "su"):
        assert f"/etc/pam.d/{service}, line 1, names pam_unlatch.so" in refused.err
    assert list((logins.root / "usr/lib").glob("*/security/pam_unlatch.so"))
    with logins.ssh("alice") as terminal:
        terminal.type(f"{challenged(terminal, logins.alice).response}\n")
        assert terminal.end() == 0
    assert logins.verdict().startswith("login allowed")
