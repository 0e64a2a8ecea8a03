"""A DNS server that knows one address, for every name: run inside a private network."""

import socket
import struct
import sys


def serve(address: str) -> None:
    """Answer every question for an A record with this address, by way of an alias; others with nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            query, client = server.recvfrom(512)
            server.sendto(answer(query, address), client)


def answer(query: bytes, address: str) -> bytes:
    """RFC 1035 by hand: the question again, an alias of its name, and the alias's address."""
    end = query.index(b"\0", 12) + 5
    kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
    records = b""
    if kind == 1:
        alias = b"\x05proxy\xc0\x0c"  # proxy., then the name that stands at byte 12
        records = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c" + struct.pack("!H", len(alias)) + alias
        records += b"\xc0" + bytes([end + 12]) + b"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(address)
    count = 2 if records else 0
    return query[:2] + b"\x81\x80\x00\x01" + struct.pack("!HHH", count, 0, 0) + query[12:end] + records


if __name__ == "__main__":
    serve(sys.argv[1])
