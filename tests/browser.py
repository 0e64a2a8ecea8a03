"""A real Chromium, driven by Playwright, that trusts one more certificate authority as an administrator would make it.

Trust is real: the authority of the test's Caddy stands in the NSS database of Chromium's HOME (certutil), so a wrong
name, a wrong chain or an expired certificate is refused as always. Nothing is ignored and nothing is pinned.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, expect
from proxy import NAME
from real import real
from waiting import PATIENCE, until

ARGUMENTS = [
    "--no-sandbox",  # tests may run as root, under whom Chromium's own sandbox refuses to start
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

expect.set_options(timeout=PATIENCE * 1000)


class Chromium:
    """A HOME with its trusted authorities, and the browsers that live in it."""

    def __init__(self, playwright: Playwright, *authorities: Path) -> None:
        self._playwright = playwright
        self.home = Path(tempfile.mkdtemp(prefix="unlatch-chromium-", dir="/tmp"))
        for authority in authorities:
            self._trust(authority)

    def headless(self) -> Browser:
        """A browser whose contexts each start without cookies and without memory."""
        return self._playwright.chromium.launch(executable_path=real("chromium"), args=ARGUMENTS, env=self._environ())

    def on_screen(self, display: str) -> BrowserContext:
        """A browser with a window and a profile that remembers, as a person has it."""
        return self._playwright.chromium.launch_persistent_context(
            self.profile,
            headless=False,
            executable_path=real("chromium"),
            args=[*ARGUMENTS, "--window-position=0,0", "--window-size=1000,800"],
            ignore_default_args=["--enable-automation"],  # which would switch the password manager off
            no_viewport=True,
            env=self._environ() | {"DISPLAY": display},
        )

    @property
    def profile(self) -> Path:
        """Where the browser on the screen keeps what it remembers."""
        return self.home / "profile"

    def close(self) -> None:
        """Forget everything; the browsers are to be closed first, and their last processes may still write."""
        until(self._is_gone, "the end of Chromium's home")

    def _is_gone(self) -> bool:
        shutil.rmtree(self.home, ignore_errors=True)
        return not self.home.exists()

    def _environ(self) -> dict[str, str | float | bool]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def _trust(self, authority: Path) -> None:
        database = self.home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        certutil = [real("certutil"), "-d", f"sql:{database}"]
        subprocess.run([*certutil, "-N", "--empty-password"], check=True)
        subprocess.run([*certutil, "-A", "-n", authority.stem, "-t", "C,,", "-i", str(authority)], check=True)


@contextlib.contextmanager
def headless(playwright: Playwright, *authorities: Path) -> Iterator[Browser]:
    """A browser that trusts these authorities, and is gone afterwards."""
    chromium = Chromium(playwright, *authorities)
    with contextlib.closing(chromium), contextlib.closing(chromium.headless()) as browser:
        yield browser


class Tab:
    """One tab with a link opened in it: what a person does there, and what is said to the person."""

    def __init__(self, context: BrowserContext, link: str) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []  # of the browser: a script that failed, a policy that was broken
        self.posted: list[str] = []  # where it sent anything
        self.page.on("request", lambda request: self.posted.append(request.url) if request.method == "POST" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(link)

    @property
    def question(self) -> Locator:
        """The heading of an open question."""
        return self.page.get_by_role("heading", name="asks for")

    def unlock(self, secret: bytes) -> None:
        """Type the secret and press Unlock."""
        self.page.get_by_label("Passphrase", exact=True).fill(secret.decode())
        self.page.get_by_role("button", name="Unlock").click()

    def deny(self) -> None:
        """Press Deny."""
        self.page.get_by_role("button", name="Deny").click()

    def shows_question(self) -> None:
        """Wait for a question that can be answered."""
        expect(self.question).to_be_visible()
        expect(self.page.get_by_role("button", name="Deny")).to_be_enabled()

    def shows(self, heading: str) -> None:
        """Wait for the heading of a state."""
        expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()

    def says(self, text: str) -> None:
        """Wait for a text on the page that can be seen."""
        expect(self.page.get_by_text(text).locator("visible=true").first).to_be_visible()
