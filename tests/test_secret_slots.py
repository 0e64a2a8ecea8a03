"""The keyslots gpg and passphrase: the contract of all kinds, then what is special to each."""

from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from house import House
from keyslot_contract import SUBJECT, KeyslotContract, accepting
from secret_files import Typist

from unlatch import base64url
from unlatch.keyslots import gpg, passphrase, proquint
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.slots import Created, Helpers
from unlatch.secret import Secret


class TestPassphrase(KeyslotContract):
    """Six generated words."""

    kind = passphrase.kind
    wishes: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The least that a file may ask for: what is tested here is not how long Argon2id takes."""
        monkeypatch.setattr(passphrase, "MEMORY", passphrase.MIN_MEMORY)
        monkeypatch.setattr(passphrase, "PASSES", 1)

    @pytest.fixture
    def helpers(self) -> Helpers:
        self.typist = Typist()
        return self.typist.helpers()

    def right(self, created: Created, making: Helpers) -> Helpers:
        self.typist.answers.append(self.words())
        return self.typist.helpers()

    def wrong(self, created: Created) -> Helpers:
        self.typist = Typist(b"one", b"two", b"three")
        return self.typist.helpers()

    def words(self) -> bytes:
        """The words that were told last, as a person copies them."""
        return self.typist.told[-1].rpartition(": ")[2].encode()

    def test_three_wrong_ones_are_the_end(self, helpers: Helpers) -> None:
        """Each wrong passphrase is told where the next one is typed, and after the third nobody is asked again."""
        created, kek = self.made(helpers)
        typist = Typist(b"one", b"two", b"three", b"four")
        with pytest.raises(SlotFailed):
            self.kind.open(SUBJECT, created.params, accepting(kek), typist.helpers())
        assert [wanted.attempt for wanted in typist.asked] == [(1, 3), (2, 3), (3, 3)]
        assert [bool(wanted.error) for wanted in typist.asked] == [False, True, True]
        assert [verdict.outcome for verdict in typist.verdicts] == ["failed"]

    def test_words_are_forgiving(self, helpers: Helpers) -> None:
        """Generated words may be typed with capitals, hyphens and any blanks."""
        created, kek = self.made(helpers)
        typed = b"  " + self.words().upper().replace(b" ", b" - ")
        typist = Typist(typed)
        self.kind.open(SUBJECT, created.params, accepting(kek), typist.helpers())
        assert [verdict.outcome for verdict in typist.verdicts] == ["accepted"]

    def test_a_chosen_passphrase_is_taken_as_it_is(self) -> None:
        """What a person chose counts byte for byte, and must not be short."""
        typist = Typist(b"Correct  Horse!")
        created = self.kind.create(SUBJECT, {"choose": "yes"}, typist.helpers())
        kek = bytes(created.kek.reveal())
        assert typist.told == []
        self.kind.open(SUBJECT, created.params, accepting(kek), Typist(b"Correct  Horse!").helpers())
        with pytest.raises(SlotFailed):
            self.kind.open(SUBJECT, created.params, accepting(kek), Typist(*[b"correct horse!"] * 3).helpers())
        with pytest.raises(SlotFailed, match="fewer than 12"):
            self.kind.create(SUBJECT, {"choose": "yes"}, Typist(b"short").helpers())


class TestGpg(KeyslotContract):
    """One OpenPGP key without a passphrase, of a home of the test's own."""

    kind = gpg.kind
    wishes: ClassVar[dict[str, str]] = {"to": "alex@example.org"}

    @pytest.fixture(autouse=True)
    def keys(self, house: House) -> None:
        self.house = house
        self.environ = house.environ()
        for name in ("alex", "kim"):
            house.run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", f"{name}@example.org", "rsa2048", "encr")

    @pytest.fixture
    def helpers(self) -> Helpers:
        return Typist().helpers()._replace(environ=self.environ)

    def right(self, created: Created, making: Helpers) -> Helpers:
        return Typist().helpers()._replace(environ=self.environ)

    def wrong(self, created: Created) -> Helpers:
        stranger = Path(self.house.root) / "stranger"
        stranger.mkdir(mode=0o700, exist_ok=True)
        return Typist().helpers()._replace(environ={**self.environ, "GNUPGHOME": str(stranger)})

    def test_any_of_several_keys_opens(self, helpers: Helpers) -> None:
        """A slot for two keys names both fingerprints and opens with either."""
        created = self.kind.create(SUBJECT, {"to": "alex@example.org kim@example.org"}, helpers)
        kek = bytes(created.kek.reveal())
        assert len(created.params["to"]) == 2
        self.house.run("gpg", "--batch", "--yes", "--delete-secret-keys", created.params["to"][0])
        self.kind.open(SUBJECT, created.params, accepting(kek), helpers)

    @pytest.mark.parametrize("to", ["", "nobody@example.org", "example.org", "--version"])
    def test_keys_are_named_exactly(self, helpers: Helpers, to: str) -> None:
        """No key, an unknown one, a name of several, and an option are refused with words."""
        with pytest.raises(SlotFailed) as failed:
            self.kind.create(SUBJECT, {"to": to}, helpers)
        assert failed.value.hint


def test_words_are_proquints() -> None:
    """The published examples of proquints: 127.0.0.1 and 63.84.220.193."""
    assert proquint.words(bytes([127, 0, 0, 1])) == "lusab babad"
    assert proquint.words(bytes([63, 84, 220, 193])) == "gutih tugad"
    assert proquint.normal(b" Lusab-BABAD\n") == b"lusab babad"


def test_every_word_stands_for_itself() -> None:
    """All 65536 words differ."""
    assert len({proquint.words(value.to_bytes(2)) for value in range(65536)}) == 65536


def test_argon2id_is_the_published_one() -> None:
    """The library's Argon2id gives the tag of RFC 9106 section 5.3, and the slot's key is that function's."""
    published = Argon2id(
        salt=b"\2" * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=b"\4" * 12, secret=b"\3" * 8
    )
    tag = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    assert published.derive(b"\1" * 32).hex() == tag
    params = {"memory": 8192, "passes": 2, "lanes": 1, "salt": base64url.encode(b"\2" * 16), "words": False}
    kek = passphrase.derive(params, Secret(b"password"))
    function = Argon2id(salt=b"\2" * 16, length=32, iterations=2, lanes=1, memory_cost=8192)
    assert bytes(kek.reveal()) == function.derive(b"password")
