"""A real tmux of a given size, and a picture of what stands in it: characters drawn by Chromium's fonts."""

import html
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from real import real
from waiting import until

# Ink and ground of a terminal, and the two colours that a drawing may ask for.
SCHEMES = {"dark": ("#d3d7cf", "#1d2021"), "light": ("#222222", "#ffffff")}
_SGR = re.compile(r"\x1b\[([0-9;]*)m")


class Tmux:
    """One program in one pane of so many columns and rows. Use as a context manager."""

    def __init__(self, columns: int, rows: int, command: list[str]) -> None:
        self._tmux = real("tmux")
        self._folder = Path(tempfile.mkdtemp(prefix="tmux-", dir="/tmp"))
        environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", "HOME": str(self._folder)}
        self._environ = environ
        self._run("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), *command)
        self._run("set-option", "-g", "status", "off")  # its line is the program's
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    def __enter__(self) -> "Tmux":
        return self

    def __exit__(self, *_: object) -> None:
        self._run("kill-server")
        shutil.rmtree(self._folder)

    def shows(self, text: str) -> None:
        """Wait for a text in sight."""
        until(lambda: text in self.screen(), f"{text!r} in the terminal")

    def screen(self) -> str:
        """What is in sight."""
        return self._run("capture-pane", "-p")

    def history(self) -> str:
        """All that was ever shown."""
        return self._run("capture-pane", "-p", "-J", "-S", "-")

    def type(self, text: str) -> None:
        """Type something."""
        self._run("send-keys", "-l", text)

    def photograph(self, browser: Browser, scheme: str, place: Path) -> Path:
        """A picture of what is in sight, as a terminal of these colours draws it."""
        ink, ground = SCHEMES[scheme]
        lines = self._run("capture-pane", "-p", "-e", "-N").removesuffix("\n").split("\n")
        page = browser.new_page(color_scheme="light")
        page.set_content(
            f"<style>body{{margin:0;background:{ground}}}pre{{display:inline-block;margin:0;padding:6px;color:{ink};"
            f'background:{ground};font:14px/16px "DejaVu Sans Mono",monospace}}i{{font-style:normal;color:#000;'
            f"background:#fff;display:inline-block}}</style><pre>{_marked(lines)}</pre>"
        )
        page.locator("pre").screenshot(path=place)
        page.close()
        return place

    def _run(self, *arguments: str) -> str:
        command = [self._tmux, "-S", str(self._folder / "socket"), *arguments]
        return subprocess.run(command, env=self._environ, check=True, capture_output=True, timeout=30, text=True).stdout


def replay(columns: int, rows: int, screen: str, folder: Path) -> Tmux:
    """A terminal that was sent all this, and now waits."""
    sent = folder / "sent"
    sent.write_text(screen)
    return Tmux(columns, rows, ["cat", str(sent), "-"])


def _marked(lines: list[str]) -> str:
    """Lines with the one pair of colours that we use, as HTML; everything else keeps the terminal's own."""
    inside, marked = False, []
    for line in lines:
        parts = _SGR.split(line)
        out = "<i>" if inside else ""
        for index, part in enumerate(parts):
            if index % 2 == 0:
                out += html.escape(part)
                continue
            now = _coloured(part, inside)
            out += "</i>" * (inside and not now) + "<i>" * (now and not inside)
            inside = now
        marked.append(out + "</i>" * inside)
    return "\n".join(marked)


def _coloured(codes: str, before: bool) -> bool:
    """Whether black on white is on after these codes of ECMA-48; tmux adds some of its own."""
    for code in codes.split(";"):
        if code in ("", "0", "39", "49"):
            before = False
        elif code in ("30", "107"):
            before = True
    return before
