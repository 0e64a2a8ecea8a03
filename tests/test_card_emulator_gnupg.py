"""Real gpg, gpg-agent and scdaemon with the emulated card: what a person does with a real one."""

import pytest
from card.card import ADMIN_PIN, PIN, Card
from card.gnupg import (
    BATCH,
    OWNER,
    PLAINTEXT,
    by_loopback,
    encrypt,
    generate,
    provision,
    set_algorithms,
    start_talk,
    talk,
)
from card.house import CardHouse
from card.reader import SIGN_OR_DECIPHER
from real_gnupg import finish

ALGORITHMS = ["rsa2048", "rsa3072", "ed25519", "nistp256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_made_on_the_card_sign_and_decrypt(card_house: CardHouse, algorithm: str) -> None:
    """gpg --card-edit makes three keys there; with the PIN gpg signs and decrypts, and nothing spends a try."""
    made = provision(card_house, algorithm)
    secret = encrypt(card_house)
    options = by_loopback(card_house, PIN)
    assert card_house.run(*BATCH, *options, "--decrypt", secret) == PLAINTEXT
    signature = card_house.root / "signature"
    signature.write_bytes(card_house.run(*BATCH, *options, "--detach-sign", "--output", "-", secret))
    said = card_house.run(*BATCH, "--status-fd", "1", "--verify", signature, secret).decode()
    assert f"VALIDSIG {made.fingerprint}" in said
    assert made.card.verified(0x82)
    assert not made.card.verified(0x81)  # each signature wants the PIN anew, as on a new card
    assert made.card.tries() == (3, 0, 3)


def test_a_card_without_extended_lengths_does_the_same(card_house: CardHouse) -> None:
    """Cryptograms go up in pieces and keys come down in pieces: chaining and GET RESPONSE."""
    card = Card(extended=False)
    set_algorithms(card, "rsa2048")
    card.set_pin(ADMIN_PIN)
    card_house.replace(card)
    generate(card_house)
    secret = encrypt(card_house)
    assert card_house.run(*BATCH, *by_loopback(card_house, ADMIN_PIN), "--decrypt", secret) == PLAINTEXT
    seen = {command[:2] for command in card_house.reader.commands}
    assert bytes([0x10, SIGN_OR_DECIPHER]) in seen  # chained
    assert bytes([0x00, 0xC0]) in seen


@pytest.mark.parametrize(
    ("algorithm", "recipe"),
    [
        ("rsa2048", ("rsa2048", "rsa2048", "rsa2048")),
        ("ed25519", ("ed25519", "cv25519", "ed25519")),
        ("nistp256", ("nistp256", "nistp256", "nistp256/ecdsa")),
    ],
)
def test_a_key_moves_to_the_card(card_house: CardHouse, algorithm: str, recipe: tuple[str, str, str]) -> None:
    """keytocard: primary key, subkey for encryption, subkey for authentication; the card then decrypts and signs."""
    options = by_loopback(card_house, ADMIN_PIN)
    card = card_house.card
    card.set_pin(ADMIN_PIN)
    primary, encryption, authentication = recipe
    card_house.run(*BATCH, *options, "--quick-gen-key", OWNER, primary, "sign", "never")
    fingerprint = fingerprint_of(card_house)
    card_house.run(*BATCH, *options, "--quick-add-key", fingerprint, encryption, "encr", "never")
    card_house.run(*BATCH, *options, "--quick-add-key", fingerprint, authentication, "auth", "never")
    secret = encrypt(card_house)
    talk(
        card_house, *options, "--edit-key", fingerprint,
        script=[
            ("keyedit.prompt", "keytocard"), ("keyedit.keytocard.use_primary", "y"),
            ("cardedit.genkeys.storekeytype", "1"),
            ("keyedit.prompt", "key 1"), ("keyedit.prompt", "keytocard"), ("cardedit.genkeys.storekeytype", "2"),
            ("keyedit.prompt", "key 1"),
            ("keyedit.prompt", "key 2"), ("keyedit.prompt", "keytocard"), ("cardedit.genkeys.storekeytype", "3"),
            ("keyedit.prompt", "save"),
        ],
    )  # fmt: skip
    assert all(card.has_key(slot) for slot in ("sign", "decrypt", "auth"))
    assert f"card-no: FF51 {card.serial:08X}" in card_house.run("gpg", "--card-status").decode()
    card_house.run("gpgconf", "--kill", "all")
    assert card_house.run(*BATCH, *options, "--decrypt", secret) == PLAINTEXT
    card_house.run(*BATCH, *options, "--detach-sign", "--output", "-", secret)
    assert card.signatures() == 1


def test_name_language_and_address_are_written(card_house: CardHouse) -> None:
    """What gpg --card-edit writes as admin, gpg --card-status shows."""
    talk(
        card_house, *by_loopback(card_house, ADMIN_PIN), "--card-edit",
        script=[
            ("cardedit.prompt", "admin"),
            ("cardedit.prompt", "name"), ("keygen.smartcard.surname", "Host"), ("keygen.smartcard.givenname", "Backup"),
            ("cardedit.prompt", "lang"), ("cardedit.change_lang", "de"),
            ("cardedit.prompt", "login"), ("cardedit.change_login", "vault"),
            ("cardedit.prompt", "url"), ("cardedit.change_url", "https://db01.example/key"),
            ("cardedit.prompt", "forcesig"),
            ("cardedit.prompt", "quit"),
        ],
    )  # fmt: skip
    card_house.run("gpgconf", "--kill", "all")
    shown = card_house.run("gpg", "--card-status").decode()
    for text in ("Backup Host", "de", "vault", "https://db01.example/key", "Signature PIN ....: not forced"):
        assert text in shown


def test_a_factory_reset_makes_a_new_card(card_house: CardHouse) -> None:
    """gpg --card-edit's factory-reset blocks both PINs and starts anew; all four tries are announced."""
    provision(card_house, "ed25519")
    # gpg spends every try itself, with a value that cannot be right: that is how it gets to TERMINATE.
    card_house.card.expect_wrong(6, by="gpg")
    talk(
        card_house, "--card-edit",
        script=[
            ("cardedit.prompt", "admin"), ("cardedit.prompt", "factory-reset"),
            ("cardedit.factory-reset.proceed", "y"), ("cardedit.factory-reset.really", "yes"),
            ("cardedit.prompt", "quit"),
        ],
    )  # fmt: skip
    assert not card_house.card.has_key("sign")
    assert card_house.card.tries() == (3, 0, 3)


def test_a_wrong_pin_is_told_as_such(card_house: CardHouse) -> None:
    """gpg fails, one try is gone, and the next right PIN gives it back."""
    made = provision(card_house, "ed25519")
    secret = encrypt(card_house)
    made.card.expect_wrong(1, by="gpg")
    failed = card_house.start(*BATCH, *by_loopback(card_house, b"000000"), "--decrypt", secret)
    code, _, errors = finish(failed)
    assert code == 2
    assert made.card.tries().pin == 2, errors
    assert card_house.run(*BATCH, *by_loopback(card_house, PIN), "--decrypt", secret) == PLAINTEXT
    assert made.card.tries().pin == 3


def test_a_card_pulled_while_it_decrypts_fails_the_caller(card_house: CardHouse) -> None:
    """gpg ends with an error within seconds; put back, the card wants its PIN again, and no try is gone."""
    made = provision(card_house, "rsa2048")
    secret = encrypt(card_house)
    options = by_loopback(card_house, PIN)
    card_house.reader.pull_at(SIGN_OR_DECIPHER)
    code, _, _ = finish(card_house.start(*BATCH, *options, "--decrypt", secret))
    assert code == 2
    card_house.replug()
    assert not made.card.verified()
    assert card_house.run(*BATCH, *options, "--decrypt", secret) == PLAINTEXT
    assert made.card.tries().pin == 3


def test_a_person_answers_on_the_phone(card_house: CardHouse) -> None:
    """gpg --decrypt without any option: the phone rings for a PIN with the card's number, and the answer unlocks it."""
    made = provision(card_house, "rsa2048", serial=0x0051D00D)
    decrypting = card_house.start(*BATCH, "--decrypt", encrypt(card_house))
    page = card_house.open(card_house.phone.ring_of("pin")["link"])
    assert page.prompt is not None
    assert "51D00D" in page.prompt.text.replace(" ", "")
    page.unlock(PIN)
    code, plaintext, errors = finish(decrypting)
    assert (code, plaintext) == (0, PLAINTEXT), errors
    assert made.card.verified()


def test_a_person_changes_the_pin_on_the_phone(card_house: CardHouse) -> None:
    """gpg --card-edit's passwd rings for the old PIN and twice for the new one; the card takes it, at no try."""
    changing = start_talk(
        card_house, "--card-edit", script=[("cardedit.prompt", "passwd"), ("cardedit.prompt", "quit")]
    )
    for number, value in enumerate([PIN, b"new-pin-7", b"new-pin-7"], 1):
        card_house.open(card_house.phone.ring_of("pin", number)["link"]).unlock(value)
    code, _, errors = finish(changing)
    assert code == 0, errors
    assert card_house.apdu("00 20 00 82 09" + b"new-pin-7".hex()) == "9000"


def fingerprint_of(house: CardHouse) -> str:
    listing = house.run(*BATCH, "--list-keys", "--with-colons", OWNER).decode()
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
