"""A Caddy that comes late: its address is known, and its authority trusted, before it runs."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from house import PUBLIC_URL, House
from proxy import NAME, Caddy
from real import real
from waiting import until

# An ACME server that never answers: Caddy takes connections and has no certificate to show.
_TLS = {"internal": "tls internal", "none yet": "tls {\n\t\tissuer acme http://127.0.0.1:1/directory\n\t}"}
_CADDYFILE = """{{
\tadmin off
\tskip_install_trust
\tauto_https disable_redirects
\tdefault_bind 127.0.0.1
\tstorage file_system {root}/caddy
}}

https://{name}:{port} {{
\t{tls}
\treverse_proxy unix/{page}
}}
"""


class LateCaddy:
    """For one house. Its certificates are made by the same authority as those of ``family``."""

    def __init__(self, family: Caddy, house: House) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-caddy-", dir="/tmp"))
        shutil.copytree(family.root / "caddy" / "pki", self.root / "caddy" / "pki")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._page = house.page
        self._log = self.root / "caddy.log"
        self._process: subprocess.Popen[bytes] | None = None
        house.settings.write_text(house.settings.read_text().replace(PUBLIC_URL, f"https://{NAME}:{self.port}"))

    def start(self, tls: str = "internal") -> None:
        """Start it with a certificate ("internal") or still without ("none yet"); returns when it listens."""
        config = self.root / "Caddyfile"
        config.write_text(_CADDYFILE.format(root=self.root, name=NAME, port=self.port, tls=_TLS[tls], page=self._page))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [real("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"],
                env={"HOME": str(self.root), "PATH": os.environ["PATH"], "XDG_DATA_HOME": str(self.root)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._listens, "Caddy to listen")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def close(self) -> None:
        """End it, and remove all it kept."""
        self.stop()
        shutil.rmtree(self.root)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
