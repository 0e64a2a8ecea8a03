"""The Apprise notifier against real servers: SMTP, an ntfy-compatible endpoint, and servers that do not behave."""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from house import UNLATCH, House
from notifier_contract import ENDED, FRAGMENT, LINK, MORE, NOON, NOTICE, OTHER_LINK, NotifierContract, run
from waiting import until

from unlatch.broker import ringing
from unlatch.broker.ringing import Ringer
from unlatch.credentials import Source
from unlatch.notify import NotDelivered, NotYet
from unlatch.notify.apprise import BREATHER_SECONDS, AppriseNotifier, source_of
from unlatch.settings import APPRISE_LOGS, APPRISE_MATRIX, NotifierSettings

TOKEN = "tk_canary5f0e77"
FREE = "ntfy://127.0.0.1:{port}/alarm"


class _Ntfy(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))  # type: ignore[attr-defined]
        if self.server.hangs:  # type: ignore[attr-defined]
            self.server.released.wait(20)  # type: ignore[attr-defined]
        status = self.server.statuses.pop(0) if self.server.statuses else 200  # type: ignore[attr-defined]
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(b'{"id": "1"}' if status == 200 else b"<html>" + body)  # an error page that quotes the link

    def log_message(self, *args: object) -> None:
        pass


class Ntfy(http.server.ThreadingHTTPServer):
    """An ntfy-compatible server. It answers with ``statuses`` in turn, then with 200; or hangs until released."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Ntfy)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.hangs = False
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are ended hang up; that is what they are tested for."""

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def told(self) -> str:
        return "\n".join(body.decode() for _, body in self.received)


@pytest.fixture
def ntfy() -> Iterator[Ntfy]:
    server = Ntfy()
    yield server
    server.close()


def notifier(url: str, **more: Any) -> AppriseNotifier:
    return AppriseNotifier("phone", Source("inline", (url,)), environ=os.environ, wall_clock=lambda: NOON, **more)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class TestNtfy(NotifierContract):
    """Over HTTP, as any push service."""

    @pytest.fixture(autouse=True)
    def server(self, ntfy: Ntfy) -> None:
        self.ntfy = ntfy

    def make(self) -> AppriseNotifier:
        return notifier(FREE.format(port=self.ntfy.server_port))

    def told(self) -> str:
        return self.ntfy.told()

    def make_broken(self) -> AppriseNotifier:
        return notifier(FREE.format(port=free_port()))


class _Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"


class TestMail(NotifierContract):
    """Over SMTP, to a real server."""

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[None]:
        self.mailbox = _Mailbox()
        controller = Controller(self.mailbox, hostname="127.0.0.1", port=free_port())
        controller.start()
        self.port = controller.port
        yield
        controller.stop()

    def make(self) -> AppriseNotifier:
        return notifier(f"mailto://127.0.0.1:{self.port}?from=unlatch@example.org&to=zoe@example.org&format=text")

    def told(self) -> str:
        return "\n".join(f"{mail['subject']}\n{mail.get_content()}" for mail in self.mailbox.mails)

    def make_broken(self) -> AppriseNotifier:
        return notifier(f"mailto://127.0.0.1:{free_port()}?from=unlatch@example.org&to=zoe@example.org")

    def test_a_mail_has_a_short_subject_and_no_markup_of_the_askers(self) -> None:
        """As HTML, what an asker wrote is text; the subject is for a lock screen."""
        sender = notifier(f"mailto://127.0.0.1:{self.port}?from=unlatch@example.org&to=zoe@example.org&format=html")
        run(sender.ring(NOTICE._replace(title='Unlock <a href="https://evil.example">this</a>\nSubject: x')))
        (mail,) = self.mailbox.mails
        assert mail["subject"].startswith("web03: Unlock")
        assert mail["to"] == "zoe@example.org"
        html = mail.get_body(("html",)).get_content()
        assert "<a href" not in html
        assert FRAGMENT in html


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_a_mail_servers_refusal_is_named() -> None:
    """A wrong password is told from a server that is not there; neither reason quotes anything."""

    class Strict(Controller):
        def factory(self) -> SMTP:
            return SMTP(
                self.handler, auth_required=True, auth_require_tls=False,
                authenticator=lambda *_: AuthResult(success=False, handled=False),
            )  # fmt: skip

    controller = Strict(_Mailbox(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        url = f"mailto://zoe:{TOKEN}@127.0.0.1:{controller.port}?from=a@example.org&to=b@example.org"
        with pytest.raises(NotDelivered) as failure:
            run(notifier(url).ring(NOTICE))
    finally:
        controller.stop()
    assert failure.value.why == "the server does not accept the credential"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("matrixs://user:pass@localhost/#room", APPRISE_MATRIX),
        ("MATRIX://user:pass@localhost/#room", APPRISE_MATRIX),
        ("https://webhooks.t2bot.io/api/v1/matrix/hook/abcdef", APPRISE_MATRIX),
        ("syslog://", APPRISE_LOGS),
        ("rsyslog://localhost", APPRISE_LOGS),
        ("nonsense://localhost", "Apprise does not understand the URL"),
        ("", "Apprise does not understand the URL"),
        ("ntfy://127.0.0.1:1/alarm", "the connection is refused"),
    ],
)
def test_what_is_refused_says_why(url: str, why: str) -> None:
    """Wherever the URL comes from, and however it is spelt."""
    with pytest.raises(NotDelivered) as failure:
        run(notifier(url).ring(NOTICE))
    assert failure.value.why == why


