"""The keyslot ``passphrase``: Argon2id (RFC 9106) of what a person types on the phone's page.

Parameters: ``memory`` in KiB, ``passes``, ``lanes``, ``salt`` (base64url, 16 bytes), and ``words``: whether the
passphrase was generated, so that capitals and blanks do not matter when it is typed.
"""

from collections.abc import Callable, Mapping

from unlatch import base64url
from unlatch.errors import Malformed
from unlatch.frontends.asking import Wanted
from unlatch.keyslots import proquint
from unlatch.keyslots.errors import SlotFailed, WrongKey
from unlatch.keyslots.header import KEY_SIZE, Params
from unlatch.keyslots.slots import Created, Helpers, Opened, Subject
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

# RFC 9106 section 4, second recommended option: 64 MiB and three passes, which a small server has.
MEMORY, PASSES, LANES = 65536, 3, 4
# A file from elsewhere must not make us compute for ever, or weakly.
MIN_MEMORY, MAX_MEMORY = 8192, 1_048_576  # KiB
MAX_PASSES, MAX_LANES = 16, 16
SALT_SIZE = 16  # bytes
WORDS_SIZE = 12  # bytes, six words
MIN_LENGTH = 12  # bytes of a passphrase that a person chose
TRIES = 3


class Passphrase:
    """See :class:`unlatch.keyslots.slots.SlotKind`. The wish ``choose`` asks for one; else six words are generated."""

    def check(self, params: Params) -> None:
        """See the protocol."""
        if params.keys() != {"memory", "passes", "lanes", "salt", "words"} or not isinstance(params["words"], bool):
            raise Malformed("passphrase slot")
        _bounded(params["memory"], MIN_MEMORY, MAX_MEMORY)
        _bounded(params["passes"], 1, MAX_PASSES)
        _bounded(params["lanes"], 1, MAX_LANES)
        base64url.decode(params["salt"], "passphrase slot", SALT_SIZE)

    def create(self, subject: Subject, wishes: Mapping[str, str], helpers: Helpers) -> Created:
        """See the protocol. Generated words are shown once, by ``helpers.tell``."""
        if "choose" in wishes:
            params = _params(helpers.random, words=False)
            return Created(params, derive(params, self._chosen(subject, helpers)))
        words = new_words(helpers.random)
        helpers.tell(f"the passphrase of the keyslot {subject.label}, shown this once: {words}")
        return from_words(words, helpers.random)

    def renew(self, subject: Subject, params: Params, helpers: Helpers) -> Created:
        """See the protocol: a new passphrase, generated or chosen as the one before was."""
        return self.create(subject, {} if params["words"] else {"choose": "yes"}, helpers)

    def open(self, subject: Subject, params: Params, unwrap: Callable[[Secret], Secret], helpers: Helpers) -> Opened:
        """See the protocol. A wrong passphrase is told where it was typed, three times at most."""
        wanted = Wanted(
            kind="passphrase",
            title=f"Passphrase of {subject.secret}",
            text=f"It opens the keyslot {subject.label} of the stored secret {subject.secret}.",
            key=Key(name=subject.secret),
            label="Passphrase",
        )
        with helpers.person() as person:
            for attempt in range(1, TRIES + 1):
                now = wanted._replace(attempt=(attempt, TRIES))
                typed = person.ask(now, coalesce=f"secret:{subject.secret}", seconds=helpers.seconds)
                try:
                    opened = Opened(unwrap(derive(params, typed)))
                except WrongKey:
                    wanted = wanted._replace(error="That passphrase does not open it.")
                else:
                    person.judge(Verdict("accepted"))
                    return opened
            person.judge(Verdict("failed", "That was the last try."))
        raise SlotFailed("three wrong passphrases", "unlatch secret paper prints the words while another slot opens")

    def _chosen(self, subject: Subject, helpers: Helpers) -> Secret:
        wanted = Wanted(
            kind="new-passphrase",
            title=f"New passphrase for {subject.secret}",
            text=f"It will open the keyslot {subject.label}. At least {MIN_LENGTH} characters.",
            key=Key(name=subject.secret),
        )
        with helpers.person() as person:
            typed = person.ask(wanted, seconds=helpers.seconds)
            if len(typed.reveal()) < MIN_LENGTH:
                raise SlotFailed(
                    f"the passphrase has fewer than {MIN_LENGTH} characters", "leave --choose out for six words"
                )
            person.judge(Verdict("accepted"))
            return typed


def new_words(random: Callable[[int], bytes]) -> str:
    """Six words that nobody has seen."""
    return proquint.words(random(WORDS_SIZE))


def from_words(words: str, random: Callable[[int], bytes]) -> Created:
    """A slot that these words open."""
    params = _params(random, words=True)
    return Created(params, derive(params, Secret(words.encode())))


def derive(params: Params, typed: Secret) -> Secret:
    """The KEK; the passphrase is wiped."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    salt = base64url.decode(params["salt"], "passphrase slot", SALT_SIZE)
    function = Argon2id(
        salt=salt, length=KEY_SIZE, iterations=params["passes"], lanes=params["lanes"], memory_cost=params["memory"]
    )
    passphrase = bytes(typed.reveal())
    typed.wipe()
    return Secret(function.derive(proquint.normal(passphrase) if params["words"] else passphrase))


def _params(random: Callable[[int], bytes], *, words: bool) -> Params:
    salt = base64url.encode(random(SALT_SIZE))
    return {"memory": MEMORY, "passes": PASSES, "lanes": LANES, "salt": salt, "words": words}


def _bounded(value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise Malformed("passphrase slot")


kind = Passphrase()
