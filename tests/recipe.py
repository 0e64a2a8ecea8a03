"""A page of docs/recipes, typed block by block into a house whose /etc, /srv, /root and /usr/bin are nobody else's."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from answerer import Page
from house import BIN
from real import absent, real
from real_gnupg import finish
from secret_keeping import Keeping

PAGES = Path(__file__).parents[1] / "docs" / "recipes"
_OVERLAID = ("etc", "srv", "usr/bin", "root")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Some programs run others without any environment (apache does): what leads to this house stands in the command.
_SHIM = '#!/bin/sh\n{exports}exec {program} "$@"\n'

Thumb = Callable[[Page], object]


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


class Room:
    """A mount namespace in which the house's commands are in /usr/bin, and what a recipe writes is seen by nobody."""

    def __init__(self, keeping: Keeping) -> None:
        if os.getuid() != 0:
            absent("only root can lay something over /etc")
        for program in ("unshare", "nsenter", "mount"):
            real(program)
        self.keeping = keeping
        self.house = keeping.house
        self._state = self.house.root / "variables"
        upper = self.house.root / "upper"
        upper.mkdir()
        lay = [f"mount -t tmpfs tmpfs {upper}"]
        for name in _OVERLAID:
            lay.append(f"mkdir -p {upper}/{name}/u {upper}/{name}/w")
            layers = f"lowerdir=/{name},upperdir={upper}/{name}/u,workdir={upper}/{name}/w"
            lay.append(f"mount -t overlay -o {layers} overlay /{name}")
        for program in ("unlatch", "unlatch-askpass"):
            lay.append(f"cp {self._shim(program)} /usr/bin/{program}")
        lay.append("mkdir -p /srv/www && echo precious >/srv/www/index.html")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join([*lay, "echo ready", "cat"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.house.environ(),
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """Forget what was written."""
        self._holder.communicate(timeout=10)

    def start(self, *command: str | Path, **more: str) -> "subprocess.Popen[bytes]":
        """Start a program in here."""
        entering = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--wdns=/")
        path = {"UNLATCH_SECRETS": str(self.keeping.directory)}
        return self.house.start(*entering, *command, **(path | more))

    def run(self, script: str, *thumbs: Thumb, rings: int = 0, **more: str) -> str:
        """Run a shell script in here that must succeed; its output. ``thumbs`` answer, after so many rings."""
        process = self.start("sh", "-euc", script, **more)
        for number, thumb in enumerate(thumbs, rings + 1):
            thumb(self.house.open(self.house.phone.ring(number)["link"]))
        code, out, err = finish(process, 120)
        assert code == 0, f"{script}\n{err}"
        return out.decode()

    def write(self, path: str, text: str) -> None:
        """A file in here."""
        self.run(f"mkdir -p {os.path.dirname(path)}; printf %s {shlex.quote(text)} >{path}")

    def type(self, script: str, *thumbs: Thumb, rings: int = 0) -> str:
        """What a person types, in one shell after all that was typed before."""
        before = f". {self._state}\n" if self._state.exists() else ""
        return self.run(f"{before}{script}\nexport -p >{self._state}", *thumbs, rings=rings)

    def _shim(self, program: str) -> Path:
        environ = self.house.environ(UNLATCH_SECRETS=str(self.keeping.directory))
        del environ["PATH"]
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environ.items())
        file = self.house.root / f"shim-{program}"
        file.write_text(_SHIM.format(exports=exports, program=BIN / program))
        file.chmod(0o755)
        return file


class Recipe:
    """Use it in ``with``: at the end every block must have been used."""

    def __init__(self, name: str, room: Room) -> None:
        self.room = room
        self._blocks = [Block(*found) for found in _FENCE.findall((PAGES / f"{name}.md").read_text())]

    def __enter__(self) -> "Recipe":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        assert error or not self._blocks, f"not tested: {self._blocks}"

    def next(self, language: str) -> str:
        """The text of the next block, which must be of this language."""
        block = self._blocks.pop(0)
        assert block.language == language, block
        return block.text

    def sh(self, *thumbs: Thumb, rings: int = 0) -> str:
        """Type the next block; its output."""
        return self.room.type(self.next("sh"), *thumbs, rings=rings)

    def cron(self, *thumbs: Thumb, rings: int = 0, **more: str) -> str:
        """Run the job of the next block as cron does: its own variables, /bin/sh, nothing of what was typed."""
        *settings, job = self.next("crontab").splitlines()
        found = re.fullmatch(r"(?:\S+ ){4}\S+ +(.+)", job)
        assert found is not None, job
        environ = dict(line.split("=", 1) for line in settings)
        return self.room.run(_plain(found[1]), *thumbs, rings=rings, **({"PATH": "/usr/bin:/bin"} | environ | more))

    def unit(self, *thumbs: Thumb, rings: int = 0, change: tuple[str, str] = ("", ""), **more: str) -> str:
        """Run what the unit of the next block starts, as systemd does; its output. systemd must know every key.

        ``change`` replaces a text of the command by another, where a container lacks what it needs.
        """
        text = self.next("ini")
        self.verify(text)
        environ: dict[str, str] = {}
        for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE):
            environ |= dict(word.split("=", 1) for word in shlex.split(line))
        (start,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
        assert change[0] in start
        start = start.replace(*change).replace("%h", str(self.room.house.root)).replace("$$", "$")
        words = shlex.join(shlex.split(start))
        # systemd gives a HOME to units with User= only (systemd.exec(5)).
        words = words if "\nUser=" in text else f"unset HOME; {words}"
        return self.room.run(words, *thumbs, rings=rings, **({"PATH": "/usr/sbin:/usr/bin"} | environ | more))

    def verify(self, text: str) -> None:
        """systemd knows every key of this unit or drop-in."""
        file = self.room.house.root / "recipe.service"
        # A drop-in alone is no unit.
        file.write_text(text if re.search(r"^ExecStart=.", text, re.MULTILINE) else f"{text}ExecStart=/bin/true\n")
        done = subprocess.run(
            [real("systemd-analyze"), "verify", "--man=no", file],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not re.search(r"recipe\.service:.*(Unknown|Failed to parse|Invalid)", done.stderr), done.stderr


def _plain(command: str) -> str:
    """As crontab(5) has it: a bare percent sign would be a newline."""
    assert not re.search(r"(?<!\\)%", command)
    return command


def types(secret: bytes) -> Thumb:
    """A person who types this."""
    return lambda page: page.unlock(secret)
