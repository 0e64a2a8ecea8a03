"""What may go wrong between a prompt and a phone: nothing is lost that can be kept, and the reason is a clear one."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from matrix.bot import LINK, Bot, notice, paired
from matrix.gate import BAD_GATEWAY, Gate, too_many
from matrix.phone import MatrixPhone
from matrix.synapse import Synapse
from waiting import PATIENCE

from unlatch.notify import NotDelivered

TESTS = Path(__file__).parent


@pytest.fixture
def gate(synapse: Synapse) -> Iterator[Gate]:
    """The way to the homeserver, for the bot only."""
    gate = Gate(synapse.port)
    yield gate
    gate.close()


@pytest.fixture
def bot(synapse: Synapse, phone: MatrixPhone, tmp_path: Path, gate: Gate) -> Bot:
    """A bot in a room with the owner of the phone, which reaches its homeserver through the gate."""
    return paired(synapse, phone, tmp_path / "matrix", url=gate.url)


def failure(bot: Bot, seconds: float = PATIENCE) -> str:
    """Why a ring fails."""
    with bot.running(seconds=seconds) as broker, pytest.raises(NotDelivered) as refusal:
        broker.ring(notice())
    assert LINK not in str(refusal.value)
    return refusal.value.why


def arrives(bot: Bot, phone: MatrixPhone) -> None:
    """A ring gets through, readable and without a shield."""
    word = os.urandom(4).hex()
    bot.ring(notice(words=(word, "canal")))
    assert phone.message(bot.room, lambda event: word in event.text and LINK in event.text).clean


# -- the homeserver ----------------------------------------------------------------------------------------------------


def test_homeserver_down(bot: Bot, phone: MatrixPhone, gate: Gate) -> None:
    """Refused connections are said as such; when it is back, so are we."""
    gate.shut()
    assert "refuses the connection" in failure(bot)
    gate.reopen()
    arrives(bot, phone)


def test_homeserver_hanging(bot: Bot, phone: MatrixPhone, gate: Gate) -> None:
    """A server that takes connections and says nothing is left in time."""
    gate.silent()
    begun = time.monotonic()
    assert "answer" in failure(bot, 2.0)
    assert time.monotonic() - begun < 5
    gate.free()
    arrives(bot, phone)


def test_bad_gateway(bot: Bot, phone: MatrixPhone, gate: Gate) -> None:
    """A proxy's error page is no answer of a homeserver."""
    gate.says(BAD_GATEWAY)
    assert "HTTP status 502" in failure(bot)
    gate.free()
    arrives(bot, phone)


def test_too_many_requests_for_longer_than_a_message_may_take(bot: Bot, gate: Gate) -> None:
    """Who must wait for a minute says so, instead of hanging."""
    gate.says(too_many(60_000))
    begun = time.monotonic()
    assert "60 s" in failure(bot)
    assert time.monotonic() - begun < 5


def test_a_rate_limit_is_waited_for(synapse: Synapse, bot: Bot, phone: MatrixPhone) -> None:
    """Synapse's own limit, as its defaults have it after nine messages: we wait as long as it says, and go on."""
    admin = synapse.login(synapse.register(admin=True))["access_token"]
    path = f"/_synapse/admin/v1/users/{quote(bot.user.user_id)}/override_ratelimit"
    synapse.call("POST", path, {"messages_per_second": 2, "burst_count": 1}, admin)
    with bot.running() as broker:
        for word in ("amber", "cobalt", "indigo"):
            broker.ring(notice(words=(word, "canal")))
            assert phone.message(bot.room, lambda event, word=word: word in event.text and LINK in event.text).clean


def test_the_homeserver_fails_in_the_middle_of_a_prompt(bot: Bot, phone: MatrixPhone, gate: Gate) -> None:
    """A broker whose connections are cut, and whose server is away meanwhile, ends the message when it is back."""
    asked = notice()
    with bot.running() as broker:
        broker.ring(asked)
        shown = phone.message(bot.room, lambda event: LINK in event.text)
        gate.shut()
        with pytest.raises(NotDelivered):
            broker.end(asked, "accepted")
        gate.reopen()
        broker.end(asked, "accepted")
    phone.message(bot.room, lambda event: event.id == shown.id and "answered at" in event.text)
    assert len(phone.messages_from(bot.room, bot.user.user_id)) == 1