@pytest.mark.parametrize("status", [500, 502, 429, 403])
def test_an_error_of_the_server_is_named_by_its_number(ntfy: Ntfy, status: int) -> None:
    """Its page is not repeated, and it is tried again by the ringer."""
    ntfy.statuses = [status]
    with pytest.raises(NotDelivered) as failure:
        run(notifier(FREE.format(port=ntfy.server_port)).ring(NOTICE))
    assert failure.value.why == f"the server answered {status}"


def drive(sender: AppriseNotifier, story: Any, seconds: float = 10.0) -> list[tuple[bool, str]]:
    """Run a story with a ringer that has this notifier; what it reported."""
    reports: list[tuple[bool, str]] = []

    async def told() -> None:
        ringer = Ringer(lambda _, name, delivered, why: reports.append((delivered, why)))
        ringer.add(sender, "apprise", seconds)
        await story(ringer, reports)
        await ringer.close(0.1)

    run(told())
    return reports


def test_a_server_that_hangs_is_cut(ntfy: Ntfy, monkeypatch: pytest.MonkeyPatch) -> None:
    """At our time limit, and the sending process is gone."""
    monkeypatch.setattr(ringing, "BACKOFF", (0.01,))  # a busy machine may need a second try to get there at all
    ntfy.hangs = True

    async def story(ringer: Ringer, reports: list[tuple[bool, str]]) -> None:
        ringer.ring("p", NOTICE, ("phone",))
        while not ntfy.received:
            await asyncio.sleep(0.01)
        assert senders()
        before = len(reports)
        while len(reports) == before:
            await asyncio.sleep(0.01)

    reports = drive(notifier(FREE.format(port=ntfy.server_port)), story, 3.0)
    assert set(reports) == {(False, "took longer than 3 s")}
    assert not senders()


