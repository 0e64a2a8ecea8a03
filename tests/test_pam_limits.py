"""How many logins there may be at once, and whose; and how a login's client is seen to be gone."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from unlatch.pam import hangup, limits
from unlatch.pam.hangup import Client
from unlatch.pam.limits import Key, Limits
from unlatch.wire.pam import Hello

ALICE = Key(0, "alice", ("", "203.0.113.5"))


def begin(crowd: Limits, key: Key, now: float = 0.0) -> str:
    """One more, if it may: why it may not."""
    full = crowd.full(key, now)
    if not full:
        crowd.enter(key, now)
    return full


def test_one_address_cannot_take_an_account() -> None:
    """Sixteen logins of one account from one address; another address and another account have their own."""
    crowd = Limits()
    assert not any(begin(crowd, ALICE) for _ in range(limits.PER_LOGIN))
    assert "16 logins of this account" in begin(crowd, ALICE)
    assert not begin(crowd, ALICE._replace(remote=("", "203.0.113.6")))
    assert not begin(crowd, ALICE._replace(account="bob"))
    crowd.leave(ALICE)
    assert not begin(crowd, ALICE)


@pytest.mark.parametrize(
    ("rhosts", "one"),
    [
        (("2001:db8::1", "2001:db8::ffff:1"), True),
        (("fe80::1%eth0", "fe80::2"), True),
        (("::ffff:203.0.113.5", "203.0.113.5"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("203.0.113.5", "203.0.113.6"), False),
        (("::ffff:203.0.113.5", "::ffff:203.0.113.6"), False),
        (("a.example.org", "b.example.org"), False),
    ],
)
def test_a_network_of_ipv6_is_one_origin(rhosts: tuple[str, str], one: bool) -> None:
    """Whoever has one address of it has all 2^64, and no more logins for that."""
    crowd = Limits()
    mine, other = (limits.key_of(0, Hello("sshd", "alice", rhost=rhost)) for rhost in rhosts)
    assert not any(begin(crowd, mine) for _ in range(limits.PER_LOGIN))
    assert bool(begin(crowd, other)) is one


def test_one_origin_cannot_take_all_accounts() -> None:
    """Whoever calls su again and again, for whomever, leaves the console and everybody else their logins."""
    crowd = Limits()
    begun = [begin(crowd, Key(0, f"user{number}", ("bob", ""))) for number in range(limits.PER_ORIGIN + 1)]
    assert begun == [""] * limits.PER_ORIGIN + ["64 logins are open from there"]
    assert not begin(crowd, Key(0, "user1"))
    assert not begin(crowd, Key(0, "user1", ("carol", "")))
    assert not begin(crowd, Key(0))


def test_local_users_cannot_take_the_place_of_logins() -> None:
    """All of them together have half, and root's are let in up to the end."""
    crowd = Limits()
    assert not any(begin(crowd, Key(uid)) for uid in range(1000, 1025) for _ in range(limits.PER_UID))
    assert "users other than root" in begin(crowd, Key(2000))
    others = range(limits.ALL - limits.OTHERS)
    assert not any(begin(crowd, Key(0, "alice", ("", f"host{number}"))) for number in others)
    assert "200 logins" in begin(crowd, Key(0, "one more"))


def test_another_uid_has_few_and_may_not_hurry() -> None:
    """Four at once; thirty within a minute, and the same again in the next."""
    crowd = Limits()
    zoe = Key(1000, "zoe")
    assert not any(begin(crowd, Key(1000)) for _ in range(limits.PER_UID))
    assert "of this uid" in begin(crowd, Key(1000))
    for _ in range(limits.PER_UID):
        crowd.rename(Key(1000), zoe)
        crowd.leave(zoe)
    for _ in range(limits.STARTS - limits.PER_UID):
        assert not begin(crowd, Key(1000), 1.0)
        crowd.leave(Key(1000))
    assert "within a minute" in begin(crowd, Key(1000), 59.0)
    assert not begin(crowd, Key(1001), 59.0)
    assert not begin(crowd, Key(1000), 62.0)


