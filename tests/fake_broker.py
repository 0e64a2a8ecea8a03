"""A broker with its asker in one object: real seals, faults on demand, in memory or behind a socket or HTTP."""

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from unlatch import base64url, seal
from unlatch.answering import Clock, Reply
from unlatch.prompt import Answer, Prompt, Verdict, details_to_json
from unlatch.secret import Secret
from unlatch.wire import lines

STAMP = {
    "host": "web03",
    "uid": 1000,
    "user": "git",
    "login": "",
    "account": "git@web03",
    "age": 2,
    "person": "",
    "followers": [],
    "orphaned": False,
}
PROMPT = Prompt("passphrase", "Unlock", ("amber", "falcon"), 0)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.passed = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: self.passed, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


class Broker:
    """A broker with its asker in one object: one prompt after the other, real seals, and faults on demand."""

    def __init__(self, prompt: Prompt = PROMPT) -> None:
        self.prompt = prompt
        self.right = b"correct horse"
        self.answers: list[Answer] = []
        self.posts: list[str] = []
        self.faults: list[Reply | Exception] = []  # each spoils one post
        self.stamp: dict[str, Any] = dict(STAMP)
        self.verdict = b""
        self.outcome = "wrong"  # of an answer that is not right: or "next"
        self.right_outcome = "accepted"
        self.following: seal.OwnedLink | None = None
        self.start()

    def start(self) -> None:
        """Open a prompt under a new link."""
        self.owned = seal.new_link(os.urandom)
        self.padded = seal.pad(details_to_json(self.prompt))
        self.forget()

    def forget(self) -> None:
        """What a broker's restart does: nonces are gone, the asker registers again."""
        self.nonce = os.urandom(16)
        self.verdict = b""

    def tickets(self) -> set[str]:
        """All tickets that this broker knows."""
        return {self.link.ticket_text} | ({self.following.link.ticket_text} if self.following else set())

    @property
    def link(self) -> seal.Link:
        return self.owned.link

    def go_on(self) -> None:
        """Let the link that a wrong answer led to be the open one."""
        assert self.following is not None
        self.owned, self.following = self.following, None
        self.forget()

    def post(self, ticket: str, verb: str, body: Mapping[str, Any]) -> Reply:
        self.posts.append(verb)
        if self.following is not None and ticket == self.following.link.ticket_text:
            self.go_on()
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        json.dumps(body)  # it must be able to travel
        assert ticket == self.link.ticket_text
        if verb == "hello":
            return Reply(200, {"nonce": base64url.encode(self.nonce)})
        page = base64url.decode(body["page"], "page", 16)
        proof = seal.view_proof(seal.keys_of(self.link).view, self.nonce, page)
        if base64url.decode(body["proof"], "proof") != proof:
            return Reply(404, {})
        return Reply(200, getattr(self, f"_{verb}")(body))

    def _view(self, body: Mapping[str, Any]) -> dict[str, Any]:
        details = seal.seal_details(self.link, self.padded, os.urandom)
        stamp = seal.seal_stamp(self.link, json.dumps(self.stamp).encode(), os.urandom)
        sealed = {"details": base64url.encode(details), "stamp": base64url.encode(stamp)}
        return {"state": "open", "remaining": 3600, **sealed}

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = seal.open_answer(self.owned, self.padded, base64url.decode(body["sealed"], "sealed"))
        self.answers.append(answer)
        ticket, following = self.link.ticket, None
        right = answer.secret is None or answer.secret == Secret(self.right)
        if not right:
            self.following = seal.new_link(os.urandom)
            following = (self.following.link.ticket_text, self.following.link.fragment)
        outcome = "denied" if answer.answer == "no" else self.right_outcome if right else self.outcome
        self.verdict = seal.seal_verdict(answer.reply_key, ticket, Verdict(outcome, "", following), os.urandom)
        return {"state": "sent"}

    def _wait(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self.verdict:
            return {"turn": body["seen"] + 1, "state": "open", "remaining": 3599}
        return {"turn": 2, "state": "verdict", "sealed": base64url.encode(self.verdict)}


def status_of(broker: Broker) -> dict[str, Any]:
    """What a real broker says to "status"."""
    return {
        "event": "status",
        "broker": {"pid": 1},
        "prompts": [{"title": broker.prompt.title}],
        "notifiers": [],
    }


@contextlib.contextmanager
def admin_socket(brokers: list[Broker], runtime: Path) -> Iterator[None]:
    """Serve brokers, one prompt each, on the admin socket below ``runtime``."""
    (runtime / "admin").mkdir(mode=0o700, parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(runtime / "admin" / "admin.sock"))
        listener.listen()
        threads = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=_serve_admin, args=(connection, brokers), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join(10)


def _serve_admin(connection: socket.socket, brokers: list[Broker]) -> None:
    with connection, connection.makefile("rb") as read:
        for line in read:
            connection.sendall(lines.encode(_admin_reply(lines.decode(line), brokers)))


def _admin_reply(said: dict[str, Any], brokers: list[Broker]) -> dict[str, Any]:
    if said["op"] == "status":
        return status_of(brokers[0])
    if said["op"] == "list":
        return {"event": "list", "prompts": [_row(broker) for broker in brokers]}
    for broker in brokers:
        if said["ticket"] in broker.tickets():
            reply = broker.post(said["ticket"], said["verb"], said["body"])
            return {"event": "page", "status": reply.status, "body": dict(reply.body)}
    return {"event": "page", "status": 404, "body": {}}


def _row(broker: Broker) -> dict[str, Any]:
    return {
        "ticket": broker.link.ticket_text,
        "fragment": broker.link.fragment,
        "title": broker.prompt.title,
        "account": "git@web03",
        "kind": broker.prompt.kind,
        "command": "pass",
        "words": list(broker.prompt.words),
        "age": 61,
        "remaining": 3500,
    }


class _Handler(BaseHTTPRequestHandler):
    broker: Broker
    prefix: str
    override: tuple[int, dict[str, str], bytes] | None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, headers, data = 404, {}, b"<!doctype html>"
        if self.override is not None:
            status, headers, data = self.override
        elif self.path.startswith(self.prefix):
            ticket, verb = self.path.removeprefix(self.prefix).split("/")
            if ticket in self.broker.tickets():
                reply = self.broker.post(ticket, verb, body)
                status, data = reply.status, json.dumps(reply.body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def page_server(
    broker: Broker, tls: ssl.SSLContext | None = None, override: tuple[int, dict[str, str], bytes] | None = None
) -> Iterator[str]:
    """Serve a broker's pages over HTTP(S) below a path; gives the public URL."""
    attributes = {"broker": broker, "prefix": "/web03/", "override": override}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), attributes))
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients that refuse our certificate
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{server.server_port}/web03/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
