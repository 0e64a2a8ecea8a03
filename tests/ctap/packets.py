"""CTAPHID: requests and answers in packets (11.2). One transaction at a time, as a key has it."""

import struct
from collections import deque

from ctap.codes import Code
from ctap.key import Key, Working

SIZE = 64
BROADCAST = 0xFFFFFFFF
PING, INIT, CBOR, CANCEL, ERROR, KEEPALIVE = 0x01, 0x06, 0x10, 0x11, 0x3F, 0x3B
PROCESSING, UP_NEEDED = 1, 2
_FIRST = 0x80  # set in the command of a first packet


class Packets:
    """The key's side of the cable: packets in, packets out; :meth:`tick` lets it go on with what takes time."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.cancelled = 0
        self._channels = 0
        self._channel = 0  # of the transaction that is going on
        self._command = 0
        self._missing = 0
        self._data = b""
        self._sequence = 0
        self._working: Working | None = None
        self._cancel = False
        self._out: deque[tuple[int, bytes]] = deque()

    def put(self, packet: bytes) -> None:
        """One packet from the platform."""
        assert len(packet) == SIZE, len(packet)
        channel, kind = struct.unpack_from(">IB", packet)
        if kind & _FIRST:
            self._first(channel, kind & 0x7F, packet)
        else:
            self._next(channel, kind, packet)

    def take(self, channel: int) -> bytes | None:
        """The next packet for a channel (and for who has none yet), if there is one."""
        for place, (to, packet) in enumerate(self._out):
            if to in (channel, BROADCAST):
                del self._out[place]
                return packet
        return None

    def tick(self) -> None:
        """A tenth of a second passed."""
        if self._working is None:
            return
        cancel, self._cancel = self._cancel, False
        try:
            self._working.send(cancel)
        except StopIteration as done:
            self._finish(done.value)
        else:
            self._send(self._channel, KEEPALIVE, bytes([UP_NEEDED]))

    def _first(self, channel: int, command: int, packet: bytes) -> None:
        (size,) = struct.unpack_from(">H", packet, 5)
        if command == INIT:
            self._init(channel, packet[7 : 7 + size])
        elif command == CANCEL:
            if channel == self._channel and self._working is not None:
                self.cancelled += 1
                self._cancel = True
        elif not 0 < channel <= self._channels:
            self._send(channel, ERROR, bytes([Code.INVALID_CHANNEL]))
        elif self._channel:
            self._send(channel, ERROR, bytes([Code.CHANNEL_BUSY if channel != self._channel else Code.INVALID_SEQ]))
        else:
            self._channel, self._command, self._missing, self._data, self._sequence = channel, command, size, b"", 0
            self._gather(packet[7:])

    def _next(self, channel: int, sequence: int, packet: bytes) -> None:
        if channel != self._channel or self._working is not None:
            return  # (11.2.4): a stray continuation is ignored
        if sequence != self._sequence:
            self._channel = 0
            self._send(channel, ERROR, bytes([Code.INVALID_SEQ]))
            return
        self._sequence += 1
        self._gather(packet[5:])

    def _gather(self, data: bytes) -> None:
        part = data[: self._missing]
        self._data += part
        self._missing -= len(part)
        if self._missing == 0:
            self._begin()

    def _begin(self) -> None:
        if self._command == PING:
            self._finish(self._data)
        elif self._command == CBOR and self._data:
            self._working = self.key.work(self._data)
            try:
                next(self._working)
            except StopIteration as done:
                self._finish(done.value)
            else:
                self._send(self._channel, KEEPALIVE, bytes([UP_NEEDED]))
        else:
            channel, self._channel = self._channel, 0
            self._send(channel, ERROR, bytes([Code.INVALID_COMMAND]))

    def _init(self, channel: int, nonce: bytes) -> None:
        if channel == BROADCAST:
            self._channels += 1
            self._send(BROADCAST, INIT, nonce + struct.pack(">IBBBBB", self._channels, 2, 1, 0, 0, 0x0C))
        else:  # what this channel had begun is over
            if channel == self._channel:
                self._channel, self._working = 0, None
            self._send(channel, INIT, nonce + struct.pack(">IBBBBB", channel, 2, 1, 0, 0, 0x0C))

    def _finish(self, answer: bytes) -> None:
        channel, self._channel, self._working = self._channel, 0, None
        self._send(channel, self._command, answer)

    def _send(self, channel: int, command: int, data: bytes) -> None:
        head = struct.pack(">IBH", channel, _FIRST | command, len(data))
        self._out.append((channel, (head + data[: SIZE - 7]).ljust(SIZE, b"\0")))
        for number, start in enumerate(range(SIZE - 7, len(data), SIZE - 5)):
            head = struct.pack(">IB", channel, number)
            self._out.append((channel, (head + data[start : start + SIZE - 5]).ljust(SIZE, b"\0")))
