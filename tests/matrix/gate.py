"""The way to a homeserver, as bad as a test wants it: shut, silent, an error page, too many requests, or free.

A TCP relay with an address of its own that stays the same whether or not anything stands behind it.
"""

import contextlib
import json
import socket
import threading

BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
)


def too_many(milliseconds: int) -> bytes:
    """What a homeserver says to somebody who is too fast (client-server API, "Rate limiting")."""
    body = json.dumps({"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": milliseconds})
    head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class Gate:
    """In front of ``port`` on loopback. It starts open; each change of mind ends the connections that there are."""

    def __init__(self, port: int) -> None:
        self._to = port
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        # Only a port that was asked for by its number stays ours while nobody listens on it (Linux).
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.url = f"http://127.0.0.1:{self.port}"
        self.came = 0  # connections so far
        self._answer: bytes | None = None
        self._silent = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def free(self) -> None:
        """Let everything through."""
        self._change(None)

    def silent(self) -> None:
        """Take connections and say nothing."""
        self._change(None, silent=True)

    def says(self, answer: bytes) -> None:
        """Answer every request with these bytes."""
        self._change(answer)

    def shut(self) -> None:
        """Nobody listens: connections are refused. The port stays ours: it is bound, without listening."""
        self._change(None)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def reopen(self) -> None:
        """After :meth:`shut`: listen again, and let everything through."""
        self._change(None)
        self._listener.listen(16)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """For good."""
        self.shut()
        self._listener.close()

    def _change(self, answer: bytes | None, *, silent: bool = False) -> None:
        with self._lock:
            self._answer, self._silent = answer, silent
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # shut
                return
            with self._lock:
                self.came += 1
                answer, silent = self._answer, self._silent
                self._open.add(near)
            if silent or answer is not None:
                threading.Thread(target=self._reply, args=(near, answer), daemon=True).start()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                self._end(near)
                continue
            with self._lock:
                self._open.add(far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _reply(self, connection: socket.socket, answer: bytes | None) -> None:
        with contextlib.suppress(OSError):
            heard = b""
            while b"\r\n\r\n" not in heard and (data := connection.recv(65536)):
                heard += data
            if answer is not None:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # closing with unread bytes would reset what we said
                pass
        self._end(connection)

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            self._end(end)

    def _end(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
