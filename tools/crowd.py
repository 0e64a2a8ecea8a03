"""Many askers in one process, speaking raw JSON lines: what `make bench` puts before a broker.

    crowd.py BROKER_SOCKET COUNT SAMPLE

Registers COUNT prompts on connections of their own, prints one JSON line with SAMPLE of their (ticket, fragment), and
then a line "TICKET NANOSECONDS" (CLOCK_MONOTONIC) for every answer that arrives. Ends with its standard input.
"""

import json
import os
import resource
import select
import socket
import sys
import time

from unlatch import base64url, seal
from unlatch.prompt import AskerInfo, Process, Prompt, details_to_json

PIPELINE = 256  # registrations under way at once
PROMPT = Prompt(
    kind="passphrase",
    title="Passphrase",
    words=("amber", "lantern"),
    asked=1_700_000_000,
    text='Please enter the passphrase to unlock the OpenPGP secret key:\n"Sql Root <root@db01.example>"',
    asker=AskerInfo(
        command="pass sql-root", chain=(Process(4711, "gpg", "gpg -d sql-root.gpg"),), system_unit="db.service"
    ),
    keeper="agent",
)


class RawAsker:
    """One connection with one open prompt."""

    def __init__(self, path: str) -> None:
        self.owned = seal.new_link(os.urandom)
        self.ticket = self.owned.link.ticket_text
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        details = seal.seal_details(self.owned.link, seal.pad(details_to_json(PROMPT)), os.urandom)
        self.send(
            {
                "v": 1, "op": "register", "owner": base64url.encode(self.owned.owner),
                "fragment": self.owned.link.fragment, "details": base64url.encode(details),
                "coalesce": "", "seconds": 0, "beside": "", "after": "", "rung": False, "views": [], "told": [],
            }
        )  # fmt: skip

    def send(self, message: dict[str, object]) -> None:
        """Send one line."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def events(self) -> list[str]:
        """The names of the events that have arrived; at least one."""
        data = self.socket.recv(65536)
        while data and not data.endswith(b"\n"):
            data += self.socket.recv(65536)
        events = [json.loads(line) for line in data.splitlines()]
        refused = [event for event in events if event["event"] == "refused"]
        if refused or not data:
            raise SystemExit(f"crowd: the broker refused: {refused or 'the connection'}")
        return [str(event["event"]) for event in events]


def gather(path: str, count: int) -> list[RawAsker]:
    """Register them all."""
    crowd: list[RawAsker] = []
    for start in range(0, count, PIPELINE):
        batch = [RawAsker(path) for _ in range(min(PIPELINE, count - start))]
        for asker in batch:
            while "registered" not in asker.events():
                pass
        crowd += batch
    return crowd


def report_answers(askers: list[RawAsker]) -> None:
    """Print when each answer arrived, until standard input ends."""
    by_descriptor = {asker.socket.fileno(): asker for asker in askers}
    poller = select.epoll()
    for descriptor in (sys.stdin.fileno(), *by_descriptor):
        poller.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poller.poll():
            now = time.monotonic_ns()
            if descriptor == sys.stdin.fileno():
                return
            asker = by_descriptor[descriptor]
            if "answer" in asker.events():
                print(asker.ticket, now, flush=True)
                asker.send({"op": "taken", "ticket": asker.ticket})
                asker.send({"op": "verdict", "ticket": asker.ticket, "outcome": "accepted", "sealed": ""})


def main() -> None:
    """Gather the crowd, say who it is, and report."""
    path, count, sample = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = gather(path, count)
    asked = crowd[:: max(1, count // sample)][:sample]
    print(json.dumps([(asker.ticket, asker.owned.link.fragment) for asker in asked]), flush=True)
    report_answers(asked)


if __name__ == "__main__":
    main()
