"""The rehearsal with a key: really locked, rung, unlocked and used; and nothing is locked that need not be."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from doctor_asker import Patient, situation, start_agent
from house import PINENTRY, UNLATCH, House
from real_gnupg import GPG, LOOPBACK, PASSPHRASE, Keyring, finish
from service_user import NAME, UID
from terminal import Terminal

from unlatch import errors as broad
from unlatch import runtime
from unlatch.cli import voice
from unlatch.doctor.check import Finding
from unlatch.doctor.rehearsal import card, key, steps
from unlatch.gnupg import card_errors, locking, reading
from unlatch.gnupg import errors as gnupg_errors

ADDRESS = "root@db01.example"


@pytest.fixture
def keyring(house: House) -> Keyring:
    """A house with a key, and its agent running."""
    keyring = Keyring(house)
    start_agent(house)
    return keyring


def rehearsing(house: House, *arguments: str) -> "subprocess.Popen[bytes]":
    """The command, agreed to beforehand, with its findings as JSON."""
    return house.start(UNLATCH, "doctor", "--json", "--yes", *arguments)


def findings(process: "subprocess.Popen[bytes]") -> tuple[int, dict[str, Finding], str]:
    """Its exit code, findings, and what it told."""
    code, out, err = finish(process)
    return code, {each["check"]: Finding(**each) for each in json.loads(out)} if out else {}, err


def unlock_before(house: House, keyring: Keyring) -> None:
    """Somebody unlocked the key this morning."""
    process = keyring.decrypt()
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    assert finish(process)[0] == 0


def cached(house: House, grip: str) -> bool:
    """Whether the agent holds a passphrase of this key."""
    return house.run("gpg-connect-agent", f"KEYINFO {grip}", "/bye").decode().split()[6] == "1"


def test_a_key_is_locked_rung_unlocked_and_used(house: House, keyring: Keyring) -> None:
    """The whole way: a key that was unlocked is locked, one ring, and gpg decrypts; afterwards it is unlocked."""
    unlock_before(house, keyring)
    process = rehearsing(house, "--rehearse", ADDRESS)
    ring = house.phone.ring(2)
    assert not cached(house, keyring.keygrips()[1])
    page = house.open(ring["link"])
    assert page.stamp["uid"] == house.uid
    page.unlock(PASSPHRASE)
    code, found, told = findings(process)
    assert (code, list(found)) == (voice.OK, [steps.LOCK, steps.ANSWER, steps.PROOF]), told
    assert {each.state for each in found.values()} == {"ok"}
    assert "gpg decrypted a random text: rung, answered and unlocked within" in found[steps.ANSWER].text
    assert "without asking anybody" in found[steps.PROOF].text
    assert page.verdict().outcome == "accepted"
    assert cached(house, keyring.keygrips()[1])
    assert len(house.phone.messages("ring")) == 2


def test_a_signing_key_signs(house: House, keyring: Keyring) -> None:
    """The key that was named, not another of the certificate."""
    grip = keyring.keygrips()[0]
    process = rehearsing(house, "--rehearse", f"{grip}!")
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    code, found, told = findings(process)
    assert code == voice.OK, told
    assert found[steps.ANSWER].text.startswith("gpg signed a random text")


def test_a_key_that_gpg_does_not_know(house: House, keyring: Keyring) -> None:
    """A key for ssh: the agent is asked by us, as ssh would; the same pinentry rings."""
    grip = keyring.keygrips()[0]
    for name in ("pubring.kbx", "trustdb.gpg"):
        (house.gnupg / name).unlink()
    process = rehearsing(house, "--rehearse", grip)
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    code, found, told = findings(process)
    assert code == voice.OK, told
    assert found[steps.ANSWER].text.startswith("gpg-agent used the key")


def test_a_wrong_passphrase_goes_on_in_the_page(house: House, keyring: Keyring) -> None:
    """As for any service: gpg-agent asks again."""
    process = rehearsing(house, "--rehearse", ADDRESS)
    page = house.open(house.phone.ring()["link"])
    page.unlock(b"wrong")
    page.follow(page.verdict()).unlock(PASSPHRASE)
    assert findings(process)[0] == voice.OK


def test_a_denial_is_told_and_the_key_stays_locked(house: House, keyring: Keyring) -> None:
    """Nothing is proved; the hints say why, and how to unlock it after all."""
    process = rehearsing(house, "--rehearse", f"{keyring.keygrips()[0]}!")
    house.open(house.phone.ring()["link"]).deny()
    code, found, _ = findings(process)
    assert (code, list(found)) == (voice.FAILED, [steps.LOCK, steps.ANSWER])
    assert "somebody said no" in found[steps.ANSWER].text
    assert "stays locked" in found[steps.ANSWER].text
    assert "unlatch key unlock" in found[steps.ANSWER].hint


def test_nobody_answers(house: House, keyring: Keyring) -> None:
    """After the time that was given the prompt is withdrawn: nobody is left with a link to nothing."""
    situated = situation(house)
    target = key.find(situated, ADDRESS)
    used = key.use(situated, target, 1.0)
    assert (used.worked, used.error) == (False, "Expired")
    found = key.judge_use(used, target, situated)
    assert (found.state, "nobody answered in time" in found.text) == ("problem", True)
    assert house.phone.end()["outcome"] == "withdrawn"


def test_ctrl_c_takes_it_back(house: House, keyring: Keyring) -> None:
    """Whoever stops the rehearsal stops its prompt as well."""
    command = [UNLATCH, "doctor", "--yes", "--rehearse", ADDRESS]
    with Terminal(command, house.environ()) as terminal:
        house.phone.ring()
        terminal.type("\x03")
        assert terminal.end() == voice.INTERRUPTED
    assert house.phone.end()["outcome"] == "withdrawn"


# Agreeing


def test_it_says_what_it_will_do_and_asks(house: House, keyring: Keyring) -> None:
    """A person reads the plan and says no: nothing was touched."""
    unlock_before(house, keyring)
    command = [UNLATCH, "doctor", "--rehearse", ADDRESS]
    with Terminal(command, house.environ()) as terminal:
        for text in (
            "forgets Sql Root",
            "as a service would",
            "within 5 min; else the key stays locked",
            "go on? (yes/no) [no]",
        ):
            terminal.expect(text)
        terminal.type("\n")
        assert terminal.end() == voice.FAILED
        assert "nothing was locked" in terminal.screen
    assert cached(house, keyring.keygrips()[1])
    assert len(house.phone.messages("ring")) == 1


def test_a_person_agrees(house: House, keyring: Keyring) -> None:
    """And sees each step as it is done."""
    with Terminal([UNLATCH, "doctor", "--rehearse", ADDRESS], house.environ()) as terminal:
        terminal.expect("go on? (yes/no) [no]")
        terminal.type("y\n")
        terminal.expect("rehearsal-lock")
        house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
        terminal.expect("rehearsal-answer")
        terminal.expect("rehearsal-proof")
        assert terminal.end() == voice.OK


def test_without_a_terminal_it_wants_yes(house: House, keyring: Keyring) -> None:
    """A script must say that it means it."""
    process = house.start(UNLATCH, "doctor", "--rehearse", ADDRESS)
    code, _, err = finish(process)
    assert code == voice.USAGE
    assert "--yes agrees beforehand" in err


# What is found out before anything is locked


def test_nothing_is_locked_when_nobody_could_be_rung(house: House, keyring: Keyring) -> None:
    """A pinentry that is gone: the key stays unlocked, and the check says what to mend."""
    unlock_before(house, keyring)
    conf = house.gnupg / "gpg-agent.conf"
    conf.write_text(conf.read_text().replace(str(PINENTRY), "/nonexistent"))
    code, found, told = findings(rehearsing(house, "--rehearse", ADDRESS))
    assert code == voice.FAILED
    assert found["pinentry-line"].state == "problem"
    assert "nothing was locked" in told
    assert cached(house, keyring.keygrips()[1])


@pytest.mark.parametrize(
    ("what", "text"),
    [("nobody@example.org", "no key or card"), ("F" * 40, "no key or card"), ("no such thing", "no key or card")],
)
def test_a_key_that_is_not_there(house: House, keyring: Keyring, what: str, text: str) -> None:
    """One clear sentence."""
    code, found, _ = findings(rehearsing(house, "--rehearse", what))
    assert code == voice.FAILED
    assert text in found[steps.LOCK].text


def test_a_key_without_a_passphrase(house: House) -> None:
    """There is nothing to unlock."""
    Keyring(house, passphrase=b"")
    start_agent(house)
    code, found, _ = findings(rehearsing(house, "--rehearse", ADDRESS))
    assert (code, "has no passphrase" in found[steps.LOCK].text) == (voice.FAILED, True)


def test_no_agent(house: House) -> None:
    """Doctor starts none: it would belong to whoever calls doctor, and end with that login."""
    Keyring(house)
    house.run("gpgconf", "--kill", "gpg-agent")
    code, found, _ = findings(rehearsing(house, "--rehearse", ADDRESS))
    assert (code, "no gpg-agent runs" in found[steps.LOCK].text) == (voice.FAILED, True)
    assert house.processes_called(b"gpg-agent") == []


def test_another_unlocked_key_with_the_same_passphrase(house: House) -> None:
    """gpg-agent tries the last passphrase on other keys too: such a rehearsal would prove nothing, and says so."""
    keyring = Keyring(house, agent="allow-preset-passphrase\n")
    make = ("--quick-gen-key", "Other <other@db01.example>", "future-default", "default", "never")
    house.run(*GPG, *LOOPBACK, *make, feed=PASSPHRASE)
    keyring.forget()
    first = keyring.keygrips()[0]
    other = keyring.keygrips()[2]
    for grip in (first, other):
        house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {grip} -1 {PASSPHRASE.hex().upper()}", "/bye")
    sign = house.start("gpg", "--batch", "--no-tty", "--local-user", "other@db01.example", "--sign", "--output", "-",
                       keyring.secret)  # fmt: skip
    assert finish(sign)[0] == 0
    code, found, _ = findings(rehearsing(house, "--rehearse", f"{first}!"))
    assert code == voice.FAILED
    assert "another unlocked key has the same passphrase" in found[steps.LOCK].text
    assert house.phone.messages() == []


def test_every_reason_is_an_exception_of_ours() -> None:
    """Their names cross from the user's process; a renamed one would be shown raw."""
    known = {name for module in (broad, card_errors, gnupg_errors, locking, reading, runtime) for name in vars(module)}
    assert {*key.WHY, *card.WHY} <= known


