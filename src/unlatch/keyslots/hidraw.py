"""Security keys that are plugged into this host, and the packets to and from one: Linux's hidraw.

They are found by sysfs, which also tells of those that this user may not open. What goes over the packets is CTAPHID
(CTAP 2.1, section 11.2), which python-fido2 speaks; here is only the time limit that its own connection lacks.
"""

import errno
import glob
import os
import select
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from fido2.hid import CtapHidDevice
    from fido2.hid.base import CtapHidConnection

SILENCE_SECONDS = 3.0  # a key that works on something says so every 100 ms (11.2.9.2.1)
VISIT_SECONDS = 90.0  # from opening to closing: two touches, and some patience with a program that came first
_REPORT_ID = b"\0"  # what hidraw wants before a packet of a device without report ids (hidraw.txt of the kernel)
_MAX_SYSFS = 4096  # bytes


class Port(NamedTuple):
    """Where a security key is plugged in: its device file, what it calls itself, how to open it.

    ``open()`` raises OSError when it cannot be opened, and what python-fido2 raises when it does not answer.
    """

    path: str
    name: str
    open: "Callable[[], CtapHidDevice]"


def ports(
    system: str = "/sys/class/hidraw", devices: str = "/dev", clock: Callable[[], float] = time.monotonic
) -> list[Port]:
    """The security keys that the kernel sees, whether this user may open them or not."""
    found = []
    for place in sorted(glob.glob(f"{system}/hidraw*")):
        sizes = _packet_sizes(_read(f"{place}/device/report_descriptor"))
        if sizes is not None:
            path = os.path.join(devices, os.path.basename(place))
            name = _name(_read(f"{place}/device/uevent").decode("utf-8", "replace"))
            found.append(Port(path, name, _opener(path, name, sizes, clock)))
    return found


class Connection:
    """Packets to and from an open hidraw device (fido2.hid.base.CtapHidConnection).

    Every read ends: after ``SILENCE_SECONDS`` without a packet, and when the visit lasted ``VISIT_SECONDS``. Raises
    OSError: TimeoutError then, the kernel's own error when the key was pulled out.
    """

    def __init__(self, descriptor: int, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._size = size
        self._clock = clock
        self._until = clock() + VISIT_SECONDS
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def write_packet(self, data: bytes) -> None:
        """Send one packet."""
        if os.write(self._descriptor, _REPORT_ID + data) != len(_REPORT_ID) + len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read_packet(self) -> bytes:
        """Wait for one packet."""
        patience = min(SILENCE_SECONDS, self._until - self._clock())
        if patience <= 0 or not self._poll.poll(patience * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "the security key does not answer")
        packet = os.read(self._descriptor, self._size)
        if len(packet) != self._size:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return packet

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)


def _opener(path: str, name: str, sizes: tuple[int, int], clock: Callable[[], float]) -> "Callable[[], CtapHidDevice]":
    def open_device() -> "CtapHidDevice":
        from fido2.hid import CtapHidDevice
        from fido2.hid.base import HidDescriptor

        connection = Connection(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), sizes[0], clock)
        try:
            descriptor = HidDescriptor(path, 0, 0, *sizes, name, None)
            return CtapHidDevice(descriptor, cast("CtapHidConnection", connection))
        except BaseException:
            connection.close()
            raise

    return open_device


def _packet_sizes(report_descriptor: bytes) -> tuple[int, int] | None:
    """The sizes of packets from and to a security key; None for a device of another kind."""
    from fido2.hid.base import parse_report_descriptor

    try:
        incoming, outgoing = parse_report_descriptor(report_descriptor)
    except (ValueError, struct.error):
        return None
    return incoming, outgoing


def _name(uevent: str) -> str:
    fields = dict(line.partition("=")[::2] for line in uevent.splitlines())
    return fields.get("HID_NAME", "").strip() or "security key"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(_MAX_SYSFS)
    except OSError:
        return b""
