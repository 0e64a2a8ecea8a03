"""What keygrips are called and which ones a person means: gpg's listings, KEYINFO, and the forms of a KEY."""

import pytest

from unlatch.gnupg.keyring import (
    AgentKey,
    HomeKey,
    NoSuchKey,
    NotAKey,
    join,
    parse_keyinfo,
    parse_listing,
    search_terms,
    select,
)

SIGN, DECRYPT, OLD, SSH = "A" * 40, "B" * 40, "C" * 40, "D" * 40
PRIMARY, SUBKEY = "A12F1F40B7DBB55959A6992F7FCE53D82F959FA4", "48A74607F161F133171621F198E9FED71D711BDD"
EXPIRED = "C7B51625C43CAF5EE3469CD2B632D5A4B900D987"
# gpg 2.2.40, with a revoked name and one that holds a colon.
LISTING = f"""\
tru:t:1:1795341540:0:3:1:5
pub:-:255:22:7FCE53D82F959FA4:1795341192:::u:::scESC:::::ed25519:::0:
fpr:::::::::{PRIMARY}:
grp:::::::::{SIGN}:
uid:-::::1795341192::5430BC1D4C781F62F148E5CA864F25F47413089E::Sql Root (db\\x3a 1) <root@db01.example>::::::::::0:
uid:r::::1795341192::5430BC1D4C781F62F148E5CA864F25F47413089E::Gone <gone@db01.example>::::::::::0:
sub:-:255:18:98E9FED71D711BDD:1795341192::::::e:::::cv25519::
fpr:::::::::{SUBKEY}:
grp:::::::::{DECRYPT}:
pub:e:255:22:B632D5A4B900D987:1577836800:1609372800::u:::sc:::::ed25519:::0:
fpr:::::::::{EXPIRED}:
grp:::::::::{OLD}:
uid:e::::1577836800::7D4181C7F9E3B0C84D1AEE34C2AA775478935518::Old <old@db01.example>::::::::::0:
pub:-:255:22:FFFFFFFFFFFFFFFF:1577836800:::u:::sc:::::ed25519:::0:
fpr:::::::::{"F" * 40}:
grp:::::::::{"F" * 40}:
uid:-::::1577836800::7D4181C7F9E3B0C84D1AEE34C2AA775478935518::Somebody else <root@db01.example>::::::::::0:
"""
FINGERPRINT = "SHA256:twqznydLOBIFTOB8Hb9pvhPU469tc28jLnbj+FchTlk"
AGENT = [AgentKey(SSH, ssh=True, ssh_fingerprint=FINGERPRINT), *(AgentKey(grip) for grip in (OLD, DECRYPT, SIGN))]


@pytest.fixture
def keys() -> list[HomeKey]:
    return join(AGENT, parse_listing(LISTING), {SSH: "backup@laptop"})


def test_a_listing_is_read_with_its_names_uses_and_states() -> None:
    """Escapes are undone, revoked names left out, and capital letters, which sum up a certificate, are no uses."""
    sign, decrypt, old, _ = parse_listing(LISTING)
    assert (sign.grip, sign.fingerprint, sign.primary, sign.uses, sign.state) == (SIGN, PRIMARY, PRIMARY, "sc", "")
    assert sign.user_ids == ("Sql Root (db: 1) <root@db01.example>",)
    assert (decrypt.fingerprint, decrypt.primary, decrypt.uses) == (SUBKEY, PRIMARY, "e")
    assert decrypt.key_id == "98E9FED71D711BDD"
    assert (old.state, old.expires) == ("expired", 1609372800)


@pytest.mark.parametrize("text", ["", "pub", "pub:-:255\nfpr:\ngrp:", "\x00::::\nuid:::::::::name", "grp:::::::::x"])
def test_a_listing_that_is_none_has_no_keys(text: str) -> None:
    """Whatever gpg may say, the answer is a list of keys with keygrips."""
    assert parse_listing(text) == []


def test_keys_stand_by_certificate_then_the_nameless(keys: list[HomeKey]) -> None:
    """Only keys that the agent has; a stranger's public key is not ours because it is in the keyring."""
    assert [key.grip for key in keys] == [SIGN, DECRYPT, OLD, SSH]
    assert [key.name for key in keys][-2:] == ["Old <old@db01.example>", "backup@laptop"]
    assert join([AgentKey("E" * 40)], [], {})[0].name == "E" * 40


