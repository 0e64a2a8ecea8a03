"""GNUPGHOME is short enough for the sockets that gpg-agent makes in it."""

import os
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem

# A socket's path has 107 bytes (unix(7)), and the longest name that gpg-agent adds is "/S.gpg-agent.browser". It makes
# that socket even if nobody uses it, and ends if it cannot. Measured with 2.2.40: 86 bytes work, 87 do not.
MOST = 107 - len("/S.gpg-agent.browser") - 1


class Facts(NamedTuple):
    """The length of GNUPGHOME in bytes."""

    length: int


def probe(situation: Situation) -> Facts:
    """Measure it."""
    return Facts(len(os.fsencode(situation.gnupghome)))


def judge(facts: Facts, situation: Situation) -> Finding:
    """It counts even with sockets in /run/user/UID, which is missing when a service starts before any login."""
    if facts.length > MOST:
        short = f"/var/lib/gnupg-{situation.user}"
        text = (
            f"GNUPGHOME is {facts.length} bytes long, and above {MOST} gpg-agent cannot make its sockets: "
            f"let services use GNUPGHOME={short}"
        )
        return problem(text, situation.as_root("ln", "-s", situation.gnupghome, short))
    return ok(f"{facts.length} bytes, at most {MOST}, leave room for the sockets' names")


SOCKET_PATH = Check(
    "socket-path",
    f"GNUPGHOME has {MOST} bytes at most, so that gpg-agent can make its sockets there (`S.gpg-agent.browser` is the "
    "longest name, and a socket's path has 107 bytes)",
    "move it, or give it a short name with `ln -s` and use that as `GNUPGHOME`",
    Facts,
    probe,
    judge,
)