def test_refusals_of_one_uid_do_not_fill_the_log() -> None:
    """One a minute for each uid; of root's every one."""
    crowd = Limits()
    assert [crowd.worth_telling(1000, now) for now in (0.0, 1.0, 59.0, 60.5, 61.0)] == [True, False, False, True, False]
    assert all(crowd.worth_telling(0, now) for now in (0.0, 0.0, 1.0))
    assert crowd.worth_telling(1001, 1.0)


@given(st.lists(st.tuples(st.sampled_from([0, 0, 1000, 1001]), st.booleans()), max_size=300))
def test_nobody_is_counted_twice_or_for_ever(events: list[tuple[int, bool]]) -> None:
    """Whatever comes and goes: when all have left, nobody is there."""
    crowd, inside = Limits(), []
    for number, (uid, comes) in enumerate(events):
        if comes and not begin(crowd, Key(uid), float(number * 10)):
            inside.append(Key(uid))
            if number % 2:
                inside[-1] = Key(uid, "alice", ("", "here"))
                crowd.rename(Key(uid), inside[-1])
        elif inside:
            crowd.leave(inside.pop())
    for key in inside:
        crowd.leave(key)
    assert not crowd._open


# The client of a login


@pytest.fixture(params=["127.0.0.1", "::1", "mapped"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket, str]]:
    """Client, server and SSH_CONNECTION of a connection on loopback; a mapped one has IPv4 on a socket of both."""
    mapped = request.param == "mapped"
    address = "127.0.0.1" if mapped else request.param
    family = socket.AF_INET if request.param == "127.0.0.1" else socket.AF_INET6
    with socket.socket(family) as listener:
        if mapped:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::ffff:127.0.0.1" if mapped else address, 0))
        listener.listen()
        with socket.create_connection((address, listener.getsockname()[1])) as client:
            server, _ = listener.accept()
            with server:
                ends = (*client.getsockname()[:2], *client.getpeername()[:2])
                yield client, server, " ".join(map(str, ends))


Connection = tuple[socket.socket, socket.socket, str]


def test_a_client_is_there_until_it_goes(connection: Connection) -> None:
    """The server's socket stays open, as sshd's does while PAM waits: CLOSE_WAIT is gone, and so is what is no more."""
    client, server, said = connection
    watched = Client(os.getpid(), said)
    assert not watched.gone()
    client.close()
    until(watched.gone, "the client to be gone")
    server.close()
    assert watched.gone()


def test_a_client_that_resets_is_gone(connection: Connection) -> None:
    """Killed with unread data, or by a middle box: the kernel forgets the connection at once."""
    client, _, said = connection
    watched = Client(os.getpid(), said)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    until(watched.gone, "the client to be gone")


@pytest.mark.parametrize(
    "said",
    ["", "UNKNOWN 65535 UNKNOWN 65535", "203.0.113.5 1 203.0.113.6 22", "::1 2 127.0.0.1 3", "1 2 3", "::1 99999 ::1 1",
     "::1 -1 ::1 1", "fe80::1%eth0 1 fe80::2%eth0 22"],
)  # fmt: skip
def test_a_connection_that_nobody_sees_is_not_taken_for_dead(said: str) -> None:
    """sshd behind a pipe, another program's words: then the deadline ends it."""
    assert not Client(os.getpid(), said).gone()


def test_a_process_that_is_gone_tells_nothing() -> None:
    """That its channel is closed says it better."""
    assert not Client(2**22, "127.0.0.1 1 127.0.0.1 22").gone()


def test_addresses_are_written_as_the_kernel_does() -> None:
    """proc_net(5); on this machine's byte order."""
    little = [("tcp", b"0100007F:0016 057100CB:C03E"),
              ("tcp6", b"0000000000000000FFFF00000100007F:0016 0000000000000000FFFF0000057100CB:C03E")]  # fmt: skip
    if struct.pack("=H", 1) == b"\x01\x00":
        assert hangup.needles("203.0.113.5 49214 127.0.0.1 22") == little
    line = b"   3: 0100007F:0016 057100CB:C03E 08 00000000:00000000 00:00000000 00000000     0        0 12345\n"
    assert hangup.state([b"header\n", line], b"0100007F:0016 057100CB:C03E") == 8
    assert hangup.state([b"header\n", line], b"0100007F:0016 057100CB:C03F") is None
