"""su and sudo with the challenge: root's key of record counts, whatever the account has for a key of its own."""

import os
import re
import shlex

import pytest
from login_house import (
    ARMOUR,
    FROM_NOBODY,
    IN,
    MODULE,
    NOT_ACCEPTED,
    PASSWORD,
    PROMPT,
    LoginHouse,
    challenged,
    is_let_in,
)
from terminal import Terminal
from waiting import until

FALSE_SERVICE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
listener.listen()
print("ready", flush=True)
while True:
    listener.accept()[0].send(b"allow\\0")
"""
WHO = ("sh", "-c", f"echo {IN} $(id -un)")
BELOW = f"{MODULE} after_first_factor"  # docs/logins.md: below the password


def sudo(logins: LoginHouse, *options: str, columns: int = 80, rows: int = 24) -> Terminal:
    """bob calls sudo."""
    return logins.machine.terminal("sudo", *options, *WHO, user="bob", columns=columns, rows=rows)


def su(logins: LoginHouse, *user: str) -> Terminal:
    """bob calls su."""
    return logins.machine.terminal("su", *user, "-c", f"echo {IN} $(id -un)", user="bob")


def give_up(logins: LoginHouse, terminal: Terminal) -> None:
    """Press Ctrl-C."""
    until(lambda: logins.waits("sudo"), "a sudo that reads")
    terminal.type("\x03")


def test_sudo_is_the_callers_own_key(logins: LoginHouse) -> None:
    """Whoever bob becomes, it is bob who must confirm it, at the terminal that the message names."""
    for options, name in ((), "root"), (("-u", "alice"), "alice"):
        with sudo(logins, *options) as terminal:
            message = challenged(terminal, logins.bob)
            assert message.who == "bob@web03 sudo"
            assert re.fullmatch(r"from pts/\d+", message.source)
            terminal.type(f"{message.response}\n")
            assert is_let_in(terminal, name)
        assert re.fullmatch(
            r"login allowed: user=bob service=sudo from=pts/\d+ uid=0 "
            rf"by=challenge key={logins.bob.fingerprint} entry=record",
            logins.verdict(),
        )


def test_su_is_the_key_of_who_one_becomes(logins: LoginHouse) -> None:
    """bob becomes alice with alice's key, not with his own, and the message says that it is he who asks."""
    with su(logins, "alice") as terminal:
        message = challenged(terminal, logins.alice)
        assert logins.bob.cannot_read(terminal.screen)
        assert message.who == "alice@web03 su"
        assert re.fullmatch(r"from bob@pts/\d+", message.source)
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    assert logins.verdict().startswith("login allowed: user=alice service=su from=bob@pts/")


def test_root_needs_a_record_too(logins: LoginHouse) -> None:
    """``su -`` is denied while root has none."""
    with su(logins, "-") as terminal:
        assert not is_let_in(terminal, "root")
        assert FROM_NOBODY in terminal.screen
    logins.enrol("root", logins.carol)
    with su(logins, "-") as terminal:
        terminal.type(f"{challenged(terminal, logins.carol).response}\n")
        assert is_let_in(terminal, "root")
    denied, allowed = logins.verdicts(2)
    assert "login denied: user=root service=su-l " in denied
    assert "login allowed: user=root service=su-l " in allowed


def test_nobody_enrols_himself(logins: LoginHouse) -> None:
    """What runs as bob can write his ~/.auth_gpg, and nothing else: neither beside the record nor in its place."""
    own = logins.holder("malware")
    logins.carry("bob", own, f"{own.fingerprint} notrust nosign none")
    logins.configure('auth_gpg = ["sshd"]')
    with sudo(logins) as terminal:
        challenged(terminal, logins.bob)
        assert own.cannot_read(terminal.screen)
        give_up(logins, terminal)
        assert not is_let_in(terminal, "root")
    refused = logins.machine.run(
        "unlatch", "pam", "enrol", "bob", own.fingerprint, user="bob", check=False, UNLATCH_CONFIG="/home/bob/mine.toml"
    )
    assert refused.code != 0
    written = logins.machine.shell("echo >/etc/unlatch/pam/bob", user="bob", check=False)
    assert "Permission denied" in written.err
    logins.machine.run("unlatch", "pam", "forget", "bob")
    with sudo(logins) as terminal:
        assert not is_let_in(terminal, "root")
        assert FROM_NOBODY in terminal.screen
        assert not ARMOUR.search(terminal.screen)
    assert "auth_gpg" in logins.verdicts(4)[-1], "sudo asks three times"


