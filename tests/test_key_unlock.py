"""``unlatch key unlock`` with a real gpg-agent and a person on the phone: what one page opens, and what it says."""

import os
import re
import signal

import pytest
from answerer import Page
from house import UNLATCH, House
from real_gnupg import finish
from software_keys import FIRST, PRESET, SECOND, YEARS, SoftwareKeys
from terminal import Terminal

ALLOWED = PRESET + YEARS


@pytest.fixture
def home(house: House) -> SoftwareKeys:
    """A GnuPG home whose agent may be preset; its keys are made by the tests."""
    return SoftwareKeys(house, ALLOWED)


def rung(home: SoftwareKeys, number: int = 1) -> Page:
    return home.house.open(home.house.phone.ring(number)["link"])


def test_one_passphrase_is_typed_once_for_three_keys(home: SoftwareKeys) -> None:
    """One ring, one page, one answer: three keys are unlocked, and gpg signs with them unasked."""
    names = ("a@x", "b@x", "c@x")
    for name in names:
        home.make(name)
    home.lock_all()
    unlocking = home.start("key", "unlock")
    page = rung(home)
    assert page.prompt is not None
    assert page.prompt.title == "Unlock <a@x> and 2 more"
    assert all(name in page.prompt.text for name in names)
    assert (page.prompt.kind, page.prompt.keeper) == ("passphrase", "agent")
    page.unlock(FIRST)
    assert page.verdict().outcome == "accepted"
    code, out, _ = finish(unlocking)
    assert code == 0
    assert out.count(b"unlocked <") == 3
    assert [home.sign(name) for name in names] == [0, 0, 0]
    assert len(home.house.phone.messages("ring")) == 1


def test_the_page_asks_again_for_the_keys_that_it_did_not_open(home: SoftwareKeys) -> None:
    """Two passphrases for three keys: the open page goes on by itself, and names what is left. Nobody is rung twice."""
    home.make("a@x", FIRST)
    home.make("b@x", SECOND)
    home.make("c@x", FIRST)
    home.lock_all()
    unlocking = home.start("key", "unlock", "a@x", "b@x", "c@x")
    page = rung(home)
    page.unlock(FIRST)
    verdict = page.verdict()
    assert verdict.outcome == "next"
    following = page.follow(verdict)
    assert following.prompt is not None
    assert following.prompt.title == "Unlock <b@x>"
    assert following.prompt.error == ""
    unlocked, left = following.prompt.text.split("Still locked:")
    assert ("<a@x>" in unlocked, "<c@x>" in unlocked, "<b@x>" in left) == (True, True, True)
    following.unlock(SECOND)
    assert following.verdict().outcome == "accepted"
    assert finish(unlocking)[0] == 0
    assert [home.sign(name) for name in ("a@x", "b@x", "c@x")] == [0, 0, 0]
    assert len(home.house.phone.messages("ring")) == 1


def test_a_wrong_passphrase_is_told_and_keeps_nothing(home: SoftwareKeys) -> None:
    """The page goes on with what was wrong; the third in a row ends it. Nothing is in the agent's cache."""
    home.make("a@x")
    home.lock_all()
    unlocking = home.start("key", "unlock", "a@x")
    page = rung(home)
    for number in (2, 3):
        page.unlock(SECOND)
        verdict = page.verdict()
        assert (verdict.outcome, verdict.text) == ("wrong", "It does not open this key.")
        page = page.follow(verdict)
        assert page.prompt is not None
        assert page.prompt.attempt == (number, 3)
        assert home.cached() == set()
    page.unlock(SECOND)
    verdict = page.verdict()
    assert verdict.outcome == "failed"
    assert "last try" in verdict.text
    code, _, errors = finish(unlocking)
    assert code == 3
    assert "three wrong passphrases" in errors
    assert home.cached() == set()


