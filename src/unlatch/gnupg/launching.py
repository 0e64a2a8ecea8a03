"""Start an agent, as GnuPG's own programs do when they find none: exactly one, whoever else is starting one now."""

import contextlib
import os
import subprocess

from unlatch.gnupg.errors import NoAgent
from unlatch.gnupg.finding import Limit
from unlatch.gnupg.homes import Home


def launch(home: Home, limit: Limit) -> None:
    """Start the home's agent where GnuPG would, and return when it accepts connections.

    gpgconf holds GnuPG's own lock over looking and starting, so that two who start at once start one.

    Raises:
        NoAgent: it cannot be started within ``limit``; or the home is somebody else's.
    """
    if os.getuid() != home.uid:
        raise NoAgent(home.directory, f"only its user (uid {home.uid}) can start it")
    if home.is_default:
        with contextlib.suppress(OSError):  # it is there, or cannot be made, which gpgconf is about to say
            os.mkdir(home.directory, 0o700)  # as gpg does, but gpgconf does not
    try:
        done = subprocess.run(
            ["gpgconf", "--launch", "gpg-agent"],
            check=False, env=home.environment(), cwd="/", timeout=limit.left(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoAgent(home.directory, "it did not start in time") from None
    except OSError as error:
        raise NoAgent(home.directory, f"gpgconf: {(error.strerror or 'cannot be run').lower()}") from None
    if done.returncode != 0:
        raise NoAgent(home.directory, done.stderr.decode("utf-8", "replace").strip()[-300:])
