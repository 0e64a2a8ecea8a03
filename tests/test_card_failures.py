"""Everything that can be wrong with a card: one clear sentence, the next step, an exit code, and no try spent."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from card.card import PIN, Card
from card.house import CardHouse
from card.pcsc import READERS
from card.reader import VERIFY
from card.unlatch import Ended, card, unlock
from house import UNLATCH
from real_gnupg import finish

COMMANDS = (("status",), ("check",), ("unlock",))


@pytest.fixture
def keyed(card_house: CardHouse) -> CardHouse:
    """A house with a card that can log in."""
    card_house.card.generate("auth", "ed25519")
    return card_house


@pytest.fixture
def agent(keyed: CardHouse) -> CardHouse:
    """The same, with a gpg-agent that has talked to the card."""
    keyed.run("gpg-connect-agent", "SCD SERIALNO", "/bye")
    return keyed


def in_all(house: CardHouse, *more: str) -> Iterator[Ended]:
    """The same trouble, met by each command; nobody is rung."""
    for words in COMMANDS:
        yield card(house, *words, *(more if words != ("status",) else ()))
    assert house.phone.messages() == []


def test_no_card(agent: CardHouse) -> None:
    """The reader is there, and empty."""
    agent.second.remove()
    agent.reader.remove()
    for done in in_all(agent):
        assert (done.code, done.error) == (9, "no card is in the reader")
        assert done.hints == ['insert the card; "unlatch card unlock --wait" waits for it']


def test_no_reader(keyed: CardHouse) -> None:
    """pcscd runs and knows of none."""
    keyed.pcsc.stop()
    keyed.pcsc.start(readers=False)
    keyed.run("gpgconf", "--launch", "gpg-agent")
    for done in in_all(keyed):
        assert (done.code, done.error) == (9, "no card reader is connected")
        assert done.hints == ['connect the reader or the token; "lsusb" lists what the system sees']


def test_pcscd_killed(agent: CardHouse) -> None:
    """Nobody answers for any reader."""
    unlock(agent)
    agent.pcsc.stop()
    for done in in_all(agent):
        assert (done.code, done.error) == (9, "no card was found, and pcscd does not answer")
        assert done.hints[1] == 'if pcscd drives the reader: "systemctl start pcscd.socket"'


def test_pcscd_restarted(agent: CardHouse) -> None:
    """The card is found again, locked; nothing has to be restarted by hand."""
    unlock(agent)
    held = agent.card
    agent.pcsc.stop()
    agent.pcsc.start()
    agent.reader.insert(held)
    assert card(agent, "check").code == 7
    unlock(agent)


def test_two_cards(agent: CardHouse) -> None:
    """Both are told of: the one that scdaemon uses by its number, the other by its reader."""
    agent.second.insert(Card(2))
    for words in (("check",), ("unlock",)):
        done = card(agent, *words)
        assert (done.code, done.error) == (2, "2 cards are there, and nobody said which one is meant")
        assert done.hints[0] == "name the card that you mean: 00000001"
        assert done.hints[1].startswith(f'another: the line "reader-port {READERS[1]}"')


def test_wrong_card(agent: CardHouse) -> None:
    """Which one is wanted, and which one is there."""
    for done in in_all(agent, "00000002"):
        if done.code:
            assert (done.code, done.error) == (9, "the card 00000002 is wanted, and 00000001 is in the reader")
            assert done.hints == ["insert the card 00000002"]


def test_the_wanted_card_is_in_the_other_reader(agent: CardHouse) -> None:
    """scdaemon 2.2 looks at one of pcscd's readers; the hint says how to choose it."""
    agent.second.insert(Card(2))
    done = card(agent, "unlock", "00000002")
    assert done.code == 9
    assert done.hints == [
        f'the line "reader-port {READERS[1]}" in {agent.gnupg}/scdaemon.conf makes scdaemon use that one'
    ]


def test_a_card_that_scdaemon_does_not_look_at(agent: CardHouse) -> None:
    """The only card is in the reader that scdaemon does not use."""
    agent.reader.remove()
    agent.second.insert(Card(2))
    done = card(agent, "check")
    assert (done.code, done.error) == (9, f"scdaemon does not use the card in the reader {READERS[1]}")
    assert "reader-port" in done.hints[0]


def test_another_program_holds_the_card(keyed: CardHouse) -> None:
    """opensc and its like: scdaemon says the same as without a reader."""
    script = (
        "use Chipcard::PCSC; my $context = Chipcard::PCSC->new();"
        f"my $card = Chipcard::PCSC::Card->new($context, '{READERS[0]}', $Chipcard::PCSC::SCARD_SHARE_EXCLUSIVE);"
        '$| = 1; print "held\\n"; sleep 60'
    )
    holder = keyed.start("perl", "-e", script)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    keyed.run("gpgconf", "--launch", "gpg-agent")
    for done in in_all(keyed):
        assert (done.code, done.error) == (9, f"another program holds the card in the reader {READERS[0]}")
        assert "end that program" in done.hints[0]
    holder.kill()