def test_a_right_one_after_a_wrong_one_unlocks(home: SoftwareKeys) -> None:
    """Tries are counted in a row: an answer that opened something begins anew."""
    home.make("a@x", FIRST)
    home.make("b@x", SECOND)
    home.lock_all()
    unlocking = home.start("key", "unlock")
    page = rung(home)
    for typed in (b"nonsense", b"nonsense again", FIRST, b"nonsense", b"nonsense again"):
        page.unlock(typed)
        page = page.follow(page.verdict())
    page.unlock(SECOND)
    assert page.verdict().outcome == "accepted"
    assert finish(unlocking)[0] == 0


def test_a_denial_leaves_what_was_unlocked_before(home: SoftwareKeys) -> None:
    """Who denies the second question keeps the first: it is said which are unlocked and which are not."""
    home.make("a@x", FIRST)
    home.make("b@x", SECOND)
    home.lock_all()
    unlocking = home.start("key", "unlock")
    page = rung(home)
    page.unlock(FIRST)
    page.follow(page.verdict()).deny()
    code, out, errors = finish(unlocking)
    assert code == 4
    assert b"unlocked <a@x>" in out
    assert "still locked: <b@x>" in errors
    assert home.cached() == set(home.grips("a@x"))


def test_an_address_stands_for_primary_key_and_subkey(home: SoftwareKeys) -> None:
    """Both are unlocked by the one passphrase; the id of a subkey stands for itself."""
    home.make("a@x")
    decrypt = home.add("a@x")
    home.lock_all()
    subkey = home.fingerprints("a@x")[1]
    assert home.unlatch("key", "unlock", "--stdin", subkey[-16:], feed=FIRST + b"\n")[0] == 0
    assert home.cached() == {decrypt}
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    assert home.cached() == set(home.grips("a@x"))


def test_what_is_unlocked_is_not_asked_for(home: SoftwareKeys) -> None:
    """Nobody is rung for a key that works already, nor for one without a passphrase."""
    home.make("a@x")
    home.make("free@x", b"")
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    code, _, errors = home.unlatch("key", "unlock", "a@x", "free@x")
    assert code == 0
    assert "<a@x>" in errors.split("is unlocked already")[0]
    assert "has no passphrase" in errors
    assert home.house.phone.messages() == []


def test_a_wrong_passphrase_in_the_cache_is_replaced(home: SoftwareKeys) -> None:
    """Somebody preset nonsense, which gpg-agent does not check: the key counts as locked, and is unlocked rightly."""
    grip = home.make("a@x")
    home.lock_all()
    home.house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {grip} -1 {SECOND.hex()}", "/bye")
    assert home.unlatch("key", "check", "a@x")[0] == 0  # by the agent's word
    code, _, errors = home.unlatch("key", "check", "--sign", "a@x")
    assert code == 7
    assert "does not work" in errors
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    assert home.unlatch("key", "check", "--sign", "a@x")[0] == 0


def test_an_expired_key_is_unlocked_and_said_to_be_expired(home: SoftwareKeys) -> None:
    """What it encrypted once is still to be read."""
    home.make("old@x", at="20200101T000000", expire="1y")
    home.lock_all()
    code, _, errors = home.unlatch("key", "unlock", "--stdin", "old@x", feed=FIRST)
    assert code == 0
    assert "is expired" in errors
    assert "(expired)" in home.unlatch("key", "list", "old@x")[1]


@pytest.mark.parametrize("command", [("unlock",), ("check",), ("wait",), ("lock",), ("list",)])
def test_an_unknown_key_is_an_error_before_anybody_is_rung(home: SoftwareKeys, command: tuple[str, ...]) -> None:
    """One sentence with the name that was given, and what to type next."""
    home.make("a@x")
    code, _, errors = home.unlatch("key", *command, "nobody@x")
    assert code == 1
    assert "error: nobody@x: there is no such secret key" in errors
    assert "unlatch key list" in errors
    code, _, errors = home.unlatch("key", *command, "Sql Root")
    assert code == 2
    assert "a keygrip, a key id, a fingerprint" in errors
    assert home.house.phone.messages() == []


