"""A git repository over HTTP, behind a user name and a password (RFC 7617)."""

import base64
import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from house import House
from real import real


@contextlib.contextmanager
def repository(house: House, people: Mapping[str, str]) -> Iterator[str]:
    """Serve a repository with one commit to these people, by name and password; its URL ends with "/site.git"."""
    real("git")
    work, www = house.root / "work", house.root / "www"
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    house.run("git", "init", "-q", work)
    house.run("git", "-C", work, *identity, "commit", "-q", "--allow-empty", "-m", "one")
    house.run("git", "clone", "-q", "--bare", work, www / "site.git")
    house.run("git", "-C", www / "site.git", "update-server-info")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Git, people, www)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/site.git"
        server.shutdown()


class _Git(http.server.SimpleHTTPRequestHandler):
    def __init__(self, people: Mapping[str, str], www: Path, *arguments: object) -> None:
        self._known = {base64.b64encode(f"{name}:{word}".encode()).decode() for name, word in people.items()}
        super().__init__(*arguments, directory=str(www))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.headers.get("Authorization", "").removeprefix("Basic ") not in self._known:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        pass
