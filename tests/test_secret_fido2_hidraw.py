"""Finding security keys by sysfs, talking to a device file with a time limit, and keys that talk nonsense."""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ctap.codes import Code
from ctap.desk import PIN, SUBJECT, Desk
from ctap.key import Key
from ctap.packets import SIZE, Packets
from ctap.port import Clock
from fido2.ctap2.base import Ctap2
from fido2.hid import CtapHidDevice
from fido2.hid.base import HidDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from keyslot_contract import accepting

from unlatch.keyslots import hidraw
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.fido2 import Fido2
from unlatch.keyslots.hidraw import SILENCE_SECONDS, VISIT_SECONDS, Connection

# HID report descriptors: of a security key (CTAP 2.1, 11.2.8.1), and of a keyboard.
FIDO = bytes.fromhex("06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0")
KEYBOARD = bytes.fromhex("05010906a101050719e029e71500250175019508810295017508810195057501050819012905910295017503c0")


class Sysfs:
    """A /sys/class/hidraw and a /dev."""

    def __init__(self, root: Path) -> None:
        self.system, self.devices = root / "hidraw", root / "dev"
        self.system.mkdir()
        self.devices.mkdir()

    def add(self, number: int, descriptor: bytes, name: str = "", *, device: bool = True) -> Path:
        """One HID device."""
        place = self.system / f"hidraw{number}" / "device"
        place.mkdir(parents=True)
        (place / "report_descriptor").write_bytes(descriptor)
        if name:
            (place / "uevent").write_text(f"DRIVER=hid-generic\nHID_ID=0003:00001050:00000407\nHID_NAME={name}\n")
        path = self.devices / f"hidraw{number}"
        if device:
            path.write_bytes(b"")
            path.chmod(0)
        return path

    def ports(self) -> list[hidraw.Port]:
        return hidraw.ports(str(self.system), str(self.devices))


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Not root for a while: root may open anything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_security_keys_are_known_by_their_report_descriptor(sysfs: Sysfs) -> None:
    """Keyboards, garbage and devices that went away are none; names come from the kernel."""
    sysfs.add(0, KEYBOARD, "Some Keyboard")
    sysfs.add(1, FIDO, "Yubico YubiKey OTP+FIDO+CCID")
    sysfs.add(2, FIDO[:9])
    sysfs.add(3, b"")
    sysfs.add(4, FIDO)
    (sysfs.system / "hidraw5").mkdir()
    found = [(port.path, port.name) for port in sysfs.ports()]
    assert found == [
        (str(sysfs.devices / "hidraw1"), "Yubico YubiKey OTP+FIDO+CCID"),
        (str(sysfs.devices / "hidraw4"), "security key"),
    ]


def test_without_such_devices_there_are_no_keys(tmp_path: Path) -> None:
    """No hidraw at all, as in most containers."""
    assert hidraw.ports(str(tmp_path / "none"), "/dev") == []


def test_a_device_without_permission_is_told() -> None:
    """The key is there and this user may not open it: that, and what to do, instead of "no key"."""
    desk = Desk(Key())
    params = desk.kind.create(SUBJECT, {}, desk.helpers()).params
    with tempfile.TemporaryDirectory(prefix="unlatch-", dir="/tmp") as root:
        Path(root).chmod(0o755)
        sysfs = Sysfs(Path(root))
        path = sysfs.add(0, FIDO)
        with nobody(), pytest.raises(SlotFailed) as failed:
            Fido2(sysfs.ports).open(SUBJECT, params, accepting(b""), desk.helpers())
    assert failed.value.why == f"this user may not open the security key at {path}"
    assert "docs/secrets-fido2.md" in failed.value.hint


def test_a_device_that_is_not_there_is_told(sysfs: Sysfs) -> None:
    """A container may see the key in sysfs and have no device file."""
    sysfs.add(0, FIDO, device=False)
    desk = Desk(Key())
    with pytest.raises(SlotFailed, match="cannot be used: no such file or directory"):
        Fido2(sysfs.ports).create(SUBJECT, {}, desk.helpers())


