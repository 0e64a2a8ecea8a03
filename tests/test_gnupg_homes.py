"""Where a home and its sockets are: what gpgconf says, in a mount namespace of the test's own."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from real import absent, real

from unlatch.gnupg import environment
from unlatch.gnupg.homes import EXTRA, SSH, Home

UID = os.getuid()
# As gpgconf takes them: what the environment says, and the directory in which it is said.
SAID: list[tuple[Mapping[str, str], str]] = [
    ({}, "/"),
    ({"GNUPGHOME": ""}, "/"),
    ({"GNUPGHOME": "{root}/keys"}, "/"),
    ({"GNUPGHOME": "{root}/keys/"}, "/"),
    ({"GNUPGHOME": "{root}/keys///"}, "/"),
    ({"GNUPGHOME": "{root}//keys/../keys"}, "/"),
    ({"GNUPGHOME": "keys"}, "{root}"),
    ({"GNUPGHOME": "./keys"}, "{root}"),
    ({"GNUPGHOME": "."}, "{root}/keys"),
    ({"GNUPGHOME": "./"}, "{root}/keys"),
    ({"GNUPGHOME": "keys/."}, "{root}"),
    ({"GNUPGHOME": "keys/.//"}, "{root}"),
    ({"GNUPGHOME": "keys/./."}, "{root}"),
    ({"GNUPGHOME": "{root}/keys/."}, "/"),
    ({"GNUPGHOME": "~/."}, "/"),
    ({"GNUPGHOME": ".."}, "{root}/keys"),
    ({"GNUPGHOME": "~"}, "/"),
    ({"GNUPGHOME": "~nobody/keys"}, "{root}"),
    ({"GNUPGHOME": "~/keys"}, "/"),
    ({"GNUPGHOME": "{root}/link"}, "/"),
    ({"GNUPGHOME": "{root}/.gnupg"}, "/"),
    ({"GNUPGHOME": "{root}/.gnupg/"}, "/"),
    ({"GNUPGHOME": "~/.gnupg"}, "/"),
    ({"GNUPGHOME": "{root}/a b: 100%"}, "/"),
    ({"GNUPGHOME": "{root}/schlüssel"}, "/"),
    ({"HOME": "{root}/other"}, "/"),
    ({"HOME": "{root}/other/"}, "/"),
    ({"HOME": "{root}/other/", "GNUPGHOME": "{root}/other/.gnupg"}, "/"),
]
ASK = textwrap.dedent("""
    import json, os, subprocess, sys
    from unlatch.gnupg.homes import Home

    uid = os.getuid()
    found = []

    def ask(when):
        for environ, place in json.loads(sys.argv[1]):
            os.chdir(place)
            said = subprocess.run(["gpgconf", "--list-dirs"], env={"PATH": os.environ["PATH"], **environ},
                                  capture_output=True, text=True, check=True).stdout
            home = Home.find(environ, uid, "/nowhere")
            found.append([when, environ, said, home.directory, home.sockets(), home.uses_run()])

    ask("no /run/user")
    os.makedirs(f"/run/user/{uid}", mode=0o700)
    ask("")
    os.chmod(f"/run/user/{uid}/gnupg", 0o750)
    ask("others may enter")
    os.chmod(f"/run/user/{uid}/gnupg", 0o700)
    os.chown(f"/run/user/{uid}", 12345, 12345)
    ask("another's")
    print(json.dumps(found))