def test_an_agent_that_may_not_be_preset_is_said_before_anybody_is_rung(house: House) -> None:
    """The exact line is told; --configure writes it, and says that the reload locked every key."""
    home = SoftwareKeys(house, "# mine\n")
    home.make("a@x")
    code, _, errors = home.unlatch("key", "unlock", "a@x")
    assert code == 1
    assert 'hint: "unlatch key unlock --configure" writes what is missing' in errors
    assert 'add the line "allow-preset-passphrase"' in errors
    assert house.phone.messages() == []
    code, _, errors = home.unlatch("key", "unlock", "--configure", "--stdin", "a@x", feed=FIRST)
    assert code == 0, errors
    assert "locked every key" in errors
    conf = (house.gnupg / "gpg-agent.conf").read_text()
    assert conf.endswith("# mine\nallow-preset-passphrase\n")
    again = home.unlatch("key", "unlock", "--configure", "--stdin", "a@x", feed=FIRST)
    assert (again[0], "reloaded" in again[2]) == (0, False)
    assert (house.gnupg / "gpg-agent.conf").read_text() == conf


@pytest.mark.parametrize(("time", "line"), [("8h", "max-cache-ttl 28800"), ("until-reboot", "max-cache-ttl 31536000")])
def test_a_maximum_below_the_grant_is_said_before_anybody_is_rung(house: House, time: str, line: str) -> None:
    """A person who is woken at night shall not find the key locked two hours later."""
    home = SoftwareKeys(house, PRESET + "max-cache-ttl 7200\n")
    home.make("a@x")
    code, _, errors = home.unlatch("key", "unlock", "--for", time, "a@x")
    assert code == 1
    assert "capped by max-cache-ttl = 7200 s" in errors
    assert f'"{line}"' in errors
    assert house.phone.messages() == []


def test_without_a_time_the_maximum_is_told(house: House) -> None:
    """As long as gpg-agent is configured to keep it, which the page says too."""
    home = SoftwareKeys(house, PRESET + "max-cache-ttl 5400\n")
    home.make("a@x")
    home.lock_all()
    unlocking = home.start("key", "unlock")
    page = rung(home)
    assert page.prompt is not None
    assert "1 h 30 min at most" in page.prompt.text
    page.unlock(FIRST)
    code, out, errors = finish(unlocking)
    assert (code, b"at the latest" in out) == (0, True)
    assert "capped by max-cache-ttl = 5400 s" in errors


def test_until_reboot_needs_nobody_who_comes_back(home: SoftwareKeys) -> None:
    """With a maximum of years the key stays until gpg-agent ends."""
    home.make("a@x")
    home.lock_all()
    code, out, errors = home.unlatch("key", "unlock", "--configure", "--for", "until-reboot", "--stdin", feed=FIRST)
    assert (code, "until gpg-agent ends" in out) == (0, True), errors


def test_a_time_that_nobody_could_end_is_refused(home: SoftwareKeys) -> None:
    """Without a systemd that outlives the agent there is no --for; the way to get one is told. Nobody is rung."""
    home.make("a@x")
    code, _, errors = home.unlatch("key", "unlock", "--for", "8h", "a@x")
    assert code == 1
    assert "nobody could end this grant" in errors
    assert "hint: " in errors
    assert home.house.phone.messages() == []


def test_an_agent_killed_while_the_page_is_open_is_no_matter(home: SoftwareKeys) -> None:
    """The answer goes to the agent that lives when it comes."""
    grip = home.make("a@x")
    home.lock_all()
    unlocking = home.start("key", "unlock")
    page = rung(home)
    with home.agent() as agent:
        os.kill(agent.pid, signal.SIGKILL)
    page.unlock(FIRST)
    assert page.verdict().outcome == "accepted"
    assert finish(unlocking)[0] == 0
    assert home.cached() == {grip}


# The first agent's sockets are in the home; the second starts when /run/user/UID has appeared, as at the first login.
TWO_AGENTS = """
mount -t tmpfs tmpfs /run
gpgconf --launch gpg-agent
mkdir -p /run/user/$(id -u)/gnupg && chmod 700 /run/user/$(id -u) /run/user/$(id -u)/gnupg
gpgconf --create-socketdir
gpgconf --launch gpg-agent
for command in "unlock" "check a@x" "wait a@x" "lock" "list"; do "$0" key $command; echo "$?"; done
"""


