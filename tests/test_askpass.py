"""askpass: what the texts of ssh, sudo and git mean, and the real programs that ask through it."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import repository
from house import UNLATCH, House
from real_gnupg import finish
from service_user import NAME, ServiceUser
from sudoers import sudoer_of
from waiting import listens, until

from unlatch.frontends import askpass

ASKPASS = UNLATCH.parent / "unlatch-askpass"
PASSPHRASE = b"correct horse"
VARIABLES = {"SSH_ASKPASS": str(ASKPASS), "SSH_ASKPASS_REQUIRE": "force"}


@pytest.mark.parametrize(
    ("text", "hint", "kind", "again"),
    [
        ("Enter passphrase for /root/.ssh/id_ed25519: ", "", "secret", False),
        ("Bad passphrase, try again for /root/.ssh/id_ed25519: ", "", "secret", True),
        ("Enter PIN for ED25519-SK key /root/.ssh/id: ", "", "pin", False),
        ("alex@db01's password: ", "", "secret", False),
        ("[sudo] password for alex: ", "", "secret", False),
        ("Username for 'https://git.example.org': ", "", "user", False),
        ("Password for 'https://alex@git.example.org': ", "", "secret", False),
        ("Allow use of key backup?\nKey fingerprint SHA256:abc.", "confirm", "confirm", False),
        ("Confirm user presence for key ED25519-SK SHA256:abc", "none", "notice", False),
        ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", "", "host-key", False),
        ("Are you sure you want to continue connecting (yes/no)? ", "", "host-key", False),
        ("", "", "secret", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_texts_are_understood(text: str, hint: str, kind: str, again: bool) -> None:
    """Each program's text becomes the kind of question that it is."""
    wanted = askpass.request(text, {"SSH_ASKPASS_PROMPT": hint} if hint else {})
    assert (wanted.kind, wanted.again) == (kind, again)
    assert wanted.title
    assert len(wanted.title) <= 120


def test_the_same_question_is_known_again() -> None:
    """A question that is asked anew after a wrong answer is the same one."""
    first, again = "Enter passphrase for /k: ", "Bad passphrase, try again for /k: "
    assert askpass.same(first) == askpass.same(again)
    assert askpass.same(first) != askpass.same("Enter passphrase for /other: ")


