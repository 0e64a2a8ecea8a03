"""``unlatch card unlock``: a person gives the PIN on the phone, and only then the card is talked to."""

import subprocess

import pytest
from card.card import PIN, Card
from card.gnupg import PLAINTEXT, encrypt, provision
from card.house import CardHouse
from card.pins import Result
from card.unlatch import card, unlock
from house import UNLATCH
from real_gnupg import finish
from waiting import until

from unlatch.frontends.asking import ONE_TRY

WRONG = b"000000"


@pytest.fixture
def keyed(card_house: CardHouse) -> CardHouse:
    """A house with a card that can log in, and whose signature PIN is not forced."""
    card_house.card.generate("auth", "ed25519")
    card_house.card.set_forcesig(False)
    return card_house


def start(house: CardHouse, *words: str) -> "subprocess.Popen[bytes]":
    """A service that unlocks the card."""
    return house.start(UNLATCH, "card", "unlock", *words)


def test_by_phone(keyed: CardHouse) -> None:
    """One ring that names the card, one PIN, and the card works; the page hears it."""
    asking = start(keyed, "--reason", "the backup of 02:00")
    ring = keyed.phone.ring()
    assert (ring["kind"], ring["title"]) == ("pin", "Unlock the card 00000001")
    page = keyed.open(ring["link"])
    assert page.prompt is not None
    assert page.prompt.text.startswith("the backup of 02:00\n\n3 tries left.")
    assert page.prompt.keeper == "card"
    assert keyed.card.submitted() == 0
    page.unlock(PIN)
    code, out, _ = finish(asking)
    assert (code, out) == (0, b"unlocked the card 00000001\n")
    assert page.verdict().outcome == "accepted"
    assert keyed.card.verified()
    assert card(keyed, "check").code == 0


def test_nobody_is_kept_from_the_card_while_a_person_is_asked(keyed: CardHouse) -> None:
    """Other programs go on; with a pinentry they would wait."""
    asking = start(keyed)
    page = keyed.open(keyed.phone.ring()["link"])
    assert card(keyed, "status", seconds=10).code == 0
    assert card(keyed, "check", seconds=10).code == 7
    page.deny()
    assert finish(asking)[0] == 4
    assert keyed.processes_called(b"pinentry") == []


def test_a_wrong_pin_is_told_with_the_tries_left(keyed: CardHouse) -> None:
    """On the page that sent it; the next ring goes on with two tries."""
    keyed.card.account.expect(1, "unlatch card unlock")
    asking = start(keyed)
    page = keyed.open(keyed.phone.links(1)[0])
    page.unlock(WRONG)
    verdict = page.verdict()
    assert verdict.outcome == "failed"
    assert verdict.text == f"Wrong PIN: 2 tries left for the card 00000001. – {ONE_TRY}"
    again = keyed.open(keyed.phone.links(2)[1])
    assert again.prompt is not None
    assert again.prompt.error == "Wrong PIN: 2 tries left for the card 00000001."
    again.unlock(PIN)
    assert finish(asking)[0] == 0
    assert keyed.card.tries().pin == 3


def test_the_same_wrong_pin_is_not_tried_twice(keyed: CardHouse) -> None:
    """A password manager that fills it in again spends one try, not two."""
    keyed.card.account.expect(1, "unlatch card unlock")
    asking = start(keyed)
    keyed.open(keyed.phone.links(1)[0]).unlock(WRONG)
    keyed.open(keyed.phone.links(2)[1]).unlock(WRONG)
    page = keyed.open(keyed.phone.links(3)[2])
    assert page.prompt is not None
    assert page.prompt.error.startswith("The card has just refused this PIN")
    assert keyed.card.tries().pin == 2
    page.deny()
    assert finish(asking)[0] == 4


def test_two_wrong_pins_end_it(keyed: CardHouse) -> None:
    """The last try is left alone, and the way to risk it is said."""
    keyed.card.account.expect(2, "unlatch card unlock")
    asking = start(keyed)
    keyed.open(keyed.phone.links(1)[0]).unlock(WRONG)
    last = keyed.open(keyed.phone.links(2)[1])
    last.unlock(b"111111")
    code, _, err = finish(asking)
    assert code == 3
    assert "wrong PIN: 1 try left for the card 00000001" in err
    assert 'run "unlatch card unlock --last-try 00000001"' in err
    assert last.verdict().text == "Wrong PIN: 1 try left for the card 00000001."
    assert keyed.card.tries().pin == 1


