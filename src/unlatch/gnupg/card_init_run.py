"""Set up a card: look at it, and do the steps of the plan, each of which is whole when it returns."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from unlatch.errors import UnlatchError
from unlatch.gnupg import card, card_access, card_init, card_init_gpg, card_init_ssh
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card_access import troubles
from unlatch.gnupg.card_errors import CardTrouble, OtherCard
from unlatch.gnupg.card_init import Facts, Step, Wishes
from unlatch.gnupg.card_init_gpg import Environ, GpgFailed
from unlatch.gnupg.card_init_pins import Pins, Visit, Which, admin_of, pin_of
from unlatch.gnupg.errors import GpgError
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret

SLOW_SECONDS = 60.0
_LOOKS, _NOTICE_SECONDS = 3, 0.6  # scdaemon looks every 0.5 s whether the card is still there


class Made(NamedTuple):
    """What is to be told at the end; empty texts for what does not exist."""

    public_key: str
    certificate: str  # the fingerprint of the primary key
    revocation: str  # path
    backup: str = ""  # path


class Order(NamedTuple):
    """What the steps need besides the plan. ``primary``: the certificate whose keys move to the card."""

    wishes: Wishes
    owner: tuple[str, str, str] = ("", "", "")
    expires: str = "0"
    primary: str = ""
    backup: str = ""  # path; "" for none
    new_passphrase: Callable[[], Secret] | None = None  # of the backup of keys that are made on the card


class NoLogin(CardTrouble):
    """A card without a key to log in with."""

    def __init__(self, aid: str) -> None:
        super().__init__(f"the card {card.number_of(aid)} has no key to log in with")
        self.aid = aid


class Stopped(UnlatchError):
    """A step was not done; those before it are. ``cause`` says why."""

    def __init__(self, step: Step, cause: UnlatchError | OSError) -> None:
        super().__init__(f"could not {step.text}: {cause}")
        self.step = step
        self.cause = cause


def visits(open_agent: Callable[[], Agent], aid: str) -> Visit:
    """How to visit this card and no other. The agent is found anew each time: minutes may lie between two visits."""

    @contextlib.contextmanager
    def visit() -> Iterator[Agent]:
        with open_agent() as agent:
            found = card_access.select(agent, aid)
            if found != aid:
                raise OtherCard(aid, (found,))
            yield agent

    return visit


def look(agent: Agent, wanted: str, environ: Environ) -> Facts:
    """The card that is wanted, by reading only.

    Raises:
        CardTrouble: there is none.
        Malformed: it says what no card says.
    """
    card_access.select(agent, wanted)
    found = card_access.learn(agent)
    with troubles(agent):
        algorithms = card_init.attributes(agent.status("SCD GETATTR KEY-ATTR", seconds=SLOW_SECONDS))
        status = dict(agent.status("SCD GETATTR CHV-STATUS", seconds=SLOW_SECONDS)).get("CHV-STATUS", "")
    prints = [key.fingerprint for key in found.keys if key.fingerprint]
    longest = card_init.longest_admin(status)
    return Facts(found, algorithms, longest, card_init_gpg.certified(environ, prints))


class Run:
    """The steps of one plan. ``say`` is told each step that was done."""

    def __init__(self, visit: Visit, facts: Facts, order: Order, pins: Pins, environ: Environ) -> None:
        self._visit = visit
        self._facts = facts
        self._order = order
        self._pins = pins
        self._environ = environ
        self._pin = pin_of(facts.card.status.longest)
        self._admin = admin_of(facts.longest_admin)
        self.backup = ""
        self.certificate = order.primary

    def prepare(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Get what the steps need of PIN and admin PIN, and add what is missing: another value for a factory one.

        Raises:
            UnlatchError: as :meth:`Pins.current` does; nothing was changed.
        """
        wishes = self._order.wishes
        if card_init.needs_admin(steps):
            self._pins.current(self._admin, factory=wishes.factory_admin)
        if card_init.needs_pin(steps):
            self._pins.current(self._pin, factory=wishes.factory_pin)
        return (*_without(steps, "pin", "admin pin"), *self._changes())

    def do(self, step: Step) -> None:
        """Do one step.

        Raises:
            Stopped: it could not be done.
        """
        try:
            self._do(step)
        except (UnlatchError, OSError) as error:
            raise Stopped(step, self._better(error)) from None

    def _do(self, step: Step) -> None:
        match step.kind:
            case "generate":
                self._generate()
            case "move":
                self._move(step)
            case "pin":
                self._pins.change(self._pin)
            case "admin pin":
                self._pins.change(self._admin)
            case _:
                self._write(_ATTRIBUTES[step.kind], step.value)

    def _changes(self) -> list[Step]:
        """Of the PINs that are known, those that every new card has: by what was typed, whatever was said before."""
        kinds: list[tuple[str, Which]] = [("pin", self._pin), ("admin pin", self._admin)]
        return [
            Step(kind, f"change the {which.name} from the factory one")
            for kind, which in kinds
            if self._pins.is_factory(which)
        ]

    def _write(self, attribute: str, value: str) -> None:
        with self._visit() as agent:
            self._pins.write(agent, f"SCD SETATTR {attribute} {value}".rstrip(), self._admin)

    def _generate(self) -> None:
        forced = self._order.wishes.forcesig
        if forced is None:
            forced = self._facts.card.status.forced
        self._write(_ATTRIBUTES["forcesig"], "%01")  # gpg signs more than once
        try:
            self._pins.prove(self._admin)
            made = card_init_gpg.generate(
                self._environ, self._order.owner, self._order.expires,
                self._pins.current(self._pin, factory=False), self._order.new_passphrase,
            )  # fmt: skip
        finally:
            if forced:
                with contextlib.suppress(CardTrouble):  # then the card is gone, which is told already
                    self._write(_ATTRIBUTES["forcesig"], "%00")
        self.certificate, written = made
        if written and self._order.backup:
            self.backup = _put(written, self._order.backup)

    def _move(self, step: Step) -> None:
        source = next(each for each in self._order.wishes.sources if each.fingerprint == step.value)
        self._pins.prove(self._admin)
        card_init_gpg.move(self._environ, self._order.primary, source)
        with self._visit() as agent:
            found = {key.number: key.fingerprint for key in card_access.learn(agent).keys}
        if found.get(source.slot) != source.fingerprint:
            raise GpgFailed("move the key", "the card does not have it")

    def _better(self, error: UnlatchError | OSError) -> UnlatchError | OSError:
        """Why really: gpg's and scdaemon's words about a card that is not there any more are of no use."""
        if not isinstance(error, GpgFailed | GpgError):
            return error
        for _ in range(_LOOKS):
            try:
                with self._visit() as agent:
                    card_access.status_of(agent)  # scdaemon remembers a serial number, not this
            except GpgError:  # it has not noticed yet
                time.sleep(_NOTICE_SECONDS)
            except UnlatchError as trouble:
                return trouble
            else:
                break
        return error