def test_two_agents_are_an_error_that_names_both(home: SoftwareKeys) -> None:
    """Which one would a passphrase help? That is settled before anybody is asked."""
    home.make("a@x")
    home.restart()
    here = home.house.start("unshare", "--mount", "sh", "-c", TWO_AGENTS, UNLATCH)
    _, codes, errors = finish(here)
    assert codes.split() == [b"1"] * 5
    assert errors.count("error: two gpg-agents run for one home") == 5
    assert len(set(re.findall(r"pid \d+ at /[^ \n]+S.gpg-agent", errors))) == 2
    assert re.search(r'hint: end the one that GnuPG does not use now: "kill \d+"', errors)
    assert home.house.phone.messages() == []


@pytest.mark.parametrize("command", ["unlock", "check a@x", "wait a@x", "lock", "list"])
def test_a_restricted_agent_is_one_clear_sentence(home: SoftwareKeys, command: str) -> None:
    """Another host's agent, forwarded to here as GnuPG's manual says: by its extra socket. It is unlocked there."""
    home.make("a@x")
    elsewhere = House()
    # libassuan takes a file in a socket's place that names the real one.
    extra = home.house.run("gpgconf", "--list-dirs", "agent-extra-socket").decode().strip()
    (elsewhere.gnupg / "S.gpg-agent").write_text(f"%Assuan%\nsocket={extra}\n")
    there = SoftwareKeys(elsewhere)
    code, _, errors = there.unlatch("key", *command.split())
    elsewhere.clear()
    assert code == 1
    assert "error: this gpg-agent is restricted" in errors
    assert "unlock the key on that host" in errors


def test_the_passphrase_stands_in_no_message_and_no_argument(home: SoftwareKeys) -> None:
    """Neither in what the command prints, nor in the agent's own log at its most talkative."""
    log = home.house.root / "agent.log"
    home.configure(ALLOWED + f"debug ipc\nverbose\nlog-file {log}\n")
    home.make("a@x")
    home.restart()
    code, out, errors = home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)
    assert code == 0
    assert FIRST.decode() not in out + errors
    logged = log.read_bytes()
    assert b"PRESET_PASSPHRASE" in logged
    assert FIRST not in logged
    assert FIRST.hex().encode() not in logged.lower()


def test_standard_input_has_one_try_for_each_question(home: SoftwareKeys) -> None:
    """A line opens what it opens; a wrong one is said to be wrong, and a missing one to be missing."""
    home.make("a@x", FIRST)
    home.make("b@x", SECOND)
    home.lock_all()
    code, _, errors = home.unlatch("key", "unlock", "--stdin", "a@x", feed=SECOND + b"\n" + FIRST)
    assert code == 3
    assert "wrong passphrase: it does not open this key" in errors
    code, out, errors = home.unlatch("key", "unlock", "--stdin", feed=FIRST + b"\r\n")
    assert (code, "unlocked <a@x>" in out) == (1, True)
    assert "holds no passphrase for what is left" in errors
    assert "still locked: <b@x>" in errors
    code, out, _ = home.unlatch("key", "unlock", "--stdin", feed=SECOND + b"\n")
    assert (code, "unlocked <b@x>" in out) == (0, True)


def test_a_person_at_the_terminal_is_asked_there(home: SoftwareKeys) -> None:
    """--tty shows what is asked, hides what is typed, asks again after a wrong one, and rings nobody."""
    home.make("a@x")
    home.lock_all()
    with Terminal([UNLATCH, "key", "unlock", "--tty"], home.house.environ()) as terminal:
        terminal.expect("Unlock <a@x>")
        terminal.expect("passphrase:")
        terminal.type("nonsense\n")
        terminal.expect("It does not open this key.")
        terminal.expect("passphrase:")
        terminal.type(f"{FIRST.decode()}\n")
        terminal.expect("unlocked <a@x>")
        assert terminal.end() == 0
        assert FIRST.decode() not in terminal.screen
    assert home.house.phone.messages() == []
