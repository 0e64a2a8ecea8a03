"""Whether the client of a login is still there: a phone shall not ring on for a connection that is dead.

sshd notices at a prompt, but not while PAM waits for us. So the connection that it names (SSH_CONNECTION) is looked up
in the kernel's table, in the network namespace of the asking process: proc_net(5), /proc/PID/net/tcp and tcp6.
"""

import ipaddress
import struct
from collections.abc import Iterable

_ESTABLISHED = 0x01  # linux/tcp_states.h; CLOSE_WAIT, 0x08, is a client that closed its end, as ssh(1) does only to go
_LOOKS = 3  # the table may change while it is read, and a line be passed over


class Client:
    """The far end of the connection behind a login. ``connection`` is SSH_CONNECTION: two addresses, each with a port.

    A connection that is not in the table at the beginning (another program's words, or none) is never taken for dead.
    """

    def __init__(self, pid: int, connection: str) -> None:
        self._pid = pid
        self._needles = needles(connection)
        self._known = self._state() is not None

    def gone(self) -> bool:
        """Whether it was there, and is no more."""
        return self._known and not any(self._state() == _ESTABLISHED for _ in range(_LOOKS))

    def _state(self) -> int | None:
        found = None
        for name, needle in self._needles:
            try:
                with open(f"/proc/{self._pid}/net/{name}", "rb") as table:
                    found = state(table, needle)
            except OSError:  # no IPv6 here; or the process is gone, which the channel says better
                continue
            if found is not None:
                break
        return found


def needles(connection: str) -> list[tuple[str, bytes]]:
    """In which tables the connection may stand, and its two addresses as they are written there; none is none.

    A socket that hears both families (systemd's, mostly) has IPv4 clients in the table of IPv6.
    """
    try:
        client, client_port, server, server_port = connection.split(" ")
        ends = [(_address(server), int(server_port)), (_address(client), int(client_port))]
        plain = b" ".join(_written(address.packed, port) for address, port in ends)
    except (ValueError, struct.error):
        return []
    if any(isinstance(address, ipaddress.IPv6Address) for address, _ in ends):
        return [("tcp6", plain)]
    mapped = b" ".join(_written(bytes(10) + b"\xff\xff" + address.packed, port) for address, port in ends)
    return [("tcp", plain), ("tcp6", mapped)]


def state(table: Iterable[bytes], needle: bytes) -> int | None:
    """The state of a connection, as the number in the table; None when it is not there."""
    for line in table:
        if needle in line:
            return int(line.partition(needle)[2].split()[0], 16)
    return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text.partition("%")[0])  # "%eth0": the scope of a link-local address


def _written(packed: bytes, port: int) -> bytes:
    """Each 32 bits of the address as a number of this machine, then the port: 0100007F:0016 is 127.0.0.1:22."""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words).encode() + b":" + struct.pack(">H", port).hex().upper().encode()
