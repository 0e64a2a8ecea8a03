"""What ``unlatch card init`` says at the end, warns of, and hints at when something went wrong."""

from unlatch.cli import card_words, voice
from unlatch.cli.voice import Problem
from unlatch.gnupg import card_errors
from unlatch.gnupg.card import LOW, number_of
from unlatch.gnupg.card_errors import Blocked
from unlatch.gnupg.card_init import Facts, Step, Unfit
from unlatch.gnupg.card_init_gpg import GpgFailed
from unlatch.gnupg.card_init_pins import NotGiven, NoTries, WrongValue
from unlatch.gnupg.card_init_run import Made, NoLogin, Order, Stopped
from unlatch.gnupg.homes import Home

_FIXED = (2, 3)  # gpg-agent since then takes long data from ssh (tests/test_ssh_card.py measures it)
_EXAMPLE = 'command="borg serve --restrict-to-path /srv/backup"'


def warn(facts: Facts, order: Order, steps: tuple[Step, ...], agent: str) -> None:
    """What a person should know before they agree. ``agent`` is gpg-agent's version."""
    wishes = order.wishes
    if any(step.kind == "move" for step in steps):
        voice.tell("the key leaves this disk: what stays is a stub that names the card, and no card gives a key back")
        if not order.backup:
            voice.tell("no copy is made: when the card is lost, the key is lost")
    made = {each.slot: each.algorithm for each in wishes.sources}.get(3, wishes.algorithm)
    there = {key.number: key.algorithm for key in facts.card.keys}.get(3, "")
    if "ed25519" in (made or there) and _version(agent) < _FIXED:
        voice.tell(
            f"warning: gpg-agent {voice.clean(agent)} does not log in with an ed25519 key on a card to a server that "
            "has an RSA host key only, with OpenSSH since 8.9 (measured: OpenSSH 9.2, gpg-agent 2.2.40)"
        )
        voice.tell('rsa3072 works; or give the server an ed25519 host key, or "PubkeyAuthentication unbound"')


def advice(made: Made, number: str) -> None:
    """What to do with the card now; the public key itself goes to standard output."""
    tell = voice.tell
    if made.certificate:
        tell(f"the certificate is {made.certificate}")
    if made.revocation:
        tell(f"its revocation certificate is in {voice.clean(made.revocation)}; keep a copy of it off this host")
    elif made.certificate:
        tell(f'it has no revocation certificate here; make one: "gpg --gen-revoke {made.certificate}"')
    if made.backup:
        tell(f"the copy of the key is in {voice.clean(made.backup)}; move it off this host")
    tell("the line for authorized_keys on the server, which lets the card do one thing only:")
    voice.tell_plainly(f"  restrict,{_EXAMPLE} {voice.clean(made.public_key)}")
    tell(f'at each boot: "unlatch card unlock {number}"')


def explain(error: Exception, home: Home, serial: str) -> Problem:
    """Anything that went wrong, in words, with the next command."""
    again = f'run "unlatch card init{f" {voice.clean(serial)}" if serial else ""}" again'
    match error:
        case Stopped():
            cause = explain(error.cause, home, serial)
            hints = [hint for hint in cause.hints if hint != again]
            text = voice.clean(f"could not {error.step.text}: ") + cause.text
            # A PIN was just changed: to try a new card's again would cost a try.
            own = "; its PIN is your own now: --own-pin" if error.step.kind == "admin pin" else ""
            return Problem(text, *hints, f"{again}; what was done before is kept{own}", code=cause.code)
        case WrongValue():
            risk = "" if error.tries >= LOW else " with --last-try, if you are sure"
            return Problem(voice.clean(str(error)), f"{again}{risk}", code=voice.WRONG)
        case NoTries():
            return Problem(voice.clean(str(error)), *_ways_out(error), code=voice.BLOCKED)
        case NotGiven() | Unfit() | GpgFailed():
            return Problem(voice.clean(str(error)), again)
        case NoLogin():
            hint = f'"unlatch card init --from-key KEY {number_of(error.aid)}" moves one there'
            return Problem(voice.clean(str(error)), hint)
        case card_errors.PulledOut():
            return Problem(voice.clean(str(error)), f"insert the card, then {again}")
        case card_errors.Empty():
            problem = card_words.explain(error, home)
            return Problem(problem.text, f"insert the card, then {again}", code=problem.code)
        case _:
            return card_words.explain(error, home)


def _ways_out(error: NoTries) -> tuple[str, ...]:
    if error.tries:
        return (f'only if you are sure of the {error.which.name}: "unlatch card init --last-try"',)
    if error.which.number == 1:
        return card_words.how_to_unblock(Blocked(error.aid, 0, 1))[:1]
    return ('a card is new again after "gpg --card-edit", then admin, factory-reset; that destroys the keys on it',)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
