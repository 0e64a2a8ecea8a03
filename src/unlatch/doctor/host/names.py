"""Where phones find a name: its addresses by the system, or by DNS where /etc/hosts says what holds only here."""

import contextlib
import ipaddress
import os
import socket
from typing import NamedTuple

from unlatch.doctor.host import dns
from unlatch.errors import Malformed

DNS_SECONDS = 1.5  # for one server
MOST_ADDRESSES = 4
MOST_SERVERS = 2
_DNS_PORT = 53
_MAX_UDP = 4096
# systemd-resolved's own stub reads /etc/hosts too; this is whom it asks itself.
_SERVERS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


class Names(NamedTuple):
    """``here_only``: /etc/hosts leads to the loopback, and DNS does not know the name. ``why`` there is no address."""

    addresses: tuple[str, ...]
    here_only: bool = False
    why: str = ""


def find(host: str) -> Names:
    """The addresses of a name, as somebody elsewhere would find them; blocks as long as a resolver takes."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # gaierror is one
        return Names((), why="it cannot be resolved")
    addresses = tuple(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
    if not all(is_loopback(address) for address in addresses):
        return Names(addresses[:MOST_ADDRESSES])
    elsewhere = () if _is_address(host) else ask_dns(host)
    return Names(elsewhere[:MOST_ADDRESSES]) if elsewhere else Names(addresses[:MOST_ADDRESSES], here_only=True)


def is_loopback(address: str) -> bool:
    """Whether this address never leaves a machine."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def is_own(address: str) -> bool:
    """Whether an interface of this host has this address: only then can a socket be bound to it (bind(2))."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def ask_dns(host: str) -> tuple[str, ...]:
    """The addresses that DNS has for a name."""
    first = _ask(host, dns.A)
    return () if first is None else (*first, *(_ask(host, dns.AAAA) or ()))


def _ask(host: str, kind: int) -> tuple[str, ...] | None:
    """None: nobody answers."""
    for server in _servers():
        number = int.from_bytes(os.urandom(2))
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with contextlib.suppress(OSError, Malformed), socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(DNS_SECONDS)
            asking.connect((server, _DNS_PORT))
            asking.send(dns.question(host, kind, number))
            return dns.addresses(asking.recv(_MAX_UDP), kind, number)
    return None


def _servers() -> list[str]:
    for path in _SERVERS:
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
            words = [line.split() for line in file.read(65536).splitlines()]
            return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"][:MOST_SERVERS]
    return []


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
