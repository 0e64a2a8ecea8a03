"""What doctor finds about the broker itself: its file, its release, its page, its clock, and where it writes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from certificates import self_signed
from doctor_host import examine, finding, situation_of
from house import UNLATCH, House
from real import absent
from test_probe import Proxy
from test_probe import _Proxy as _Handler
from waiting import until

import unlatch
from unlatch.broker.page import fingerprint
from unlatch.doctor.check import Finding
from unlatch.doctor.host import broker, clock, served, settings, storage

NOWHERE = situation_of({"HOME": "/nonexistent"})


@pytest.fixture
def served_house(house: House) -> House:
    """A house with a broker that stays."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    return house


# The file


def test_config_fails_with_a_mistake(house: House) -> None:
    """The first is told, with its line; how many more; and the command that lists them."""
    house.settings.write_text('public_ulr = "https://unlock.test/"\nlisten = 7\n')
    found = finding(house, "config")
    assert found.state == "problem"
    assert found.text.startswith(f"{house.settings}:1: public_ulr: unknown key")
    assert found.text.endswith("(and 1 more)")
    assert found.hint == "unlatch config check"


def test_config_fails_for_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    """Every asker of the host reads it, and the broker, who is not root."""
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o750)
    file = closed / "unlatch.toml"
    file.write_text("")
    file.chmod(0o640)
    hidden = settings._hidden(str(file))
    assert hidden in (str(closed), *map(str, tmp_path.parents))  # the topmost: pytest's own folders are private too
    found = settings.judge(settings.Facts(str(file), (), str(file), 0.0, True), NOWHERE)
    assert (found.state, found.hint) == ("problem", f"chmod o+r {file}")
    found = settings.judge(settings.Facts(str(file), (), str(closed), 0.0, True), NOWHERE)
    assert found.hint == f"chmod o+x {closed}"


def test_config_fails_when_it_was_changed_after_the_start(served_house: House) -> None:
    """The broker has read the older file, and rings by that."""
    later = time.time() + 60
    os.utime(served_house.settings, (later, later))
    found = finding(served_house, "config")
    assert found.state == "warning"
    assert "changed after the broker had started" in found.text


def test_config_passes(served_house: House) -> None:
    """It says which file that is: also one that an argument of the broker's names."""
    assert finding(served_house, "config") == Finding("config", "ok", f"{served_house.settings} has no mistakes")


def test_config_passes_for_the_file_of_the_running_broker(house: House, tmp_path: Path) -> None:
    """Not the caller's environment decides, but what the broker was started with."""
    house.start(UNLATCH, "serve", UNLATCH_CONFIG=str(shutil.copy(house.settings, tmp_path / "other.toml")))
    until(house.is_served, "the broker")
    (tmp_path / "other.toml").chmod(0o600)
    assert finding(house, "config").text == f"{tmp_path}/other.toml has no mistakes"


# The broker


def test_broker_fails_in_trouble(house: House) -> None:
    """What the broker itself complains of."""
    house.configure(tables='[notify.bad]\ncommand = ["/nonexistent/program"]')
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    found = finding(house, "broker")
    assert found.state == "problem"
    assert "there is no such program" in found.text
    assert found.hint == "unlatch status"


def test_broker_fails_when_it_does_not_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is no broker; the doctor does not hang with it."""
    monkeypatch.setattr(served, "ADMIN_SECONDS", 0.2)
    folder = house.runtime / "admin"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "admin.sock"))
        silent.listen()
        found = finding(house, "broker")
    assert (found.state, found.hint) == ("problem", "unlatch status")
    assert "does not answer" in found.text


def test_broker_fails_when_the_hosts_does_not_run() -> None:
    """A host that has a place for its broker must have one that runs."""
    absent_one = served.Status(why="nobody listens", absent=True)
    found = broker.judge(broker.Facts(True, absent_one, ""), NOWHERE)
    assert found == Finding("", "problem", "the host's broker does not run", "systemctl status unlatch.service")


def test_broker_passes(served_house: House) -> None:
    """Its pid, and since when."""
    found = finding(served_house, "broker")
    assert found.state == "ok"
    (pid,) = served_house.processes_called(b"serve")
    assert found.text.startswith(f"it runs: pid {pid}, up ")


def test_broker_passes_before_the_first_prompt(house: House) -> None:
    """A user's own broker starts when it is needed."""
    assert finding(house, "broker").state == "ok"
    assert finding(house, "broker-version").state == "ok"
    assert finding(house, "page-fingerprint").text == f"the installed page has SHA-256 {fingerprint()[:16]}..."


@pytest.fixture
def older(house: House, tmp_path: Path) -> House:
    """A broker of another release, with another page: a copy of this one, changed."""
    package = Path(unlatch.__file__).parent
    shutil.copytree(package, tmp_path / "unlatch", ignore=shutil.ignore_patterns("__pycache__"))
    init = tmp_path / "unlatch" / "__init__.py"
    init.write_text(init.read_text().replace(unlatch.__version__, "0.0.9"))
    with (tmp_path / "unlatch" / "broker" / "page" / "page.css").open("a") as style:
        style.write("body { color: red }\n")
    run = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from unlatch.cli.main import main; main()"
    house.start(sys.executable, "-c", run, "serve")
    until(house.is_served, "the older broker")
    return house


