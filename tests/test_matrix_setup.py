"""``unlatch matrix setup`` against a real homeserver, with a phone that is not ours on the other side."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from matrix.phone import MatrixPhone, Phones, Shown
from matrix.synapse import Synapse, User

from unlatch.cli import voice
from unlatch.cli.matrix_setup import Setup, Wishes
from unlatch.matrix.api import Homeserver, ServerSaid
from unlatch.matrix.crypto import Machine
from unlatch.matrix.store import Store
from unlatch.secret import Secret


class Answers:
    """Somebody at a terminal who knows the answers in advance; notes what was asked."""

    def __init__(self, password: str = "correct horse", same: bool = True) -> None:
        self.asked: list[str] = []
        self.password = password
        self.same = same

    def ask(self, question: str, option: str) -> str:
        self.asked.append(question)
        return ""

    def ask_secret(self, question: str) -> Secret:
        self.asked.append(question)
        return Secret(self.password.encode())

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.same


class House:
    """A bot's account that is not set up yet, and its directory."""

    def __init__(self, synapse: Synapse, directory: Path) -> None:
        self.synapse = synapse
        self.directory = directory
        self.user = synapse.register()

    def wishes(self, **more: Any) -> Wishes:
        return Wishes(directory=str(self.directory), user=self.user.user_id, homeserver=self.synapse.url, **more)

    def setup(self, answers: Answers | None = None, **more: Any) -> int:
        return Setup(self.wishes(**more), answers or Answers()).run()

    @property
    def state(self) -> dict[str, Any]:
        return Store(str(self.directory)).load()

    @property
    def machine(self) -> Machine:
        store = Store(str(self.directory))
        return Machine.load(self.state["machine"], store.pickle_key())

    @property
    def room(self) -> str:
        return str(self.state["room_id"])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.synapse.call(method, f"/_matrix/client/v3/{path}", body, self.state["token"])


@pytest.fixture
def bot(synapse: Synapse, tmp_path: Path) -> House:
    return House(synapse, tmp_path / "matrix")


@pytest.fixture
def alex(synapse: Synapse, phone: MatrixPhone) -> MatrixPhone:
    """An admin's phone with an identity."""
    phone.login(synapse, synapse.register())
    return phone


def beside(do: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=do)
    thread.start()
    return thread


def test_on_first_use(bot: House, alex: MatrixPhone, capsys: pytest.CaptureFixture[str]) -> None:
    """One run logs in, signs, makes a private encrypted room without previews, and pins; a second run finds all that
    done, asks for nothing, and sends a test.
    """
    answers = Answers()
    assert bot.setup(answers, admins=(alex.user_id,), trust_first_use=True) == voice.OK
    assert answers.asked == [f"Password of {bot.user.user_id}:"]
    room = bot.room
    alex.join(room)
    assert alex.trust(bot.user.user_id)["devices"] == {bot.machine.device_id: True}
    for event_type, expected in {
        "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2"},
        "m.room.join_rules": {"join_rule": "invite"},
        "m.room.guest_access": {"guest_access": "forbidden"},
        "m.room.history_visibility": {"history_visibility": "joined"},
        "org.matrix.room.preview_urls": {"disable": True},
    }.items():
        assert bot.call("GET", f"rooms/{quote(room)}/state/{event_type}/") == expected
    own = f"user/{quote(bot.user.user_id)}/rooms/{quote(room)}/account_data/org.matrix.room.preview_urls"
    assert bot.call("GET", own) == {"disable": True}
    assert bot.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in bot.directory.iterdir()} == {0o600}
    assert "correct horse" not in "".join(path.read_bytes().decode("latin-1") for path in bot.directory.iterdir())

    device, pins = bot.machine.device_id, bot.machine.pins
    assert "no admin is in the room yet" in capsys.readouterr().err
    again = Answers()
    assert bot.setup(again, trust_first_use=True) == voice.OK
    assert (again.asked, bot.machine.device_id, bot.room, bot.machine.pins) == ([], device, room, pins)
    shown = alex.message(room, lambda event: "can ring you here" in event.text)
    assert shown.clean


