"""One question on the terminal: what it shows, what it asks the person, and what it says about the verdict."""

import time
from datetime import datetime
from typing import NamedTuple

from unlatch.answering import Page
from unlatch.cli import voice
from unlatch.prompt import AskerInfo, Prompt, Verdict
from unlatch.secret import Secret

WITH_SECRET = ("passphrase", "new-passphrase", "pin", "challenge")
YES_OR_NO = ("confirm", "notice")


class Choice(NamedTuple):
    """What the command line settles in advance."""

    verb: str  # "secret", "yes", "no", or "" when the prompt's kind and the person decide
    digits: str
    ca_file: str | None
    keep: bool = False


class Said(NamedTuple):
    """What the person said: the verb of the answer, and what it carries."""

    verb: str
    secret: Secret | None = None
    digits: str = ""
    keep: bool = False


def check_kind(page: Page, verb: str) -> None:
    """End the command if this prompt cannot be answered that way; an empty verb is settled later."""
    kind = page.prompt.kind
    if verb == "no" or (verb == "" and kind in WITH_SECRET + YES_OR_NO):
        return
    if kind not in WITH_SECRET + YES_OR_NO:
        voice.fail(f"a prompt for {kind} can be answered on its page only", "--deny denies it here")
    if verb == "yes" and kind not in YES_OR_NO:
        voice.fail("this prompt asks for a secret, so --confirm does not answer it", code=voice.USAGE)
    if verb == "secret" and kind not in WITH_SECRET:
        voice.fail("this prompt asks for yes or no: use --confirm or --deny", code=voice.USAGE)


def show(page: Page) -> None:
    """All that the page of a browser shows: the kernel's word first, then what is only claimed, each line marked."""
    asked, stamp = page.prompt, page.stamp
    key, asker, clean = asked.key, asked.asker, voice.clean
    sure = [
        ("host", clean(stamp.host)),
        ("user", clean(f"{stamp.user} (uid {stamp.uid})")),
        ("login", clean(stamp.login)),
        ("asked", f"{voice.duration(stamp.age)} ago"),
        ("time left", voice.duration(page.remaining)),
    ]
    said = [
        ("words", " ".join(asked.words)),
        ("asks", clean(_question(asked), lines=True)),
        ("says", clean(asked.error)),
        ("try", f"{asked.attempt[0]} of {asked.attempt[1]}" if asked.attempt else ""),
        ("field", "" if asked.label.lower().rstrip(": ") in ("passphrase", "pin") else clean(asked.label)),
        ("yes means", clean(asked.ok)),
        ("no means", clean(asked.notok or asked.cancel)),
        ("key", clean(" ".join(part for part in (key.name, key.id) if part)) if key else ""),
        ("card", clean(key.serial) if key else ""),
        ("command", clean(asker.command)),
        ("service", clean(service_of(asker))),
        ("chain", clean(" < ".join(f"{process.name} ({process.pid})" for process in asker.chain))),
        ("waiting too", "\n".join(map(clean, stamp.followers))),
        ("given up", "the program has ended; only an answer that may be kept is of use" if stamp.orphaned else ""),
        ("kept by", _KEEPERS[asked.keeper]),
    ]
    width = voice.width()
    lines = ["", "checked by the kernel:", *voice.columns(sure, mark="  ", width=width)]
    lines += [f"as reported by {clean(stamp.host)}:", *voice.columns(said, mark="| ", width=width)]
    voice.tell_plainly("\n".join(lines))


def _question(asked: Prompt) -> str:
    """Title and text; a text that only says the title again, in lines of its own or with a colon, is left out."""
    again = " ".join(asked.text.split()).rstrip(":") == asked.title.rstrip(":")
    return "\n".join(part for part in (asked.title, "" if again else asked.text) if part)