@pytest.mark.parametrize("after", [False, True])
def test_card_pulled_with_the_pin(agent: CardHouse, after: bool) -> None:
    """Whether it saw the PIN or not: nothing is repeated, the page hears it, and no try was spent."""
    asking = agent.start(UNLATCH, "card", "unlock")
    page = agent.open(agent.phone.ring()["link"])
    held = agent.card
    agent.reader.pull_at(VERIFY, after=after)
    page.unlock(PIN)
    code, _, err = finish(asking)
    assert code in (1, 9)
    assert err.count("unlatch: error: ") == 1
    assert page.verdict().outcome == "failed"
    assert held.tries().pin == 3


def test_agent_killed(agent: CardHouse) -> None:
    """check says that nothing is unlocked; status starts another agent."""
    unlock(agent)
    agent.run("gpgconf", "--kill", "gpg-agent")
    assert card(agent, "check").code == 7
    done = card(agent, "status")
    assert "locked, 3 tries left" in done.out


def stopped(house: CardHouse) -> int:
    """Stop scdaemon by a signal; its pid."""
    [daemon] = house.processes_called(b"scdaemon")
    os.kill(daemon, signal.SIGSTOP)
    return daemon


def test_scdaemon_hung(agent: CardHouse) -> None:
    """Bounded, and the process is named with the command that mends it."""
    daemon = stopped(agent)
    began = time.monotonic()
    done = card(agent, "check")
    assert done.code == 1
    assert "has not answered for 4 s" in done.error
    assert done.hints[0].startswith('a signal stopped it; "kill -CONT ')
    assert time.monotonic() - began < 10
    os.kill(daemon, signal.SIGCONT)
    unlock(agent)


def test_somebody_else_is_asked_by_a_pinentry(agent: CardHouse) -> None:
    """An open pinentry keeps everybody from the card: that is what is said, and how to end it."""
    other = agent.start("gpg-connect-agent", f"SCD CHECKPIN {agent.card.application_id}", "/bye")
    agent.phone.ring()
    done = card(agent, "check")
    assert done.code == 1
    assert "somebody is being asked for a card's PIN" in done.error
    assert '"unlatch answer"' in done.hints[0]
    agent.open(agent.phone.ring()["link"]).deny()
    finish(other)


def test_the_extra_socket(agent: CardHouse) -> None:
    """The socket of another host's agent, forwarded as GnuPG's manual says, may not use cards."""
    far = agent.root / "far"
    far.mkdir(mode=0o700)
    (far / "S.gpg-agent").write_text(f"%Assuan%\nsocket={agent.gnupg}/S.gpg-agent.extra\n")
    for words in COMMANDS:
        done = card(agent, *words, GNUPGHOME=str(far))
        assert done.code == 1
        assert done.error.endswith("forbids card commands: its socket is a restricted one")
        assert "on the card's own host" in done.hints[0]


def test_no_scdaemon(keyed: CardHouse) -> None:
    """Switched off in gpg-agent.conf."""
    with (keyed.gnupg / "gpg-agent.conf").open("a") as settings:
        settings.write("disable-scdaemon\n")
    keyed.run("gpgconf", "--launch", "gpg-agent")
    for done in in_all(keyed):
        assert (done.code, done.error) == (1, "gpg-agent has no scdaemon: it is switched off")
        assert "disable-scdaemon" in done.hints[0]


def test_scdaemon_not_installed(keyed: CardHouse) -> None:
    """gpg-agent says the same while it starts another one, so that is waited for; check does not wait."""
    with (keyed.gnupg / "gpg-agent.conf").open("a") as settings:
        settings.write("scdaemon-program /nonexistent\n")
    keyed.run("gpgconf", "--launch", "gpg-agent")
    done = card(keyed, "check", seconds=5)
    assert (done.code, done.error) == (1, "gpg-agent has no scdaemon: it is not installed, or just ended")
    assert done.hints[0] == '"apt install scdaemon"'


def test_no_loopback(keyed: CardHouse) -> None:
    """The PIN goes nowhere, and the line to remove is named."""
    with (keyed.gnupg / "gpg-agent.conf").open("a") as settings:
        settings.write("no-allow-loopback-pinentry\n")
    done = card(keyed, "unlock", "--stdin", feed=PIN)
    assert (done.code, done.error) == (1, "gpg-agent does not take a PIN from its clients")
    assert "no-allow-loopback-pinentry" in done.hints[0]
    assert keyed.card.submitted() == 0


def test_a_card_without_keys(card_house: CardHouse) -> None:
    """Nobody is rung for a PIN that would unlock nothing."""
    done = card(card_house, "unlock")
    assert done.code == 1
    assert done.error == "the card 00000001 has neither a key to log in nor one to decrypt"
    assert card_house.phone.messages() == []


def test_no_broker(agent: CardHouse) -> None:
    """Nobody can be rung: the card is not touched."""
    agent.settings.write_text("nonsense = 1\n")
    done = card(agent, "unlock")
    assert done.code == 1
    assert agent.card.submitted() == 0
