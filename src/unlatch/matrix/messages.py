"""What we remember of the messages that we sent, so that a later process can edit them, redact them, and know a reply
to them. Pure: a table in the saved state, by ``Notice.id``. No link is in it, only ids of events that hold one.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

KEPT_SECONDS = 24 * 3600
MOST = 200
ANSWERABLE = 20  # events of one message


class Message:
    """One message, as a view of its row.

    ``txn`` names the sending of its first event, ``root`` is that event once it is known. ``rung``: people can open
    the link. ``holding``: what holds a link, transaction -> event id ("": nobody knows whether it arrived).
    ``events``: what a reply may answer. ``said`` counts what arrived. ``owed``: the text that says how it ended, until
    that is said. ``denied``: who, what else he said, whether the broker was told.
    """

    def __init__(self, row: Json) -> None:
        self._row = row

    @property
    def root(self) -> str:
        return str(self._row["root"])

    @property
    def txn(self) -> str:
        return str(self._row["txn"])

    @property
    def rung(self) -> bool:
        return bool(self._row["rung"])

    @property
    def holding(self) -> dict[str, str]:
        holding: dict[str, str] = self._row["holding"]
        return holding

    @property
    def owed(self) -> Json:
        owed: Json = self._row["owed"]
        return owed

    @property
    def denied(self) -> tuple[str, str] | None:
        """Who denied, and what else he said."""
        denied = self._row["denied"]
        return (str(denied[0]), str(denied[1])) if denied else None

    @property
    def denied_untold(self) -> bool:
        return bool(self._row["denied"]) and not self._row["denied"][2]

    def transaction(self, content: Json) -> str:
        """The id under which to send this now: the same when it is tried again, another when it is said again."""
        text = json.dumps([content, self.txn, self._row["said"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def begin(self, txn: str) -> None:
        """A new first event is to be sent."""
        self._row |= {"txn": txn, "root": "", "rung": False}

    def heard(self, event_id: str) -> None:
        """The first event arrived."""
        self._row["root"] = event_id
        self._answerable(event_id)

    def will_hold(self, txn: str) -> None:
        """An event with a link is about to be sent: the message is about an open prompt (again)."""
        self.holding.setdefault(txn, "")
        self._row |= {"owed": {}, "denied": []}

    def holds(self, txn: str, event_id: str) -> None:
        """It arrived."""
        self.holding[txn] = event_id
        self._row |= {"rung": True, "said": self._row["said"] + 1}
        self._answerable(event_id)

    def redacted(self, txn: str) -> None:
        """The link is gone from there."""
        self.holding.pop(txn, None)

    def owe(self, ended: Json) -> None:
        """It is over, and people have to be told."""
        self._row["owed"] = ended

    def settle(self) -> None:
        """They are told."""
        self._row |= {"owed": {}, "said": self._row["said"] + 1}

    def deny(self, by: str, said: str) -> None:
        """An admin denied."""
        self._row["denied"] = [by, said, False]

    def tell(self) -> None:
        """The broker is told of the denial."""
        self._row["denied"][2] = True

    def _answerable(self, event_id: str) -> None:
        if event_id not in self._row["events"]:
            self._row["events"] = [*self._row["events"], event_id][-ANSWERABLE:]


class Messages:
    """The table, as a view of a part of the state."""

    def __init__(self, table: Json) -> None:
        self._table = table

    def __contains__(self, notice_id: str) -> bool:
        return notice_id in self._table

    def get(self, notice_id: str) -> Message:
        """The message about a prompt, to be read only."""
        return Message(self._table.get(notice_id) or _fresh(0))

    def open(self, notice_id: str, now: float) -> Message:
        """The message about a prompt, to be changed; a new one if there was none. ``now``: Unix time."""
        for known in sorted(self._table, key=lambda known: float(self._table[known]["at"])):
            too_many = len(self._table) >= MOST
            if known != notice_id and (too_many or self._table[known]["at"] < now - KEPT_SECONDS):
                del self._table[known]
        row = self._table.setdefault(notice_id, _fresh(now))
        row["at"] = int(now)
        return Message(row)

    def find(self, event_id: str) -> str:
        """The id of the prompt whose message an event belongs to, or ""."""
        return next((notice_id for notice_id, row in self._table.items() if event_id in row["events"]), "")

    def owing(self) -> Iterator[str]:
        """The prompts of which it is still to be said how they ended."""
        return (notice_id for notice_id, row in list(self._table.items()) if row["owed"])


def _fresh(now: float) -> Json:
    return {
        "at": int(now),
        "txn": "",
        "root": "",
        "rung": False,
        "holding": {},
        "events": [],
        "said": 0,
        "owed": {},
        "denied": [],
    }
