"""vpcd's protocol, the card's side: the virtual reader in pcscd sends a length and that many bytes.

One byte is a command to the reader (power off and on, reset, send the answer to reset), anything longer is for the
card. Source: vsmartcard, virtualsmartcard/src/vpcd/vpcd.h.
"""

import socket
import struct
from collections.abc import Iterator

POWER_OFF, POWER_ON, RESET, ANSWER_TO_RESET = b"\0", b"\1", b"\2", b"\4"
_LENGTH = struct.Struct(">H")


def receive(line: socket.socket) -> Iterator[bytes]:
    """Everything that the reader sends, until one of the two hangs up."""
    while True:
        size = _exactly(line, _LENGTH.size)
        message = size and _exactly(line, _LENGTH.unpack(size)[0])
        if not message:
            return
        yield message


def send(line: socket.socket, message: bytes) -> None:
    """One answer."""
    line.sendall(_LENGTH.pack(len(message)) + message)


def _exactly(line: socket.socket, size: int) -> bytes:
    """So many bytes, or none when the line is cut."""
    data = b""
    while len(data) < size:
        # vpcd writes length and message apart, and its kernel holds the second back until the first is acknowledged:
        # without this, and again before each read, every command takes 44 ms.
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        try:
            piece = line.recv(size - len(data))
        except OSError:
            return b""
        if not piece:
            return b""
        data += piece
    return data
