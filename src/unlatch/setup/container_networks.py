"""The networks of this host's containers: where a proxy that runs in one comes from."""

import fcntl
import re
import socket
import struct
from typing import NamedTuple

# Docker's own bridge, those of its networks ("br-" and twelve digits of the id: an administrator's br-lan is none), and
# those of Podman and CNI.
_NAMES = re.compile(r"(docker\d+|br-[0-9a-f]{12}|podman\d+|cni-?(podman)?\d+)\Z")
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B  # netdevice(7)


class Network(NamedTuple):
    """One interface and the network behind it, as ``allow_from`` takes it."""

    interface: str
    network: str


def found(if_inet6: str = "/proc/net/if_inet6") -> list[Network]:
    """The networks of all interfaces that are called as containers' are, IPv4 first."""
    names = [name for _, name in socket.if_nameindex() if _NAMES.match(name)]
    four = [Network(name, network) for name in names if (network := _ipv4(name))]
    try:
        with open(if_inet6, encoding="ascii") as opened:
            listed = opened.read(1 << 20)
    except OSError:  # a kernel without IPv6
        listed = ""
    return four + [each for each in parse_if_inet6(listed) if each.interface in names]


def parse_if_inet6(text: str) -> list[Network]:
    """The lines of /proc/net/if_inet6 (address, index, prefix length, scope, flags, name), less the link-local ones."""
    networks = []
    for fields in (line.split() for line in text.splitlines()):
        if len(fields) == 6 and fields[3] != "20":
            networks.append(Network(fields[5], _masked(bytes.fromhex(fields[0]), int(fields[2], 16))))
    return networks


def _ipv4(name: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("256s", name.encode())
        try:
            address = fcntl.ioctl(asking, _SIOCGIFADDR, request)[20:24]
            mask = fcntl.ioctl(asking, _SIOCGIFNETMASK, request)[20:24]
        except OSError:  # an interface without an address
            return ""
    return _masked(address, int.from_bytes(mask).bit_count())


def _masked(address: bytes, length: int) -> str:
    bits = len(address) * 8
    kept = int.from_bytes(address) >> (bits - length) << (bits - length)
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    return f"{socket.inet_ntop(family, kept.to_bytes(len(address)))}/{length}"
