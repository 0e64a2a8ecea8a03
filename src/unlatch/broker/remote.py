"""Which address a request comes from, and whether it may come at all. Pure.

``allow_from`` has one meaning for both: these machines may open the page's port, and they are the proxies whose word in
``X-Forwarded-For`` counts. A proxy appends the address that it saw, so the list is read from its right end; what stands
left of the first foreign address was written by a stranger.
"""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL = "local"  # the peer of a Unix socket has no address; who may open that is a matter of its owner and mode


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of the setting ``allow_from``.

    Raises:
        ValueError: not a network.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_allowed(peer: str, networks: Iterable[Network]) -> bool:
    """Whether this peer may ask for the page, and be believed as a proxy."""
    if peer == LOCAL:
        return True
    address = _address(peer)
    return address is not None and any(address in network for network in networks)


def client_of(peer: str, forwarded: Iterable[str], networks: tuple[Network, ...]) -> str:
    """The client's address: the rightmost one that no allowed machine has, else the farthest allowed one.

    ``forwarded`` are the values of the ``X-Forwarded-For`` fields in their order (each may be a list).
    """
    client = peer
    if not is_allowed(peer, networks):
        return client
    for hop in reversed(",".join(forwarded).split(",")):
        address = _address(hop.strip())
        if address is None:  # not an address: nothing further left can be believed either
            return client
        client = str(address)
        if not is_allowed(client, networks):
            return client
    return client


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # "%eth0": the scope of a link-local address
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