def test_by_emoji(bot: House, alex: MatrixPhone) -> None:
    """Both sides show the same seven; confirmed, each side has signed for the other."""
    seen: list[list[str]] = []

    class Comparing(Answers):
        def confirm(self, question: str) -> bool:
            seen.append([one.phase for one in (shown(),)])
            alex.confirm(shown().id)
            return True

    def shown() -> Shown:
        return alex.verification(bot.room, lambda one: bool(one.emoji), "the emoji")

    def person() -> None:
        while not bot.directory.joinpath("state.json").exists() or not bot.room:
            threading.Event().wait(0.05)
        alex.join(bot.room)
        asked = alex.verification(bot.room, lambda one: one.phase == "Requested" and not one.mine, "the request")
        alex.accept(asked.id)

    thread = beside(person)
    assert bot.setup(Comparing(), admins=(alex.user_id,)) == voice.OK
    thread.join()
    assert bot.machine.pins[alex.user_id].verified == "emoji"
    assert alex.trust(bot.user.user_id)["verified"]


def test_a_rehearsal_changes_nothing(bot: House, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run says each step; no login, no directory."""
    assert bot.setup(admins=("@alex:unlatch.test",), dry_run=True) == voice.OK
    told = capsys.readouterr().err
    for part in ("would log in", "would publish", "would create a private", "would invite @alex", "would send a test"):
        assert part in told
    assert not bot.directory.exists()


def problem(bot: House, answers: Answers | None = None, **wishes: Any) -> voice.Problem:
    with pytest.raises(voice.Problem) as raised:
        bot.setup(answers, **wishes)
    return raised.value


def test_a_wrong_password(bot: House) -> None:
    """Nothing is kept, and the hint warns of the lock."""
    said = problem(bot, Answers("wrong"))
    assert "refused user or password" in said.text
    assert not bot.directory.exists()


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"homeserver": "http://matrix.example.org"}, "http is for loopback only"),
        ({"homeserver": "ftp://x"}, "not an address"),
        ({"admins": ("alex",)}, "no Matrix user"),
        ({"homeserver": "http://127.0.0.1:9"}, "refuses the connection"),
    ],
)
def test_what_cannot_be_is_said(bot: House, wishes: dict[str, Any], text: str) -> None:
    """Before anything is asked or kept."""
    answers = Answers()
    with pytest.raises(voice.Problem) as raised:
        Setup(bot.wishes()._replace(**wishes), answers).run()
    assert text in raised.value.text
    assert answers.asked == []
    assert not bot.directory.exists()


def test_a_room_without_encryption_is_refused(bot: House, alex: MatrixPhone) -> None:
    """The bot joins it, but nothing goes on until it is encrypted."""
    room = alex.create(bot.user.user_id, encrypted=False)
    said = problem(bot, room=room, admins=(alex.user_id,), trust_first_use=True)
    assert "is not encrypted" in said.text


def test_a_room_that_is_closed_to_the_bot(bot: House, alex: MatrixPhone) -> None:
    """Somebody has to invite it."""
    said = problem(bot, room=alex.create(), admins=(alex.user_id,), trust_first_use=True)
    assert any(f"invite {bot.user.user_id}" in hint for hint in said.hints)


def test_an_ended_login_is_made_anew(bot: House, alex: MatrixPhone) -> None:
    """Identity, pins and room live on: nobody has to compare anything again."""
    assert bot.setup(admins=(alex.user_id,), trust_first_use=True) == voice.OK
    before, room = bot.machine, bot.room
    bot.call("POST", "logout", {})
    answers = Answers()
    assert bot.setup(answers, trust_first_use=True) == voice.OK
    after = bot.machine
    assert after.device_id != before.device_id
    assert (after.master_key, after.pins, bot.room) == (before.master_key, before.pins, room)
    alex.join(room)
    assert alex.trust(bot.user.user_id)["devices"] == {after.device_id: True}


def test_a_lost_directory_is_no_silent_reset(bot: House, alex: MatrixPhone, tmp_path: Path) -> None:
    """The homeserver knows another identity of the bot: only --reset-identity, and the password, replace it."""
    assert bot.setup(admins=(alex.user_id,), trust_first_use=True) == voice.OK
    before = bot.machine.master_key
    bot.directory = tmp_path / "elsewhere"
    said = problem(bot, admins=(alex.user_id,), trust_first_use=True)
    assert "another identity" in said.text
    assert bot.setup(admins=(alex.user_id,), trust_first_use=True, reset_identity=True) == voice.OK
    assert bot.machine.master_key != before
    assert bot.machine.own_identity() == "none"  # nothing is believed before it was queried


def test_a_reset_identity_is_not_believed_on_second_use(
    bot: House, synapse: Synapse, phones: Phones, capsys: pytest.CaptureFixture[str]
) -> None:
    """--trust-first-use is for the first use; a changed identity has to be compared."""
    person = synapse.register()
    phone = phones.new()
    phone.login(synapse, person)
    assert bot.setup(admins=(person.user_id,), trust_first_use=True) == voice.OK
    pinned = bot.machine.pins
    phone.bootstrap(anew=True)
    assert bot.setup(trust_first_use=True, dry_run=True) == voice.OK
    told = capsys.readouterr().err
    assert "is another than the one that was verified" in told
    assert f"would compare emoji with {person.user_id}" in told
    assert bot.machine.pins == pinned


def test_an_access_token(bot: House, synapse: Synapse, alex: MatrixPhone) -> None:
    """Its device becomes the bot's; the password is never asked where no identity has to be replaced."""
    login = synapse.login(bot.user, "bot")
    answers = Answers(login["access_token"])
    assert bot.setup(answers, by_token=True, admins=(alex.user_id,), trust_first_use=True) == voice.OK
    assert answers.asked == [f"Access token of {bot.user.user_id}:"]
    assert bot.machine.device_id == login["device_id"]


def test_another_users_token(bot: House, synapse: Synapse) -> None:
    """Is refused before anything is kept."""
    other: User = synapse.register()
    said = problem(bot, Answers(synapse.login(other)["access_token"]), by_token=True)
    assert "another user's" in said.text
    assert not bot.directory.exists()


def oauth(url: Any) -> dict[str, Any]:
    """What a homeserver says whose logins belong to an authentication service (MSC4312)."""
    stage = "org.matrix.cross_signing_reset"
    return {"session": "s", "flows": [{"stages": [stage]}], "params": {stage: {"url": url}}}


def wants_a_browser(monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], refusals: int) -> list[dict[str, Any]]:
    """The homeserver refuses the identity so many times; gives the proofs that it was sent."""
    proofs: list[dict[str, Any]] = []
    real = Homeserver.keys

    async def keys(self: Homeserver, what: str, body: dict[str, Any], until: float) -> dict[str, Any]:
        if what == "device_signing/upload":
            proofs.append(body.get("auth", {}))
            if len(proofs) <= refusals:
                raise ServerSaid(401, "", said)
            body = {key: value for key, value in body.items() if key != "auth"}
        return await real(self, what, body, until)

    monkeypatch.setattr(Homeserver, "keys", keys)
    return proofs