def test_what_answers_nothing_is_closed_again(sysfs: Sysfs) -> None:
    """A device that fails while it is opened leaves no descriptor behind."""
    sysfs.add(0, FIDO).chmod(0o600)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SlotFailed, match="pulled out"):
        Fido2(sysfs.ports).create(SUBJECT, {}, Desk(Key()).helpers())
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_link_is_no_device(sysfs: Sysfs, tmp_path: Path) -> None:
    """Device files are opened as they are."""
    path = sysfs.add(0, FIDO, device=False)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlotFailed):
        Fido2(sysfs.ports).create(SUBJECT, {}, Desk(Key()).helpers())
    assert not (tmp_path / "elsewhere").exists()


class Wire:
    """A socket with whole packets, as hidraw has them, and a software key at its far end."""

    def __init__(self, key: Key) -> None:
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.descriptor = os.dup(near.fileno())
        near.close()
        self._packets = Packets(key)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while packet := self._far.recv(2 * SIZE):
            assert packet[0] == 0, "hidraw wants the number of a report first"
            self._packets.put(packet[1:])
            while self._packets._working is not None:
                self._packets.tick()
            for channel in range(1, self._packets._channels + 1):
                while (answer := self._packets.take(channel)) is not None:
                    self._far.send(answer)

    def close(self) -> None:
        self._far.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._far.close()


def test_a_real_descriptor_carries_the_packets() -> None:
    """The connection that devices get, under python-fido2, with a key at the other end of a descriptor."""
    wire = Wire(Key())
    connection = Connection(wire.descriptor, SIZE)
    device = CtapHidDevice(HidDescriptor("wire", 0, 0, SIZE, SIZE, None, None), connection)  # type: ignore[arg-type]
    assert device.ping(bytes(range(256))) == bytes(range(256))
    assert "hmac-secret" in Ctap2(device).info.extensions
    device.close()
    wire.close()


class Silent:
    """A descriptor on which nothing comes, and a clock that polling moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.clock = Clock()
        self.patience: list[float] = []
        self.connection = Connection(self.near.fileno(), SIZE, self.clock)
        monkeypatch.setattr(self.connection, "_poll", self)

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.patience.append(milliseconds / 1000)
        self.clock.now += milliseconds / 1000
        return []


def test_a_silent_key_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that says nothing for three seconds is not waited for."""
    silent = Silent(monkeypatch)
    with pytest.raises(TimeoutError):
        silent.connection.read_packet()
    assert silent.patience == [SILENCE_SECONDS]
    silent.near.close()
    silent.far.close()


def test_a_key_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However lively it is, a visit ends after a minute and a half."""
    silent = Silent(monkeypatch)
    silent.clock.now += VISIT_SECONDS - 1
    silent.far.send(bytes(SIZE))
    with pytest.raises(TimeoutError):
        silent.connection.read_packet()
    assert silent.patience == [1]
    silent.far.send(bytes(SIZE))
    with pytest.raises(TimeoutError):
        silent.connection.read_packet()
    assert len(silent.patience) == 1
    silent.near.close()
    silent.far.close()


def test_half_a_packet_is_none() -> None:
    """What a device says while it is pulled out is no answer."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(near.detach(), SIZE)
    far.send(b"half")
    with pytest.raises(OSError, match="No such device"):
        connection.read_packet()
    far.close()
    with pytest.raises(OSError, match="No such device"):
        connection.read_packet()
    connection.close()


CHANGES = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, SIZE - 1), st.integers(1, 255)), min_size=1, max_size=4
)


@given(CHANGES, st.booleans())
@settings(max_examples=60)
def test_a_key_that_talks_nonsense(changes: list[tuple[int, int, int]], pin: bool) -> None:
    """Changed bytes in what a key says end in words or in the right answer, and never in a traceback."""
    key = Key(pin=PIN.decode() if pin else "")
    desk = Desk(key, answers=(PIN,) * 9)
    created = desk.kind.create(SUBJECT, {"pin": "yes"} if pin else {}, desk.helpers())
    kek = bytes(created.kek.reveal())
    number = 0

    def tamper(packet: bytes) -> bytes:
        nonlocal number
        data = bytearray(packet)
        for when, where, what in changes:
            # The code "busy" would only be waited for.
            if when == number and data[where] ^ what != Code.CHANNEL_BUSY:
                data[where] ^= what
        number += 1
        return bytes(data)

    desk.hub.tamper = tamper
    with contextlib.suppress(SlotFailed):
        opened = desk.kind.open(SUBJECT, created.params, accepting(kek), desk.helpers())
        assert opened.roll is not None
    assert desk.hub.open == 0