@pytest.mark.parametrize("foreign", ["bob's file", "writable file", "link"])
def test_a_record_that_is_not_roots_alone(logins: LoginHouse, foreign: str) -> None:
    """It denies, and does not give way to anything else."""
    script = {
        "bob's file": "chown bob /etc/unlatch/pam/bob",
        "writable file": "chmod 666 /etc/unlatch/pam/bob",
        "link": "cp /etc/unlatch/pam/bob /home/bob/record; ln -sf /home/bob/record /etc/unlatch/pam/bob",
    }[foreign]
    logins.machine.shell(script)
    with su(logins, "bob") as terminal:
        assert not is_let_in(terminal, "bob")
        assert FROM_NOBODY in terminal.screen
    assert "login denied: user=bob service=su " in logins.verdict()


def test_sudo_asks_three_times(logins: LoginHouse) -> None:
    """In one process: each time another challenge, and what was right for one is wrong for the next."""
    with sudo(logins) as terminal:
        seen = []
        for typed in ("wrong", "", ""):
            seen.append(challenged(terminal, logins.bob).response)
            terminal.type(f"{typed or seen[0]}\n")
        assert not is_let_in(terminal, "root")
        assert terminal.screen.count(NOT_ACCEPTED) == 3
    assert len(set(seen)) == 3
    assert all("wrong response" in line for line in logins.verdicts(3))


def test_ctrl_c_at_sudo(logins: LoginHouse) -> None:
    """An error of sudo's conversation: the login is over, and so is sudo."""
    with sudo(logins) as terminal:
        terminal.expect(PROMPT)
        give_up(logins, terminal)
        assert not is_let_in(terminal, "root")
    assert "went away" in logins.verdict()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_giving_up_at_su(logins: LoginHouse, key: str) -> None:
    """Ctrl-C ends su by a signal; Ctrl-D is an answer that is none."""
    with su(logins, "alice") as terminal:
        terminal.expect(PROMPT)
        terminal.type(key)
        assert not is_let_in(terminal, "alice")
    assert "went away" in logins.verdict()


def test_without_a_terminal(logins: LoginHouse) -> None:
    """``sudo -S`` in a pipe shows the challenge and takes the response, without a code where nothing is measured."""
    with logins.machine.start("sh", "-c", f"exec sudo -S {shlex.join(WHO)} 2>&1", user="bob") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        screen = ""
        while not screen.endswith(PROMPT):
            data = os.read(process.stdout.fileno(), 65536)
            assert data, screen
            screen += data.decode()
        process.stdin.write(f"{logins.bob.read(screen).response}\n".encode())
        process.stdin.flush()
        out = process.stdout.read()
    assert (process.returncode, out) == (0, f"{IN} root\n".encode())
    assert "▀" not in screen
    assert logins.verdict().startswith("login allowed: user=bob service=sudo from=- uid=0 ")


