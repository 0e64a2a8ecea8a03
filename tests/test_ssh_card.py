"""Real ssh to a real sshd with a card's authentication key, through gpg-agent's ssh support."""

import os
import subprocess
from pathlib import Path

import pytest
from card.card import PIN, Card
from card.house import CardHouse
from card.reader import AUTHENTICATE
from card.sshd import SSHServer, agent_socket, card_key
from real_gnupg import finish

# A client that does not sign the host key along with the rest (OpenSSH's PROTOCOL, publickey-hostbound).
UNBOUND = ("-o", "PubkeyAuthentication=unbound")


@pytest.mark.parametrize("algorithm", ["rsa2048", "rsa3072", "ed25519", "nistp256"])
def test_a_card_logs_in(card_house: CardHouse, algorithm: str) -> None:
    """With the PIN verified ssh logs in and runs a command, without any question."""
    server, socket = ready(card_house, algorithm)
    card_house.unlock()
    code, out, errors = finish(server.login("echo", "in", socket=socket))
    assert (code, out) == (0, b"in\n"), errors
    assert card_house.card.submitted() == 1
    assert card_house.phone.messages() == []


def test_a_key_that_the_server_does_not_know_is_refused(card_house: CardHouse) -> None:
    """Another card's key stays outside, and the card is not even asked."""
    server, socket = ready(card_house, "ed25519")
    (server.keys / "authorized_keys").write_text("")
    card_house.unlock()
    code, _, errors = finish(server.login("echo", "in", socket=socket))
    assert code == 255
    assert "Permission denied" in errors
    assert AUTHENTICATE not in {command[1] for command in card_house.reader.commands}


def test_a_forced_command_is_all_that_a_restricted_key_gets(card_house: CardHouse) -> None:
    """authorized_keys with restrict,command= is what a backup's key should have: nothing else runs."""
    server, socket = ready(card_house, "ed25519", options='restrict,command="echo only this"')
    card_house.unlock()
    code, out, errors = finish(server.login("cat", "/etc/passwd", socket=socket))
    assert (code, out) == (0, b"only this\n"), errors


@pytest.mark.parametrize("host_key", ["rsa", "ed25519 and rsa"])
@pytest.mark.parametrize("algorithm", ["rsa3072", "ed25519"])
def test_an_ed25519_card_and_an_rsa_host_key_do_not_meet(card_house: CardHouse, algorithm: str, host_key: str) -> None:
    """Measured with OpenSSH 9.2 and gpg-agent 2.2.40: what ed25519 signs holds the host key since OpenSSH 8.9, and with
    an RSA host key that is longer than a line to scdaemon may be; the agent refuses before the card is asked. RSA
    signs a digest and is not concerned. A server that has an ed25519 host key too is well, because ssh prefers that.
    """
    server, socket = ready(card_house, algorithm, host_key=host_key)
    card_house.unlock()
    code, out, errors = finish(server.login("echo", "in", socket=socket))
    if (algorithm, host_key) == ("ed25519", "rsa") and gpg_agent() < (2, 3):
        assert code == 255
        assert "agent refused operation" in errors
        assert AUTHENTICATE not in {command[1] for command in card_house.reader.commands}
        code, out, errors = finish(server.login("echo", "in", socket=socket, options=UNBOUND))
    assert (code, out) == (0, b"in\n"), errors


def test_a_locked_card_rings_and_logs_in(card_house: CardHouse) -> None:
    """ssh with a locked card waits; the PIN given on the phone logs it in, and the next one needs nobody."""
    server, socket = ready(card_house, "ed25519")
    waiting = server.login("echo", "in", socket=socket)
    card_house.open(card_house.phone.ring_of("pin")["link"]).unlock(PIN)
    code, out, errors = finish(waiting)
    assert (code, out) == (0, b"in\n"), errors
    assert finish(server.login("echo", "in", socket=socket))[0] == 0
    assert len(card_house.phone.messages("ring")) == 1
    assert card_house.card.submitted() == 1


def test_a_card_pulled_while_it_authenticates_fails_the_login(card_house: CardHouse) -> None:
    """ssh ends with an error; the card put back is locked, with all its tries."""
    server, socket = ready(card_house, "ed25519")
    card = card_house.card
    card_house.unlock()
    card_house.reader.pull_at(AUTHENTICATE)
    code, _, errors = finish(server.login("echo", "in", socket=socket))
    assert code == 255, errors
    card_house.replug()
    assert not card.verified()
    card_house.unlock()
    assert finish(server.login("echo", "in", socket=socket))[0] == 0
    assert card.tries() == (3, 0, 3)


def test_sshd_is_not_the_machines(card_house: CardHouse) -> None:
    """It listens in the namespace only, with nothing from /etc/ssh, and its user exists for it alone."""
    server, socket = ready(card_house, "ed25519")
    card_house.unlock()
    _, out, _ = finish(server.login("id", "-un", socket=socket))
    assert out == b"vault\n"
    assert b"vault" not in card_house.run("cat", "/etc/passwd")
    opened = Path(f"/proc/{server.pid}/maps").read_text()
    opened += "".join(os.readlink(path) for path in Path(f"/proc/{server.pid}/fd").iterdir())
    assert "sshd" in opened
    assert "/etc/ssh" not in opened


def ready(
    house: CardHouse, algorithm: str, host_key: str = "ed25519", options: str = "restrict"
) -> tuple[SSHServer, str]:
    """A card with an authentication key that a server knows; the server and the agent's socket."""
    card = Card()
    card.generate("auth", algorithm)
    house.replace(card)
    server = SSHServer(house, host_key)
    socket = agent_socket(house)
    server.allow(card_key(house, socket), options)
    return server, socket


def gpg_agent() -> tuple[int, ...]:
    """The version of gpg-agent."""
    first = subprocess.run(["gpg-agent", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return tuple(int(part) for part in first.split("."))
