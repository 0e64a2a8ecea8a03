"""Where software keys are plugged in, as :func:`unlatch.keyslots.hidraw.ports` tells of real ones."""

import errno
import os
from collections.abc import Callable

from fido2.hid import CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor

from ctap.key import Key
from ctap.packets import SIZE, Packets
from unlatch.keyslots.hidraw import Port

KEEPALIVE_SECONDS = 0.1


class Clock:
    """Time for tests: it passes when a key is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """As time.sleep, at once."""
        self.now += seconds


class Hub:
    """USB ports with keys in them. ``clock`` is for the keys and for who talks to them."""

    def __init__(self, *keys: Key) -> None:
        self.clock = Clock()
        self.open = 0  # connections
        self.packets: list[bytes] = []  # all that went either way
        self.locked: set[Key] = set()  # those that this user may not open
        self.tamper: Callable[[bytes], bytes] = lambda packet: packet  # what becomes of a packet of a key
        self.before_read: Callable[[], None] = lambda: None
        self._plugged: dict[Key, Packets] = {}
        for key in keys:
            self.plug(key)

    def plug(self, key: Key) -> None:
        """Plug a key in: it gets power."""
        key.pins.power_on()
        key._clock = self.clock
        self._plugged[key] = Packets(key)

    def pull(self, key: Key) -> None:
        """Pull it out; who has it open gets ENODEV."""
        del self._plugged[key]

    def replug(self, key: Key) -> None:
        """Out and in again."""
        self.pull(key)
        self.plug(key)

    def side(self, key: Key) -> Packets:
        """The key's side of its cable."""
        return self._plugged[key]

    def ports(self) -> list[Port]:
        """What is plugged in."""
        return [self._port(number, key) for number, key in enumerate(self._plugged)]

    def _port(self, number: int, key: Key) -> Port:
        path, name = f"/dev/hidraw{number}", f"Software Key {number}"

        def open_key() -> CtapHidDevice:
            if key in self.locked:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            descriptor = HidDescriptor(path, 0, 0, SIZE, SIZE, name, None)
            connection = _Connection(self, key)
            try:
                return CtapHidDevice(descriptor, connection)
            except BaseException:
                connection.close()
                raise

        return Port(path, name, open_key)


class _Connection(CtapHidConnection):
    """One program's open device file."""

    def __init__(self, hub: Hub, key: Key) -> None:
        self._hub = hub
        self._key = key
        self._side = hub.side(key)
        self._channel = 0
        self._closed = False
        hub.open += 1

    def write_packet(self, data: bytes) -> None:
        self._check()
        self._hub.packets.append(data)
        self._channel = int.from_bytes(data[:4])
        self._side.put(data)

    def read_packet(self) -> bytes:
        self._hub.before_read()
        self._check()
        packet = self._side.take(self._channel)
        if packet is None:
            self._hub.clock.now += KEEPALIVE_SECONDS
            self._side.tick()
            packet = self._side.take(self._channel)
        if packet is None:
            raise TimeoutError(errno.ETIMEDOUT, "nothing came")
        packet = self._hub.tamper(packet)
        self._hub.packets.append(packet)
        return packet

    def close(self) -> None:
        assert not self._closed, "closed twice"
        self._closed = True
        self._hub.open -= 1

    def _check(self) -> None:
        assert not self._closed
        if self._hub._plugged.get(self._key) is not self._side:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def opened(key: Key) -> tuple[CtapHidDevice, Hub]:
    """A key, plugged in and open, for whoever wants to talk to it without us."""
    hub = Hub(key)
    return hub.ports()[0].open(), hub