def test_somebody_at_a_browser(
    bot: House, alex: MatrixPhone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page that the homeserver names is printed; setup waits, and goes on, also when it was too early."""
    page = "https://auth.example.test/account/?action=org.matrix.cross_signing_reset"
    proofs = wants_a_browser(monkeypatch, oauth(page), refusals=2)
    answers = Answers()
    assert bot.setup(answers, admins=(alex.user_id,), trust_first_use=True) == voice.OK
    assert capsys.readouterr().err.count(f"  {page}\n") == 2
    assert answers.asked.count("Press Enter when that is done.") == 2
    proof = {"session": "s", "type": "org.matrix.cross_signing_reset"}
    assert proofs == [{}, proof, proof]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x/\x1b[2J", 5])
def test_a_page_that_is_none(bot: House, monkeypatch: pytest.MonkeyPatch, url: Any) -> None:
    """A homeserver steers neither browser nor terminal."""
    wants_a_browser(monkeypatch, oauth(url), refusals=1)
    assert "names a page that is none" in problem(bot, admins=("@alex:unlatch.test",)).text


def test_a_stage_that_nobody_knows(
    bot: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Has the homeserver's own page; and somebody who never does what it says is not asked for ever."""
    said = {"session": "a b", "flows": [{"stages": ["m.login.sso"]}]}
    wants_a_browser(monkeypatch, said, refusals=100)
    assert "ever more proof" in problem(bot, admins=("@alex:unlatch.test",)).text
    page = f"{bot.synapse.url}/_matrix/client/v3/auth/m.login.sso/fallback/web?session=a+b"
    assert page in capsys.readouterr().err
