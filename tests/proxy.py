"""A real Caddy with its own certificate authority: one name, many hosts by path, and a tap on its plaintext side."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

from house import PUBLIC_URL, House
from real import real
from waiting import until

NAME = "unlock.example.test"

# Caddy itself takes a free port, so that no two tests can want the same one; its log says which it became. Nothing is
# compressed where the tap listens, so that it hears every word.
CADDYFILE = """{{
\tadmin off
\tskip_install_trust
\tauto_https disable_redirects
\tdefault_bind 127.0.0.1
\tstorage file_system {root}/caddy
\tservers {{
\t\tprotocols h1 h2
\t}}
}}

https://{name}:0 {{
\ttls internal
\tlog
\thandle /web03/* {{
\t\treverse_proxy unix/{root}/web03.sock
\t}}
\thandle /web04/* {{
\t\treverse_proxy unix/{root}/web04.sock
\t}}
\thandle /tapped/* {{
\t\treverse_proxy {tap} {{
\t\t\theader_up -Accept-Encoding
\t\t}}
\t}}
}}
"""


class Caddy:
    """One Caddy. ``web03`` and ``web04`` are reached over Unix sockets, ``tapped`` over TCP through a :class:`Tap`."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-caddy-", dir="/tmp"))
        self.tap = Tap(self.root / "tapped.sock")
        self.authority = self.root / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        config = self.root / "Caddyfile"
        config.write_text(CADDYFILE.format(root=self.root, name=NAME, tap=f"127.0.0.1:{self.tap.port}"))
        self._log = self.root / "caddy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [real("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"],
                env={"HOME": str(self.root), "PATH": os.environ["PATH"], "XDG_DATA_HOME": str(self.root)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._ready, "a certificate and a port of Caddy")
        self.port = int(self._said(r'"actual_address":"127\.0\.0\.1:(\d+)"'))

    def serve(self, host: str, house: House, top: str = "", tables: str = "") -> None:
        """Write this house's settings so that its page is here, as ``host``."""
        house.configure(top, tables)
        house.settings.write_text(house.settings.read_text().replace(PUBLIC_URL, f"https://{NAME}:{self.port}/{host}"))
        link = self.root / f"{host}.sock"
        link.unlink(missing_ok=True)
        link.symlink_to(house.page)

    def fetch(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET without a browser, as a link preview makes it."""
        trust = ssl.create_default_context(cafile=self.authority)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection,
            trust.wrap_socket(connection, server_hostname=NAME) as secure,
        ):
            secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(secure)
            response.begin()
            return response.status, response.read()

    def logged(self) -> bytes:
        """All that Caddy wrote to its log."""
        return self._log.read_bytes()

    def close(self) -> None:
        """End it, and remove all it kept."""
        self._process.terminate()
        self._process.wait(20)
        self.tap.close()
        shutil.rmtree(self.root)

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return bool(self._said(r'"actual_address":"([^"]+)"') and self._said("(certificate obtained successfully)"))

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self._log.read_text())
        return found[1] if found else ""


class Tap:
    """A TCP relay in front of a broker's Unix socket that keeps every byte that passes, in both directions."""

    def __init__(self, page: Path) -> None:
        self._page = str(page)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                far.connect(self._page)
            except OSError:  # the broker is away: the proxy sees a closed connection and says 502
                near.close()
                far.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.heard += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # Both directions end up here, the second one finds them closed already.
        source.close()
        sink.close()