def test_below_the_password(logins: LoginHouse) -> None:
    """docs/logins.md: Debian's own file with one line more. First the password, which alone opens nothing."""
    logins.debian("sudo", BELOW)
    with sudo(logins) as terminal:
        terminal.expect("[sudo] password for bob: ")
        terminal.type(f"{PASSWORD}\n")
        message = challenged(terminal, logins.bob)
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "root")
    logins.debian("su", BELOW)
    with su(logins, "alice") as terminal:
        terminal.expect("Password: ")
        terminal.type("guessed\n")
        assert not is_let_in(terminal, "alice")
        assert not ARMOUR.search(terminal.screen)
    with su(logins, "alice") as terminal:
        terminal.expect("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.type(f"{challenged(terminal, logins.alice).response}\n")
        assert is_let_in(terminal, "alice")
    # Root becomes anybody without a question: pam_rootok.so stands above.
    assert logins.machine.run("su", "alice", "-c", "id -un").out == "alice\n"
    assert len(logins.verdicts(2)) == 2


def test_sudo_by_the_phone(logins: LoginHouse) -> None:
    """After the password bob's phone rings; what else runs as bob cannot see the question, let alone answer it."""
    logins.start_broker()
    logins.debian("sudo", f"{BELOW} mode=approve")
    with sudo(logins) as terminal:
        terminal.expect("[sudo] password for bob: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.expect("Press Enter when you have approved: ")
        digits = re.findall(r"To approve, type (\d\d) there", terminal.screen)[-1]
        ring = logins.phones["bob"].ring()
        assert "(sudo)" in logins.machine.run("unlatch", "status").out
        assert "(sudo)" not in logins.machine.run("unlatch", "status", user="bob", check=False).out
        page = logins.open(ring["link"])
        assert page.prompt is not None
        assert re.search(r"^From: pts/\d+$", page.prompt.text, re.MULTILINE)
        page.allow(digits)
        terminal.type("\n")
        assert is_let_in(terminal, "root")
    assert logins.rings() == {"bob": 1}
    assert "by=approval person=bob" in logins.verdict()


def test_a_large_terminal_has_the_code(logins: LoginHouse) -> None:
    """Measured, not guessed: 120 columns and 70 rows show the QR code below the message, 80 and 24 do not."""
    with sudo(logins, columns=120, rows=70) as large, sudo(logins) as small:
        for terminal in (large, small):
            terminal.expect(PROMPT)
        code = large.screen.partition("-----END")[2]
        assert len([line for line in code.splitlines() if "▀" in line or "▄" in line or "█" in line]) > 30
        assert "▀" not in small.screen
        assert large.screen.index("-----END") < large.screen.index("▀") < large.screen.index(PROMPT)


def test_too_late_for_both(logins: LoginHouse) -> None:
    """The window is the same wherever PAM asks."""
    logins.configure("seconds = 10")
    with sudo(logins) as first, su(logins, "alice") as second:
        typed = challenged(first, logins.bob).response, challenged(second, logins.alice).response
        assert all(line.endswith("too late") for line in logins.verdicts(2))
        for terminal, response in zip((first, second), typed, strict=True):
            terminal.type(f"{response}\n")
            terminal.expect("unlatch: too late")
        assert not is_let_in(second, "alice")
        first.expect(PROMPT)  # sudo's second of three
        give_up(logins, first)
        assert not is_let_in(first, "root")


@pytest.mark.parametrize("how", ["stop", "kill --signal=KILL"])
def test_the_service_ends_in_mid_sudo(logins: LoginHouse, how: str) -> None:
    """The right response opens nothing any more."""
    with su(logins, "alice") as terminal:
        message = challenged(terminal, logins.alice)
        logins.machine.shell(f"systemctl {how} unlatch-pam.service")
        terminal.type(f"{message.response}\n")
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    assert "login denied" in logins.verdict()


@pytest.mark.parametrize(("owner", "why"), [("bob", "is not root's alone"), ("root", "is served by uid")])
def test_a_stranger_behind_the_socket(logins: LoginHouse, owner: str, why: str) -> None:
    """A service of bob's that allows everything: in a directory of his, and in one that is root's by now."""
    machine = logins.machine
    directory = f"/run/false-{owner}"
    machine.shell(f"mkdir -m 755 {directory}; chown bob {directory}")
    false = machine.start("python3", "-c", FALSE_SERVICE, f"{directory}/pam.sock", user="bob")
    assert false.stdout is not None
    assert false.stdout.readline() == b"ready\n"
    machine.run("chown", owner, directory)
    logins.stack("su", f"{MODULE} socket={directory}/pam.sock")
    with su(logins, "alice") as terminal:
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    assert why in logins.verdict()
