"""``pinentry-unlatch``: gpg-agent on standard input and output, a person behind the broker.

gpg-agent waits for each reply, so this file imports only what the dialogue needs; ``pinentry_ask`` comes with the first
real question. The greeting is not printed here: the script that starts us has done that already.
"""

import os
import sys

from unlatch import __version__
from unlatch.wire.pinentry import Dialogue

TYPE_CHECKING = False  # as in wire/pinentry.py
if TYPE_CHECKING:
    from unlatch.frontends.pinentry_ask import Asking

_HELP = """\
Usage: pinentry-unlatch [--help | --version]

A pinentry for gpg-agent on machines where nobody sits: it rings a person, who
answers on a page. It is started by gpg-agent, which speaks to it on standard
input and output. Other options are accepted and ignored.

Example, in ~/.gnupg/gpg-agent.conf, with the path that the command
"command -v pinentry-unlatch" prints:
  pinentry-program /usr/bin/pinentry-unlatch
"""


def main(arguments: list[str]) -> int:
    """Serve one gpg-agent until BYE or the end of its stream; the exit status."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_HELP)
        return 0
    if "--version" in arguments:
        sys.stdout.write(f"pinentry-unlatch {__version__}\n")
        return 0
    try:
        return _serve(Dialogue(__version__, os.getpid(), _ttyinfo))
    except KeyboardInterrupt:
        return 1


def _serve(dialogue: Dialogue) -> int:
    asking: Asking | None = None
    heard = True
    while heard and not dialogue.closed:
        data = os.read(0, 65536) if asking is None else asking.read()
        heard = write(dialogue.feed(data))
        while heard and dialogue.request is not None and not dialogue.closed:
            if asking is None:
                from unlatch.frontends import pinentry_ask

                asking = pinentry_ask.Asking(dialogue)
            heard = write(asking.serve())
    if dialogue.fault:
        complain(f"gpg-agent broke off: {dialogue.fault}")
    # gpg-agent does not wait for the reply to its BYE.
    broken = bool(dialogue.fault) or not (heard or dialogue.closed)
    return int(broken) if asking is None else asking.end(broken=broken)


def write(replies: bytearray) -> bool:
    """Write to gpg-agent, and leave nothing of it in memory; False when nobody reads any more."""
    view = memoryview(replies)
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError:
        return False
    finally:
        replies[:] = bytes(len(replies))
    return True


def complain(text: str) -> None:
    """One line for people. gpg-agent sends it to /dev/null, unless it runs with --debug-pinentry."""
    line = "".join(character if character.isprintable() else " " for character in text)
    try:
        os.write(2, f"unlatch: error: {line}\n".encode("utf-8", "replace"))
    except OSError:
        return


def _ttyinfo(options: dict[str, str]) -> str:
    """``GETINFO ttyinfo``: tty, its type, display, the tty's mode/uid/gid, our uid/gid, and nothing about emacs."""
    name = options.get("ttyname", "")
    try:
        status = os.stat(name)
        mode = f"{status.st_mode:o}/{status.st_uid}/{status.st_gid}"
    except (OSError, ValueError):
        mode = "?" if name else "-"
    texts = [name, options.get("ttytype", ""), options.get("display", ""), mode, f"{os.geteuid()}/{os.getegid()}", ""]
    return " ".join(text or "-" for text in texts)