# For a service user


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    """A service user with a key and an agent; the configuration is where its programs find it without being told."""
    Keyring(house)
    house.run("gpgconf", "--kill", "all")
    config = house.root / ".config/unlatch/unlatch.toml"
    config.parent.mkdir(parents=True)
    house.settings.rename(config)
    patient = Patient(house)
    patient.run("gpgconf", "--launch", "gpg-agent")
    yield patient
    patient.close()


def test_as_a_service_user_without_anything(house: House, patient: Patient) -> None:
    """Root rehearses for the user: gpg, agent, pinentry, broker are all that user's, with a bare environment."""
    words = [UNLATCH, "doctor", "--json", "--yes", "--as", NAME, "--rehearse", ADDRESS]
    process = patient.start_as_root(*words)
    ring = house.phone.ring()
    assert (ring["user"], ring["uid"]) == (NAME, UID)
    page = house.open(ring["link"])
    page.unlock(PASSPHRASE)
    code, found, told = findings(process)
    assert code == voice.OK, (found, told)
    assert {each.state for each in found.values()} == {"ok"}
    patient.run("gpgconf", "--kill", "gpg-agent")


def test_no_secret_is_ever_shown(house: House, keyring: Keyring) -> None:
    """Neither passphrase nor link nor the random text's plaintext: lines, hints, errors."""
    process = house.start(UNLATCH, "doctor", "--yes", "--rehearse", ADDRESS)
    ring = house.phone.ring()
    house.open(ring["link"]).unlock(PASSPHRASE)
    code, out, err = finish(process)
    assert code == voice.OK
    ticket, fragment = ring["link"].rsplit("/", 1)[1].split("#")
    for secret in (PASSPHRASE.decode(), PASSPHRASE.hex(), ticket, fragment):
        assert secret not in out.decode() + err
