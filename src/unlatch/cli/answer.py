"""``unlatch answer``: answer a prompt from the terminal, the way in when chat, DNS or proxy is down."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from unlatch import prompt, seal
from unlatch.answering import Clock, Page
from unlatch.cli import dialogue, doors, voice
from unlatch.cli.admin import Admin, check_host, find_admin
from unlatch.cli.dialogue import Choice, Said
from unlatch.errors import Malformed
from unlatch.secret import Secret, forbid_core_dumps

MAX_LINK = 4096  # bytes; a public_url is far shorter
MAX_TITLE = 120  # characters of a claim in the list
CLOCK = Clock(time.monotonic, time.sleep)


@click.command(
    epilog="""\b
Examples:
  $ unlatch answer                              # list, choose, type
  $ unlatch answer --deny
  $ { cat link; printf %s "$secret"; } | unlatch answer --stdin

\b
Exit codes:
  0  accepted (with --deny: denied, as told)
  1  an error, or nothing to answer
  2  wrong usage
  3  wrong passphrase or digits
  4  the prompt is over: used, expired, withdrawn, denied, or opened elsewhere
  5  accepted so far, but another question follows (--stdin only)
  6  handed on, and nobody says whether it was right (a last try, a card's PIN)
"""
)
@click.option("--stdin", "from_stdin", is_flag=True, help="Read a link, then the secret, from standard input.")
@click.option("--confirm", is_flag=True, help="Answer yes.")
@click.option("--deny", is_flag=True, help="Answer no.")
@click.option("--digits", metavar="NN", default="", help="The two digits that the asking session shows.")
@click.option("--keep", is_flag=True, help="Agree that it is kept for later requests, if that is offered.")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Trust these authorities only.")
@click.argument("arguments", nargs=-1, metavar="")
def command(
    from_stdin: bool,
    confirm: bool,
    deny: bool,
    digits: str,
    keep: bool,
    ca_file: str | None,
    arguments: Sequence[str],
) -> int:
    """Answer a prompt from the terminal.

    Without options it lists the prompts that you may answer (your own; root: everybody's), shows the one that you
    choose, and asks for the secret without echo.

    With --stdin the first line of standard input is a link, and all that follows it is the secret, byte for byte: a
    newline at its end belongs to it. A link is never an argument.
    """
    _check_usage(confirm, deny, digits, arguments)
    if keep and (confirm or deny):
        voice.fail("--keep is for an answer with a secret", code=voice.USAGE)
    forbid_core_dumps()
    choice = Choice("yes" if confirm else "no" if deny else "", digits, ca_file, keep)
    if from_stdin and not sys.stdin.isatty():
        return _answer_from_stdin(choice)
    terminal = voice.Terminal()
    if not choice.verb:
        terminal.descriptor()  # before anything is opened: without a terminal there is nobody to ask
    page = _open_typed_link(terminal, choice) if from_stdin else _choose(terminal)
    return _answer_by_hand(page, choice, terminal)


def _check_usage(confirm: bool, deny: bool, digits: str, arguments: Sequence[str]) -> None:
    if arguments:
        raise voice.leaked_argument()
    if confirm and deny:
        voice.fail("--confirm and --deny exclude each other", code=voice.USAGE)
    if digits and (len(digits) != 2 or not (digits.isascii() and digits.isdigit()) or deny):
        voice.fail("--digits takes the two digits of the asking session, with --confirm", code=voice.USAGE)


# Which prompt


def _choose(terminal: voice.Terminal) -> Page:
    admin = find_admin()
    if admin is None:
        check_host()
        voice.fail("no broker is running; nothing is waiting", 'links of other hosts: "unlatch answer --stdin"')
    rows = _prompts(admin)
    if not rows:
        voice.fail("nothing is waiting for you to answer", '"unlatch status" shows what the broker does')
    row = rows[0]
    if len(rows) > 1:
        for number, each in enumerate(rows, start=1):
            voice.tell_plainly("\n".join(voice.columns([(f"{number:>3}", _summary(each))], width=voice.width())))
        row = rows[_number(terminal, len(rows)) - 1]
    link = seal.parse_link(row.get("ticket"), row.get("fragment"))
    return Page(doors.AdminDoor(admin), link, os.urandom, CLOCK)


def _prompts(admin: Admin) -> list[dict[str, Any]]:
    said = admin.ask({"op": "list"})
    rows = said.get("prompts")
    if said.get("event") != "list" or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Malformed("list")
    return rows


def _summary(row: dict[str, Any]) -> str:
    """One entry of the list, the broker's word before the claims; what is missing or odd in a row is left out."""
    words = row.get("words")
    sure = [
        str(row.get("account") or "somebody"),
        f"asked {voice.duration(row['age'])} ago" if isinstance(row.get("age"), int | float) else "",
        f"{voice.duration(row['remaining'])} left" if isinstance(row.get("remaining"), int | float) else "",
    ]
    said = [
        f"words {' '.join(map(str, words))}" if isinstance(words, list) else "",
        str(row.get("title") or row.get("kind") or "a prompt")[:MAX_TITLE],
        f"by {row['command']}"[:MAX_TITLE] if row.get("command") else "",
    ]
    return voice.clean(": ".join(", ".join(part for part in parts if part) for parts in (sure, said)))


def _number(terminal: voice.Terminal, most: int) -> int:
    while True:
        typed = terminal.ask(f"answer which one (1-{most})?")
        if typed.isascii() and typed.isdigit() and 1 <= int(typed) <= most:
            return int(typed)


def _open_typed_link(terminal: voice.Terminal, choice: Choice) -> Page:
    typed = terminal.ask_secret("link (not shown):")
    return _open_remote(bytes(typed.reveal()).strip(), choice)


def _open_remote(text: bytes, choice: Choice) -> Page:
    """Open a link: through the local broker if it is one of ours, whatever serves its address, else over HTTPS."""
    try:
        remote = doors.parse_remote(text.decode("ascii"))
    except UnicodeDecodeError:
        raise Malformed("link") from None
    admin = find_admin()
    if admin is not None:
        door = doors.AdminDoor(admin)
        if door.post(remote.link.ticket_text, "hello", {}).status == 200:
            return Page(door, remote.link, os.urandom, CLOCK)
        admin.close()
    return Page(doors.RemoteDoor(remote.public_url, choice.ca_file), remote.link, os.urandom, CLOCK)


# The answer


def _answer_from_stdin(choice: Choice) -> int:
    link = sys.stdin.buffer.readline(MAX_LINK)
    if not link.strip() or len(link) == MAX_LINK:
        voice.fail("no link stands on the first line of standard input", code=voice.USAGE)
    secret = Secret(sys.stdin.buffer.read(prompt.MAX_SECRET + 1))
    size = len(secret.reveal())
    if size > prompt.MAX_SECRET:
        voice.fail(f"the secret is longer than {prompt.MAX_SECRET} bytes", code=voice.USAGE)
    if not choice.verb and not size:
        voice.fail("no secret follows the link", "use --confirm or --deny to answer without one", code=voice.USAGE)
    if choice.verb and size:
        voice.fail("something follows the link, but --confirm and --deny take no secret", code=voice.USAGE)
    page = _open_remote(link.strip(), choice)
    verb = choice.verb or "secret"
    dialogue.check_kind(page, verb)
    digits = choice.digits
    if verb == "yes" and page.prompt.digits and not digits:
        digits = dialogue.ask_digits(voice.Terminal())
    said = Said(verb, secret if verb == "secret" else None, digits, choice.keep and bool(page.prompt.keep))
    return dialogue.tell_verdict(_send(page, said), verb)


def _answer_by_hand(page: Page, choice: Choice, terminal: voice.Terminal) -> int:
    while True:
        dialogue.show(page)
        dialogue.check_kind(page, choice.verb)
        said = dialogue.ask(page, choice, terminal)
        verdict = _send(page, said)
        if verdict.next_link is None:
            return dialogue.tell_verdict(verdict, said.verb)
        voice.tell(dialogue.sentence_of(verdict))
        page = page.follow(verdict)
        choice = choice._replace(verb="", digits="")  # settled for the first question, not for what follows it


def _send(page: Page, said: Said) -> prompt.Verdict:
    try:
        return page.answer(said.verb, said.secret, said.digits, keep=said.keep)
    finally:
        if said.secret is not None:
            said.secret.wipe()
