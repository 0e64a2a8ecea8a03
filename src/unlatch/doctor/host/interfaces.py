"""The networks of containers on this host, as the kernel's tables have them."""

import contextlib
import ipaddress
import re
import socket
import struct
from typing import NamedTuple

# What Docker, Podman, CNI, LXC, LXD and Incus call the bridges that they make.
_BRIDGE = re.compile(r"(docker\d+|br-[0-9a-f]{12}|podman\d+|cni-?\w*\d+|nerdctl\d+|lxcbr\d+|lxdbr\d+|incusbr\d+)\Z")
_MAX_TABLE = 1 << 20
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")


class Network(NamedTuple):
    """A network that a bridge of containers has."""

    interface: str
    network: str


def container_networks(proc: str = "/proc") -> tuple[Network, ...]:
    """The directly attached networks of all bridges that container programs make."""
    return tuple(dict.fromkeys((*_networks_4(proc), *_networks_6(proc))))


def _networks_4(proc: str) -> list[Network]:
    """/proc/net/route, proc(5): interface, destination, gateway, ..., mask in column 7; hexadecimal in host order."""
    found = []
    for words in _table(f"{proc}/net/route"):
        if len(words) > 7 and _BRIDGE.match(words[0]) and words[2] == "00000000":
            address, mask = (socket.inet_ntoa(struct.pack("=I", int(words[column], 16))) for column in (1, 7))
            found.append(Network(words[0], str(ipaddress.ip_network(f"{address}/{mask}"))))
    return found


def _networks_6(proc: str) -> list[Network]:
    """/proc/net/ipv6_route: destination, its length, ..., the interface last."""
    found = []
    for words in _table(f"{proc}/net/ipv6_route"):
        if len(words) > 9 and _BRIDGE.match(words[9]) and words[4] == "0" * 32:
            network = ipaddress.ip_network((bytes.fromhex(words[0]), int(words[1], 16)))
            if 0 < network.prefixlen < 128 and not network.subnet_of(_LINK_LOCAL):  # type: ignore[arg-type]
                found.append(Network(words[9], str(network)))
    return [each for each in found if not each.network.startswith("ff")]


def _table(path: str) -> list[list[str]]:
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        lines = file.read(_MAX_TABLE).splitlines()
        return [line.split() for line in lines if not line.startswith("Iface")]
    return []
