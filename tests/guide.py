"""A guide of docs/guides as a person would follow it: its blocks, in order, typed into a machine with systemd."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from machine import Done, Machine

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
ROLE = re.compile(r"# on (.+), as (\w+)\n")


class Block(NamedTuple):
    """A fenced block: the heading above it, its language, the path that the text before it names, its text."""

    heading: str
    language: str
    path: str
    text: str


def blocks(name: str) -> list[Block]:
    """All of a guide."""
    found = []
    for section in re.split(r"^## ", (GUIDES / name).read_text(), flags=re.M)[1:]:
        heading, _, rest = section.partition("\n")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", rest, re.M | re.S):
            before = rest[: match.start()].rstrip().rpartition("\n\n")[2]
            path = re.search(r"`(/etc/systemd/system/[\w@./-]+)`[^`]*:$", before)
            found.append(Block(heading, match[1], path[1] if path else "", match[2]))
    return found


class Walk:
    """Somebody who types a guide; ``instead`` is what a test has in the place of the world."""

    def __init__(self, machine: Machine, name: str, instead: dict[str, str] | None = None, *, place: str = "~") -> None:
        self.machine = machine
        self.place = place  # the directory in which people are
        self.instead = instead or {}
        self.left = [block for block in blocks(name) if block.language == "sh"]
        self._blocks = blocks(name)

    def type_in(self, heading: str, *, check: bool = True) -> Done:
        """Type the next block of this section, which must succeed."""
        user, script = self._take(heading)
        return self.machine.run("runuser", "-l", user, "-c", script, check=check)

    def start(self, heading: str) -> "subprocess.Popen[bytes]":
        """The same, without waiting for its end."""
        user, script = self._take(heading)
        return self.machine.start("runuser", "-l", user, "-c", script)

    def leave_out(self, heading: str) -> str:
        """The next block of this section, which cannot be typed here; the test says why."""
        return self._take(heading)[1]

    def shown(self, language: str, heading: str = "") -> list[str]:
        """What a section (without one: the guide) shows in a language other than the shell's."""
        return [each.text for each in self._blocks if each.language == language and heading in ("", each.heading)]

    def write_units(self) -> None:
        """Write the units that the guide shows, where it says."""
        for each in self._blocks:
            if each.path:
                self.machine.write(each.path, each.text)
        self.machine.run("systemctl", "daemon-reload")

    def _take(self, heading: str) -> tuple[str, str]:
        block = next(each for each in self.left if each.heading == heading)
        self.left.remove(block)
        role = ROLE.match(block.text)
        assert role, block.text
        script = block.text[role.end() :]
        for words, other in self.instead.items():
            script = script.replace(words, other)
        return "root" if role[2] == "yourself" else role[2], f"set -eu\ncd {self.place}\n{script}"
