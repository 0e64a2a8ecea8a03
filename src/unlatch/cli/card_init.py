"""``unlatch card init``: from a new card to one that logs in, step by step; run again, it goes on where it was."""

import os
import sys

import click

from unlatch.cli import persons, voice
from unlatch.cli.card_init_questions import Options, Questions
from unlatch.cli.card_init_words import advice, explain, warn
from unlatch.cli.key_home import find_home, open_agent
from unlatch.errors import UnlatchError
from unlatch.frontends.asking import Person, Wanted
from unlatch.gnupg import card_init, card_init_gpg, card_init_run
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card_init import Facts, Step
from unlatch.gnupg.card_init_pins import Pins
from unlatch.gnupg.card_init_run import Order, Run
from unlatch.gnupg.homes import Home
from unlatch.prompt import Verdict
from unlatch.secret import Secret

COMMAND = "unlatch card init"
_MIN_BACKUP = 8  # bytes of a passphrase of a file that may lie about; gpg itself complains of fewer


@click.command(
    short_help="Set up a new card: PINs, holder, keys; step by step.",
    epilog="""\b
Examples:
  $ unlatch card init
  $ unlatch card init --dry-run --from-key backup@db01.example
  $ unlatch card init --factory-pins --algorithm rsa3072 --no-backup \\
      --user-id 'Backup db01 <backup@db01.example>' --expires 2y --yes >card.pub

\b
Exit codes: 0 done, 1 an error, 2 wrong usage or several cards, 3 wrong PIN,
4 denied or nobody answered, 8 a PIN is blocked or has too few tries left,
9 no card.
""",
)
@click.option("--name", metavar="TEXT", help="The cardholder's name.")
@click.option("--language", metavar="LETTERS", help='The cardholder\'s languages: "de", "de,en".')
@click.option("--forcesig/--no-forcesig", default=None, help="Ask for the PIN for each signature, or once.")
@click.option("--algorithm", type=click.Choice(sorted(card_init.ALGORITHMS)), help="Of the keys to make on the card.")
@click.option("--user-id", metavar="TEXT", help='Whose keys they are: "Name <address>".')
@click.option("--expires", metavar="TIME", help='When: "2y", a date, or "never".')
@click.option("--from-key", metavar="KEY", default="", help="Move this key to the card, instead of making keys there.")
@click.option("--backup", metavar="FILE", help="Write a copy of the (encryption) key to FILE.")
@click.option("--no-backup", is_flag=True, help="Write no copy.")
@click.option("--overwrite", metavar="FINGERPRINT", multiple=True, help="This key on the card may be lost.")
@click.option("--factory-pin/--own-pin", default=None, help="The PIN is still that of a new card, or not.")
@click.option("--factory-admin-pin/--own-admin-pin", default=None, help="The admin PIN is, or not.")
@click.option("--last-try", is_flag=True, help="Risk the last try of a PIN.")
@click.option("--yes", is_flag=True, help="Do not ask whether to begin.")
@click.option("--dry-run", is_flag=True, help="Print what would be done; ask and change nothing.")
@click.option("--phone", is_flag=True, help="Ask for the PINs on the phone, although there is a terminal.")
@persons.options
@click.argument("serial", metavar="[SERIAL]", default="")
def init(
    serial: str, dry_run: bool, phone: bool, last_try: bool, from_stdin: bool, at_tty: bool, reason: str, timeout: int,
    **given: object,
) -> int:  # fmt: skip
    """Set up a card so that it logs in over SSH.

    Holder, keys and PINs are set, and the line for authorized_keys is printed. What no option says is asked at the
    terminal; PINs too, or on the phone. Nothing is overwritten unless it was confirmed. Run again after it was
    interrupted, it finds what is done and goes on.
    """
    if sum((from_stdin, at_tty, phone)) > 1:
        voice.fail("--stdin, --tty and --phone exclude each other", code=voice.USAGE)
    home = find_home()
    at_tty = at_tty or (sys.stdin.isatty() and not phone and not from_stdin)
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    options = Options(**given)  # type: ignore[arg-type]  # click gives them by these very names and types
    try:
        return _Init(home, serial, options, choice, dry_run=dry_run, last_try=last_try).run()
    except (UnlatchError, OSError) as error:
        raise explain(error, home, serial) from None


