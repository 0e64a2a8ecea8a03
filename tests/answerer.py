"""What a browser does with a link, in Python: docs/protocol.md section 3 over plain HTTP, sealed with unlatch.seal."""

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

from waiting import until

from unlatch import base64url, seal
from unlatch.prompt import Answer, Prompt, Verdict, details_from_json
from unlatch.secret import Secret

REQUEST_SECONDS = 40  # a long poll takes 25


class UnixHTTP(http.client.HTTPConnection):
    """HTTP over a Unix socket, as a proxy speaks it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=REQUEST_SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(REQUEST_SECONDS)
        self.sock.connect(self._path)


class Reply(NamedTuple):
    """One HTTP reply: JSON objects as such, anything else as {}."""

    status: int
    body: dict[str, Any]


class Page:
    """One open page, on ``place``: the Unix socket or the (host, port) where the broker serves it.

    ``base`` is what the link starts with; the path behind it is what is asked for.
    """

    def __init__(self, link: str, place: Path | tuple[str, int]) -> None:
        address, fragment = link.split("#")
        self.base, _, ticket = address.rpartition("/")
        self.link = seal.parse_link(ticket, fragment)
        self.place = place
        self.page = os.urandom(16)
        self.details = b""
        self.prompt: Prompt | None = None
        self.stamp: dict[str, Any] = {}
        self._proof = ""
        self._reply_key = b""
        self._turn = 0

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request to the broker, on a connection of its own."""
        connection = UnixHTTP(self.place) if isinstance(self.place, Path) else http.client.HTTPConnection(*self.place)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self) -> tuple[int, bytes]:
        """Fetch the document, as a browser or a link preview does."""
        return self.request("GET", f"/{self.link.ticket_text}")

    def view(self) -> Reply:
        """Prove that this page has the link; opens the question when the broker shows it."""
        hello = self._post("hello", {})
        if hello.status != 200:
            return hello
        nonce = base64url.decode(hello.body["nonce"], "nonce")
        self._proof = base64url.encode(seal.view_proof(seal.keys_of(self.link).view, nonce, self.page))
        reply = self._proven("view", {})
        if reply.status == 200:
            self.details = seal.open_details(self.link, base64url.decode(reply.body["details"], "details"))
            self.prompt = details_from_json(self.details)
            self._read_stamp(reply)
        return reply

    def unlock(self, secret: bytes, *, keep: bool = False) -> Reply:
        """Type a secret, tick the box if it is to be kept, and press Unlock."""
        return self._answer(Answer("secret", self._new_reply_key(), Secret(secret), keep=keep))

    def allow(self, digits: str = "") -> Reply:
        """Press Yes, with the two digits of the asking session where it shows some."""
        return self._answer(Answer("yes", self._new_reply_key(), digits=digits))

    def deny(self) -> Reply:
        """Press Deny."""
        return self._answer(Answer("no", self._new_reply_key()))

    def wait(self) -> Reply:
        """One long poll: how things are once anything changed."""
        reply = self._proven("wait", {"seen": self._turn})
        self._turn = reply.body.get("turn", self._turn)
        if reply.status == 200:
            self._read_stamp(reply)
        return reply

    def verdict(self) -> Verdict:
        """Wait for the verdict on the answer that this page gave."""
        sealed = until(self._judged, "a verdict")
        return seal.open_verdict(self._reply_key, self.link.ticket, base64url.decode(sealed, "sealed"))

    def follow(self, verdict: Verdict) -> "Page":
        """The same browser page, gone on to where the verdict leads, and viewed."""
        assert verdict.next_link is not None, verdict.outcome
        page = Page(f"{self.base}/{verdict.next_link[0]}#{verdict.next_link[1]}", self.place)
        assert page.view().status == 200
        return page

    def _judged(self) -> str:
        reply = self.wait()
        assert reply.status == 200, reply
        assert reply.body["state"] != "spoiled", "the asker could not open the answer"
        return str(reply.body["sealed"]) if reply.body["state"] == "verdict" else ""

    def _new_reply_key(self) -> bytes:
        self._reply_key = os.urandom(32)
        return self._reply_key

    def _answer(self, answer: Answer) -> Reply:
        sealed = seal.seal_answer(self.link, self.details, answer)
        return self._proven("answer", {"sealed": base64url.encode(sealed)})

    def _proven(self, verb: str, body: dict[str, Any]) -> Reply:
        return self._post(verb, {"page": base64url.encode(self.page), "proof": self._proof, **body})

    def _post(self, verb: str, body: dict[str, Any]) -> Reply:
        status, data = self.request("POST", f"/{self.link.ticket_text}/{verb}", json.dumps(body).encode())
        try:
            fields = json.loads(data)
        except ValueError:
            fields = {}
        return Reply(status, fields if isinstance(fields, dict) else {})

    def _read_stamp(self, reply: Reply) -> None:
        if "stamp" in reply.body:
            opened = seal.open_stamp(self.link, base64url.decode(reply.body["stamp"], "stamp"))
            self.stamp = json.loads(opened)