""")


def test_gpgconf_says_the_same() -> None:
    """For every way to name a home; without /run/user/UID, with it, and when GnuPG refuses it."""
    if UID != 0:
        absent("only root can give a test a /run of its own")
    for program in ("gpgconf", "unshare"):
        real(program)
    with tempfile.TemporaryDirectory(prefix="unlatch-", dir="/tmp") as folder:
        for name in ("keys", ".gnupg", "other/.gnupg", "a b: 100%", "schlüssel"):
            Path(folder, name).mkdir(parents=True, mode=0o700)
        Path(folder, "link").symlink_to(Path(folder, "keys"))
        said = [({"HOME": folder} | _filled(environ, folder), place.format(root=folder)) for environ, place in SAID]
        script = Path(folder, "ask.py")
        script.write_text(ASK)
        command = f"mount -t tmpfs -o mode=755 tmpfs /run && exec {sys.executable} {script} '{json.dumps(said)}'"
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 4 * len(SAID)
    for when, environ, listing, directory, (in_home, in_run), uses_run in found:
        theirs = _listed(listing)
        assert directory == theirs["homedir"], environ
        assert uses_run == (when == ""), when
        assert theirs["agent-socket"] == (in_run if uses_run else in_home), (when, environ)


def _filled(environ: Mapping[str, str], root: str) -> dict[str, str]:
    return {name: text.format(root=root) for name, text in environ.items()}


def _listed(listing: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in listing.splitlines())
    return {name: urllib.parse.unquote(text) for name, _, text in pairs}


def test_every_socket_has_two_places() -> None:
    """The same names in both; without an account's home, the passwd file's is taken."""
    home = Home.find({}, 1000, "/home/zoe")
    assert home.sockets(SSH) == ("/home/zoe/.gnupg/S.gpg-agent.ssh", "/run/user/1000/gnupg/S.gpg-agent.ssh")
    assert home.sockets(EXTRA)[0] == "/home/zoe/.gnupg/S.gpg-agent.extra"
    assert home.is_default
    other = Home.find({"GNUPGHOME": "/srv/keys"}, 1000, "/home/zoe")
    # The 24 digits are a hash of the name (held against gpgconf above).
    assert other.run_directory().startswith("/run/user/1000/gnupg/d.")
    assert len(os.path.basename(other.run_directory())) == 26


def test_what_gnupgs_programs_get_to_know() -> None:
    """The home, the language, where Unlatch is; no terminal, no display, nothing else of the caller's."""
    caller = {"HOME": "/home/zoe", "LANG": "C.UTF-8", "UNLATCH_CONFIG": "/x", "DISPLAY": ":0", "GPG_TTY": "/dev/pts/1",
              "SECRET": "x", "PATH": "/home/zoe/bin"}  # fmt: skip
    home = Home.find(caller, 1000, "/")
    assert home.environment() == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/zoe", "LANG": "C.UTF-8", "UNLATCH_CONFIG": "/x",
    }  # fmt: skip
    assert Home.find(caller | {"GNUPGHOME": "/k"}, 1000, "/").environment()["GNUPGHOME"] == "/k"


# Which place lasts

HOME = Home.find({}, 1000, "/home/zoe")
RUN, IN_HOME = "/run/user/1000/gnupg/S.gpg-agent.ssh", "/home/zoe/.gnupg/S.gpg-agent.ssh"


@pytest.mark.parametrize(
    ("facts", "keeper", "socket"),
    [
        ({"owned": True, "lingers": True, "sessions": True, "in_run": True}, "unit", HOME.owned(SSH)),
        ({"owned": False, "lingers": True, "sessions": True, "in_run": True}, "linger", RUN),
        ({"owned": False, "lingers": True, "sessions": True, "in_run": False}, "linger", RUN),
        ({"owned": False, "lingers": False, "sessions": False, "in_run": False}, "home", IN_HOME),
        ({"owned": False, "lingers": False, "sessions": False, "in_run": True}, "session", RUN),
        ({"owned": False, "lingers": False, "sessions": True, "in_run": False}, "session", IN_HOME),
        ({"owned": False, "lingers": False, "sessions": True, "in_run": True}, "session", RUN),
    ],
)
def test_the_place_that_stays_longest(facts: dict[str, Any], keeper: str, socket: str) -> None:
    """The unit's, a lingering user's, the home's where nobody ever makes /run/user; else the one of now."""
    assert environment.place(HOME, **facts) == (socket, keeper)
    assert keeper in environment.KEEPERS
