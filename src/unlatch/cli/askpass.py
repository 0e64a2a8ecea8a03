"""``unlatch askpass``, also as ``unlatch-askpass``: the helper of ssh, ssh-add, sudo and git."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import click

from unlatch import origin, runtime
from unlatch.ask import Released
from unlatch.cli import admin, streams, voice
from unlatch.errors import UnlatchError
from unlatch.frontends import askpass
from unlatch.frontends.asking import Phone, Wanted
from unlatch.frontends.consent import Consent, Matter
from unlatch.prompt import Verdict
from unlatch.secret import Secret, forbid_core_dumps

TRIES = 3  # for one process that asks: ssh-add asks again for ever
MAX_RECORDS = 64  # of processes that asked


@click.command(
    short_help="Ask for ssh, sudo or git.",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Example:
  $ eval "$(unlatch env --askpass)"
  $ ssh-add ~/.ssh/id_ed25519

\b
Exit codes: 0 answered or allowed, 1 not.
""",
)
@click.argument("text", nargs=-1)
def command(text: Sequence[str]) -> int:
    """Ask a person what TEXT says, and print the answer: for SSH_ASKPASS, SUDO_ASKPASS and GIT_ASKPASS.

    Those take a program without arguments: name the link unlatch-askpass there.
    """
    return run(text)


def main() -> None:
    """The entry point of ``unlatch-askpass``."""
    streams.settle()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the end of this process withdraws its prompt
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Ask what the one argument says; the exit code. Nothing is raised, nothing but the answer goes to stdout."""
    try:
        return _answer(" ".join(arguments))
    except Exception as error:
        voice.complain(voice.explain(error))
        return voice.FAILED


def _answer(text: str) -> int:
    forbid_core_dumps()
    wanted = askpass.request(text, os.environ)
    match wanted.kind:
        case "confirm":
            return voice.OK if _consents(wanted, "Allow", "Deny") else voice.FAILED
        case "host-key":
            # ssh reads the word; the exit code is the same for both.
            _print(b"yes" if _consents(wanted, "Connect", "Do not connect") else b"no")
            return voice.OK
        case "notice":
            return _show(wanted)
        case _:
            return _ask(wanted, text)


def _ask(wanted: askpass.Request, text: str) -> int:
    parent = os.getppid()
    attempt = _attempt(parent, again=wanted.again)
    if attempt > TRIES:
        voice.tell(f"error: {TRIES} wrong answers; giving up")
        return voice.FAILED
    label = {"user": "User name", "pin": "PIN"}.get(wanted.kind, "")
    prompt = Wanted(
        kind="pin" if wanted.kind == "pin" else "passphrase",
        title=wanted.title,
        text=wanted.text,
        error="That was wrong." if wanted.again else "",
        attempt=(attempt, TRIES) if wanted.again else None,
        keeper="program",
        label=label,
    )
    with Phone(moot=_caller(), **_who()) as person:
        secret = _patiently(lambda: person.ask(prompt, coalesce=f"askpass:{askpass.same(text)}"))
        person.judge(Verdict("unknown", "The program was given it; it asks again if it was wrong."))
        _print(bytes(secret.reveal()))
        secret.wipe()
    return voice.OK


def _patiently(ask: Callable[[], Secret]) -> Secret:
    """Ask; when another process with the same question led and is done, ask for ourselves."""
    while True:
        with contextlib.suppress(Released):
            return ask()


def _consents(wanted: askpass.Request, ok: str, notok: str) -> bool:
    return Consent(**_who()).ask(Matter(wanted.title, wanted.text, ok, notok), _watched())


def _show(wanted: askpass.Request) -> int:
    """Show it until ssh ends us, which it does as soon as the key was touched."""
    with contextlib.suppress(UnlatchError):  # ssh goes on without an answer, and without a notice too
        Consent(**_who()).ask(Matter(wanted.title, wanted.text, kind="notice"), _watched())
    return voice.OK


class _Who(TypedDict):
    command: str
    uid: int
    environ: Mapping[str, str]
    home: str


def _who() -> _Who:
    uid = os.geteuid()
    return {"command": "unlatch askpass", "uid": uid, "environ": os.environ, "home": admin.home(uid)}


def _caller() -> int:
    """A descriptor that becomes readable when the program that wants the answer has ended; -1 when there is none."""
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        return -1


def _watched() -> tuple[int, ...]:
    caller = _caller()
    return (caller,) if caller >= 0 else ()


def _print(answer: bytes) -> None:
    data = memoryview(answer + b"\n")
    while data:
        data = data[os.write(1, data) :]


def _attempt(parent: int, *, again: bool) -> int:
    """Which attempt at one answer this is for ``parent``, a process named by pid and start; written down in our state.

    A question that does not say that it is asked again is another one: ssh-add asks for each of its keys. Where the
    state cannot be written there is one attempt only, so that nobody is asked for ever.
    """
    uid = os.geteuid()
    folder = f"{runtime.own(uid, os.environ, admin.home(uid)).state}/askpass"
    name = f"{folder}/{parent}-{origin.started(parent)}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _forget(folder)
        with open(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+") as file:
            attempt = int(file.read(8) or 0) + 1 if again else 1
            file.seek(0)
            file.truncate()
            file.write(str(attempt))
    except (OSError, ValueError):
        return TRIES + 1 if again else 1
    return attempt


def _forget(folder: str) -> None:
    """Of processes that are gone."""
    for name in os.listdir(folder)[:MAX_RECORDS]:
        pid, _, started = name.partition("-")
        if not pid.isdigit() or str(origin.started(int(pid))) != started:
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{name}")