@pytest.fixture
def key(house: House) -> Path:
    """An ssh key with a passphrase."""
    path = house.root / "id"
    house.run("ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE.decode(), "-C", "backup", "-f", path)
    return path


@pytest.fixture
def agent(house: House) -> dict[str, str]:
    """A real ssh-agent, which asks for confirmations through us too."""
    socket = house.root / "agent.sock"
    # In the foreground (-D), so that it is ended with the house.
    house.start("ssh-agent", "-D", "-a", socket, **VARIABLES)
    until(lambda: listens(socket), "ssh-agent's socket")
    return VARIABLES | {"SSH_AUTH_SOCK": str(socket)}


def test_ssh_add_gets_its_passphrase(house: House, key: Path, agent: dict[str, str]) -> None:
    """ssh-add asks on the phone; after a wrong one it asks again, and the page says so."""
    adding = house.start("ssh-add", key, **agent)
    page = house.open(house.phone.ring(1)["link"])
    assert page.prompt is not None
    assert str(key) in page.prompt.title
    page.unlock(b"wrong")
    assert page.verdict().outcome == "unknown"
    page = house.open(house.phone.ring(2)["link"])
    assert page.prompt is not None
    assert (page.prompt.error, page.prompt.attempt) == ("That was wrong.", (2, 3))
    page.unlock(PASSPHRASE)
    code, _, err = finish(adding)
    assert code == 0, err
    assert b"backup" in house.run("ssh-add", "-l", **agent)


def test_ssh_add_is_not_served_for_ever(house: House, key: Path, agent: dict[str, str]) -> None:
    """ssh-add would ask without end; after three wrong answers nobody is rung any more, and it fails."""
    adding = house.start("ssh-add", key, **agent)
    for number in (1, 2, 3):
        house.open(house.phone.ring(number)["link"]).unlock(b"wrong")
    code, _, err = finish(adding)
    assert code == 1
    assert "3 wrong answers" in err
    assert len(house.phone.messages("ring")) == 3
    assert list((house.runtime / "askpass").iterdir()) != []
    again = house.start("ssh-add", key, **agent)
    house.open(house.phone.ring(4)["link"]).unlock(PASSPHRASE)
    assert finish(again)[0] == 0


@pytest.mark.parametrize("says", ["yes", "no"])
def test_ssh_agent_asks_for_each_use(house: House, key: Path, agent: dict[str, str], says: str) -> None:
    """A key that was added with -c is used only after a yes on the phone: a real confirmation."""
    house.configure(end_to_end=True)
    adding = house.start("ssh-add", "-c", key, **agent)
    house.open(house.phone.ring(1)["link"]).unlock(PASSPHRASE)
    assert finish(adding)[0] == 0
    data = house.root / "data"
    data.write_text("x")
    signing = house.start("ssh-keygen", "-Y", "sign", "-f", f"{key}.pub", "-n", "file", data, **agent)
    ring = house.phone.ring_of("confirm")
    page = house.open(ring["link"])
    assert page.prompt is not None
    assert "Allow use of key" in page.prompt.title
    page.allow() if says == "yes" else page.deny()
    code, _, err = finish(signing)
    assert (code == 0) == (says == "yes"), err


def test_a_yes_without_a_private_way_is_refused(house: House, key: Path, agent: dict[str, str]) -> None:
    """Where the link could be read on its way, no yes is asked for, and the key is not used."""
    adding = house.start("ssh-add", "-c", key, **agent)
    house.open(house.phone.ring(1)["link"]).unlock(PASSPHRASE)
    assert finish(adding)[0] == 0
    data = house.root / "data"
    data.write_text("x")
    signing = house.start("ssh-keygen", "-Y", "sign", "-f", f"{key}.pub", "-n", "file", data, **agent)
    assert finish(signing)[0] != 0
    assert len(house.phone.messages("ring")) == 1


@pytest.mark.parametrize("says", ["yes", "no"])
def test_an_unknown_host_is_a_question(house: House, says: str) -> None:
    """ssh's question about a host key comes without a hint; the answer is a word, for both yes and no."""
    house.configure(end_to_end=True)
    text = (
        "The authenticity of host 'db01' can't be established.\nAre you sure you want to continue connecting (yes/no)? "
    )
    asking = house.start(ASKPASS, text)
    page = house.open(house.phone.ring_of("confirm")["link"])
    page.allow() if says == "yes" else page.deny()
    code, out, err = finish(asking)
    assert (code, out.decode()) == (0, f"{says}\n"), err


def test_a_notice_ends_with_its_caller(house: House) -> None:
    """A text without a question (touch your key) stands on the phone until ssh ends the helper."""
    asking = house.start(ASKPASS, "Confirm user presence for key", SSH_ASKPASS_PROMPT="none")
    assert house.phone.ring()["kind"] == "notice"
    asking.terminate()
    assert house.phone.end()["outcome"] == "withdrawn"
    asking.wait(10)


def test_a_dead_caller_ends_the_question(house: House) -> None:
    """When the program that wanted the answer dies, the prompt is withdrawn."""
    caller = house.start("sh", "-c", f"{ASKPASS} 'Enter passphrase for x: '; true")
    house.phone.ring()
    caller.kill()
    assert house.phone.end()["outcome"] == "withdrawn"


@pytest.mark.parametrize("way", ["denied", "no broker"])
def test_nothing_is_printed_without_an_answer(house: House, way: str) -> None:
    """sudo takes any output for a password, whatever the exit code: so there is none."""
    broken = house.root / "file"
    broken.write_text("")
    more = {"UNLATCH_RUNTIME_DIR": str(broken)} if way == "no broker" else {}
    asking = house.start(ASKPASS, "[sudo] password for alex: ", **more)
    if way == "denied":
        house.open(house.phone.ring()["link"]).deny()
    code, out, err = finish(asking)
    assert (code, out) == (1, b"")
    assert "unlatch: error:" in err


@pytest.fixture
def sudoer(house: House) -> Iterator[ServiceUser]:
    """A service user who may become root with a password."""
    with sudoer_of(house, PASSPHRASE) as user:
        yield user


def test_sudo(house: House, sudoer: ServiceUser) -> None:
    """sudo -A asks on the phone, again after a wrong password, and runs the command after the right one."""
    command = ("env", f"SUDO_ASKPASS={ASKPASS}", "sudo", "-A", "/usr/bin/id", "-u")
    becoming = sudoer.start(*command, may_gain=True)
    ring = house.phone.ring(1)
    assert ring["user"] == NAME
    page = house.open(ring["link"])
    assert page.prompt is not None
    assert NAME in page.prompt.title
    page.unlock(b"wrong")
    house.open(house.phone.ring(2)["link"]).unlock(PASSPHRASE)
    code, out, err = finish(becoming)
    assert (code, out) == (0, b"0\n"), err
    denied = sudoer.start(*command, may_gain=True)
    house.open(house.phone.ring(3)["link"]).deny()
    assert finish(denied)[0] == 1


def test_git(house: House) -> None:
    """git asks for user name and password apart, and clones with them."""
    with repository(house, {"alex": "correct horse"}) as url:
        cloning = house.start("git", "clone", "-q", url, house.root / "copy", GIT_ASKPASS=str(ASKPASS))
        page = house.open(house.phone.ring(1)["link"])
        assert page.prompt is not None
        assert page.prompt.label == "User name"
        page.unlock(b"alex")
        house.open(house.phone.ring(2)["link"]).unlock(PASSPHRASE)
        code, _, err = finish(cloning)
    assert code == 0, err
    assert (house.root / "copy" / ".git").is_dir()


def test_the_variables_lead_here(house: House) -> None:
    """What unlatch env --askpass prints names a program that is there, for each of the three."""
    printed = house.run(UNLATCH, "env", "--askpass").decode()
    for name in ("SSH_ASKPASS", "SUDO_ASKPASS", "GIT_ASKPASS"):
        found = re.search(rf"^{name}='([^']+)'", printed, re.MULTILINE)
        assert found is not None
        assert os.access(found[1], os.X_OK)
    assert "SSH_ASKPASS_REQUIRE='force'" in printed
    assert shutil.which("unlatch-askpass", path=str(UNLATCH.parent))
