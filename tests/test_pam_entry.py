"""The one line of ~/.auth_gpg and of a record: what it may say, and that every mistake in it denies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.pam import entry
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit

A, B, C, D = (letter * 40 for letter in "ABCD")
V5 = "E" * 64


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (f"{A} notrust nosign none", Entry((A,), False)),
        (f"{A.lower()} trust nosign none", Entry((A,), True)),
        (f"0x{A} trust nosign none", Entry((A,), True)),
        (f"{V5} trust nosign none", Entry((V5,), True)),
        ("alice@example.org trust nosign none", Entry(("alice@example.org",), True)),
        (f"{A},{B},alice@example.org notrust nosign none", Entry((A, B, "alice@example.org"), False)),
        (f"{A} notrust logins@db01.example none", Entry((A,), False, "logins@db01.example")),
        (f"{A} notrust {B} none", Entry((A,), False, B)),
        (f"{A} notrust nosign webQrAuthNoTls", Entry((A,), False, "", "webQrAuthNoTls")),
        (f"{A} notrust nosign webQrNoAuthNoTls", Entry((A,), False, "", "webQrNoAuthNoTls")),
        (f"{A} notrust nosign webQrAuthTls k.pem c.pem", Entry((A,), False, "", "webQrAuthTls", "k.pem", "c.pem")),
        (f"{A} notrust nosign webQrNoAuthTls /k /c", Entry((A,), False, "", "webQrNoAuthTls", "/k", "/c")),
        (f"{A} notrust nosign webQrBroker", Entry((A,), False, "", "webQrBroker")),
        (f"{A} notrust nosign WEBQRAUTHTLS", Entry((A,), False)),
        (f"{A} notrust nosign no k c", Entry((A,), False, "", "", "k", "c")),
        (f"# mine\n\n  \t{A}\tnotrust  nosign none  \n# end", Entry((A,), False)),
        (f"{A} notrust nosign none\r\n", Entry((A,), False)),
    ],
)
def test_an_entry_is_read(line: str, meant: Entry) -> None:
    """In its documented form; a web word that is none of ours is no web page."""
    assert entry.parse(line, "file") == meant


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "file: no entry"),
        ("# only a comment\n", "file: no entry"),
        (f"{A} notrust nosign none\n{B} notrust nosign none\n", "file:2: a second entry"),
        (f"# one\n{A} notrust nosign\n", "file:2: an entry is"),
        (f"{A} notrust nosign none k c further", "file:1: an entry is"),
        ("trust nosign none none", "file:1: the key is missing"),
        ("notrust nosign webQrBroker", "file:1: the key is missing"),
        (f"{A} maybe nosign none", 'file:1: the second word must be "trust" or "notrust"'),
        (f"{A} TRUST nosign none", 'file:1: the second word must be "trust" or "notrust"'),
        ("ABCDEF12 notrust nosign none", "file:1: a key is a full fingerprint"),
        (f"{A[:39]} notrust nosign none", "file:1: a key is a full fingerprint"),
        (f"{A}! notrust nosign none", "file:1: a key is a full fingerprint"),
        ("alice notrust nosign none", "file:1: a key is a full fingerprint"),
        ("--homedir=/tmp@x notrust nosign none", "file:1: a key is a full fingerprint"),
        ("=alice@x notrust nosign none", "file:1: a key is a full fingerprint"),
        ("<alice@x> notrust nosign none", "file:1: a key is a full fingerprint"),
        (f"{A},,{B} notrust nosign none", "file:1: a key is a full fingerprint"),
        (f"{A},{A.lower()} notrust nosign none", "file:1: at most 3 keys, each once"),
        (f"{A},{B},{C},{D} notrust nosign none", "file:1: at most 3 keys, each once"),
        (f"{A} notrust sign none", "file:1: a key is a full fingerprint"),
        (f"{A} notrust nosign webQrAuthTls", "file:1: webQrAuthTls needs two more words"),
        (f"{A} notrust nosign webQrNoAuthTls key.pem", "file:1: webQrNoAuthTls needs two more words"),
    ],
)
def test_a_mistake_denies_and_is_named(text: str, why: str) -> None:
    """With file and line; nothing is guessed."""
    with pytest.raises(Unfit) as caught:
        entry.parse(text, "file")
    assert caught.value.why.startswith(why)


WORDS = st.sampled_from(
    [A, B, "trust", "notrust", "nosign", "a@b", "webQrAuthTls", "webQrBroker", "x", "#", "\n", "-r", ",", "@", "\0"]
)


@given(st.one_of(st.text(), st.lists(WORDS).map(" ".join)))
def test_any_text_is_an_entry_or_unfit(text: str) -> None:
    """And what passes can stand on gpg's command line: a fingerprint, or an address that is neither option nor part."""
    try:
        found = entry.parse(text, "file")
    except Unfit:
        return
    for key in (*found.keys, *filter(None, [found.sign_as])):
        assert entry.is_fingerprint(key) or entry.is_address(key)
        assert key[0] not in "-=<*@&#+/"
        assert key.isprintable() or entry.is_address(key)
        assert not set(key) & set(" \n\0<>,")
