"""A real Synapse on loopback for the tests: SQLite, one process, a temporary directory, stopped by its pid.

It lives in a virtual environment of its own, because it brings eighty packages: ``$SYNAPSE_PYTHON``, or
``.make/synapse`` of this checkout.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from waiting import until

SERVER_NAME = "unlatch.test"
BOOT_SECONDS = 90.0  # three on an idle machine
_SHARED_SECRET = "registration of the tests"

# Everything that a test may need and the defaults forbid: our own traffic is what is tested, not Synapse's limits.
_FREE = {"per_second": 10_000, "burst_count": 10_000}
_LIMITS: dict[str, Any] = {
    "rc_message": _FREE,
    "rc_registration": _FREE,
    "rc_login": {"address": _FREE, "account": _FREE, "failed_attempts": _FREE},
    "rc_joins": {"local": _FREE, "remote": _FREE},
    "rc_joins_per_room": _FREE,
    "rc_invites": {"per_room": _FREE, "per_user": _FREE, "per_issuer": _FREE},
    "rc_room_creation": _FREE,
}


class User(NamedTuple):
    """An account. ``user_id`` is the whole ``@name:server``."""

    user_id: str
    password: str


def python() -> Path | None:
    """The interpreter that has Synapse, or nothing."""
    made = Path(__file__).parents[2] / ".make/synapse/bin/python"
    found = Path(os.environ.get("SYNAPSE_PYTHON") or made)
    return found if found.exists() else None


class Synapse:
    """One homeserver. ``settings`` go over ours, as in homeserver.yaml."""

    def __init__(self, port: int = 0, **settings: Any) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-synapse-", dir="/tmp"))
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        (self.root / "homeserver.yaml").write_text(json.dumps(self._settings() | settings))  # JSON is YAML
        (self.root / "log.yaml").write_text(json.dumps(_logging(self.root / "homeserver.log")))

    def _settings(self) -> dict[str, Any]:
        return {
            "server_name": SERVER_NAME,
            "public_baseurl": f"{self.url}/",
            "pid_file": str(self.root / "pid"),
            "listeners": [
                {
                    "port": self.port,
                    "type": "http",
                    "bind_addresses": ["127.0.0.1"],
                    "resources": [{"names": ["client"]}],
                }
            ],
            "database": {"name": "sqlite3", "args": {"database": str(self.root / "homeserver.db")}},
            "log_config": str(self.root / "log.yaml"),
            "media_store_path": str(self.root / "media"),
            "signing_key_path": str(self.root / "signing.key"),
            "registration_shared_secret": _SHARED_SECRET,
            "macaroon_secret_key": "macaroons of the tests",
            "form_secret": "forms of the tests",
            "bcrypt_rounds": 4,
            "report_stats": False,
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "federation_domain_whitelist": [],
            "presence": {"enabled": False},
        } | _LIMITS

    def start(self) -> None:
        """Start it; :meth:`wait` says when it serves."""
        key = self.root / "signing.key"
        if not key.exists():
            subprocess.run([self._python(), "-m", "synapse._scripts.generate_signing_key", "-o", key], check=True)
        with (self.root / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._python(), "-m", "synapse.app.homeserver", "-c", self.root / "homeserver.yaml"],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> "Synapse":
        """Wait until it answers."""
        until(self._serves, f"Synapse to serve; see {self.root}", BOOT_SECONDS)
        return self

    def stop(self) -> None:
        """End it and keep its data: :meth:`start` goes on with them."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End it and forget everything."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def register(self, name: str = "", password: str = "correct horse", *, admin: bool = False) -> User:
        """A new account; without a name one that nobody has."""
        name = name or f"user-{secrets.token_hex(5)}"  # several processes may share one homeserver
        nonce = self.call("GET", "/_synapse/admin/v1/register")["nonce"]
        said = "\0".join([nonce, name, password, "admin" if admin else "notadmin"])
        mac = hmac.new(_SHARED_SECRET.encode(), said.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac}
        made = self.call("POST", "/_synapse/admin/v1/register", body)
        self.call("POST", "/_matrix/client/v3/logout", {}, made["access_token"])  # registering logs in, unasked
        return User(made["user_id"], password)

    def login(self, user: User, device_name: str = "phone") -> dict[str, Any]:
        """A new login: user_id, device_id, access_token."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user.user_id},
            "password": user.password,
            "initial_device_display_name": device_name,
        }
        return self.call("POST", "/_matrix/client/v3/login", body)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "", *, ok: bool = True
    ) -> dict[str, Any]:
        """One request as it stands. ``ok``: a refusal fails the test; else its body is given back."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        assert not ok or answer.status == 200, f"{method} {path}: {answer.status} {said}"
        assert isinstance(said, dict)
        return said

    def event(self, room_id: str, event_id: str, token: str) -> dict[str, Any]:
        """One event as the server has it now: redacted, if it was."""
        return self.call("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/event/{quote(event_id)}", None, token)

    def _python(self) -> str:
        found = python()
        assert found is not None, 'no Synapse: run "tools/setup test", or set $SYNAPSE_PYTHON'
        return str(found)

    def _serves(self) -> bool:
        assert self._process is None or self._process.poll() is None, (self.root / "output").read_text()[-2000:]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _logging(file: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "formatter": "plain", "filename": str(file)}},
        "root": {"level": "WARNING", "handlers": ["file"]},
        "disable_existing_loggers": False,
    }


if __name__ == "__main__":  # a homeserver to try things on by hand: python tests/matrix/synapse.py
    server = Synapse()
    try:
        server.start()
        print(server.wait().url, file=sys.stderr)
        sys.stdin.read()
    finally:
        server.close()
