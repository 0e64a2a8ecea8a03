"""gpg-agent's cache as gnupg/keys.py says it is, held against the real one: what is kept, what opens, what forgets."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import House
from real import real
from software_keys import FIRST, PRESET, SECOND, SoftwareKeys
from waiting import until

from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import BadPassphrase, Forbidden, NoPinentry
from unlatch.gnupg.homes import EXTRA
from unlatch.secret import Secret

NAMES = ("rsa2048", "ed25519", "nistp256", "nistp521", "brainpoolP256r1", "secp256k1", "dsa1024")
SUBKEYS = ("cv25519", "nistp384", "elg1024")  # gpg 2.2 makes no X448


@pytest.fixture(scope="module")
def many() -> Iterator[SoftwareKeys]:
    """One home with a key of every kind that gpg 2.2 makes; a test that uses it leaves them locked."""
    house = House()
    many = SoftwareKeys(house, PRESET + "enable-ssh-support\n")
    for name in NAMES:
        many.make(f"{name}@x", algorithm=name)
    for name in SUBKEYS:
        many.add("ed25519@x", algorithm=name)
    yield many
    house.clear()


@pytest.fixture
def agent(many: SoftwareKeys) -> Iterator[Agent]:
    many.lock_all()
    with many.agent() as agent:
        yield agent


@pytest.mark.parametrize("number", range(len(NAMES) + len(SUBKEYS)), ids=[*NAMES, *SUBKEYS])
def test_every_kind_of_key_is_tried_kept_proved_and_forgotten(many: SoftwareKeys, agent: Agent, number: int) -> None:
    """Locked: nothing works unasked. A wrong passphrase is kept nowhere; the right one works until it is cleared."""
    grips = [many.grips(f"{name}@x")[0] for name in NAMES]
    grip = (grips + many.grips("ed25519@x")[1:])[number]
    assert not keys.works_unasked(agent, grip)
    with pytest.raises(BadPassphrase):
        keys.verify(agent, grip, Secret(SECOND))
    assert many.cached() == set()
    keys.verify(agent, grip, Secret(FIRST))
    assert many.cached() == set()
    keys.keep(agent, grip, Secret(FIRST))
    assert many.cached() == {grip}
    assert keys.works_unasked(agent, grip)
    keys.clear(agent, grip)
    assert many.cached() == set()
    assert not keys.works_unasked(agent, grip)


def test_what_opened_another_key_proves_nothing(many: SoftwareKeys, agent: Agent) -> None:
    """gpg-agent tries the last passphrase that fitted on other keys; verify is not taken in by that."""
    first, second = (many.grips(f"{name}@x")[0] for name in ("ed25519", "nistp256"))
    keys.keep(agent, first, Secret(FIRST))
    assert keys.works_unasked(agent, second)  # although nothing is cached for it
    assert many.cached() == {first}
    with pytest.raises(BadPassphrase):
        keys.verify(agent, second, Secret(SECOND))


@pytest.mark.parametrize("forgets", [True, False], ids=["by verify", "by the agent's own command"])
def test_verifying_leaves_nothing_behind(many: SoftwareKeys, agent: Agent, *, forgets: bool) -> None:
    """The agent would keep what was verified for two minutes under a name that it tells; it is made to forget."""
    grip = many.grips("ed25519@x")[0]

    def signs(nonce: str) -> bool:
        agent.ask("OPTION pinentry-mode=error")
        agent.ask(f"SIGKEY {grip}")
        agent.ask(f"SETHASH --hash=sha512 {'00' * 64}")
        try:
            agent.ask(f"PKSIGN {nonce}")
        except NoPinentry:
            return False
        return True

    def verify() -> str:
        told: list[str] = []
        ask = agent.ask

        def ask_and_listen(command: str, **more: Any) -> bytes:
            return ask(command, **more | {"status": lambda keyword, text: told.append(f"{keyword} {text}")})

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent, "ask", ask_and_listen)
            if forgets:
                keys.verify(agent, grip, Secret(FIRST))
            else:
                agent.ask("OPTION pinentry-mode=loopback")
                agent.ask(f"PASSWD --verify {grip}", inquire={"PASSPHRASE": lambda _: Secret(FIRST)})
        return next(line.split()[1] for line in told if line.startswith("PASSWD_NONCE "))

    assert signs(verify()) is not forgets


@pytest.mark.parametrize("typed", [b"", FIRST + b"\0", b"x" * 256], ids=["empty", "with a NUL", "256 bytes"])
def test_what_no_passphrase_can_be_is_wrong(many: SoftwareKeys, agent: Agent, typed: bytes) -> None:
    """The agent would cut it off at the NUL and find it right; the empty one stands for a key without passphrase."""
    with pytest.raises(BadPassphrase):
        keys.verify(agent, many.grips("ed25519@x")[0], Secret(typed))


@pytest.mark.parametrize("length", [1, 21, 22, 28, 100, 255])
@pytest.mark.parametrize("letter", [b"x", b"%", b"\n"], ids=["letters", "per cents", "line feeds"])
def test_a_passphrase_of_any_length_is_kept(agent: Agent, length: int, letter: bytes) -> None:
    """gpg-agent would keep 22 bytes and more under a name that nobody looks up, because the answer overwrites it."""
    given = letter * length
    agent.ask(f"PRESET_PASSPHRASE --inquire{keys._OUT_OF_REACH}some-name -1", inquire={"PASSPHRASE": lambda _: given})
    assert agent.ask("GET_PASSPHRASE --data --no-ask some-name X X X") == given


def test_a_wrong_passphrase_that_somebody_preset_is_replaced(many: SoftwareKeys, agent: Agent) -> None:
    """PRESET checks nothing, so the cache may hold nonsense: that is seen, and the right one takes its place."""
    grip = many.grips("ed25519@x")[0]
    agent.ask(f"PRESET_PASSPHRASE --inquire {grip} -1", inquire={"PASSPHRASE": lambda _: Secret(SECOND)})
    assert many.cached() == {grip}
    assert not keys.works_unasked(agent, grip)
    keys.verify(agent, grip, Secret(FIRST))
    keys.keep(agent, grip, Secret(FIRST))
    assert keys.works_unasked(agent, grip)


def test_a_passphrase_that_does_not_help_is_not_kept(many: SoftwareKeys, agent: Agent) -> None:
    """Whatever is preset and then does not work is cleared, so that nobody after us finds a wrong passphrase."""
    grip = many.grips("ed25519@x")[0]
    with pytest.raises(keys.NotKept):
        keys.keep(agent, grip, Secret(SECOND))
    assert many.cached() == set()


def test_one_entry_serves_gpg_and_ssh(many: SoftwareKeys, agent: Agent, tmp_path: Path) -> None:
    """A key that ssh uses is preset and cleared like any other, and ssh signs with it unasked."""
    real("ssh-keygen")
    grip = many.grips("ed25519@x")[0]
    (many.house.gnupg / "sshcontrol").write_text(f"{grip} 0\n")
    socket = many.house.run("gpgconf", "--list-dirs", "agent-ssh-socket").decode().strip()
    public = tmp_path / "key.pub"
    public.write_bytes(many.house.run("ssh-add", "-L", SSH_AUTH_SOCK=socket))
    message = tmp_path / "message"
    message.write_text("x")

    def ssh_signs() -> bool:
        message.with_suffix(".sig").unlink(missing_ok=True)
        command = ["ssh-keygen", "-Y", "sign", "-f", str(public), "-n", "test", str(message)]
        signing = many.house.start(*command, SSH_AUTH_SOCK=socket)
        # A prompt that is put to somebody is as good as a no.
        until(lambda: signing.poll() is not None or many.house.phone.messages("ring"), "a signature or a ring")
        signing.kill()
        return signing.wait() == 0

    keys.keep(agent, grip, Secret(FIRST))
    assert ssh_signs()
    keys.clear(agent, grip)
    assert not ssh_signs()


def test_names_come_from_gpg(many: SoftwareKeys, agent: Agent) -> None:
    """Each certificate stands together; without a KEY all are found, and with one only what it means."""
    found = keys.find(agent, many.home, ())
    assert [key.name for key in found].count("<ed25519@x>") == 1 + len(SUBKEYS)
    assert {key.name for key in found} == {f"<{name}@x>" for name in NAMES}
    (rsa,) = keys.find(agent, many.home, ("rsa2048@x",))
    assert [rsa.grip] == many.grips("rsa2048@x")
    by_grip = keys.find(agent, many.home, (rsa.grip,), named=False)
    assert [(key.grip, key.name) for key in by_grip] == [(rsa.grip, rsa.grip)]


def test_the_extra_socket_forbids_all_of_it(many: SoftwareKeys, agent: Agent) -> None:
    """The socket that is forwarded to other hosts looks at nothing and unlocks nothing."""
    grip = many.grips("ed25519@x")[0]
    in_home, in_run = many.home.sockets(EXTRA)
    with Agent.at(in_home if os.path.exists(in_home) else in_run, os.getuid()) as restricted:
        with pytest.raises(Forbidden):
            keys.agent_keys(restricted)
        with pytest.raises(Forbidden):
            keys.check_allowed(restricted)
        with pytest.raises(Forbidden):
            keys.verify(restricted, grip, Secret(FIRST))
        with pytest.raises(Forbidden):
            keys.clear(restricted, grip)


def test_what_the_configuration_says_is_known(house: House) -> None:
    """max-cache-ttl as gpgconf reads it, from the file or by default; preset and loopback as the running agent says."""
    home = SoftwareKeys(house, "")
    assert keys.limits(home.home) == keys.Limits(7200, ignores_cache_for_signing=False)
    with home.agent() as agent, pytest.raises(keys.NotAllowed) as raised:
        keys.check_allowed(agent)
    assert raised.value.option == "allow-preset-passphrase"
    home.configure(PRESET + "max-cache-ttl 90\nignore-cache-for-signing\nno-allow-loopback-pinentry\n")
    assert keys.limits(home.home) == keys.Limits(90, ignores_cache_for_signing=True)
    home.lock_all()  # by a reload
    with home.agent() as agent, pytest.raises(keys.NotAllowed) as raised:
        keys.check_allowed(agent)
    assert raised.value.option == "no-allow-loopback-pinentry"
    home.configure("max-cache-ttl nonsense\n")  # what gpg-agent takes for no time at all
    assert keys.limits(home.home).max_cache_ttl == 0


def test_max_cache_ttl_ends_what_was_preset(house: House) -> None:
    """Also of a key that ssh uses: its own maximum does not count."""
    home = SoftwareKeys(house, PRESET + "enable-ssh-support\nmax-cache-ttl 2\nmax-cache-ttl-ssh 1000\n")
    grip = home.make("a@x")
    (house.gnupg / "sshcontrol").write_text(f"{grip} 0\n")
    home.lock_all()
    with home.agent() as agent:
        keys.keep(agent, grip, Secret(FIRST))
        assert home.cached() == {grip}
        until(lambda: home.cached() == set(), "the end by max-cache-ttl")


def test_a_reload_and_a_restart_forget(house: House) -> None:
    """Whoever reloads gpg-agent locks every key, so nobody may reload it in passing."""
    home = SoftwareKeys(house)
    grip = home.make("a@x")
    for forget in (home.lock_all, home.restart):
        with home.agent() as agent:
            keys.keep(agent, grip, Secret(FIRST))
        assert home.cached() == {grip}
        forget()
        assert home.cached() == set()


def test_an_agent_that_signs_only_with_a_question_is_found_out(house: House) -> None:
    """With ignore-cache-for-signing a passphrase that was preset does not help, and is not left behind."""
    home = SoftwareKeys(house, PRESET + "ignore-cache-for-signing\n")
    grip = home.make("a@x")
    home.lock_all()
    with home.agent() as agent:
        keys.verify(agent, grip, Secret(FIRST))
        with pytest.raises(keys.NotKept):
            keys.keep(agent, grip, Secret(FIRST))
    assert home.cached() == set()


def test_a_curve_that_only_newer_gpg_makes_can_be_tried(house: House) -> None:
    """X448 is known to gpg-agent before gpg has keys of it."""
    home = SoftwareKeys(house)
    wanted = b"(6:genkey(3:ecc(5:curve4:X448)(5:flags9:djb-tweak4:comp)))"
    with home.agent() as agent:
        agent.ask("GENKEY --no-protection", inquire={"KEYPARAM": lambda _: wanted})
        (key,) = keys.agent_keys(agent)
        assert keys.works_unasked(agent, key.grip)