def test_a_revoked_token(synapse: Synapse, bot: Bot) -> None:
    """Somebody ended the bot's session in another client: said, with the way back."""
    token = synapse.login(bot.user)["access_token"]
    synapse.call("POST", "/_matrix/client/v3/logout/all", {}, token)
    why = failure(bot)
    assert "token" in why
    assert "unlatch matrix setup" in why


def test_not_in_the_room(bot: Bot, phone: MatrixPhone, synapse: Synapse) -> None:
    """A bot that was put out says so, and is heard again once it is back."""
    path = f"/_matrix/client/v3/rooms/{quote(bot.room)}"
    synapse.call("POST", f"{path}/kick", {"user_id": bot.user.user_id}, phone.token)
    assert "not in the room" in failure(bot)
    phone.invite(bot.room, bot.user.user_id)
    token = synapse.login(bot.user)["access_token"]
    synapse.call("POST", f"/_matrix/client/v3/join/{quote(bot.room)}", {}, token)
    arrives(bot, phone)


def test_everybody_has_left(bot: Bot, phone: MatrixPhone) -> None:
    """A room without any admin in it gets no message."""
    phone.leave(bot.room)
    why = failure(bot)
    assert phone.user_id in why


# -- the state ---------------------------------------------------------------------------------------------------------


def test_three_senders_at_once_lose_nothing(bot: Bot, phone: MatrixPhone) -> None:
    """Three processes ring five times each with the same state, all at once: fifteen messages can be read."""
    code = "import sys; from matrix.bot import ring_often; ring_often(*sys.argv[1:])"
    senders = [
        subprocess.Popen([sys.executable, "-c", code, bot.state, name, "5"], cwd=TESTS, stderr=subprocess.PIPE)
        for name in ("amber", "cobalt", "indigo")
    ]
    for sender in senders:
        assert sender.communicate(timeout=60)[1] == b""
        assert sender.returncode == 0
    wanted = {f"{name}{number}" for name in ("amber", "cobalt", "indigo") for number in range(5)}

    def missing() -> set[str]:
        shown = [event for event in phone.messages_from(bot.room, bot.user.user_id) if event.clean]
        return wanted - {event.text.split("\n")[1].split()[0] for event in shown if LINK in event.text}

    phone.wait(bot.room, lambda _: not missing(), "all fifteen")


def test_a_state_restored_from_a_copy_loses_nothing(bot: Bot, phone: MatrixPhone) -> None:
    """A backup or a snapshot brought back an older state, with sessions that went on since: every ring is readable."""
    arrives(bot, phone)
    shutil.copytree(bot.state, bot.state.with_name("copy"))
    for _ in range(3):
        arrives(bot, phone)
    shutil.rmtree(bot.state)
    shutil.copytree(bot.state.with_name("copy"), bot.state)
    for _ in range(3):
        arrives(bot, phone)
    assert {event.failure for event in phone.messages_from(bot.room, bot.user.user_id)} == {""}


def test_a_deleted_state(bot: Bot) -> None:
    """Without its state it does not make another identity up: it says what is missing and what to do."""
    shutil.rmtree(bot.state)
    why = failure(bot)
    assert str(bot.state) in why
    assert "unlatch matrix setup" in why
    assert not bot.state.exists()


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.99])
def test_a_truncated_state(bot: Bot, kept: float) -> None:
    """However much of it is left, half a state is none, and it is not written over."""
    state = bot.state / "state.json"
    left = state.read_bytes()[: int(kept if kept in (0, 1) else kept * state.stat().st_size)]
    state.write_bytes(left)
    why = failure(bot)
    assert str(state) in why
    assert "unlatch matrix setup" in why
    assert state.read_bytes() == left


def test_a_lost_key(bot: Bot) -> None:
    """The key that the state is encrypted with is part of it."""
    (bot.state / "pickle.key").unlink()
    assert "pickle.key" in failure(bot)


def test_a_state_that_others_may_read(bot: Bot) -> None:
    """Keys that anybody on the host could have copied are not used."""
    (bot.state / "state.json").chmod(0o644)
    assert str(bot.state) in failure(bot)
