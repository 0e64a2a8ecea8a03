"""Grants of secrets by their names: each is found again, shown and ended, and holds what the name stands for now."""

from collections.abc import Callable

import pytest
from house import House
from real_gnupg import finish
from secret_keeping import APART, KEY, Keeping

SECRET = b"correct horse"
OTHER = b"battery staple"


@pytest.fixture
def script(house: House) -> Callable[[str], list[bytes]]:
    """Runs a script with a kernel keyring of its own; the lines of its standard output."""
    keeping = Keeping(house)
    keeping.add("borg", SECRET)
    (house.root / "x").mkdir()
    for folder, secret in ((house.root, SECRET), (house.root / "x", OTHER)):
        file = folder / "a b.gpg"
        house.run("gpg", "--batch", "--trust-model", "always", "-e", "-r", KEY, "-o", file, feed=secret)

    def run(text: str) -> list[bytes]:
        return keeping.run(*APART, "sh", "-ec", text).splitlines()

    return run


@pytest.mark.parametrize("name", ["gpg:a b.gpg", "a:b c%20", "caf\u00e9: 12", "x" * 400])
def test_every_name_is_served_shown_and_locked(script: Callable[[str], list[bytes]], name: str) -> None:
    """Blanks, colons, per cent signs, other letters and length do not hide an open secret from status or lock."""
    given = f"printf 'correct horse\\n' | unlatch get --newline --stdin --for 1h '{name}'"
    lines = script(f"cd ~; {given}; unlatch get --newline '{name}'; unlatch status; unlatch lock; unlatch lock")
    assert lines[:2] == [SECRET, SECRET]
    assert lines[2].startswith(b"secret ")
    assert lines[2].split(b": open until")[0].decode().endswith(name.removeprefix("gpg:"))
    assert lines[-2].startswith(b"locked the secret ")
    assert lines[-1] == b"nothing was unlocked"


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("printf 'battery staple' | unlatch secret rotate --replace borg", "unlatch get --newline borg"),
        ("unlatch secret rename borg older; printf 'battery staple' | unlatch secret add borg --to " + KEY,
         "unlatch get --newline borg"),
        ("unlatch secret remove --yes borg; printf 'battery staple' | unlatch secret add borg --to " + KEY,
         "unlatch get --newline borg"),
        ("unlatch secret remove --yes borg", "printf 'battery staple\\n' | unlatch get --newline --stdin borg"),
    ],
    ids=["rotate", "rename", "remove and add", "remove"],
)  # fmt: skip
def test_a_grant_does_not_outlive_its_secret(script: Callable[[str], list[bytes]], change: str, after: str) -> None:
    """A changed, renamed or removed secret is not handed out from an earlier grant of its name."""
    assert script(f"unlatch get --newline --for 1h borg; {change}; {after}") == [SECRET, OTHER]


def test_storing_ends_what_was_typed_under_the_name(script: Callable[[str], list[bytes]]) -> None:
    """A name that a person was asked for, with a grant, is the stored secret from then on."""
    typed = "printf 'correct horse\\n' | unlatch get --newline --stdin --for 1h new"
    stored = f"printf 'battery staple' | unlatch secret add new --to {KEY}"
    assert script(f"{typed}; {stored}; unlatch get --newline new") == [SECRET, OTHER]


def test_the_same_relative_name_elsewhere_is_another_file(script: Callable[[str], list[bytes]]) -> None:
    """A grant of gpg:FILE belongs to that file and not to one of the same name in another directory."""
    lines = script("cd ~; unlatch get --newline --for 1h 'gpg:a b.gpg'; cd x; unlatch get --newline 'gpg:a b.gpg'")
    assert lines == [SECRET, OTHER]


def test_a_full_keyring_and_a_long_description_hide_nothing(script: Callable[[str], list[bytes]]) -> None:
    """Other programs' keys, however many and however they are called, do not keep a grant from being ended."""
    fill = (
        'python3 -c \'import ctypes; add = ctypes.CDLL("libkeyutils.so.1").add_key; '
        '[add(b"user", b"%d" % n, b"x", 1, -4) for n in range(150)]; add(b"user", b"y" * 4090, b"x", 1, -4)\''
    )
    lines = script(f"{fill}; unlatch get --newline --for 1h borg; unlatch lock")
    assert lines == [SECRET, b"locked the secret borg"]


def test_a_name_that_is_no_text_is_a_name(house: House) -> None:
    """Bytes that are not UTF-8, as in an old file's name, can be asked for, kept and ended like any others."""
    typed = "printf 'correct horse\\n' | unlatch get --newline --stdin --for 1h \"$(printf 'caf\\351')\""
    keeping = Keeping(house)
    lines = keeping.run(*APART, "sh", "-ec", f"{typed}; unlatch lock").splitlines()
    assert lines == [SECRET, b"locked the secret caf\\udce9"]
    asking = keeping.start("sh", "-c", "exec unlatch get \"$(printf 'caf\\351')\"")
    house.open(house.phone.ring()["link"]).unlock(OTHER)
    code, out, err = finish(asking)
    assert (code, out) == (0, OTHER), err
