"""A proxy in a container: does publishing its port hide every client, and does ``allow_from`` believe too many?"""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from unlatch.doctor.check import Check, Finding, Situation, command, ok, unknown, warning
from unlatch.doctor.host.interfaces import Network, container_networks
from unlatch.doctor.host.listeners import is_listened, listeners
from unlatch.doctor.host.names import is_own
from unlatch.doctor.host.page_look import page_look
from unlatch.doctor.host.served import served
from unlatch.doctor.host.words import edit

# They take each connection and make one of their own, so that what is behind them never sees who came.
_HIDES_ALL = ("rootlessport", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2", "passt", "gvproxy")
_HIDES_IPV6 = "docker-proxy"  # for IPv4 the kernel's own translation comes before it and keeps the address


class Allowed(NamedTuple):
    """A network of ``allow_from`` that lies in one of containers. ``whole``: it is more than one machine; ``own``: it
    is this host's own address there.
    """

    network: str
    interface: str
    whole: bool
    own: bool


class Facts(NamedTuple):
    """``programs`` listen on the public port of this host (``hidden``: some do, and we are not shown which); ``ipv6``:
    of them, those that listen on IPv6. ``named6``: the name has an IPv6 address.
    """

    file: str
    port: int
    programs: tuple[str, ...]
    hidden: bool
    ipv6: tuple[str, ...]
    named6: bool
    allowed: tuple[Allowed, ...]


def probe(situation: Situation) -> Facts:
    """Read the kernel's tables and the settings; ask nothing of a container program."""
    loaded = served(situation).loaded
    parts = urlsplit(loaded.settings.public_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    there = listeners(port)
    return Facts(
        loaded.path,
        port,
        tuple(sorted({each.program for each in there})),
        not there and is_listened(port),
        tuple(sorted({each.program for each in there if each.family == 6})),
        any(":" in address for address in page_look(situation).names.addresses),
        _allowed(loaded.settings.allow_from, container_networks()),
    )


def _allowed(allow_from: tuple[str, ...], networks: tuple[Network, ...]) -> tuple[Allowed, ...]:
    found = []
    for text in allow_from:
        allowed = ipaddress.ip_network(text)
        for network in networks:
            if allowed.overlaps(ipaddress.ip_network(network.network)):
                whole = allowed.num_addresses > 1
                own = not whole and is_own(str(allowed.network_address))
                found.append(Allowed(text, network.interface, whole, own))
    return tuple(found)


def judge(facts: Facts, situation: Situation) -> Finding:
    """What hides all comes first."""
    hiding = [program for program in facts.programs if program in _HIDES_ALL]
    look = situation.as_root("ss", "-ltnp", f"sport = :{facts.port}")
    if hiding:
        text = f"port {facts.port} is published by {hiding[0]}: the proxy, and so the log, sees every client as local"
        return warning(text, look)
    if _HIDES_IPV6 in facts.ipv6 and facts.named6:
        text = (
            f"port {facts.port} is published by docker-proxy: every client over IPv6 looks like the container's gateway"
        )
        return warning(text, command("docker", "network", "inspect", "-f", "{{.EnableIPv6}}", "bridge"))
    for each in facts.allowed:
        if each.whole:
            text = (
                f"allow_from has {each.network}: every container on {each.interface} counts as your proxy; name the one"
            )
            return warning(text, edit(situation, facts.file))
        if each.own:
            text = (
                f"allow_from has {each.network}, this host's own address on {each.interface}: whoever comes through a "
            )
            return warning(f"{text}published port has it, and counts as your proxy", edit(situation, facts.file))
    if facts.hidden:
        text = f"which program listens on port {facts.port} is shown to root only"
        return unknown(text, situation.as_root("unlatch", "doctor"))
    return ok("no published port hides who opens the page")


CONTAINER_PORTS = Check(
    "container-ports",
    "no container's published port makes every client look local, and `allow_from` names one container at most, not a "
    "network of them",
    "run the proxy on the host's network (`network_mode: host`), or give Docker's network IPv6; write the proxy's own "
    "address into `allow_from`, as in `172.18.0.5/32`",
    Facts,
    probe,
    judge,
)
