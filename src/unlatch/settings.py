"""What ``unlatch.toml`` may say: the settings, and for every key its reader and the values it accepts.

Askers import this too, so it stays with the standard library's cheap half: addresses are read with a pattern and
inet_pton(3), because ``urllib`` and ``ipaddress`` cost more than everything else here together.
"""

import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unlatch.credentials import exposure

if TYPE_CHECKING:
    from unlatch.rules import Rule


class Tcp(NamedTuple):
    """The page listens on an address and port; port 0 takes a free one."""

    host: str
    port: int


class Unix(NamedTuple):
    """The page listens on a Unix socket that the proxy's group may open; an empty group is the broker's own."""

    path: str
    group: str = ""
    mode: int = 0o660


class Person(NamedTuple):
    """Who is rung for which users. ``users`` holds names, decimal uids, or "*"; ``notify`` names notifiers."""

    name: str
    users: tuple[str, ...]
    notify: tuple[str, ...]


class NotifierSettings(NamedTuple):
    """One ``[notify.NAME]``. ``kind`` is the key that makes it one; ``options`` holds that key and ``seconds``."""

    name: str
    kind: str
    options: Mapping[str, Any]
    end_to_end: bool


class Settings(NamedTuple):
    """Everything the file says, or would say. ``rules`` is None when they have mistakes: then every prompt is refused.

    ``public_url`` ends with a slash; ``probe``: look through it whether links can be opened. ``allow_users`` empty is
    everybody; ``audit_file`` empty is the default place. ``keep_seconds``: how long people may have an answer kept by
    gpg-agent when its program has given up; 0: they are not asked.
    ``link_seconds`` and ``remind_after`` are seconds (0: never remind); quotas count per uid, rings per hour.
    ``pam_*`` is for logins: ``pam_mode`` one of :data:`PAM_MODES`; ``pam_auth_gpg`` the PAM services for which
    ~/.auth_gpg counts; ``pam_approvals`` how often an hour an account's person may be rung; ``pam_terminal`` columns
    and rows where none can be measured, and ``pam_background`` whether such terminals write on "dark" or "light"; web
    pages with a challenge listen on ``pam_web_address`` (empty: there are none) at one of the ports from the first to
    the second, and links call them ``pam_web_host`` (empty: the address).
    """

    public_url: str = "http://localhost:8420/"
    listen: Tcp | Unix = Tcp("127.0.0.1", 8420)
    allow_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    link_seconds: int = 3600
    link_views: int = 2
    remind_after: int = 0
    confirm_by_link: bool = False
    allow_users: tuple[str, ...] = ()
    quota_open: int = 20
    quota_rings: int = 60
    people: tuple[Person, ...] = ()
    notifiers: tuple[NotifierSettings, ...] = ()
    rules: "tuple[Rule, ...] | None" = ()
    audit_file: str = ""
    probe: bool = True
    keep_seconds: int = 0
    pam_mode: str = "challenge"
    pam_seconds: int = 600
    pam_auth_gpg: tuple[str, ...] = ()
    pam_approvals: int = 6
    pam_terminal: tuple[int, int] = (80, 24)
    pam_background: str = "dark"
    pam_web_address: str = ""
    pam_web_ports: tuple[int, int] = (8430, 8439)
    pam_web_host: str = ""


class Unacceptable(ValueError):
    """A value that a key does not accept. Its text says why, when there is more to say than what is accepted."""


class Key(NamedTuple):
    """One key of the file: the setting it fills, how its value is read, and what it accepts, in words."""

    setting: str
    read: Callable[[Any], Any]
    accepts: str


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:  # a bool is an int to isinstance()
            raise Unacceptable
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unacceptable
    return value


def _true(value: Any) -> bool:
    if value is not True:
        raise Unacceptable
    return True


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Unacceptable
    return value


def _absolute_path(value: Any) -> str:
    if not _text(value).startswith("/") or value.endswith("/"):
        raise Unacceptable
    return str(value)