def test_with_one_try_left_it_refuses_at_once(keyed: CardHouse) -> None:
    """Nobody is rung for a PIN that would not be tried; --last-try does it."""
    keyed.card.set_pin(tries=1)
    done = card(keyed, "unlock")
    assert done.code == 8
    assert done.error == "the card 00000001 has 1 try left, and a wrong PIN would block it"
    assert done.hints == ['only if you are sure of the PIN: "unlatch card unlock --last-try 00000001"']
    assert keyed.phone.messages() == []
    assert card(keyed, "unlock", "--last-try", "--stdin", feed=PIN).code == 0


def test_a_wrong_last_try_blocks_the_card_and_says_the_way_out(keyed: CardHouse) -> None:
    """The reset code first, as it costs nothing else; then the admin PIN."""
    keyed.card.set_pin(tries=1)
    keyed.card.set_resetting_code(b"87654321")
    keyed.card.account.expect(1, "unlatch card unlock")
    done = card(keyed, "unlock", "--last-try", "--stdin", feed=WRONG)
    assert (done.code, done.error) == (8, "the PIN of the card 00000001 is blocked")
    assert done.hints == [
        'with the reset code (3 tries left): "gpg --card-edit", then type: unblock',
        'with the admin PIN (3 tries left): "gpg --card-edit", then type: admin, then passwd, then 2 (unblock PIN)',
    ]


def test_a_blocked_card_rings_nobody(keyed: CardHouse) -> None:
    """Also when nothing is left but to destroy the keys."""
    keyed.card.set_pin(tries=0)
    keyed.card.set_admin_pin(tries=0)
    done = card(keyed, "unlock")
    assert done.code == 8
    assert done.hints == [
        'the admin PIN is blocked too: "gpg --card-edit", then admin, factory-reset; that destroys the keys on the card'
    ]
    assert keyed.phone.messages() == []


@pytest.mark.parametrize(
    ("feed", "code"),
    [(PIN, 0), (PIN + b"\n", 0), (PIN + b"\r\n", 0), (b"12345\n", 1), (b"", 1), (b"\n", 1), (b"1" * 9000, 1)],
)
def test_standard_input_gives_exact_bytes(keyed: CardHouse, feed: bytes, code: int) -> None:
    """A newline costs no try, what cannot be a PIN never reaches the card, and nobody is rung."""
    assert card(keyed, "unlock", "--stdin", feed=feed).code == code
    assert keyed.card.verified() == (code == 0)
    assert keyed.card.submitted() == 2 * (code == 0)  # for signing, and for everything else
    assert keyed.phone.messages() == []


def test_bytes_that_are_no_text(keyed: CardHouse) -> None:
    """A PIN is bytes: what Assuan escapes arrives as it was typed."""
    pin = b"%0A\xff\r\n%"
    keyed.card.set_pin(pin)
    asking = start(keyed)
    keyed.open(keyed.phone.ring()["link"]).unlock(pin)
    assert finish(asking)[0] == 0
    assert [attempt.result for attempt in keyed.card.record() if attempt.result != Result.ASKED] == [Result.RIGHT] * 2


def test_a_wrong_pin_on_standard_input_is_the_end(keyed: CardHouse) -> None:
    """The second line is no second try."""
    keyed.card.account.expect(1, "unlatch card unlock")
    done = card(keyed, "unlock", "--stdin", feed=WRONG + b"\n" + PIN + b"\n")
    assert (done.code, done.error) == (3, "wrong PIN: 2 tries left for the card 00000001")
    assert done.hints == ['run "unlatch card unlock 00000001"']


def test_at_the_terminal(keyed: CardHouse) -> None:
    """--tty shows the tries, asks without echo, and asks again after a wrong PIN."""
    keyed.card.account.expect(1, "unlatch card unlock")
    with keyed.at_terminal(UNLATCH, "card", "unlock", "--tty") as terminal:
        terminal.expect("3 tries left.")
        terminal.expect("PIN:")
        until(lambda: not terminal.echoes(), "the silent terminal")
        terminal.type("000000\n")
        terminal.expect("Wrong PIN: 2 tries left")
        terminal.expect("PIN:")
        until(lambda: not terminal.echoes(), "the silent terminal")
        terminal.type("123456\n")
        terminal.expect("unlocked the card 00000001")
        assert terminal.end() == 0
        assert "123456" not in terminal.screen
    assert keyed.phone.messages() == []


def test_an_unlocked_card_is_left_alone(keyed: CardHouse) -> None:
    """A unit may be started twice."""
    unlock(keyed)
    before = keyed.card.submitted()
    assert card(keyed, "unlock").code == 0
    assert (keyed.card.submitted(), keyed.phone.messages()) == (before, [])


