"""What ``unlatch card init`` asks besides PINs. Each question has an option; without a terminal only options count."""

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from unlatch.cli import voice
from unlatch.gnupg import card_init, card_init_gpg
from unlatch.gnupg.card import CardKey
from unlatch.gnupg.card_init import ALGORITHMS, FACTORY_ADMIN, FACTORY_PIN, Facts, Source, Step, Unfit, Wishes
from unlatch.gnupg.card_init_run import Order

DEFAULT_ALGORITHM = "rsa3072"
_TYPED = 8  # digits of a fingerprint that somebody types who knows what will be lost
_KEEP = 'to keep it, its certificate has to be in the keyring: "gpg --import", or "gpg --card-edit" and fetch'
_Value = TypeVar("_Value")


class Options(NamedTuple):
    """What the command line says, by the names of the options; None or "" where it says nothing."""

    name: str | None
    language: str | None
    forcesig: bool | None
    algorithm: str | None
    user_id: str | None
    expires: str | None
    from_key: str
    backup: str | None
    no_backup: bool
    overwrite: tuple[str, ...]
    factory_pin: bool | None
    factory_admin_pin: bool | None
    yes: bool


class Questions:
    """Asks at the terminal what the options leave open."""

    def __init__(self, options: Options, environ: card_init_gpg.Environ, *, may_ask: bool, dry_run: bool) -> None:
        self._options = options
        self._environ = environ
        self._may_ask = may_ask and not dry_run
        self._dry_run = dry_run
        self._terminal = voice.Terminal()
        self._check()

    def order(self, facts: Facts) -> Order:
        """All that is wished for this card.

        Raises:
            Problem: something has to be said, and nobody can be asked.
        """
        given = self._options
        primary, sources = self._sources(facts)
        wishes = Wishes(
            name=self._name(facts),
            language=self._language(facts),
            forcesig=self._forcesig(facts),
            sources=sources,
            overwrite=frozenset(each.replace(" ", "").upper().removeprefix("0X") for each in given.overwrite),
        )
        if card_init.must_generate(facts, wishes):
            return self._generation(wishes)
        backup = self._backup("a copy of the whole key") if card_init.to_move(facts, wishes) else ""
        return Order(self._about_pins(wishes), primary=primary, backup=backup)

    def confirm(self, facts: Facts, order: Order, steps: tuple[Step, ...]) -> None:
        """Have the person agree to the plan, and to each key that will be lost.

        Raises:
            Problem: not agreed.
        """
        for key in card_init.lost(facts, order.wishes):
            if card_init.name_of(key) not in order.wishes.overwrite:
                self._confirm_loss(key)
        if steps and not self._options.yes and not self._yes_or_no("begin?", None, "--yes"):
            voice.fail("nothing was changed", code=voice.OVER)

    def _check(self) -> None:
        given = self._options
        if given.backup is not None and given.no_backup:
            voice.fail("--backup and --no-backup exclude each other", code=voice.USAGE)
        if given.from_key and (given.algorithm or given.user_id or given.expires):
            text = "--algorithm, --user-id and --expires are for keys that are made on the card"
            voice.fail(text, "leave them out, or leave out --from-key", code=voice.USAGE)
        checks: list[tuple[str, str | None, Callable[[str], object]]] = [
            ("--name", given.name, card_init.name_value),
            ("--language", given.language, card_init.language_value),
            ("--user-id", given.user_id, card_init.user_id),
            ("--expires", given.expires, card_init.expiry),
        ]
        for option, value, read in checks:
            if value is not None:
                try:
                    read(value)
                except Unfit as error:
                    voice.fail(f"{option}: {error}", code=voice.USAGE)
        if given.backup is not None and os.path.exists(given.backup):
            hint = "if an earlier run wrote it, --no-backup goes on without another one"
            voice.fail(f"{voice.clean(given.backup)} is there already", hint)

    def _name(self, facts: Facts) -> str | None:
        if self._options.name is not None or facts.card.holder or not self._may_ask:
            return self._options.name
        return self._until("the cardholder's name (empty: none):", _kept(card_init.name_value)) or None

    def _language(self, facts: Facts) -> str | None:
        if self._options.language is not None or facts.card.language or not self._may_ask:
            return self._options.language
        return self._until("the cardholder's language, as in de (empty: none):", card_init.language_value) or None

    def _forcesig(self, facts: Facts) -> bool | None:
        if self._options.forcesig is not None or not self._may_ask:
            return self._options.forcesig
        question = "ask for the PIN for each signature? It concerns signing only, not logging in"
        return self._yes_or_no(question, facts.card.status.forced, "--forcesig")

    def _generation(self, wishes: Wishes) -> Order:
        given = self._options
        if not self._may_ask and not self._dry_run and not given.user_id:
            voice.fail(
                "keys are to be made, and nobody said whose they are", "--user-id 'Name <address>'", code=voice.USAGE
            )
        algorithm = given.algorithm or DEFAULT_ALGORITHM
        if given.algorithm is None and self._may_ask:
            algorithm = self._until(f"what keys? {', '.join(ALGORITHMS)} [{DEFAULT_ALGORITHM}]:", _algorithm)
        owner = given.user_id or "nobody yet"
        if not given.user_id and self._may_ask:
            owner = self._until("whose keys? (Name <address>):", _kept(card_init.user_id))
        expires = given.expires or ""
        if given.expires is None and self._may_ask:
            expires = self._until("when do they expire? (2y, 2030-12-31, never) [never]:", card_init.expiry)
        backup = self._backup("a copy of the encryption key")
        wishes = self._about_pins(wishes._replace(algorithm=algorithm))
        return Order(wishes, card_init.user_id(owner), card_init.expiry(expires), backup=backup)

    def _backup(self, what: str) -> str:
        given = self._options
        if given.backup is not None or given.no_backup or not self._may_ask:
            if given.backup is None and not given.no_backup and given.from_key and not self._dry_run:
                voice.fail(
                    "the key leaves this disk, and nobody said whether there is a copy",
                    "--backup FILE writes one, --no-backup does without",
                    code=voice.USAGE,
                )
            return os.path.abspath(given.backup) if given.backup else ""
        path = self._until(f"a file for {what}, off the card (empty: none):", _free)
        return os.path.abspath(path) if path else ""

    def _about_pins(self, wishes: Wishes) -> Wishes:
        given = self._options
        pin = self._is_factory("PIN", FACTORY_PIN, given.factory_pin)
        return wishes._replace(
            factory_pin=pin, factory_admin=self._is_factory("admin PIN", FACTORY_ADMIN, given.factory_admin_pin)
        )

    def _is_factory(self, name: str, value: bytes, given: bool | None) -> bool:
        """Whether a new card's PIN may be tried; without a word about it, it is not."""
        if given is not None or not self._may_ask:
            return bool(given)
        question = f"is the {name} still that of a new card, {value.decode('ascii')}? After a yes it is tried, once"
        return self._yes_or_no(question, False, "")

    def _sources(self, facts: Facts) -> tuple[str, tuple[Source, ...]]:
        if not self._options.from_key:
            return "", ()
        primary, sources = card_init_gpg.sources(self._environ, self._options.from_key)
        if all(each.slot != 3 for each in sources):
            voice.fail(
                "that key has no subkey to log in with",
                f'add one: "gpg --quick-add-key {primary} {DEFAULT_ALGORITHM} auth"',
            )
        there = {key.number: key.fingerprint for key in facts.card.keys}
        for each in sources:
            if each.on_card and there.get(each.slot) != each.fingerprint:
                text = f"the secret part of {each.fingerprint} is not on this disk: it is on another card, or elsewhere"
                voice.fail(text, "import a backup of it first")
        return primary, sources

    def _confirm_loss(self, key: CardKey) -> None:
        name = card_init.name_of(key)
        if not self._may_ask:
            voice.fail(
                f"the card has a key to {key.use} with already: {name}", f'to destroy it: "--overwrite {name}"', _KEEP
            )
        question = f"the key {name} will be destroyed; type its last {_TYPED} digits to agree:"
        if self._terminal.ask(question).replace(" ", "").upper() != name[-_TYPED:]:
            voice.fail("nothing was changed", code=voice.OVER)

    def _yes_or_no(self, question: str, default: bool | None, option: str) -> bool:
        if not self._may_ask:
            voice.fail("nobody can be asked, as there is no terminal", f"{option} says it", code=voice.USAGE)
        hint = "" if default is None else f" [{'yes' if default else 'no'}]"
        while True:
            typed = self._terminal.ask(f"{question} (yes/no){hint}").lower()
            if typed in ("yes", "no"):
                return typed == "yes"
            if not typed and default is not None:
                return default

    def _until(self, question: str, read: Callable[[str], _Value]) -> _Value:
        """Ask until the answer can be read."""
        while True:
            try:
                return read(self._terminal.ask(question))
            except Unfit as error:
                voice.tell(str(error))


def _kept(check: Callable[[str], object]) -> Callable[[str], str]:
    """A reader that only checks, and gives what was typed."""

    def read(text: str) -> str:
        check(text)
        return text

    return read


def _algorithm(text: str) -> str:
    chosen = text.strip().lower() or DEFAULT_ALGORITHM
    if chosen not in ALGORITHMS:
        raise Unfit(f"it is one of {', '.join(ALGORITHMS)}")
    return chosen


def _free(text: str) -> str:
    if text and os.path.lexists(text):
        raise Unfit("that file is there already; a backup is never written over anything")
    return text