def _state_directory(value: Any) -> str:
    """A path, or "" for the default place."""
    return "" if value is True else _absolute_path(value)


def _list_of(read_item: Callable[[Any], str], least: int) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise Unacceptable
        return tuple(read_item(item) for item in value)

    return read


_USER = re.compile(
    r"[^\s:/,*]{1,256}\Z"
)  # what no passwd(5) entry can contain is left out; directories have "@" in names


def _user(value: Any) -> str:
    if type(value) is int and 0 <= value < 2**32 - 1:
        return str(value)
    if isinstance(value, str) and (value == "*" or _USER.match(value)):
        return value
    raise Unacceptable


_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?(/[\w.~!$&'()*+,;=:@%/-]*)?\Z", re.ASCII | re.I
)
_LOOPBACK_NAME = re.compile(r"(.*\.)?localhost\Z|127\.[0-9.]+\Z|\[::1\]\Z")


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine by its very name, so that browsers trust it without TLS."""
    return bool(_LOOPBACK_NAME.match(host.lower()))


def public_url(value: Any) -> str:
    """Read the address at which people open links, normalised to lower case host and one slash at the end."""
    match = _URL.match(value) if isinstance(value, str) else None
    if not match:
        raise Unacceptable
    scheme, host, port, path = match.groups()
    if scheme.lower() == "http" and not is_loopback(host):
        raise Unacceptable("http is for loopback only, because whoever serves the page reads what is typed")
    if port and not 0 < int(port) < 65536:
        raise Unacceptable("the port is out of range")
    segments = (path or "/").strip("/").split("/")
    if any(segment in (".", "..") for segment in segments) or (segments != [""] and "" in segments):
        raise Unacceptable("the path has an empty or dotted segment")
    prefix = "/".join(segments)
    return f"{scheme.lower()}://{host.lower()}{':' + port if port else ''}/{prefix}{'/' if prefix else ''}"


def _is_address(family: socket.AddressFamily, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: an embedded NUL
        return False
    return True


def _listen(value: Any) -> Tcp | Unix:
    if _text(value).startswith("unix:"):
        path = _absolute_path(value.removeprefix("unix:"))
        if len(os.fsencode(path)) > 107:  # unix(7): sun_path has 108 bytes with its NUL
            raise Unacceptable("the path is longer than a Unix socket's may be (107 bytes)")
        return Unix(path)
    host, _, port = value.rpartition(":")
    if not re.match(r"[0-9]{1,5}\Z", port) or int(port) > 65535:
        raise Unacceptable
    if host == "localhost" or _is_address(socket.AF_INET, host):
        return Tcp(host, int(port))
    if host[:1] + host[-1:] == "[]" and _is_address(socket.AF_INET6, host[1:-1]):
        return Tcp(host[1:-1], int(port))
    raise Unacceptable("the host must be an address, because a name may turn into another address one day")


def _network(value: Any) -> str:
    address, _, length = _text(value).partition("/")
    for family, bits in ((socket.AF_INET, 32), (socket.AF_INET6, 128)):
        if not _is_address(family, address):
            continue
        size = bits if length == "" and "/" not in value else int(length) if re.match(r"[0-9]{1,3}\Z", length) else -1
        if not 0 <= size <= bits:
            raise Unacceptable("the length of the network is out of range")
        if int.from_bytes(socket.inet_pton(family, address)) & ((1 << (bits - size)) - 1):
            raise Unacceptable("the address has bits set beyond the length of its network")
        return f"{address}/{size}"
    raise Unacceptable


APPRISE_MATRIX = (
    "Apprise's Matrix plugin is not used: it can fall back to plaintext in an encrypted room and still report success; "
    'use a notifier with "matrix"'
)
APPRISE_LOGS = "this would write links into a log, where they may never stand"
_APPRISE_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)[^?#]*(?:\?([^#]*))?", re.ASCII | re.I)
# Most Apprise URLs hold a token, in whatever place their service likes; only of these is it known where one would be.
_WITHOUT_TOKEN = ("ntfy", "ntfys", "mailto", "mailtos")
_HARMLESS = frozenset(
    ("to", "from", "name", "cc", "bcc", "reply", "smtp", "mode", "priority", "tags", "format", "overflow", "verify",
     "rto", "cto", "email", "click", "image")
)  # fmt: skip


def apprise_refusal(url: str) -> str:
    """Why this Apprise URL is never used, or nothing."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("matrix", "matrixs") or re.match(r"https?://webhooks\.t2bot\.io/", url, re.I):
        return APPRISE_MATRIX
    return APPRISE_LOGS if scheme in ("syslog", "rsyslog") else ""


def _apprise_url(value: Any) -> str:
    """An Apprise URL that everybody may read, so one without a credential."""
    match = _APPRISE_URL.match(value) if isinstance(value, str) and " " not in value and value.isprintable() else None
    if match is None:
        raise Unacceptable
    if refusal := apprise_refusal(value):
        raise Unacceptable(refusal)
    scheme, authority, query = match[1].lower(), match[2], match[3] or ""
    user = authority.rpartition("@")[0]
    mailbox = scheme.startswith("mailto") and ":" not in user  # a name before the @ is half an address there
    keys = {part.partition("=")[0].lower() for part in query.split("&") if part}
    if scheme not in _WITHOUT_TOKEN or (user and not mailbox) or not keys <= _HARMLESS:
        raise Unacceptable(
            "it holds a credential, or may, and everybody may read this file; put the URL into a file that only the "
            'broker\'s user reads, and say apprise_file = "/etc/unlatch/NAME.url", or use apprise_command or '
            "apprise_credential"
        )
    return str(value)


def _secret_file(value: Any) -> str:
    path = _absolute_path(value)
    if exposed := exposure(path):
        raise Unacceptable(exposed)
    return path


_CREDENTIAL = re.compile(r"(?!\.{1,2}\Z)[\w.@:-]{1,255}\Z", re.ASCII)


def _credential(value: Any) -> str:
    if not isinstance(value, str) or not _CREDENTIAL.match(value):
        raise Unacceptable
    return value


PAM_MODES = ("challenge", "approve", "either")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\Z")
_TERMINAL = re.compile(r"([0-9]{1,3})x([0-9]{1,3})\Z")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
_HOST = re.compile(r"\[[0-9a-f:.]+\]\Z|[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z", re.ASCII)


def _pam_mode(value: Any) -> str:
    if value not in PAM_MODES:
        raise Unacceptable
    return str(value)


def _background(value: Any) -> str:
    if value not in ("dark", "light"):
        raise Unacceptable
    return str(value)


def _pam_service(value: Any) -> str:
    """The name of a file in /etc/pam.d."""
    if not isinstance(value, str) or not _SERVICE.match(value):
        raise Unacceptable
    return value


def _terminal(value: Any) -> tuple[int, int]:
    match = _TERMINAL.match(value) if isinstance(value, str) else None
    if not match or int(match[1]) < 20 or int(match[2]) < 5:
        raise Unacceptable
    return int(match[1]), int(match[2])


def _address(value: Any) -> str:
    if not (_is_address(socket.AF_INET, _text(value)) or _is_address(socket.AF_INET6, value)):
        raise Unacceptable
    return str(value)


def _ports(value: Any) -> tuple[int, int]:
    """A range, or one port as a number or a text."""
    match = _PORTS.match(str(value)) if type(value) in (int, str) else None
    if not match:
        raise Unacceptable
    first, last = int(match[1]), int(match[2] or match[1])
    if not 0 < first <= last < 65536:
        raise Unacceptable("the ports are out of range")
    return first, last


def _host_name(value: Any) -> str:
    if not isinstance(value, str) or not _HOST.match(value.lower()):
        raise Unacceptable
    return value.lower()


_USERS = 'user names, uids or "*"'

TOP = {
    "public_url": Key("public_url", public_url, "an https:// address, or http:// on loopback; a path may follow, "
                      "but no user, query or fragment"),
    "listen": Key("listen", _listen, '"ADDRESS:PORT" (an IP address or "localhost"), or "unix:/absolute/path"'),
    "listen_group": Key("listen_group", _text, "the name of the group that may open the Unix socket"),
    "allow_from": Key("allow_from", _list_of(_network, 1), 'a list of networks such as "127.0.0.0/8" or "::1/128"'),
    "allow_users": Key("allow_users", _list_of(_user, 1), f"a list of {_USERS}"),
    "confirm_by_link": Key("confirm_by_link", _flag, "true or false"),
    "probe": Key("probe", _flag, "true or false"),
}  # fmt: skip
TABLES = {
    "link": {
        "seconds": Key("link_seconds", _whole(1, 604_800), "whole seconds from 1 to 604800 (a week)"),
        "views": Key("link_views", _whole(1, 20), "a whole number from 1 to 20"),
        "remind_after": Key("remind_after", _whole(0, 604_800), "whole seconds from 0 (never) to 604800"),
    },
    "quota": {
        "open": Key("quota_open", _whole(1, 100_000), "a whole number from 1 to 100000"),
        "rings": Key("quota_rings", _whole(1, 100_000), "a whole number from 1 to 100000"),
    },
    "keep": {"seconds": Key("keep_seconds", _whole(0, 604_800), "whole seconds from 0 (never) to 604800 (a week)")},
    "audit": {"file": Key("audit_file", _absolute_path, "an absolute path of a file")},
    "pam": {
        "mode": Key("pam_mode", _pam_mode, '"challenge", "approve" or "either"'),
        "seconds": Key("pam_seconds", _whole(10, 3600), "whole seconds from 10 to 3600"),
        "auth_gpg": Key("pam_auth_gpg", _list_of(_pam_service, 0), 'a list of PAM services such as "sshd"'),
        "approvals": Key("pam_approvals", _whole(0, 100), "a whole number from 0 to 100, each hour"),
        "terminal": Key("pam_terminal", _terminal, 'columns and rows such as "80x24"'),
        "background": Key("pam_background", _background, '"dark" or "light"'),
        "web_address": Key("pam_web_address", _address, "an IP address of this host"),
        "web_ports": Key("pam_web_ports", _ports, 'a port, or a range such as "8430-8439"'),
        "web_host": Key("pam_web_host", _host_name, "the host name or address that links name, without a port"),
    },
}
PERSON = {
    "users": Key("users", _list_of(_user, 1), f"a list of {_USERS}"),
    "notify": Key("notify", _list_of(_text, 0), "a list of names that have a [notify.NAME] table"),
}
NOTIFIER_KINDS = {
    "command": Key("command", _list_of(_text, 1), "a list of texts: a program, then its arguments"),
    "apprise": Key("apprise", _apprise_url, "an Apprise URL without a credential, such as ntfy://localhost/topic"),
    "apprise_file": Key("apprise_file", _secret_file, "the absolute path of a file that holds an Apprise URL"),
    "apprise_command": Key("apprise_command", _list_of(_text, 1), "a list of texts: a program that prints an Apprise "
                           "URL, then its arguments"),
    "apprise_credential": Key("apprise_credential", _credential, "the name of a file in $CREDENTIALS_DIRECTORY that "
                              "holds an Apprise URL"),
    "matrix": Key("matrix", _state_directory, "true, or the absolute path of the directory that unlatch matrix setup "
                  "made"),
    "terminal": Key("terminal", _true, "true"),
}  # fmt: skip
PROGRAMS = frozenset(("command", "apprise_command"))  # the keys whose first word is a program
NOTIFIER = NOTIFIER_KINDS | {
    "allow_plaintext_room": Key("allow_plaintext_room", _flag, "true or false, for matrix only"),
    "end_to_end": Key("end_to_end", _flag, "true or false"),
    "seconds": Key("seconds", _whole(1, 300), "whole seconds from 1 to 300"),
}
# The default: what leaves by a program may be read on its way.
END_TO_END = {"command": False, "matrix": True, "terminal": True}
