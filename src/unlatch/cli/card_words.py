"""What to tell people about a card that cannot be used: the next command to type, and the exit code."""

from unlatch.cli import key_home, voice
from unlatch.cli.voice import BLOCKED, LOCKED, NO_CARD, USAGE, WRONG, Problem, clean
from unlatch.errors import Refused
from unlatch.frontends.asking import TooLong
from unlatch.gnupg import card_errors, errors
from unlatch.gnupg.card import LOW, number_of
from unlatch.gnupg.card_errors import CardTrouble, tries_left
from unlatch.gnupg.homes import Home
from unlatch.prompt import MAX_SECRET

# What a script can tell apart; everything else is 1.
CODES: dict[type[CardTrouble], int] = {
    card_errors.SeveralCards: USAGE,
    card_errors.WrongPin: WRONG,
    card_errors.StillLocked: LOCKED,
    card_errors.Blocked: BLOCKED,
    card_errors.FewTries: BLOCKED,
    card_errors.NoReader: NO_CARD,
    card_errors.Empty: NO_CARD,
    card_errors.HeldByAnother: NO_CARD,
    card_errors.Unused: NO_CARD,
    card_errors.OtherCard: NO_CARD,
    card_errors.NotOpenPGP: NO_CARD,
}
_RELOAD = '"gpgconf --kill gpg-agent" makes it read that; it also locks every key and card'


def explain(error: Exception, home: Home) -> Problem:
    """An error of card, reader, scdaemon or agent, in words."""
    match error:
        case CardTrouble():
            return Problem(clean(str(error)), *hints(error, home), code=CODES.get(type(error), voice.FAILED))
        case errors.BrokenPipe():
            hint = "when one was ended, the next one takes 2 to 4 seconds; run the same command again"
            return Problem("gpg-agent's scdaemon is gone", hint)
        case Refused() if error.why == "rule":
            hint = "the [[rule]] tables of unlatch.toml decide that; --tty and --stdin ask without them"
            return Problem(clean(error.text), hint)
        case TooLong():
            return Problem(f"the PIN is longer than {MAX_SECRET} bytes", "give it as one line on standard input")
        case _:
            return key_home.explain(error, home)


def explain_check(error: Exception, home: Home, wanted: str) -> Problem:
    """The same for ``card check``, to which no agent and no scdaemon mean that no card is unlocked."""
    match error:
        case errors.NoAgent():
            return _locked("no gpg-agent runs, so no card is unlocked", wanted)
        case errors.BrokenPipe() | errors.CardDaemonEnded():
            return _locked("scdaemon was just restarted, so no card is unlocked", wanted)
        case errors.Cancelled():
            hint = 'its signature PIN is forced: "gpg --card-edit", then admin, forcesig switches that off'
            return Problem("the card would ask for its PIN to sign", hint, code=LOCKED)
        case _:
            return explain(error, home)


def _locked(text: str, wanted: str) -> Problem:
    command = f"unlatch card unlock {clean(number_of(wanted))}".strip()
    return Problem(text, f'run "{command}"', code=LOCKED)


def hints(error: CardTrouble, home: Home) -> tuple[str, ...]:
    """The next steps, best first."""
    match error:
        case card_errors.Blocked():
            return how_to_unblock(error)
        case card_errors.FewTries():
            return (f'only if you are sure of the PIN: "unlatch card unlock --last-try {number_of(error.aid)}"',)
        case card_errors.StillLocked():
            return (f'run "unlatch card unlock {number_of(error.aid)}"',)
        case card_errors.WrongPin():
            risk = "" if error.tries >= LOW else "--last-try "
            return (f'run "unlatch card unlock {risk}{number_of(error.aid)}"',)
        case card_errors.NotTried():
            return ('"unlatch card status" shows how many tries are left',)
        case card_errors.PulledOut():
            return ('insert the card, look with "unlatch card status", then run "unlatch card unlock" again',)
        case card_errors.Touch():
            return ("switch that off on a card that jobs use; for a YubiKey: ykman openpgp keys set-touch aut off",)
        case card_errors.NoKey():
            return ('make keys on it, or move some to it: "gpg --card-edit"',)
        case _:
            return _hints_about_place(error, home)


