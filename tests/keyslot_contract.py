"""What every kind of keyslot keeps, whatever it is made of. A test class inherits it and says how its kind is held."""

import json
from typing import Any, ClassVar

import pytest
from secret_files import Typist

from unlatch.errors import Malformed
from unlatch.keyslots.errors import SlotFailed, WrongKey
from unlatch.keyslots.slots import Created, Helpers, SlotKind, Subject
from unlatch.secret import Secret

SUBJECT = Subject("borg", "the slot")
MASTER = bytes(range(32))


class KeyslotContract:
    """Subclasses give ``kind``, ``wishes``, ``helpers`` and ``right(created)``, who opens what was created."""

    kind: SlotKind
    wishes: ClassVar[dict[str, str]]

    @pytest.fixture
    def helpers(self) -> Helpers:
        return Typist().helpers()

    def right(self, created: Created, making: Helpers) -> Helpers:
        """The helpers with which the slot opens."""
        raise NotImplementedError

    def wrong(self, created: Created) -> Helpers | None:
        """Helpers with which it cannot open, None when the kind has no such thing in this test."""
        raise NotImplementedError

    def test_it_opens_what_it_made(self, helpers: Helpers) -> None:
        """The KEK of an opened slot is the one that it was created with."""
        created, kek = self.made(helpers)
        opened = self.kind.open(SUBJECT, created.params, accepting(kek), self.right(created, helpers))
        assert bytes(opened.master.reveal()) == MASTER

    def test_parameters_are_plain_json(self, helpers: Helpers) -> None:
        """What a slot stores survives JSON, and its own check takes it."""
        created, _ = self.made(helpers)
        assert json.loads(json.dumps(created.params)) == created.params
        self.kind.check(created.params)

    def test_no_key_is_among_the_parameters(self, helpers: Helpers) -> None:
        """The KEK is 32 bytes and stands nowhere in the parameters."""
        created, kek = self.made(helpers)
        assert len(kek) == 32
        assert kek.hex() not in json.dumps(created.params)
        assert repr(kek) not in repr(created)

    def test_two_slots_are_never_the_same(self, helpers: Helpers) -> None:
        """Two slots made from the same wishes have different keys."""
        assert self.made(helpers)[1] != self.made(helpers)[1]

    def test_renewing_makes_another_key_for_the_same_holder(self, helpers: Helpers) -> None:
        """A renewed slot opens with what its holder has then, and its key is new."""
        created, kek = self.made(helpers)
        renewed = self.kind.renew(SUBJECT, created.params, self.right(created, helpers))
        fresh = bytes(renewed.kek.reveal())
        assert fresh != kek
        opened = self.kind.open(SUBJECT, renewed.params, accepting(fresh), self.right(renewed, helpers))
        assert bytes(opened.master.reveal()) == MASTER

    def test_the_wrong_holder_opens_nothing(self, helpers: Helpers) -> None:
        """Who has something else gets SlotFailed with words, and no key."""
        created, kek = self.made(helpers)
        others = self.wrong(created)
        assert others is not None
        with pytest.raises(SlotFailed) as failed:
            self.kind.open(SUBJECT, created.params, accepting(kek), others)
        assert failed.value.why

    def test_a_key_of_another_slot_is_not_taken(self, helpers: Helpers) -> None:
        """A file that was changed, so that the right holder's key unwraps nothing, is not tried for ever."""
        created, _ = self.made(helpers)
        with pytest.raises((SlotFailed, IndexError)):
            self.kind.open(SUBJECT, created.params, accepting(bytes(32)), self.right(created, helpers))

    @pytest.mark.parametrize("what", ["more", "less", "empty", "number", "null"])
    def test_foreign_parameters_are_refused(self, helpers: Helpers, what: str) -> None:
        """Parameters with further, missing or foreign values are refused before anything is computed."""
        created, _ = self.made(helpers)
        first = sorted(created.params)[0]
        changed: dict[str, Any] = {
            "more": created.params | {"more": 1},
            "less": {name: value for name, value in created.params.items() if name != first},
            "empty": {},
            "number": created.params | {first: -1},
            "null": created.params | {first: None},
        }[what]
        with pytest.raises(Malformed):
            self.kind.check(changed)

    def made(self, helpers: Helpers) -> tuple[Created, bytes]:
        created = self.kind.create(SUBJECT, self.wishes, helpers)
        return created, bytes(created.kek.reveal())


def accepting(kek: bytes) -> Any:
    """An unwrap that takes exactly this KEK."""

    def unwrap(given: Secret) -> Secret:
        if given != Secret(kek):
            raise WrongKey
        return Secret(MASTER)

    return unwrap
