"""What ``unlatch card init`` would do with a card in any state, what it would destroy, and which answers it takes."""

import base64
from collections.abc import Callable

import pytest

from unlatch.errors import Malformed
from unlatch.gnupg import card_init
from unlatch.gnupg.card import Card, CardKey, PinStatus
from unlatch.gnupg.card_init import Facts, Source, Unfit, Wishes
from unlatch.gnupg.card_init_ssh import public_key

SIGN, DECRYPT, LOGIN = (CardKey(card_init.SLOTS[n], n, f"{n}" * 40, "A" * 40, "rsa2048") for n in (1, 2, 3))
ALL = frozenset(key.fingerprint for key in (SIGN, DECRYPT, LOGIN))
MOVES = tuple(Source(n, f"{n + 3}" * 40, "rsa2048", n - 1, on_card=False) for n in (1, 2, 3))


def facts(*keys: CardKey, certified: frozenset[str] = frozenset(), forced: bool = True) -> Facts:
    """A card with these keys."""
    status = PinStatus(forced, 127, 3, 0, 3)
    there = Card("D276000124010304FF51000000010000", "r", "m", "Anna Meier", "de", "", "", status, keys, 0)
    return Facts(there, dict.fromkeys((1, 2, 3), "rsa2048"), 127, certified)


@pytest.mark.parametrize(
    ("there", "wishes", "kinds", "lost"),
    [
        (facts(), Wishes(), ["algorithm"] * 3 + ["generate"], 0),
        (facts(), Wishes(algorithm="ed25519"), ["algorithm"] * 3 + ["generate"], 0),
        (facts(SIGN, DECRYPT, LOGIN), Wishes(algorithm="ed25519"), [], 0),
        (facts(LOGIN), Wishes(), [], 0),
        (facts(SIGN), Wishes(), ["algorithm"] * 3 + ["generate"], 1),
        (facts(SIGN, LOGIN), Wishes(), ["algorithm"] * 3 + ["generate"], 2),
        (facts(SIGN, LOGIN, certified=ALL), Wishes(), [], 0),
        (facts(SIGN, DECRYPT, LOGIN), Wishes(overwrite=ALL), ["algorithm"] * 3 + ["generate"], 3),
        (facts(SIGN, DECRYPT, LOGIN), Wishes(overwrite=frozenset([SIGN.fingerprint])), [], 0),
        (facts(), Wishes(sources=MOVES), ["move"] * 3, 0),
        (facts(SIGN._replace(fingerprint="4" * 40), LOGIN), Wishes(sources=MOVES), ["move"] * 2, 1),
        (facts(LOGIN), Wishes(name="Anna  Meier", language="DE", forcesig=True), [], 0),
        (facts(LOGIN), Wishes(name="", language="", forcesig=False), ["name", "language", "forcesig"], 0),
        (facts(LOGIN), Wishes(factory_pin=True, factory_admin=True), ["pin", "admin pin"], 0),
        (
            facts(), Wishes(name="B C", forcesig=False, factory_pin=True),
            ["name", *["algorithm"] * 3, "generate", "forcesig", "pin"], 0,
        ),
    ],
)  # fmt: skip
def test_the_plan(there: Facts, wishes: Wishes, kinds: list[str], lost: int) -> None:
    """Only what is missing is done, PINs last; and whatever it destroys is known before."""
    steps = card_init.plan(there, wishes)
    assert [step.kind for step in steps] == kinds
    assert len(card_init.lost(there, wishes)) == lost
    assert card_init.needs_pin(steps) == bool({"generate", "pin"} & set(kinds))
    assert card_init.needs_admin(steps) == bool(set(kinds) - {"pin"})


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (card_init.name_value, "Anna Maria Meier", "Meier<<Anna<Maria"),
        (card_init.name_value, "Vault", "Vault<<"),
        (card_init.name_value, "", ""),
        (card_init.language_value, "de, en", "deen"),
        (card_init.language_value, "", ""),
        (card_init.user_id, "Backup db01 <b@x.example>", ("Backup db01", "b@x.example", "")),
        (card_init.user_id, "Backup (vault) <b@x.example>", ("Backup", "b@x.example", "vault")),
        (card_init.user_id, "b@x.example", ("", "b@x.example", "")),
        (card_init.user_id, "Backup", ("Backup", "", "")),
        (card_init.expiry, "2Y", "2y"),
        (card_init.expiry, "never", "0"),
        (card_init.expiry, "2030-12-31", "2030-12-31"),
    ],
)
def test_what_is_taken(read: Callable[[str], object], text: str, value: object) -> None:
    """Answers as people write them become what card and gpg take."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (card_init.name_value, "Jörg"),
        (card_init.name_value, "a<b"),
        (card_init.name_value, "A\nB"),
        (card_init.name_value, "x" * 40),
        (card_init.language_value, "deu"),
        (card_init.language_value, "dedededede"),
        (card_init.user_id, ""),
        (card_init.user_id, "A <no address>"),
        (card_init.user_id, "A\nB <b@x.example>"),
        (card_init.user_id, "A <b@x.example> C"),
        (card_init.expiry, "soon"),
        (card_init.expiry, "-1"),
    ],
)
def test_what_is_refused(read: Callable[[str], object], text: str) -> None:
    """What no card holds, or what gpg could read as another answer, is refused before it gets there."""
    with pytest.raises(Unfit):
        read(text)


def test_public_keys() -> None:
    """The highest bit of RSA's modulus gets its zero; points lose GnuPG's prefix (RFC 4251, 5; RFC 8709, 4)."""
    rsa = public_key(b"(10:public-key(3:rsa(1:n2:\x80\x01)(1:e3:\x01\x00\x01)))", "c")
    kind, blob, comment = rsa.split()
    assert (kind, comment) == ("ssh-rsa", "c")
    assert base64.b64decode(blob) == b"\0\0\0\7ssh-rsa\0\0\0\3\1\0\1\0\0\0\3\0\x80\1"
    point = bytes(range(32))
    expression = b"(10:public-key(3:ecc(5:curve7:Ed25519)(5:flags5:eddsa)(1:q33:@" + point + b")))"
    assert base64.b64decode(public_key(expression, "").split()[1])[-32:] == point


@pytest.mark.parametrize(
    "expression",
    [
        b"", b"(", b")", b"()", b"(10:public-key)", b"(10:public-key(3:dsa(1:p1:a)))", b"(11:private-key(3:rsa))",
        b"(10:public-key(3:rsa(1:n2:ab)))", b"(10:public-key(3:rsa(1:n9:ab)(1:e1:a)))", b"(" * 99,
        b"(10:public-key(3:ecc(5:curve3:foo)(1:q1:a)))", b"(-1:)", b"(10:public-key(3:rsa(1:n2:ab)(1:e1:a))",
    ],
)  # fmt: skip
def test_what_is_no_public_key(expression: bytes) -> None:
    """A card that says something else ends in one error, never another exception."""
    with pytest.raises(Malformed):
        public_key(expression, "")
