"""The main job on this machine, with throw-away keys: `make demo`.

A service without a terminal runs `pass sql-root`; GnuPG needs a passphrase; Unlatch prints a link; you answer on the
page (or `ANSWER=auto` does, with the real terminal answerer); the service gets its password; link and port are gone.
Everything lives in one temporary directory and ends with this program, also on Ctrl-C.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

BIN = Path(sys.executable).parent
PATH = os.environ.get("PATH", "/usr/bin:/bin")
ANSWER = os.environ.get("ANSWER", "")
PASSPHRASE = "open sesame"  # of a key that nobody will miss
KEY = "Database Admin <root@db01.example>"
# s2k-count: the agent would take seconds to find out what costs an attacker 100 ms; this key protects nothing.
AGENT = f"pinentry-program {BIN}/pinentry-unlatch\ndisable-scdaemon\ns2k-count 65536\n"
SETTINGS = 'public_url = "http://localhost:{port}/"\nlisten = "127.0.0.1:{port}"\n'
START_SECONDS = 20.0
CLOSE_SECONDS = 40.0  # a broker keeps the page up to 30 s for a verdict that nobody fetched

_T = TypeVar("_T")


class Failed(Exception):
    """The demonstration cannot go on; the second text says what to type."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


class Stage:
    """The temporary directory and the programs that run in it."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self.password = secrets.token_urlsafe(12)
        self.runtime = root / "run"
        self.settings = root / "unlatch.toml"
        self.service_environ = {"HOME": str(root), "GNUPGHOME": str(root / "gnupg"), "PATH": PATH}
        # What the service does not have: only gpg-agent and the broker know where this demonstration's broker is.
        self.environ = {
            **self.service_environ,
            "UNLATCH_RUNTIME_DIR": str(self.runtime),
            "UNLATCH_CONFIG": str(self.settings),
            **{name: os.environ[name] for name in ("TERM", "LANG", "SSH_CONNECTION", "USER") if name in os.environ},
        }

    def prepare(self) -> None:
        """A key with a passphrase, a password store with one entry, and a gpg-agent that asks through Unlatch."""
        for name in ("gnupg", "run"):
            (self.root / name).mkdir(mode=0o700)
        self.settings.write_text(SETTINGS.format(port=self.port))
        (self.root / "gnupg" / "gpg-agent.conf").write_text(AGENT)
        gpg = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase-fd", "0")
        self._run(*gpg, "--quick-generate-key", KEY, "future-default", "default", "never", feed=PASSPHRASE)
        self._run("pass", "init", KEY)
        self._run("pass", "insert", "--multiline", "sql-root", feed=self.password + "\n")
        self._run("gpg-connect-agent", "RELOADAGENT", "/bye")  # forgets the passphrase of a moment ago

    @contextlib.contextmanager
    def broker(self) -> Iterator[None]:
        """`unlatch serve` in the foreground of this terminal, until the block ends."""
        broker = subprocess.Popen([BIN / "unlatch", "serve", "--config", self.settings], env=self.environ)
        try:
            wait_for(lambda: self._ask_broker("status", broker), "the broker's start", START_SECONDS)
            yield
        finally:
            end(broker)

    @contextlib.contextmanager
    def service(self) -> Iterator["subprocess.Popen[str]"]:
        """`pass sql-root` as a service runs it: no terminal, no environment to speak of, no input, working in /."""
        service = subprocess.Popen(
            ["pass", "sql-root"], env=self.service_environ, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield service
        finally:
            end(service)

    def link(self, service: "subprocess.Popen[str]") -> str:
        """The link of the prompt that the service caused, from the broker's admin socket."""
        prompts = wait_for(lambda: self._ask_broker("list", service).get("prompts", []), "a prompt", START_SECONDS)
        return f"http://localhost:{self.port}/{prompts[0]['ticket']}#{prompts[0]['fragment']}"

    def answer(self, link: str) -> None:
        """What ANSWER=auto does instead of you: the terminal answerer gets the link and the passphrase on its input."""
        self._run(BIN / "unlatch", "answer", "--stdin", feed=f"{link}\n{PASSPHRASE}")

    def stop_agent(self) -> None:
        """End the gpg-agent of this GNUPGHOME."""
        if shutil.which("gpgconf"):
            subprocess.run(["gpgconf", "--kill", "all"], env=self.environ, check=False, timeout=20, capture_output=True)

    def _run(self, *command: str | Path, feed: str = "") -> None:
        done = subprocess.run(
            command, env=self.environ, input=feed, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise Failed(f"{Path(command[0]).name} failed: {done.stderr.strip()}")

    def _ask_broker(self, what: str, needed: "subprocess.Popen[Any]") -> dict[str, Any]:
        """A reply from the broker's admin socket, {} while it is not there yet; fails when ``needed`` has ended."""
        if needed.poll() is not None:
            raise Failed("the service gave up" if needed.stderr else "the broker ended", errors_of(needed))
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            admin.connect(str(self.runtime / "admin" / "admin.sock"))
            admin.sendall(json.dumps({"v": 1, "op": what}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(admin.makefile("rb").readline())
            return reply
        return {}


def main() -> int:
    """Run the demonstration; 0 only if the right password came out and nothing was left behind."""
    port = chosen_port()
    check_free(port)
    # GnuPG's sockets lie in GNUPGHOME, and a socket's name has at most 107 bytes (unix(7)).
    root = Path(tempfile.mkdtemp(prefix="unlatch-demo-", dir=None if len(tempfile.gettempdir()) < 40 else "/tmp"))
    stage = Stage(root, port)
    try:
        say("making a throw-away GnuPG key and a password store")
        stage.prepare()
        with stage.broker(), stage.service() as service:
            say('a service without a terminal runs "pass sql-root"; its GnuPG key is locked')
            play(stage, service)
    finally:
        stage.stop_agent()
        shutil.rmtree(root, ignore_errors=True)
    say("cleaned up: keys, store, agent and broker of this demonstration are gone")
    return 0


def play(stage: Stage, service: "subprocess.Popen[str]") -> None:
    """From the ring to the released password."""
    link = stage.link(service)
    if not sys.stdout.isatty():  # only a terminal gets it from the broker
        say(f"the link is:  {link}")
    say(f"the passphrase to enter there is:  {PASSPHRASE}")
    if ANSWER == "auto":
        say("ANSWER=auto: the terminal answerer enters it")
        stage.answer(link)
    else:
        say("waiting for you; Ctrl-C ends the demonstration")
    password, errors = service.communicate()
    if password.strip() != stage.password:
        raise Failed("the service did not get its password", errors.strip())
    say(f"the service has its password:  {password.strip()}")
    wait_for(lambda: not is_listening(stage.port), "the end of the page", CLOSE_SECONDS)
    say(f"the link is dead, and nothing listens on port {stage.port} any more")


def chosen_port() -> int:
    """The demonstration's port: $PORT, else that of the default settings."""
    text = os.environ.get("PORT") or "8420"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise Failed(f"PORT is no port: {text}", "make demo PORT=8421")
    return int(text)


def check_free(port: int) -> None:
    """Fail early, with the command that helps, rather than inside the broker."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(
                f"port {port}: {(error.strerror or '').lower()}", f"make demo PORT={port % 65535 + 1}"
            ) from None


def is_listening(port: int) -> bool:
    """Does anything accept connections there?"""
    with socket.socket() as trial:
        trial.settimeout(5)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def wait_for(look: Callable[[], _T], what: str, seconds: float) -> _T:
    """Look, twenty times a second, until there is something to see."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > until:
            raise Failed(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)
    return seen


def end(process: "subprocess.Popen[Any]") -> None:
    """End a program, politely first; when it leads its own session, with all that it started."""
    if process.poll() is not None:
        return
    reach = os.killpg if os.getsid(process.pid) == process.pid else os.kill
    reach(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        reach(process.pid, signal.SIGKILL)
        process.wait()


def errors_of(process: "subprocess.Popen[Any]") -> str:
    """What an ended program left on its standard error, if that is a pipe."""
    return str(process.stderr.read()).strip() if process.stderr else ""


def say(text: str) -> None:
    """One line of the demonstration, in step with what the broker prints on the same terminal."""
    print(f"demo: {text}", flush=True)


def stop(number: int, _frame: object) -> NoReturn:
    """A signal: leave through the blocks that clean up, and let no second signal cut them short."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    try:
        sys.exit(main())
    except Failed as error:
        print(f"unlatch demo: error: {error}", file=sys.stderr)
        if error.hint:
            print(f"unlatch demo: hint: {error.hint}", file=sys.stderr)
        sys.exit(1)
