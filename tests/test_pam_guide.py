"""docs/logins.md as an administrator would follow it, with Debian's own files of /etc/pam.d and of sshd."""

import re
from collections.abc import Iterator

import pytest
from guide import Block, blocks
from login_house import KEY, MODULE, ONCE, PASSWORD, PASSWORDS, PROMPT, Locked, LoginHouse, challenged, is_let_in
from waiting import until

SSH = "ssh, from nothing to a second factor"
OTHERS = "Other services"
BELOW = f"{MODULE} after_first_factor\n"


def of(heading: str) -> list[Block]:
    """The blocks of a section, in order."""
    return [block for block in blocks("../logins.md") if block.heading == heading]


@pytest.fixture
def fresh(logins: LoginHouse) -> Iterator[LoginHouse]:
    """A server where nobody has a record and sshd is Debian's; alice and rescue log in with the visitor's key."""
    machine = logins.machine
    machine.shell(
        "rm /etc/unlatch/pam/* /etc/ssh/sshd_config.d/*; systemctl stop unlatch-pam.socket unlatch-pam.service; "
        "id rescue 2>/dev/null || useradd --create-home rescue; "
        "for name in alice rescue; do install -d -m 700 -o $name /home/$name/.ssh; "
        "install -o $name /home/visitor/key.pub /home/$name/.ssh/authorized_keys; done"
    )
    logins.debian("sshd", "")
    machine.write("/root/alice.asc", logins.alice.public)
    yield logins
    machine.shell("rm -f /etc/ssh/sshd_config.d/* /home/alice/.ssh/authorized_keys")
    logins.configure_sshd()


def test_ssh_from_nothing(fresh: LoginHouse) -> None:
    """Typed in order: the record, the walk without a login, sshd's settings, PAM's line; then alice, and rescue."""
    machine = fresh.machine
    record, walk, settings, line, reload = of(SSH)
    with fresh.ssh("alice", *KEY) as terminal:
        assert is_let_in(terminal, "alice"), "the public key is enough, as before"
    enrolled = machine.shell(f"cd; {record.text}")
    assert fresh.alice.fingerprint in enrolled.out + enrolled.err
    with machine.terminal("sh", "-euc", walk.text) as terminal:
        message = challenged(terminal, fresh.alice)
        assert message.who == "alice@web03 sshd"
        terminal.type(f"{message.response}\n")
        terminal.expect("would be let in (PAM_SUCCESS)")
        assert terminal.end() == 0
    machine.write("/etc/ssh/sshd_config.d/10-unlatch.conf", settings.text)
    file = fresh.root / "etc/pam.d/sshd"
    file.write_text(file.read_text().replace(PASSWORDS, line.text))
    assert line.text in file.read_text()
    listening = _listening(fresh)
    machine.shell(reload.text)
    until(lambda: _listening(fresh) > listening, "an sshd that has read its settings")
    with fresh.ssh("alice", *KEY) as terminal:
        message = challenged(terminal, fresh.alice)
        assert message.source == "from 127.0.0.1"
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    with fresh.ssh("alice", *KEY, *ONCE) as terminal:
        terminal.expect(PROMPT)
        terminal.type("wrong\n")
        assert not is_let_in(terminal, "alice")
    with fresh.ssh("rescue", *KEY) as terminal:
        assert is_let_in(terminal, "rescue"), "the way around it"
    with fresh.ssh("alice", *ONCE) as terminal:
        assert not is_let_in(terminal, "alice"), "without the public key"
        assert PROMPT not in terminal.screen
    assert [entry.split(" service")[0] for entry in fresh.verdicts(3)] == [
        "login allowed: user=alice",
        "login allowed: user=alice",
        "login denied: user=alice",
    ]


def test_a_walk_of_ones_own(logins: LoginHouse) -> None:
    """``unlatch pam test`` as alice: she asks for herself, and the message says that it is only told so."""
    with logins.machine.terminal("unlatch", "pam", "test", "alice", "--service", "sudo", user="alice") as terminal:
        message = challenged(terminal, logins.alice)
        assert message.who == "alice@web03 sudo"
        assert message.source.startswith("from a program of alice, which says ")
        terminal.type("wrong\n")
        terminal.expect("the login is denied (PAM_AUTH_ERR)")
        assert terminal.end() == 3
    uid = logins.machine.run("id", "-u", "alice").out.strip()
    assert re.search(rf" user=alice service=sudo .* uid={uid}: wrong response$", logins.verdict())
    others = logins.machine.run("unlatch", "pam", "test", "bob", user="alice", check=False)
    assert others.code != 0
    assert "PGP" not in others.out + others.err


def test_other_services(logins: LoginHouse) -> None:
    """The lines for sudo, su and login are those that the other tests have; vlock's whole file stands in the guide."""
    shown = [block.text for block in of(OTHERS)]
    assert shown.count(BELOW) == 3
    (vlock,) = (text for text in shown if text.startswith(PASSWORDS))
    logins.machine.write("/etc/pam.d/vlock", vlock)
    locked = Locked(logins)
    with locked.terminal as terminal:
        locked.press_enter()
        terminal.expect("Password: ")
        locked.answer(f"{PASSWORD}\n")
        locked.answer(f"{challenged(terminal, logins.bob).response}\n")
        assert terminal.end() == 0
    assert "login allowed: user=bob service=vlock " in logins.verdict()


def _listening(logins: LoginHouse) -> int:
    """How often sshd has begun to listen."""
    return logins.machine.run("journalctl", "--quiet", "--output=cat", "--unit=ssh").out.count("Server listening on")