def test_broker_version_fails(older: House) -> None:
    """An upgrade without a restart; the restart loses nothing."""
    found = finding(older, "broker-version")
    assert found.state == "problem"
    assert "the broker is version 0.0.9" in found.text
    (pid,) = older.processes_called(b"serve")
    assert found.hint == f"kill {pid}"


def test_broker_version_passes(served_house: House) -> None:
    """The same as the command's."""
    text = f"broker and command are version {unlatch.__version__}"
    assert finding(served_house, "broker-version") == Finding("broker-version", "ok", text)


def test_page_fingerprint_fails(older: House) -> None:
    """Whatever is served where secrets are typed, it is not what was installed."""
    found = finding(older, "page-fingerprint")
    assert found.state == "problem"
    assert found.text.endswith(f"installed is {fingerprint()[:16]}...")


def test_page_fingerprint_passes(served_house: House) -> None:
    """The number that the release publishes, and that ``unlatch status`` shows."""
    found = finding(served_house, "page-fingerprint")
    assert (found.state, found.text.startswith(f"SHA-256 {fingerprint()[:16]}..., as installed")) == ("ok", True)
    assert f"page sha256 {fingerprint()}" in served_house.run(UNLATCH, "status").decode()


# The clock


class Behind(Proxy):
    """Serves the page, and thinks that it is an hour earlier."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(certificate)
        self.RequestHandlerClass = _Late


class _Late(_Handler):
    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() - 3600, usegmt=True)


def test_clock_fails(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour away from the page's server is more than certificates and messages forgive."""
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = Behind(certificate)
    try:
        url = server.url.replace("127.0.0.1", "[::ffff:127.0.0.1]").removesuffix("TICKET")
        house.settings.write_text(f'public_url = "{url}"\nlisten = "unix:{house.page}"\n')
        found = finding(house, "clock")
    finally:
        server.close()
    assert found.state == "problem"
    assert found.text.startswith("this clock is 36")
    assert "s ahead of the page's server: TLS to homeserver" in found.text
    assert found.hint == "timedatectl status"


def test_clock_passes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so. What it says here is up to this machine, so the words are told for each."""
    monkeypatch.setattr(clock, "clock_is_set", lambda: True)
    assert finding(house, "clock").state == "ok"
    monkeypatch.undo()
    assert finding(house, "clock").state in ("ok", "warning", "unknown")


@pytest.mark.parametrize(
    ("synchronised", "ahead", "state"),
    [(True, 2.0, "ok"), (True, -7200.0, "problem"), (False, None, "warning"), (None, 1.0, "unknown")],
)
def test_clock_fails_in_degrees(synchronised: bool | None, ahead: float | None, state: str) -> None:
    """A clock that follows nothing may be right; one that is wrong is a problem whatever the kernel thinks."""
    assert clock.judge(clock.Facts(synchronised, ahead), NOWHERE).state == state


# Where it writes


def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def disk(house: House) -> Iterator[Path]:
    """A file system of two megabytes where the audit trail lies, seen by this test only."""
    if os.getuid() != 0:
        absent("only root can mount")
    folder = house.root / "disk"
    yield from (folder for _ in small_disk(folder, "2m"))


def test_storage_fails_when_the_disk_is_full(house: House, disk: Path) -> None:
    """First it is little, then nothing; the command shows where."""
    house.configure(tables=f'[audit]\nfile = "{disk}/audit.jsonl"')
    found = finding(house, "storage")
    assert (found.state, found.hint) == ("warning", f"df -h {disk}")
    assert f"only 2 MiB left where {disk} (the audit trail) lies" in found.text
    (disk / "core").write_bytes(bytes(1_500_000))
    found = finding(house, "storage")
    assert (found.state, found.text) == ("problem", f"no room left where {disk} (the audit trail) lies")


def test_storage_fails_where_the_broker_may_not_write(tmp_path: Path) -> None:
    """By the directory's modes, for the broker's user and not for us."""
    tmp_path.chmod(0o755)
    folder = storage.look(str(tmp_path), "the audit trail", 4242)
    found = storage.judge(storage.Facts("unlatch", (folder,)), NOWHERE)
    assert found == Finding(
        "", "problem", f"{tmp_path} (the audit trail) cannot be written by unlatch", f"ls -ld {tmp_path}"
    )
    tmp_path.chmod(0o757)
    assert storage.look(str(tmp_path), "the audit trail", 4242).writable


def test_storage_fails_without_the_matrix_state(house: House) -> None:
    """That one is made by setup, not by the broker."""
    house.configure(tables=f'[notify.chat]\nmatrix = "{house.root}/gone"')
    found = finding(house, "storage")
    assert (found.state, found.hint) == ("problem", f"ls -ld {house.root}/gone")


def test_storage_passes(served_house: House) -> None:
    """With how much room there is."""
    found = finding(served_house, "storage")
    assert found.state == "ok"
    assert "free at least" in found.text


def test_everything_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that answers once and then hangs holds up no check for longer than a line may take."""
    monkeypatch.setattr(served, "ADMIN_SECONDS", 0.2)
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    (pid,) = house.processes_called(b"serve")
    os.kill(pid, 19)
    begun = time.monotonic()
    try:
        assert examine(house, "broker")[0].state == "problem"
        assert examine(house, "page")[0].state in ("unknown", "problem")
    finally:
        os.kill(pid, 18)
    assert time.monotonic() - begun < 8
