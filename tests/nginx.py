"""A real nginx with a configuration of the test's own, in a private network."""

import shutil
from pathlib import Path

from private_network import PrivateNetwork
from real import real
from waiting import until

_CONFIGURATION = """
daemon off;
master_process {master};
{user}
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    {temporary}
    ssl_session_cache none;
{servers}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """``servers`` are its server blocks. With ``user`` its worker is that user, else it is one process of root's."""

    def __init__(self, network: PrivateNetwork, folder: Path, servers: str, *, user: str = "") -> None:
        self.root = folder
        folder.mkdir()
        folder.chmod(0o755)
        temporary = "\n".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
        file = folder / "nginx.conf"
        file.write_text(
            _CONFIGURATION.format(
                root=folder, temporary=temporary, servers=servers,
                master="on" if user else "off", user=f"user {user};" if user else "",
            )
        )  # fmt: skip
        self._log = folder / "error.log"
        self._process = network.start(real("nginx"), "-c", file, "-e", self._log)
        until(self._runs, "nginx")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self.root, ignore_errors=True)

    def _runs(self) -> bool:
        """It listens before it writes this file."""
        assert self._process.poll() is None, self._log.read_text()
        file = self.root / "nginx.pid"
        return file.exists() and bool(file.read_text())