@pytest.mark.parametrize(
    ("what", "grips"),
    [
        (SIGN, [SIGN]),
        (SIGN.lower(), [SIGN]),
        (PRIMARY, [SIGN, DECRYPT]),
        ("A12F 1F40 B7DB B559 59A6  992F 7FCE 53D8 2F95 9FA4", [SIGN, DECRYPT]),
        ("0x7FCE53D82F959FA4", [SIGN, DECRYPT]),
        ("2f959fa4", [SIGN, DECRYPT]),
        ("7FCE53D82F959FA4!", [SIGN]),
        (SUBKEY, [DECRYPT]),
        ("98E9FED71D711BDD", [DECRYPT]),
        ("98E9FED71D711BDD!", [DECRYPT]),
        ("root@db01.example", [SIGN, DECRYPT]),
        ("<ROOT@db01.example>", [SIGN, DECRYPT]),
        ("old@db01.example", [OLD]),
        ("backup@laptop", [SSH]),
        (FINGERPRINT, [SSH]),
    ],
)
def test_a_key_is_meant_by(keys: list[HomeKey], what: str, grips: list[str]) -> None:
    """A primary key and an address stand for the whole certificate; a subkey, and what ends with "!", for itself."""
    assert [key.grip for key in select(keys, what)] == grips


@pytest.mark.parametrize("what", ["E" * 40, "1111111111111111", "gone@db01.example", "db01.example@x", "SHA256:none"])
def test_an_unknown_key_is_said_to_be_unknown(keys: list[HomeKey], what: str) -> None:
    """Also a name that was revoked, and half an address."""
    with pytest.raises(NoSuchKey) as raised:
        select(keys, what)
    assert raised.value.what == what


@pytest.mark.parametrize("what", ["", "Sql Root", "12345", "--all", "a b@c", "7FCE53D82F959FA4?", "!"])
def test_what_is_no_key_is_said_to_be_none(keys: list[HomeKey], what: str) -> None:
    """gpg would take a piece of a name, which is how the wrong key gets unlocked."""
    with pytest.raises(NotAKey):
        select(keys, what)
    with pytest.raises(NotAKey):
        search_terms(what)


def test_gpg_is_asked_for_no_more_than_was_named() -> None:
    """Forty digits may be a keygrip or a fingerprint; an ssh fingerprint is known to the agent only."""
    assert search_terms(SIGN) == [f"&{SIGN}", SIGN]
    assert search_terms("0x98e9fed71d711bdd!") == ["98E9FED71D711BDD"]
    assert search_terms("Root@db01.example") == ["<root@db01.example>"]
    assert search_terms(FINGERPRINT) == []


def test_keyinfo_is_read() -> None:
    """The columns of gpg-agent's HELP KEYINFO, with more behind them in later releases."""
    found = parse_keyinfo(f"{SIGN} D - - 1 P {FINGERPRINT} 0 S")
    assert found == AgentKey(SIGN, cached=True, ssh_fingerprint=FINGERPRINT, ssh=True)
    card = parse_keyinfo(f"{SIGN} T D2760001240103040001000000010000 OPENPGP.3 - - - - -")
    assert card is not None
    assert (card.kind, card.serial[-10:], HomeKey(card).in_software) == ("T", "0000010000", False)
    disabled = parse_keyinfo(f"{SIGN} D - - - C - 0 DSc and more")
    assert disabled is not None
    assert (disabled.disabled, disabled.confirm, disabled.ssh) == (True, True, True)
    assert parse_keyinfo("") is None
    assert parse_keyinfo("nonsense D - - 1 P - - -") is None


def test_a_key_is_usable_when_it_is_cached_or_unprotected() -> None:
    """And in a file: what a card would do, the agent's cache does not say."""
    for key, usable in (
        (AgentKey(SIGN), False),
        (AgentKey(SIGN, cached=True), True),
        (AgentKey(SIGN, protection="C"), True),
        (AgentKey(SIGN, kind="T", cached=True), False),
        (AgentKey(SIGN, kind="-"), False),
    ):
        assert HomeKey(key).usable is usable
