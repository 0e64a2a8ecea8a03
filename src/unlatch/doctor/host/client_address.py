"""Who opens the page, as the broker sees it: the phone's address, or for everybody the proxy's?

It matters for what can be told afterwards: ``unlatch log`` names who viewed and who answered. Where the proxy hides it,
a stranger who got hold of a link looks like the admin.
"""

import ipaddress
from typing import NamedTuple

from unlatch.broker.remote import LOCAL
from unlatch.doctor.check import Check, Finding, Situation, ok, unknown, warning
from unlatch.doctor.host.interfaces import Network, container_networks
from unlatch.doctor.host.names import is_loopback, is_own
from unlatch.doctor.host.page_look import Answer, page_look


class Seen(NamedTuple):
    """We asked ``address`` from ``source``, and the broker saw ``client``; ``own``: an address of this host."""

    address: str
    source: str
    client: str
    own: bool


class Facts(NamedTuple):
    """``watched``: the broker told what arrived."""

    loopback: bool
    watched: bool
    why: str
    seen: tuple[Seen, ...]
    containers: tuple[Network, ...]


def probe(situation: Situation) -> Facts:
    """Take it from the look at the page."""
    look = page_look(situation)
    seen = tuple(_seen(answer) for answer in look.answers if any(not each.refused for each in answer.arrivals))
    watched = any(answer.looked for answer in look.answers)
    return Facts(look.loopback, watched, look.broker, seen, container_networks())


def _seen(answer: Answer) -> Seen:
    client = next(each.client for each in answer.arrivals if not each.refused)
    return Seen(answer.address, answer.source, client, client != LOCAL and is_own(client))


def judge(facts: Facts, situation: Situation) -> Finding:
    """The client must be who asked: we."""
    if facts.loopback:
        return ok("links are for this machine only")
    if not facts.seen and not facts.watched and facts.why:
        return unknown(f"the broker does not tell what arrives: {facts.why}", situation.as_root("unlatch", "doctor"))
    if not facts.seen:
        return unknown("not seen, as nothing arrived", "")
    grep = situation.as_root("grep", "-rni", "x-forwarded-for", "/etc/caddy", "/etc/nginx")
    for seen in facts.seen:
        if seen.client == LOCAL or (is_loopback(seen.client) and not is_loopback(seen.source)):
            return warning("the proxy does not say who opens the page: in the log every client is the proxy", grep)
        network = _network_of(seen.client, facts.containers)
        if network and _plain(seen.client) != _plain(seen.source):
            text = (
                f"in the log every client is {seen.client}, of the container network {network.interface}: the proxy's "
            )
            return warning(f"{text}port is published through it", situation.as_root("ss", "-ltnp"))
        if _plain(seen.client) != _plain(seen.source) and not seen.own and ipaddress.ip_address(seen.client).is_private:
            text = (
                f"asked from {seen.source}, seen as {seen.client}: some router changes it, for everybody or for us only"
            )
            return unknown(text, "unlatch ring\nunlatch log --since 10m")
    return ok(f"the broker sees who opens the page: here {facts.seen[0].client}")


def _network_of(address: str, networks: tuple[Network, ...]) -> Network | None:
    for network in networks:
        if ipaddress.ip_address(_plain(address)) in ipaddress.ip_network(network.network):
            return network
    return None


def _plain(address: str) -> str:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


CLIENT_ADDRESS = Check(
    "client-address",
    "the broker sees the address of who opens the page, as the proxy names it in `X-Forwarded-For`, and `allow_from` "
    "lets that count",
    "nginx: `proxy_set_header X-Forwarded-For $remote_addr;`. Caddy does so by itself. A proxy in a container: give it "
    "the host's network, or publish its port without the userland proxy",
    Facts,
    probe,
    judge,
)