def result(visit: Visit, home: Home, environ: Environ, backup: str, certificate: str) -> Made:
    """What there is at the end, by the card's own word. ``certificate`` is its fingerprint, if it is known.

    Raises:
        CardTrouble
        NoLogin: the card has no key to log in with.
        Malformed: the card has a key that ssh does not know.
    """
    with visit() as agent:
        found = card_access.learn(agent)
        if all(key.number != 3 for key in found.keys):
            raise NoLogin(found.aid)
        with troubles(agent):
            expression = agent.ask("SCD READKEY OPENPGP.3", seconds=SLOW_SECONDS)
    comment = "-".join([*found.holder.split(), found.number])
    public = card_init_ssh.public_key(expression, comment)
    prints = [key.fingerprint for key in found.keys if key.fingerprint]
    primary = certificate or next(filter(None, (card_init_gpg.primary_of(environ, each) for each in prints)), "")
    path = f"{home.directory}/openpgp-revocs.d/{primary}.rev"
    return Made(public, primary, path if primary and os.path.exists(path) else "", backup)


_ATTRIBUTES = {"name": "DISP-NAME", "language": "DISP-LANG", "algorithm": "KEY-ATTR", "forcesig": "CHV-STATUS-1"}


def _without(steps: tuple[Step, ...], *kinds: str) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.kind not in kinds)


def _put(written: str, wanted: str) -> str:
    """Move the backup that gpg wrote into its home to where it was wanted, which may be another disk; the path."""
    import shutil

    if os.path.lexists(wanted):  # it came after the question; a backup is never written over anything
        return written
    try:
        shutil.move(written, wanted)
    except OSError:  # the keys are made; where the copy is, is told
        return written
    return wanted