class _Init:
    """One run of the command."""

    def __init__(
        self, home: Home, serial: str, options: Options, choice: persons.Choice, *, dry_run: bool, last_try: bool
    ) -> None:
        self._home = home
        self._serial = serial
        self._choice = choice
        self._dry_run = dry_run
        self._last_try = last_try
        self._environ = card_init_gpg.environment(home, os.environ, _tty())
        self._questions = Questions(options, self._environ, may_ask=_has_terminal(), dry_run=dry_run)

    def run(self) -> int:
        """Look, ask, show the plan, do it, and tell what to do with the card."""
        with self._open() as agent:
            facts = card_init_run.look(agent, self._serial, self._environ)
            version = agent.ask("GETINFO version").decode("ascii", "replace")
        order = self._questions.order(facts)
        steps = card_init.plan(facts, order.wishes)
        _show(facts, order, steps)
        warn(facts, order, steps, version)
        if self._dry_run:
            return voice.OK
        self._questions.confirm(facts, order, steps)
        visit = card_init_run.visits(self._open, facts.card.aid)
        pins = Pins(
            visit, facts.card.aid, self._person, voice.tell,
            twice=self._choice.at_tty, last_try=self._last_try, seconds=self._choice.timeout,
        )  # fmt: skip
        with pins:
            backup, certificate = self._do(Run(visit, facts, self._complete(order), pins, self._environ), order, steps)
        made = card_init_run.result(visit, self._home, self._environ, backup, certificate)
        advice(made, facts.card.number)
        voice.say(voice.clean(made.public_key))
        return voice.OK

    def _do(self, run: Run, order: Order, steps: tuple[Step, ...]) -> tuple[str, str]:
        backup = ""
        if order.backup and any(step.kind == "move" for step in steps):
            card_init_gpg.export(self._environ, order.primary, order.backup)
            backup = order.backup
            voice.tell(f"done: a copy of the key is in {voice.clean(backup)}")
        for step in run.prepare(steps):
            run.do(step)
            voice.tell(f"done: {voice.clean(step.text)}")
        return backup or run.backup, run.certificate

    def _complete(self, order: Order) -> Order:
        return order._replace(new_passphrase=self._backup_passphrase) if order.backup and not order.primary else order

    def _backup_passphrase(self) -> Secret:
        """What the copy of the encryption key is protected with."""
        wanted = Wanted(
            kind="new-passphrase",
            title="New passphrase for the backup of the card's key",
            text=f"The copy of the encryption key is protected with it. At least {_MIN_BACKUP} characters.",
            keeper="program",
            label="new passphrase",
        )
        with self._person() as person:
            value = person.ask(wanted, seconds=self._choice.timeout)
            again = person.ask(Wanted("new-passphrase", "", label="again")) if self._choice.at_tty else value
            fits = value == again and len(value.reveal()) >= _MIN_BACKUP and 10 not in value.reveal()
            person.judge(Verdict("accepted") if fits else Verdict("failed", "It is too short, or not the same twice."))
        if not fits:
            raise voice.Problem("the passphrase of the backup is too short, or was not typed the same twice")
        return value

    def _open(self) -> Agent:
        return open_agent(self._home)

    def _person(self) -> Person:
        return persons.person(self._choice, COMMAND)


def _show(facts: Facts, order: Order, steps: tuple[Step, ...]) -> None:
    number = facts.card.number
    if not steps:
        voice.tell(f"the card {number} is as it was wished")
        return
    voice.tell(f"what is to be done with the card {number}:")
    for place, step in enumerate(steps, 1):
        voice.tell_plainly(voice.clean(f"  {place}. {step.text}"))
    for key in card_init.lost(facts, order.wishes):
        voice.tell(f"this destroys the key to {key.use} with: {card_init.name_of(key)}")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _tty() -> str:
    try:
        return os.ttyname(0)
    except OSError:
        return ""