def test_a_network_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring is tried again until the server is there; it is delivered once."""
    monkeypatch.setattr(ringing, "BACKOFF", (0.01,))
    port = free_port()
    servers: list[Ntfy] = []

    async def story(ringer: Ringer, reports: list[tuple[bool, str]]) -> None:
        ringer.ring("p", NOTICE, ("phone",))
        while not reports:
            await asyncio.sleep(0.01)
        servers.append(Ntfy(port))
        while not reports[-1][0]:
            await asyncio.sleep(0.01)

    try:
        reports = drive(notifier(FREE.format(port=port)), story)
        assert reports[0] == (False, "the connection is refused")
        assert reports[-1] == (True, "")
        assert len(servers[0].received) == 1
    finally:
        for server in servers:
            server.close()


def test_a_quiet_ring_sends_only_what_is_new(ntfy: Ntfy) -> None:
    """A service that asks again and again makes one message a minute at most, and the link that stays arrives."""
    clock = [1000.0]
    sender = notifier(FREE.format(port=ntfy.server_port), clock=lambda: clock[0])
    run(sender.ring(NOTICE))
    run(sender.ring(NOTICE._replace(quiet=True, page_trouble="name: it cannot be resolved")))
    assert len(ntfy.received) == 1
    new = NOTICE._replace(quiet=True, link=OTHER_LINK)
    with pytest.raises(NotYet, match="waits a minute"):
        run(sender.ring(new))
    clock[0] += BREATHER_SECONDS
    run(sender.ring(new))
    assert OTHER_LINK in ntfy.told()
    run(sender.ring(new._replace(more=MORE)))
    assert len(ntfy.received) == 2  # that link stood in the last message
    run(sender.ring(NOTICE._replace(quiet=True, link=OTHER_LINK, more=(MORE[0]._replace(link=LINK),))))
    assert len(ntfy.received) == 3  # one more joined the list: at once


def test_a_list_says_how_many_wait(ntfy: Ntfy) -> None:
    """The title counts those that are still open."""
    run(notifier(FREE.format(port=ntfy.server_port)).ring(NOTICE._replace(more=MORE)))
    assert json.loads(ntfy.received[0][1])["title"] == "web03: 2 requests"


@pytest.mark.parametrize("kind", ["file", "command", "credential"])
def test_the_url_may_be_kept_elsewhere(ntfy: Ntfy, tmp_path: Path, kind: str) -> None:
    """In a file, behind a command or among systemd's credentials; the token reaches the server."""
    kept = tmp_path / "alarm.url"
    kept.write_text(f"ntfy://{TOKEN}@127.0.0.1:{ntfy.server_port}/alarm?auth=token\n")
    kept.chmod(0o600)
    where: Any = {"file": str(kept), "command": ("/bin/cat", str(kept)), "credential": "alarm.url"}[kind]
    source = source_of(NotifierSettings("phone", f"apprise_{kind}", {f"apprise_{kind}": where, "seconds": 10}, False))
    run(AppriseNotifier("phone", source, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}).ring(NOTICE))
    headers, body = ntfy.received[0]
    assert TOKEN in headers["Authorization"] or TOKEN in base64.b64decode(headers["Authorization"].split()[1]).decode()
    assert LINK in body.decode()


def test_a_credential_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The path, not what is in it."""
    exposed = tmp_path / "alarm.url"
    exposed.write_text(f"ntfy://{TOKEN}@localhost/alarm")
    exposed.chmod(0o644)
    with pytest.raises(NotDelivered) as failure:
        run(AppriseNotifier("phone", Source("file", (str(exposed),)), environ={}).ring(NOTICE))
    assert failure.value.why == f'everybody may read {exposed}; run "chmod o= {exposed}"'


def test_link_and_credential_are_nowhere(ntfy: Ntfy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in arguments or environments while it is sent, not in output, status, reason or files afterwards."""
    kept = tmp_path / "alarm.url"
    kept.write_text(f"ntfy://zoe:{TOKEN}@127.0.0.1:{ntfy.server_port}/alarm")
    kept.chmod(0o600)
    ntfy.statuses, ntfy.hangs = [500, 200], True
    seen: list[bytes] = []
    rows: list[Any] = []

    async def story(ringer: Ringer, reports: list[tuple[bool, str]]) -> None:
        ringer.ring("p", NOTICE, ("phone",))
        while not ntfy.received:
            await asyncio.sleep(0.01)
        for pid in senders():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):  # a process without core dumps hides its environment
                    seen.append(Path(f"/proc/{pid}/{name}").read_bytes())
        ntfy.released.set()
        while not reports:
            await asyncio.sleep(0.01)
        rows.extend(ringer.status())

    environ = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    reports = drive(AppriseNotifier("phone", Source("file", (str(kept),)), environ=environ), story)
    output = capfd.readouterr()
    shown = b"".join(seen).decode() + json.dumps(rows) + repr(reports) + output.out + output.err
    assert b"apprise_send" in b"".join(seen)
    assert reports[0] == (False, "the server answered 500")
    for canary in (TOKEN, FRAGMENT, "T" * 22):
        assert canary not in shown
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_the_end_is_told_without_a_link(ntfy: Ntfy) -> None:
    """And names the words, so that one sees which of two it was."""
    run(notifier(FREE.format(port=ntfy.server_port)).end(ENDED, "expired"))
    assert "amber canoe" in ntfy.told()
    assert "http" not in json.loads(ntfy.received[0][1])["message"]


