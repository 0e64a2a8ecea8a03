"""Who can take the broker's addresses, and when anybody can connect to them."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest
from real import absent

from unlatch.broker import listen
from unlatch.settings import Settings, Tcp, Unix

SOMEBODY_ELSE = 54321  # a uid; it needs no account
OPTIONS = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)


class Greeter(asyncio.Protocol):
    """Says hello; stays until the test or the client ends it."""

    everybody: "list[Greeter]" = []  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"hello")
        Greeter.everybody.append(self)


@pytest.fixture(autouse=True)
def nobody_greeted() -> None:
    Greeter.everybody = []


def run(story: Awaitable[None]) -> None:
    async def told() -> None:
        async with asyncio.timeout(20):
            await story

    asyncio.run(told())


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=5)


async def greeted(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection that the broker has accepted."""
    client = await asyncio.to_thread(connect, port, host)
    assert await asyncio.to_thread(client.recv, 5) == b"hello"
    return client


def refused(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


@contextlib.contextmanager
def being(uid: int) -> Iterator[None]:
    """Make sockets as another user: the kernel notes the uid when a socket is created."""
    if os.geteuid() != 0:
        absent("only root can be another user")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def can_be_taken(port: int) -> bool:
    """Whether another user can listen on the port, on any address and with any socket options."""
    with being(SOMEBODY_ELSE):
        for chosen in ((), OPTIONS[:1], OPTIONS[1:], OPTIONS):
            for host in ("127.0.0.1", "0.0.0.0"):
                with socket.socket() as thief:
                    for option in chosen:
                        thief.setsockopt(socket.SOL_SOCKET, option, 1)
                    with contextlib.suppress(OSError):
                        thief.bind((host, port))
                        return True  # even if it could not listen yet: it could once we stop
    return False


def test_nothing_listens_while_no_prompt_is_open() -> None:
    """Before the first prompt and after the last the port refuses connections; in between it serves, each time anew."""

    async def story() -> None:
        page = listen.TcpListener("127.0.0.1", 0)
        for _ in range(3):
            assert refused(page.port)
            page.open(Greeter)
            page.open(Greeter)
            (await greeted(page.port)).close()
            page.shut()
            page.shut()
        assert refused(page.port)
        page.close()

    run(story())


def test_no_other_user_can_take_the_port_at_any_moment() -> None:
    """Idle from the start, listening, with a connection, idle again with closed connections in TIME_WAIT."""

    async def story() -> None:
        page = listen.TcpListener("127.0.0.1", 0)
        assert not can_be_taken(page.port)
        page.open(Greeter)
        assert not can_be_taken(page.port)
        client = await greeted(page.port)
        assert not can_be_taken(page.port)
        page.shut()
        assert not can_be_taken(page.port)
        Greeter.everybody[0].transport.close()  # we close first: the TIME_WAIT is ours
        assert await asyncio.to_thread(client.recv, 1) == b""
        client.close()
        assert not can_be_taken(page.port)
        page.open(Greeter)
        (await greeted(page.port)).close()
        assert not can_be_taken(page.port)
        page.close()

    run(story())


def test_a_broker_starts_again_at_once() -> None:
    """A new broker gets the port although connections of the last one are in TIME_WAIT."""

    async def story() -> None:
        first = listen.TcpListener("127.0.0.1", 0)
        first.open(Greeter)
        client = await greeted(first.port)
        Greeter.everybody[0].transport.close()
        assert await asyncio.to_thread(client.recv, 1) == b""
        client.close()
        port = first.port
        first.close()
        second = listen.TcpListener("127.0.0.1", port)
        second.open(Greeter)
        (await greeted(port)).close()
        second.close()

    run(story())


def test_a_second_broker_of_the_same_user_is_told() -> None:
    """Two brokers never share a port silently."""

    async def story() -> None:
        first = listen.TcpListener("127.0.0.1", 0)
        for opened in (False, True):
            if opened:
                first.open(Greeter)
            with pytest.raises(listen.AddressTaken, match=f"127.0.0.1:{first.port}: Address already in use"):
                listen.page_listeners(Settings(listen=Tcp("127.0.0.1", first.port)))
        first.close()

    run(story())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", ["localhost", "unlatch.localhost"])
def test_localhost_is_both_its_addresses(name: str) -> None:
    """Browsers try ::1 first, so whoever sends people to localhost must hold it as well."""
    if not has_ipv6():
        absent("this machine has no IPv6 loopback")

    async def story() -> None:
        listeners = listen.page_listeners(Settings(listen=Tcp("127.0.0.1", 0), public_url=f"http://{name}:0/"))
        first, second = listeners
        assert isinstance(first, listen.TcpListener)
        assert isinstance(second, listen.TcpListener)
        assert first.port == second.port
        second.open(Greeter)
        (await greeted(second.port, "::1")).close()
        first.close()
        second.close()

    run(story())


def test_half_of_localhost_is_not_enough() -> None:
    """Somebody else holds the port on ::1: the broker does not start, and gives its half back."""
    if not has_ipv6():
        absent("this machine has no IPv6 loopback")
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        port = other.getsockname()[1]
        with pytest.raises(listen.AddressTaken, match="::1"):
            listen.page_listeners(Settings(listen=Tcp("localhost", port)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", port))


def test_another_address_is_taken_alone() -> None:
    """With a public address behind a proxy only what the settings say is bound."""
    listeners = listen.page_listeners(Settings(listen=Tcp("127.0.0.1", 0), public_url="https://unlock.example.org/"))
    assert len(listeners) == 1
    listeners[0].close()


def test_a_unix_socket_is_the_groups(tmp_path: Path) -> None:
    """It has its group and mode when it appears, takes the place of a dead one, and is gone at the end."""

    async def story() -> None:
        path = tmp_path / "page.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        group = "adm" if os.geteuid() == 0 else ""
        (page,) = listen.page_listeners(Settings(listen=Unix(str(path), group)))
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert status.st_gid == (4 if group else os.getegid())  # adm is 4 on every Debian
        page.stand(Greeter)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.readexactly(5) == b"hello"
        page.shut()
        assert path.exists()
        page.close()
        writer.close()
        assert os.listdir(tmp_path) == []

    run(story())


@pytest.mark.parametrize("what", ["file", "link", "live", "folder", "group"])
def test_a_unix_socket_that_cannot_be_had(tmp_path: Path, what: str) -> None:
    """Files stay what they are, a living program keeps its socket, and the reason is said."""
    path = tmp_path / "page.sock"
    with socket.socket(socket.AF_UNIX) as live:
        if what == "file":
            path.write_text("precious")
        elif what == "link":
            path.symlink_to("/nonexistent")
        elif what == "live":
            live.bind(str(path))
            live.listen()
        folder = tmp_path / "missing" if what == "folder" else tmp_path
        group = "no-such-group" if what == "group" else ""
        reason = {"live": "another program answers there", "folder": "No such file", "group": "there is no group"}
        with pytest.raises(listen.AddressTaken, match=reason.get(what, "not a socket")):
            listen.unix_listener(Unix(f"{folder}/page.sock", group))
    left = {"file", "link", "live"} & {what}
    assert os.listdir(tmp_path) == (["page.sock"] if left else [])


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    """unix(7) allows 107 bytes for a path; ours may be longer."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    listen.unix_listener(Unix(str(folder / "admin.sock"))).close()
    assert (folder / "admin.sock").is_socket()


def test_running_out_of_descriptors_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accept(2) fails, we wait a moment without spinning, and serve the same client when there is room again."""
    monkeypatch.setattr(listen, "BREATHER_SECONDS", 0.05)

    async def story() -> None:
        listener = listen.unix_listener(Unix(str(tmp_path / "x.sock")))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "x.sock")
        acceptor = listen.Acceptor(listener, Greeter)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno(), hard))
        try:
            assert acceptor.accept() == 0
            assert acceptor._pause is not None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        acceptor.close()
        listener.close()

    run(story())


def test_the_kernel_queues_whoever_comes_before_we_look(tmp_path: Path) -> None:
    """Askers that connect while a broker starts wait in the backlog, and all are served."""

    async def story() -> None:
        listener = listen.unix_listener(Unix(str(tmp_path / "x.sock")))
        clients = []
        for _ in range(200):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            error = client.connect_ex(str(tmp_path / "x.sock"))
            assert error == 0, errno.errorcode[error]
            clients.append(client)
        acceptor = listen.Acceptor(listener, Greeter)
        while len(Greeter.everybody) < len(clients):
            await asyncio.sleep(0)
        acceptor.close()
        listener.close()
        for client, greeter in zip(clients, Greeter.everybody, strict=True):
            client.close()
            greeter.transport.abort()

    run(story())
