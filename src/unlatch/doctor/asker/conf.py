"""gpg-agent.conf as gpg-agent reads it: the machine's file, then the home's, whose options win."""

import os
from typing import NamedTuple

from unlatch.doctor.check import Situation, command
from unlatch.setup.agent_conf import MAX_FILE, values

GLOBAL = "/etc/gnupg/gpg-agent.conf"  # read first by 2.2.40 (strace)


class Conf(NamedTuple):
    """The options that count, and why the home's file cannot be read ("" when it can, or is not there)."""

    path: str
    options: dict[str, str]
    why: str


def read(situation: Situation) -> Conf:
    """Read both files."""
    path = f"{situation.gnupghome}/gpg-agent.conf"
    options: dict[str, str] = {}
    why = ""
    for each in (GLOBAL, path):
        try:
            descriptor = os.open(each, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = (error.strerror or "").lower()
            continue
        with open(descriptor, "rb") as file:
            options |= values(file.read(MAX_FILE))
    return Conf(path, options, why)


def setup(situation: Situation, *more: str) -> str:
    """The command that writes a good gpg-agent.conf."""
    words = ["unlatch", "setup"]
    if situation.caller == 0:  # root says whose GnuPG is meant, also when it is root's own
        words += ["--user", situation.user]
    if situation.gnupghome != f"{situation.home}/.gnupg":
        words += ["--gnupghome", situation.gnupghome]
    return command(*words, *more)


def reload(situation: Situation) -> str:
    """Make the running agent read the file; it also forgets all passphrases."""
    return situation.as_user("gpgconf", "--reload", "gpg-agent")