def _hints_about_place(error: CardTrouble, home: Home) -> tuple[str, ...]:
    """What is not wrong with the card itself."""
    match error:
        case card_errors.NoReader():
            start = () if error.pcscd else ('if pcscd drives the reader: "systemctl start pcscd.socket"',)
            return 'connect the reader or the token; "lsusb" lists what the system sees', *start
        case card_errors.Empty():
            return ('insert the card; "unlatch card unlock --wait" waits for it',)
        case card_errors.HeldByAnother():
            return ("end that program; \"pgrep -la 'scdaemon|opensc|pkcs11'\" finds the usual ones",)
        case card_errors.Unused():
            return (reader_port(error.readers[0], home),)
        case card_errors.OtherCard():
            insert = f"insert the card {clean(number_of(error.wanted))}"
            return tuple(reader_port(reader, home) for reader in error.unseen) or (insert,)
        case card_errors.SeveralCards():
            named = [f"name the card that you mean: {number_of(aid)}" for aid in error.present]
            return *named, *(f"another: {reader_port(reader, home)}" for reader in error.unseen)
        case card_errors.NotOpenPGP():
            return ("insert an OpenPGP card",)
        case _:
            return _hints_about_programs(error, home)


def _hints_about_programs(error: CardTrouble, home: Home) -> tuple[str, ...]:
    """What agent and scdaemon do."""
    conf = key_home.conf_of(home)
    match error:
        case card_errors.Restricted():
            return ("it is there for other hosts, or a browser; run this on the card's own host, as its user",)
        case card_errors.NoDaemon(off=True):
            return f"remove the line disable-scdaemon from {conf}", _RELOAD
        case card_errors.NoDaemon():
            return '"apt install scdaemon"', "when one was ended, the next one takes 2 to 4 seconds"
        case card_errors.NoLoopback():
            return f"remove the line no-allow-loopback-pinentry from {conf}", _RELOAD
        case card_errors.Occupied():
            return (f'answer it on the phone, or with "unlatch answer"; or end it: "kill {error.pid}"',)
        case card_errors.Busy():
            return ('"pgrep -af unlatch" shows it; end it, and run this again',)
        case card_errors.Hung(pid=0):
            return ('"gpgconf --kill gpg-agent" ends it together with its agent',)
        case card_errors.Hung(stopped=True):
            return (f'a signal stopped it; "kill -CONT {error.pid}" lets it go on',)
        case card_errors.Hung():
            return (f'"kill -KILL {error.pid}" ends it; the next card command starts another, 4 seconds later',)
        case _:
            return ('"unlatch card status" shows what can be known of it',)


def reader_port(reader: str, home: Home) -> str:
    """How scdaemon is told which of pcscd's readers to use: 2.2 uses one, the first unless one is named."""
    return (
        f'the line "reader-port {clean(reader)}" in {clean(home.directory)}/scdaemon.conf makes scdaemon use that one'
    )


def how_to_unblock(error: card_errors.Blocked) -> tuple[str, ...]:
    """The ways out, the cheapest first."""
    ways = []
    if error.reset:
        ways.append(f'with the reset code ({tries_left(error.reset)}): "gpg --card-edit", then type: unblock')
    if error.admin:
        steps = "admin, then passwd, then 2 (unblock PIN)"
        ways.append(f'with the admin PIN ({tries_left(error.admin)}): "gpg --card-edit", then type: {steps}')
    lost = (
        'the admin PIN is blocked too: "gpg --card-edit", then admin, factory-reset; that destroys the keys on the card'
    )
    return tuple(ways) or (lost,)