def test_without_apprise_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says what to install; nobody is promised a ring by it."""
    from unlatch.broker import setup
    from unlatch.settings import Settings

    monkeypatch.setattr(setup, "find_spec", lambda name: None)
    ringer = Ringer(lambda *_: None)
    push = NotifierSettings("push", "apprise", {"apprise": FREE.format(port=1), "seconds": 10}, False)
    other = NotifierSettings("other", "command", {"command": ("/bin/true",), "seconds": 10}, False)
    settings = Settings(notifiers=(push, other))
    made = setup.add_notifiers(ringer, settings, {}, None, lambda *_: 0, loopback=False)
    assert [notifier.name for notifier in made] == ["other"]
    assert {row["name"]: row["why"] for row in ringer.status()} == {
        "other": "",
        "push": 'Apprise is not installed; run "pip install unlatch[apprise]"',
    }


def test_the_broker_never_imports_apprise() -> None:
    """Its 50 MiB belong to the sending process."""
    import subprocess
    import sys

    code = "import sys, unlatch.notify.apprise, unlatch.broker.setup; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "False\n"


def test_the_whole_way(ntfy: Ntfy, house: House) -> None:
    """unlatch ring through a real broker: the server is ill at first, status and log say so, then the link arrives. Its
    fragment and the token are in no file of the house, no argument, no status and no log.
    """
    kept = house.root / "push.url"
    kept.write_text(f"ntfy://{TOKEN}@127.0.0.1:{ntfy.server_port}/alarm?auth=token\n")
    kept.chmod(0o600)
    settings = house.settings.read_text().replace('notify = ["phone"]', 'notify = ["push"]')
    house.settings.write_text(f'{settings}\n[notify.push]\napprise_file = "{kept}"\n')
    ntfy.statuses = [500]
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    until(lambda: ntfy.received, "the first try")
    failed = until(lambda: [row for row in status(house)["prompts"] if "failed" in str(row["delivery"])], "its failure")
    assert failed[0]["delivery"] == {"push": "failed: the server answered 500"}
    assert "push: failed: the server answered 500" in house.run(UNLATCH, "status").decode()
    until(lambda: len(ntfy.received) == 2, "the second try")
    link = re.search(r"https://unlock\.test/\S+", json.loads(ntfy.received[1][1])["message"])
    assert link is not None
    until(lambda: status(house)["prompts"][0]["delivery"] == {"push": "delivered"}, "the delivery")
    assert re.search(r"push: delivered \d+ s ago", house.run(UNLATCH, "status").decode())
    fragment = link[0].partition("#")[2]
    shown = [Path(f"/proc/{pid}/cmdline") for pid in house.processes()]
    for canary in (fragment.encode(), TOKEN.encode()):
        assert not any(canary in path.read_bytes() for path in shown)
        files = [path for path in house.root.rglob("*") if path.is_file() and path != kept]
        assert [path for path in files if canary in path.read_bytes()] == []
        said = json.dumps(status(house)).encode() + house.run(UNLATCH, "log") + house.run(UNLATCH, "status")
        assert canary not in said
    house.open(link[0]).allow()
    output, errors = asker.communicate(timeout=20)
    assert fragment.encode() not in output + errors
    until(lambda: len(ntfy.received) == 3, "the end")
    log = house.run(UNLATCH, "log").decode()
    assert "unreached" in log
    assert "delivered=true" in log


def status(house: House) -> Any:
    return house.ask_admin({"op": "status"})


def senders() -> list[int]:
    """The sending processes that this test process has."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()
            mine = int(status[1]) == os.getpid() and status[0] != "Z"
            if mine and b"apprise_send" in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
    return found