def test_two_at_once_ring_once(keyed: CardHouse) -> None:
    """The second follows the first by the card's serial number, and finds the card unlocked."""
    first = start(keyed)
    page = keyed.open(keyed.phone.ring()["link"])
    second = start(keyed, "00000001")
    until(lambda: keyed.ask_admin({"op": "status"})["prompts"][0]["followers"], "the follower")
    page.unlock(PIN)
    assert finish(first)[0] == 0
    assert finish(second)[0] == 0
    assert len(keyed.phone.messages("ring")) == 1
    assert keyed.card.submitted() == 2


def test_after_killscd(keyed: CardHouse) -> None:
    """Two to four seconds of broken pipe are waited for."""
    keyed.run("gpg-connect-agent", "SCD SERIALNO", "SCD KILLSCD", "/bye")
    unlock(keyed)
    assert keyed.card.verified()


def test_scdaemon_dies_while_a_person_is_asked(keyed: CardHouse) -> None:
    """The PIN that was typed meanwhile is not lost."""
    asking = start(keyed)
    page = keyed.open(keyed.phone.ring()["link"])
    keyed.run("gpg-connect-agent", "SCD KILLSCD", "/bye")
    page.unlock(PIN)
    assert finish(asking)[0] == 0
    assert page.verdict().outcome == "accepted"


def test_the_agent_is_restarted_while_a_person_is_asked(keyed: CardHouse) -> None:
    """Hours may lie between two visits to the card; the agent is found anew."""
    asking = start(keyed)
    page = keyed.open(keyed.phone.ring()["link"])
    keyed.run("gpgconf", "--kill", "gpg-agent")
    keyed.run("gpgconf", "--launch", "gpg-agent")
    page.unlock(PIN)
    assert finish(asking)[0] == 0


def test_scdaemon_that_believes_the_card_to_be_unlocked(keyed: CardHouse) -> None:
    """Another program reset the card: a new scdaemon gives the PIN to it."""
    unlock(keyed)
    keyed.apdu("0020FF82")
    unlock(keyed)
    assert keyed.card.verified()


def test_waiting_for_the_card(keyed: CardHouse) -> None:
    """--wait asks when the right card is there, and not for the wrong one."""
    wanted = keyed.card
    keyed.reader.remove()
    asking = start(keyed, "--wait", "00000001")
    assert asking.stderr is not None
    assert asking.stderr.readline() == b"unlatch: waiting: no card is in the reader\n"
    keyed.reader.insert(Card(2))
    assert b"the card 00000001 is wanted, and 00000002 is in the reader" in asking.stderr.readline()
    keyed.reader.remove()
    keyed.reader.insert(wanted)
    keyed.open(keyed.phone.ring()["link"]).unlock(PIN)
    assert finish(asking)[0] == 0


def test_waiting_for_an_answer(keyed: CardHouse) -> None:
    """With --wait a link that expired is followed by another; without it, or with a time, the command ends."""
    keyed.configure("[link]\nseconds = 3")
    assert finish(start(keyed, "--timeout", "1"))[0] == 4
    assert finish(start(keyed, "--wait", "--timeout", "1"))[0] == 4
    rings = len(keyed.phone.messages("ring"))
    asking = start(keyed, "--wait")
    keyed.phone.ring(rings + 1)
    keyed.open(keyed.phone.ring(rings + 2)["link"]).unlock(PIN)
    assert finish(asking)[0] == 0


def test_real_gpg_decrypts_then(card_house: CardHouse) -> None:
    """What it is for: a job without a terminal, before and after; and it fails again when the card was re-plugged."""
    provision(card_house)
    secret = encrypt(card_house)
    (card_house.gnupg / "gpg-agent.conf").write_text("pinentry-program /bin/false\n")
    job = ("gpg", "--batch", "--quiet", "--no-tty", "--decrypt", secret)
    assert finish(card_house.start(*job))[0] != 0
    unlock(card_house)
    assert card_house.run(*job) == PLAINTEXT
    card_house.reader.replug()
    assert finish(card_house.start(*job))[0] != 0


def test_secrets_stay_out_of_sight(keyed: CardHouse) -> None:
    """The PIN is in no file of the house, no argument and no message."""
    pin = b"canary-8417"
    keyed.card.set_pin(pin)
    asking = start(keyed)
    page = keyed.open(keyed.phone.ring()["link"])
    page.unlock(pin)
    code, out, err = finish(asking)
    assert code == 0
    assert pin not in out + err.encode()
    files = [path for path in keyed.root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if pin in path.read_bytes()]


def test_both_ways_of_asking_exclude_each_other(keyed: CardHouse) -> None:
    """A mistake is told before anything is begun."""
    assert card(keyed, "unlock", "--stdin", "--tty").code == 2
