"""The person's phone: what the ``command`` notifier was given, one file for each message, in order."""

import json
from pathlib import Path
from typing import Any

from waiting import PATIENCE, until

# Written under a hidden name first, so that a message is seen whole or not at all.
_RECEIVE = 'new=$(mktemp "$0/.XXXXXXXX") && cat >"$new" && mv "$new" "$0/$(date +%s.%N)${new##*.}"'

Message = dict[str, Any]


class Phone:
    """A directory of messages, and the notifier command that fills it; ``inside`` is how a machine calls it."""

    def __init__(self, directory: Path, inside: str = "") -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.command = ["/bin/sh", "-c", _RECEIVE, inside or str(directory)]

    def messages(self, event: str = "") -> list[Message]:
        """All messages so far, or those of one event: "ring", "remind" or "end"."""
        files = sorted(path for path in self.directory.iterdir() if not path.name.startswith("."))
        messages: list[Message] = [json.loads(path.read_text()) for path in files]
        return [message for message in messages if event in ("", message["event"])]

    def ring(self, number: int = 1, seconds: float = PATIENCE) -> Message:
        """The ring with this number, counted from 1; waits for it."""
        return self._nth("ring", number, seconds)

    def ring_of(self, kind: str, number: int = 1) -> Message:
        """The ring with this number among those for one kind of prompt; waits for it."""

        def look() -> list[Message]:
            rings = [ring for ring in self.messages("ring") if ring["kind"] == kind]
            return rings[number - 1 : number]

        return until(look, f"ring number {number} for a {kind}")[0]

    def end(self, number: int = 1) -> Message:
        """The end message with this number; waits for it."""
        return self._nth("end", number)

    def links(self, number: int) -> list[str]:
        """So many different links, in the order in which they came, also those of folded messages; waits for them."""

        def look() -> list[str]:
            rings = self.messages("ring")
            links = dict.fromkeys(told["link"] for ring in rings for told in (ring, *ring["more"]) if told["link"])
            return list(links) if len(links) >= number else []

        return until(look, f"{number} links")

    def _nth(self, event: str, number: int, seconds: float = PATIENCE) -> Message:
        return until(lambda: self.messages(event)[number - 1 : number], f"{event} number {number}", seconds)[0]
