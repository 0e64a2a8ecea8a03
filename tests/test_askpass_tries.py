"""askpass: how often ssh-add is answered, and names that are no text."""

from pathlib import Path

from house import UNLATCH, House
from real_gnupg import finish
from waiting import listens, until

ASKPASS = UNLATCH.with_name("unlatch-askpass")
PASSPHRASE = b"correct horse"


def test_each_key_of_ssh_add_has_its_own_tries(house: House) -> None:
    """After three keys a wrong passphrase for the fourth is one wrong answer, and can be given again."""
    keys = [house.root / f"id{number}" for number in range(4)]
    for key in keys:
        _make(house, key)
    socket = house.root / "agent.sock"
    house.start("ssh-agent", "-D", "-a", socket)
    until(lambda: listens(socket), "ssh-agent's socket")
    more = {"SSH_ASKPASS": str(ASKPASS), "SSH_ASKPASS_REQUIRE": "force", "SSH_AUTH_SOCK": str(socket)}
    # Another passphrase for each, because ssh-add tries the one before first.
    adding = house.start("ssh-add", *keys, **more)
    for number, key in enumerate(keys):
        house.open(house.phone.ring(number + 1)["link"]).unlock(b"wrong" if number == 3 else _passphrase(key))
    page = house.open(house.phone.ring(5)["link"])
    assert page.prompt is not None
    assert page.prompt.attempt == (2, 3)
    page.unlock(_passphrase(keys[3]))
    code, _, err = finish(adding)
    assert code == 0, err


def test_a_key_whose_name_is_no_text_can_be_asked_for(house: House) -> None:
    """A path in the question need not be UTF-8."""
    asking = house.start("sh", "-c", f"exec {ASKPASS} \"$(printf 'Enter passphrase for /caf\\351:')\"")
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    code, out, err = finish(asking)
    assert (code, out) == (0, PASSPHRASE + b"\n"), err


def _passphrase(key: Path) -> bytes:
    return PASSPHRASE + key.name.encode()


def _make(house: House, key: Path) -> None:
    house.run("ssh-keygen", "-q", "-t", "ed25519", "-N", _passphrase(key).decode(), "-C", "backup", "-f", key)
