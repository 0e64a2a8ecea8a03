"""The process that tries one notifier as the broker's user, short of sending: its program, its library, its server, its
login and its recipients. It gets one JSON object on standard input and says facts as JSON on standard output.

It needs that user because the Matrix state and the credentials are that user's alone; and a process of its own because
what a plugin prints, raises or hangs in must not reach the doctor. Nothing is sent to anybody and no session key is
spent. What is tried is asked for, not believed: the homeserver's answers are checked as before a ring.
"""

import asyncio
import json
import os
import socket
import sys
from importlib.util import find_spec
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from unlatch.credentials import NoCredential, Source, read
from unlatch.doctor.facts import dump
from unlatch.errors import UnlatchError
from unlatch.secret import forbid_core_dumps
from unlatch.settings import APPRISE_MATRIX, apprise_refusal

CONNECT_SECONDS = 4.0
MATRIX_SECONDS = 7.0
MAX_TASK = 65536
_OWN_SERVERS = frozenset(
    ("ntfy", "json", "xml", "form", "gotify", "apprise", "mmost", "rocket", "nctalk", "ncloud", "signal", "bark")
)
_MAX_SHEBANG = 256  # BINPRM_BUF_SIZE, execve(2)


class Said(NamedTuple):
    """``trouble`` is why it would not ring, or nothing; ``remedy`` is what kind of thing to do: "install", "setup",
    "server", "settings", "program". ``server`` is the host that it talks to. ``note``: what to know besides;
    ``partial``: the note says who would not be reached.
    """

    trouble: str = ""
    remedy: str = ""
    server: str = ""
    note: str = ""
    partial: bool = False


def main() -> NoReturn:
    """Say what was found, in our own words only."""
    forbid_core_dumps()
    report, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # a plugin that prints, prints into nothing
        os.dup2(nowhere, descriptor)
    try:
        task = json.loads(sys.stdin.buffer.read(MAX_TASK))
        said = try_out(str(task["kind"]), tuple(task["value"]), plaintext=bool(task["plaintext"]))
    except BaseException as error:  # also a plugin's sys.exit()
        said = Said(f"failed: {type(error).__name__}", "settings")
    os.write(report, dump(said))
    os._exit(0)  # no plugin's thread or exit handler has a say


def try_out(kind: str, value: tuple[str, ...], *, plaintext: bool) -> Said:
    """Try a notifier of this kind; ``value`` is what its key in the settings has."""
    if kind == "command":
        return try_program(value[0])
    if kind == "matrix":
        return asyncio.run(_try_matrix(value[0], plaintext=plaintext))
    return _try_apprise(Source(kind.partition("_")[2] or "inline", value))


def try_program(path: str) -> Said:
    """May the broker's user run it, and is there what its first line names?"""
    if not os.path.isfile(path):
        return Said(f"{path} is not there", "program")
    if not os.access(path, os.X_OK):
        return Said(f"the broker's user may not run {path}", "program")
    try:
        with open(path, "rb") as file:
            first = file.read(_MAX_SHEBANG).split(b"\n")[0]
    except OSError:
        return Said()  # a program that may be run and not read has no first line to look at
    words = first[2:].split()
    interpreter = os.fsdecode(words[0]) if first.startswith(b"#!") and words else ""
    if interpreter and not os.access(interpreter, os.X_OK):
        return Said(f"{path} wants {interpreter}, which is not there", "program")
    return Said()


def _try_apprise(source: Source) -> Said:
    if find_spec("apprise") is None:
        return Said("Apprise is not installed", "install")
    try:
        url = source.where[0] if source.kind == "inline" else read(source, os.environ)
    except NoCredential as error:
        return Said(error.why, "settings")
    if refusal := apprise_refusal(url):
        return Said(refusal, "settings")
    import logging

    logging.disable()  # what it logs may quote the URL
    import apprise

    asset = apprise.AppriseAsset(secure_logging=True, storage_mode=apprise.PersistentStoreMode.MEMORY, plugin_paths=[])
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        return Said("Apprise does not understand the URL", "settings")
    if type(plugin).__module__.startswith("apprise.plugins.matrix"):
        return Said(APPRISE_MATRIX, "settings")
    host, port = server_of(plugin, url.partition("://")[0].lower())
    if not host:
        return Said(note="its server is not known, so only a ring shows whether it is reached")
    why = _reach(host, port)
    return Said(f"its server {host}: {why}" if why else "", "server" if why else "", host)


def server_of(plugin: Any, scheme: str) -> tuple[str, int]:
    """Host and port that an Apprise plugin would talk to; "" where that is not certain.

    What stands in the place of a URL's host is often a token, which must not get into a DNS query: it is a host only
    for those of Apprise's services that people run themselves.
    """
    if getattr(plugin, "smtp_host", None):
        return str(plugin.smtp_host), int(plugin.port or 25)
    cloud = str(getattr(plugin, "cloud_notify_url", "")) if getattr(plugin, "mode", "") == "cloud" else ""
    fixed = cloud or str(getattr(type(plugin), "notify_url", "") or "")
    if fixed.startswith(("http://", "https://")):
        parts = urlsplit(fixed)
        # A placeholder in the name would be filled with something of the user's.
        host = parts.hostname or ""
        return ("", 0) if "{" in host or "%" in host else (host, parts.port or (443 if parts.scheme == "https" else 80))
    if scheme.removesuffix("s") in _OWN_SERVERS:
        return str(plugin.host), int(plugin.port or (443 if plugin.secure else 80))
    return "", 0


def _reach(host: str, port: int) -> str:
    """Why no connection can be made, or nothing."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except socket.gaierror:
        return "the name cannot be resolved"
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return (error.strerror or "the connection failed").lower()
    return ""


async def _try_matrix(directory: str, *, plaintext: bool) -> Said:
    if find_spec("vodozemac") is None:
        return Said("Matrix needs vodozemac, which is not installed", "install")
    from unlatch.matrix.excuses import excuse, skipped_text
    from unlatch.matrix.http import NoContact
    from unlatch.matrix.session import Session
    from unlatch.matrix.store import Store

    session = Session(Store(directory), allow_plaintext=plaintext)
    server = ""
    try:
        until = asyncio.get_running_loop().time() + MATRIX_SECONDS
        await session.open(until)
        server = session.server.address.host
        await session.look(until)
        whom = session.recipients()
        admins = len(session.machine.pins)
    except (UnlatchError, OSError) as error:
        remedy = "server" if isinstance(error, NoContact) else "setup"
        return Said(excuse(error).why, remedy, server)
    finally:
        await session.close()
    skipped = skipped_text(whom.skipped)
    if not whom.devices and not plaintext:
        return Said(f"no verified device may read it ({skipped or 'nobody is pinned'})", "setup", server)
    note = f"{_count(len(whom.devices), 'verified device')} of {_count(admins, 'pinned admin')}"
    return Said(server=server, note=f"{note}; not reached: {skipped}" if skipped else note, partial=bool(skipped))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