def service_of(asker: AskerInfo) -> str:
    """The unit; a user's own with the manager that runs it, since anybody can give one the name of a system's."""
    if not asker.user_unit:
        return asker.system_unit
    return f"{asker.user_unit} (the user's own, in {asker.system_unit or 'a user manager'})"


_KEEPERS = {
    "agent": "gpg-agent, as long as its cache allows",
    "program": "the program that asks: it receives what you type",
    "card": "the card, until it is removed or reset",
    "none": "",
}


def ask(page: Page, choice: Choice, terminal: voice.Terminal) -> Said:
    """What the person says."""
    asked = page.prompt
    if choice.verb == "no":
        return Said("no")
    if asked.kind in WITH_SECRET:
        secret = _ask_secret(asked, terminal)
        return Said("secret", secret, keep=bool(asked.keep) and (choice.keep or _keeps(asked, terminal)))
    if choice.verb == "" and not _agreed(asked, terminal):
        return Said("no")
    return Said("yes", digits=choice.digits or (ask_digits(terminal) if asked.digits else ""))


def _keeps(asked: Prompt, terminal: voice.Terminal) -> bool:
    until = datetime.fromtimestamp(time.time() + asked.keep).astimezone()
    question = (
        f"keep it for later requests until {until:%Y-%m-%d %H:%M}, even if the program has given up? (yes/no) [no]"
    )
    while True:
        typed = terminal.ask(question).lower()
        if typed in ("yes", "no", ""):
            return typed == "yes"


def _ask_secret(asked: Prompt, terminal: voice.Terminal) -> Secret:
    label = {"pin": "PIN", "challenge": "response"}.get(asked.kind, "passphrase")  # an asker's label is a claim
    while True:
        secret = terminal.ask_secret(f"{label}:")
        if not secret:
            voice.tell("nothing was typed; Ctrl-C leaves the prompt open")
        elif asked.kind != "new-passphrase" or terminal.ask_secret(f"{label} again:") == secret:
            return secret
        else:
            voice.tell("the two are not the same")


def _agreed(asked: Prompt, terminal: voice.Terminal) -> bool:
    question = "seen it?" if asked.kind == "notice" else "allow it?"  # ours: an asker could ask for the opposite
    while True:
        typed = terminal.ask(f"{question} (yes/no)").lower()
        if typed in ("yes", "no"):
            return typed == "yes"


def ask_digits(terminal: voice.Terminal) -> str:
    """The two digits that only the asking session shows."""
    while True:
        typed = terminal.ask("the two digits that the asking session shows:")
        if len(typed) == 2 and typed.isascii() and typed.isdigit():
            return typed


def tell_verdict(verdict: Verdict, verb: str) -> int:
    """The last word, and the exit code that goes with it."""
    sentence = sentence_of(verdict)
    if verdict.outcome == ("denied" if verb == "no" else "accepted"):
        voice.say(sentence)
        return voice.OK
    if verdict.outcome == "unknown":  # ssh-add and a card say no more of an answer that is right
        voice.tell(sentence)
        return voice.UNKNOWN
    # A yes that is denied had the wrong digits.
    codes = {
        "wrong": voice.WRONG,
        "next": voice.FURTHER,
        "denied": voice.WRONG if verb == "yes" else voice.OVER,
    }
    goes_on = 'the prompt goes on: a new link is sent within a minute; on its host, "unlatch answer" finds it at once'
    hints = [goes_on] if verdict.next_link else []
    raise voice.Problem(sentence, *hints, code=codes.get(verdict.outcome, voice.FAILED))


def sentence_of(verdict: Verdict) -> str:
    """The verdict in words."""
    text = voice.clean(verdict.text)
    words = {
        "accepted": "accepted",
        "wrong": "wrong",
        "next": "another question follows",
        "denied": "denied",
        "failed": "the asker could not use the answer",
        "unknown": "handed on, and nobody says whether it was right",
    }[verdict.outcome]
    return f"{words}; the host says: {text}" if text else words
