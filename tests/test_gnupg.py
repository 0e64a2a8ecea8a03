"""The main job with real GnuPG and pass: what a service asks for is what the person typed, and nothing else counts."""

import pytest
from house import House
from real_gnupg import BAD_PASSPHRASE, CANCELLED, GPG, LOOPBACK, PASSPHRASE, PLAINTEXT, TIMEOUT, Keyring, finish
from waiting import until


def test_pass_in_a_service_is_answered_from_the_page(house: House) -> None:
    """`pass sql-root` without terminal, input or environment gets its password from the page on the phone."""
    keyring = Keyring(house)
    keyring.store("sql-root", b"hunter2\n")
    service = house.start("pass", "sql-root")
    ring = house.phone.ring()
    page = house.open(ring["link"])
    assert page.prompt is not None
    assert page.prompt.kind == "passphrase"
    assert page.prompt.keeper == "agent"
    assert page.prompt.key is not None
    assert page.prompt.key.grip == keyring.keygrips()[1]
    assert list(page.prompt.words) == ring["words"]
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, b"hunter2\n")
    assert house.phone.end()["outcome"] == "accepted"
    assert page.view().body == {"state": "used"}


def test_the_page_names_who_asks(house: House) -> None:
    """User and uid are the kernel's; the chain of programs goes from gpg up to what started it."""
    keyring = Keyring(house)
    keyring.store("sql-root", b"hunter2\n")
    service = house.start("pass", "sql-root")
    page = house.open(house.phone.ring()["link"])
    assert page.stamp["uid"] == house.uid
    assert page.prompt is not None
    chain = page.prompt.asker.chain
    assert chain[0].name == "gpg"
    assert [process.args for process in chain if process.pid == service.pid] == ["bash /usr/bin/pass sql-root"]
    page.deny()
    assert finish(service)[0] != 0


def test_signing_asks_for_the_key_that_signs(house: House) -> None:
    """A detached signature asks for the primary key's passphrase, and the signature is good."""
    keyring = Keyring(house)
    signer = keyring.sign()
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.key is not None
    assert page.prompt.key.grip == keyring.keygrips()[0]
    page.unlock(PASSPHRASE)
    code, signature, _ = finish(signer)
    assert code == 0
    house.run(*GPG, "--verify", "-", keyring.secret, feed=signature)


def test_symmetric_encryption_asks_for_a_new_passphrase(house: House) -> None:
    """`gpg --symmetric` gets a new passphrase from the page, says that the program keeps it, and it decrypts."""
    keyring = Keyring(house)
    sealer = house.start(*GPG, "--symmetric", "--s2k-count", "65536", "--output", "-", keyring.secret)
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.kind == "new-passphrase"
    assert page.prompt.keeper == "program"
    page.unlock(b"brand new passphrase 42")
    code, sealed, errors = finish(sealer)
    assert code == 0, errors
    box = house.root / "box.gpg"
    box.write_bytes(sealed)
    assert house.run(*GPG, *LOOPBACK, "--decrypt", box, feed=b"brand new passphrase 42") == keyring.secret.read_bytes()


def test_wrong_wrong_right_goes_on_in_the_open_page(house: House) -> None:
    """A wrong passphrase leads the open page to the next try: a new ticket, one ring in all, the old link dead.

    The match words stay those of the message: it is the only one that the person has.

    gpg-agent says the same after a right last try as after a wrong one, so the page claims no more than it knows.
    """
    service = Keyring(house).decrypt()
    ring = house.phone.ring()
    page = house.open(ring["link"])
    for attempt in (2, 3):
        page.unlock(b"wrong")
        verdict = page.verdict()
        assert verdict.outcome == "wrong"
        old, page = page, page.follow(verdict)
        assert old.view().status == 410
        assert page.prompt is not None
        assert page.prompt.attempt == (attempt, 3)
        assert list(page.prompt.words) == ring["words"]
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "unknown"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert len(house.phone.messages("ring")) == 1


def test_three_wrong_passphrases_end_it(house: House) -> None:
    """After the third wrong try the service fails; the page says that nobody told it how the last one went."""
    service = Keyring(house).sign()
    page = house.open(house.phone.ring()["link"])
    for _ in range(2):
        page.unlock(b"wrong")
        page = page.follow(page.verdict())
    page.unlock(b"wrong")
    code, out, errors = finish(service)
    assert code != 0
    assert out == b""
    assert BAD_PASSPHRASE in errors
    verdict = page.verdict()
    assert verdict.outcome == "unknown"
    assert "last try" in verdict.text
    assert house.phone.end()["outcome"] == "unknown"


def test_deny_cancels_at_once(house: House) -> None:
    """Deny on the page is a cancel for GnuPG, and the phone's message says so."""
    service = Keyring(house).sign()
    page = house.open(house.phone.ring()["link"])
    page.deny()
    code, _, errors = finish(service)
    assert code != 0
    assert CANCELLED in errors
    assert page.verdict().outcome == "denied"
    assert house.phone.end()["outcome"] == "denied"


def test_the_agents_time_limit_is_kept(house: House) -> None:
    """`pinentry-timeout` ends the prompt in time with GnuPG's own code for it, and the link is dead."""
    service = Keyring(house, agent="pinentry-timeout 1\n").sign()
    ring = house.phone.ring()
    code, _, errors = finish(service)
    assert code != 0
    assert TIMEOUT in errors
    assert house.phone.end()["outcome"] == "expired"
    assert house.phone.end()["id"] == ring["id"]


def test_the_links_own_time_is_kept(house: House) -> None:
    """Nobody answers within the link's time: the service fails with a timeout instead of hanging for ever."""
    house.configure(tables="[link]\nseconds = 1")
    service = Keyring(house).sign()
    house.phone.ring()
    code, _, errors = finish(service)
    assert code != 0
    assert TIMEOUT in errors
    assert house.phone.end()["outcome"] == "expired"


def test_an_empty_answer_is_refused(house: House) -> None:
    """An empty passphrase never reaches gpg-agent: the page hears that it could not be used, and may answer again."""
    service = Keyring(house).decrypt()
    page = house.open(house.phone.ring()["link"])
    page.unlock(b"")
    until(lambda: page.wait().body["state"] == "spoiled", "the refusal")
    assert service.poll() is None
    page.unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert len(house.phone.messages("ring")) == 1


@pytest.mark.parametrize(
    "passphrase",
    [
        pytest.param(b"x" * 255, id="255 bytes"),
        pytest.param("Grüße, 鍵, 🔑 – pä%0Aß%25 ".encode(), id="not ASCII"),
        pytest.param(b"% %25 + \\ \" ' $HOME `id` #", id="characters that are special somewhere"),
    ],
)
def test_any_passphrase_arrives_byte_for_byte(house: House, passphrase: bytes) -> None:
    """What GnuPG accepted as the passphrase of a key is what the page delivers."""
    service = Keyring(house, passphrase).decrypt()
    page = house.open(house.phone.ring()["link"])
    page.unlock(passphrase)
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert page.verdict().outcome == "accepted"
