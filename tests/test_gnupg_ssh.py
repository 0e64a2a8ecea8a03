"""gpg-agent as ssh-agent: a key added with the confirm flag is used only after a person said yes."""

import pytest
from house import House
from real import real
from real_gnupg import Keyring, finish

NEW_PASSPHRASE = b"a passphrase for the agent 17"


@pytest.fixture
def ssh(house: House) -> Keyring:
    """A gpg-agent that serves ssh, ready for a key."""
    for program in ("ssh-add", "ssh-keygen"):
        real(program)
    house.configure(end_to_end=True)
    return Keyring(house, agent="enable-ssh-support\n")


def test_a_confirmed_key_signs_after_a_yes_only(house: House, ssh: Keyring) -> None:
    """ssh-add -c stores the key under a new passphrase; each use then asks: yes signs, no does not."""
    socket = house.run("gpgconf", "--list-dirs", "agent-ssh-socket").decode().strip()
    key = add_key(house, socket)
    (house.root / "text").write_text("to be signed\n")
    for number, (answer, wanted) in enumerate([("yes", 0), ("no", 255)]):
        signer = house.start(
            "ssh-keygen", "-Y", "sign", "-f", key, "-n", "file", house.root / "text", SSH_AUTH_SOCK=socket
        )
        ring = house.phone.ring_of("confirm", number + 1)
        page = house.open(ring["link"])
        assert page.prompt is not None
        assert "allow this" in page.prompt.text
        page.allow() if answer == "yes" else page.deny()
        code, _, errors = finish(signer)
        assert code == wanted, errors
        assert (house.root / "text.sig").exists() == (answer == "yes")
        (house.root / "text.sig").unlink(missing_ok=True)


def test_a_yes_does_not_travel_by_a_link_that_others_can_read(house: House, ssh: Keyring) -> None:
    """Without a notifier that is end-to-end the confirmation is refused at once, and the key is not used."""
    socket = house.run("gpgconf", "--list-dirs", "agent-ssh-socket").decode().strip()
    key = add_key(house, socket)
    for broker in house.brokers():
        house.end(broker)  # its settings are read when it starts
    house.configure(end_to_end=False)
    (house.root / "text").write_text("to be signed\n")
    signer = house.start("ssh-keygen", "-Y", "sign", "-f", key, "-n", "file", house.root / "text", SSH_AUTH_SOCK=socket)
    code, _, _ = finish(signer, seconds=15)
    assert code != 0
    assert not [ring for ring in house.phone.messages("ring") if ring["kind"] == "confirm"]


def add_key(house: House, socket: str) -> str:
    """Add a fresh key with the confirm flag; the agent asks for a passphrase to keep it under."""
    key = house.root / "id_ed25519"
    house.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deploy@db01", "-f", key)
    adding = house.start("ssh-add", "-c", key, SSH_AUTH_SOCK=socket)
    page = house.open(house.phone.ring_of("new-passphrase")["link"])
    page.unlock(NEW_PASSPHRASE)
    code, _, errors = finish(adding)
    assert code == 0, errors
    key.unlink()  # from here on only the agent has it
    return f"{key}.pub"
