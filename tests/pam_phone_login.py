"""Plays the login for ``unlatch.pam.phone``: a process that puts one prompt to a real broker and tells how it ends.

Each line that it prints is a JSON object: "taken" or "unfit", then "result". "stop" on its standard input, or its end,
withdraws. It is a process of its own because what it tests forks, and must do that where there are no threads.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waiting import PATIENCE

from unlatch.pam import phone
from unlatch.pam.challenge import Facts
from unlatch.pam.errors import Unfit
from unlatch.secret import Secret

AT = 1_750_000_000
URL = "https://unlock.test/"


class Login:
    """The process, from outside."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def hear(self) -> dict[str, Any]:
        """The next thing that it tells."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the login says nothing"
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def taken(self) -> dict[str, Any]:
        """What the broker said when it took the prompt."""
        told = self.hear()
        assert "taken" in told, told
        taken: dict[str, Any] = told["taken"]
        return taken

    def result(self) -> str:
        """What came of it."""
        return str(self.hear()["result"])

    def stop(self) -> None:
        """The login is over; the process ends by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0

    def children(self) -> list[int]:
        """The processes that wait for it."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


@contextlib.contextmanager
def login(runtime: Path, user: str, **more: Any) -> Iterator[Login]:
    """A login of this user; with ``armour`` its challenge is put on the page, else its person is rung."""
    said = {"runtime": str(runtime), "user": user, "digits": "42", "seconds": 60, "put": 20.0, "url": URL} | more
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(said)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    with process:
        try:
            yield Login(process)
        finally:
            process.kill()


def _main(said: dict[str, Any]) -> None:
    phone.PUT_SECONDS = said["put"]  # type: ignore[misc]
    facts = Facts(said["user"], "web03", "sshd", "203.0.113.5", AT)
    ours, theirs = os.pipe()
    try:
        where = phone.place({"UNLATCH_RUNTIME_DIR": said["runtime"]})
        way: phone.Approval | phone.PageChallenge
        if "armour" in said:
            expected = Secret(said["response"].encode())
            way = phone.PageChallenge(
                facts, said["armour"], expected, where=where, seconds=said["seconds"], public_url=said["url"]
            )
        else:
            way = phone.Approval(facts, said["digits"], where=where, seconds=said["seconds"])
    except Unfit as unfit:
        _tell(unfit=unfit.why, **{"rung": False} if isinstance(unfit, phone.NotRung) else {})
        return
    os.close(theirs)
    # End of file at once: no process of ours holds the other end. With a login's connection it is the same.
    alone = bool(select.select([ours], [], [], 2)[0])
    _tell(taken={**way.taken._asdict(), "alone": alone, "shown": repr(way.taken)})
    ready = select.select([sys.stdin, way], [], [])[0]
    if way in ready:
        result = way.result()
        _tell(result=bytes(result.reveal()).decode() if isinstance(result, Secret) else result)
        sys.stdin.read()
    way.stop()


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
