"""How commands ask a person: the same dialogue on the phone, at a terminal, and with a program on standard input."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from house import House
from waiting import until

from unlatch.errors import Denied, Refused
from unlatch.frontends.asking import ONE_TRY, AtTerminal, NothingGiven, Phone, StandardInput, TooLong, Wanted
from unlatch.prompt import MAX_SECRET, Key, Prompt, Verdict
from unlatch.secret import Secret

PASSPHRASE = Wanted("passphrase", "Unlock the backup key", key=Key(name="backup", grip="A" * 40), keeper="agent")
PIN = Wanted("pin", "Unlock the card 01234567", text="3 tries left.", key=Key(serial="01234567"), keeper="card")
Asked = Callable[..., "Future[bytes]"]


def phone_of(house: House, **more: object) -> Phone:
    options: dict[str, object] = {"command": "unlatch key unlock", "home": str(house.root)} | more
    return Phone(uid=os.getuid(), environ=house.environ(), **options)  # type: ignore[arg-type]


def asked(pool: ThreadPoolExecutor, person: Phone, wanted: Wanted, **more: object) -> "Future[bytes]":
    return pool.submit(lambda: bytes(person.ask(wanted, **more).reveal()))  # type: ignore[arg-type]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def test_the_page_shows_what_is_wanted_and_by_whom(house: House, pool: ThreadPoolExecutor) -> None:
    """Texts, key, keeper, reason and the command with its callers are on the page; "accepted" reaches it."""
    rung: list[Prompt] = []
    with phone_of(house, reason="the backup of 02:00", rung=rung.append) as person:
        answer = asked(pool, person, PIN)
        page = house.open(house.phone.ring()["link"])
        prompt = page.prompt
        assert prompt is not None
        assert (prompt.kind, prompt.title, prompt.key, prompt.keeper) == ("pin", PIN.title, PIN.key, "card")
        assert prompt.text == "the backup of 02:00\n\n3 tries left."
        assert prompt.asker.command.endswith("> unlatch key unlock")
        assert prompt.asker.chain[0].pid == os.getpid()
        assert rung == [prompt]
        page.unlock(b"123456")
        assert answer.result() == b"123456"
        person.judge(Verdict("accepted"))
        assert page.verdict().outcome == "accepted"


def test_a_wrong_passphrase_goes_on_in_the_open_page(house: House, pool: ThreadPoolExecutor) -> None:
    """The second question is the verdict on the first answer; nobody is rung twice, and the words stay."""
    with phone_of(house) as person:
        answer = asked(pool, person, PASSPHRASE)
        page = house.open(house.phone.ring()["link"])
        page.unlock(b"wrong")
        assert answer.result() == b"wrong"
        answer = asked(pool, person, PASSPHRASE._replace(error="It opens none of the keys.", attempt=(2, 3)))
        verdict = page.verdict()
        assert verdict.outcome == "wrong"
        following = page.follow(verdict)
        assert following.prompt is not None
        assert page.prompt is not None
        assert following.prompt.error == "It opens none of the keys."
        assert following.prompt.words == page.prompt.words
        following.unlock(b"right")
        assert answer.result() == b"right"
        assert len(house.phone.messages("ring")) == 1


def test_a_wrong_pin_ends_its_page_and_rings_anew(house: House, pool: ThreadPoolExecutor) -> None:
    """A card gets one try for each ring: the page says what was wrong and goes nowhere."""
    with phone_of(house) as person:
        answer = asked(pool, person, PIN)
        page = house.open(house.phone.links(1)[0])
        page.unlock(b"000000")
        assert answer.result() == b"000000"
        answer = asked(pool, person, PIN._replace(error="Wrong PIN: 2 tries left."))
        verdict = page.verdict()
        assert (verdict.outcome, verdict.next_link) == ("failed", None)
        assert verdict.text == f"Wrong PIN: 2 tries left. – {ONE_TRY}"
        second = house.open(house.phone.links(2)[1])
        second.deny()
        assert isinstance(answer.exception(), Denied)
        assert second.verdict().outcome == "denied"


def test_what_was_not_judged_was_of_no_use(house: House, pool: ThreadPoolExecutor) -> None:
    """A command that breaks off after the answer tells the page so; before the answer, the prompt is withdrawn."""
    with phone_of(house) as person:
        answer = asked(pool, person, PASSPHRASE)
        page = house.open(house.phone.ring()["link"])
        page.unlock(b"right")
        assert answer.result() == b"right"
    assert page.verdict().outcome == "failed"


def test_rules_hold_for_commands_too(house: House) -> None:
    """A rule that refuses keeps the phone silent; one that says "tty" asks at the terminal; nonsense refuses."""
    house.configure(tables='[[rule]]\naction = "refuse"')
    with phone_of(house) as person, pytest.raises(Refused, match="a rule refuses"):
        person.ask(PIN)
    house.configure(tables='[[rule]]\naction = "tty"')
    with phone_of(house) as person, pytest.raises(Refused, match="to a terminal"):
        person.ask(PIN)
    local = AtTerminal(lambda text: None, lambda label: Secret(b"typed"))
    with phone_of(house, local=local) as person:
        assert person.ask(PIN) == Secret(b"typed")
        person.judge(Verdict("accepted"))
    house.configure(tables='[[rule]]\naction = "rign"')
    with phone_of(house) as person, pytest.raises(Refused, match="the rules cannot be read"):
        person.ask(PIN)
    assert house.phone.messages() == []
    assert house.brokers() == []


def test_quiet_hours_refuse(house: House) -> None:
    """A rule with hours that include this minute refuses now."""
    house.configure(tables='[[rule]]\nhours = "00:00-24:00"\naction = "refuse"')
    with phone_of(house) as person, pytest.raises(Refused, match="a rule refuses"):
        person.ask(PIN)
    assert house.phone.messages() == []


def test_two_commands_that_want_the_same_ring_once(house: House, pool: ThreadPoolExecutor) -> None:
    """The second follows the first, and hears when that is over."""
    from unlatch.ask import Released

    with phone_of(house) as first, phone_of(house) as second:
        leading = asked(pool, first, PIN, coalesce="card:01234567")
        page = house.open(house.phone.ring()["link"])
        following = asked(pool, second, PIN, coalesce="card:01234567")
        until(lambda: house.ask_admin({"op": "status"})["prompts"][0]["followers"], "the follower")
        page.unlock(b"123456")
        assert leading.result() == b"123456"
        first.judge(Verdict("accepted"))
        assert isinstance(following.exception(), Released)
    assert len(house.phone.messages("ring")) == 1


def given(data: bytes) -> StandardInput:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return StandardInput(reader)


@pytest.mark.parametrize(
    ("data", "secret"),
    [(b"123456", b"123456"), (b"123456\n", b"123456"), (b" 1\r2 \r\n", b" 1\r2 "), (b"\xff\x00x\nmore", b"\xff\x00x")],
)
def test_standard_input_gives_a_line_as_it_is(data: bytes, secret: bytes) -> None:
    """The newline that every shell adds is not part of it; everything else is."""
    assert given(data).ask(PIN) == Secret(secret)


def test_standard_input_gives_one_line_for_each_question() -> None:
    """Two keys with two passphrases are two lines, however they were written."""
    person = given(b"one\ntwo\n")
    assert person.ask(PASSPHRASE) == Secret(b"one")
    assert person.ask(PASSPHRASE) == Secret(b"two")
    with pytest.raises(NothingGiven):
        person.ask(PASSPHRASE)


def test_standard_input_has_no_second_try() -> None:
    """What stands on the next line is not taken for a better PIN."""
    person = given(b"000000\n123456\n")
    assert person.ask(PIN) == Secret(b"000000")
    with pytest.raises(NothingGiven) as raised:
        person.ask(PIN._replace(error="Wrong PIN."))
    assert raised.value.wrong == "Wrong PIN."


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"\n123456\n"])
def test_an_empty_line_is_no_secret(data: bytes) -> None:
    """Neither is nothing at all."""
    with pytest.raises(NothingGiven):
        given(data).ask(PIN)


def test_standard_input_is_bounded() -> None:
    """Somebody who connects a disk image is told so."""
    with pytest.raises(TooLong):
        given(b"x" * (MAX_SECRET + 1)).ask(PIN)


def test_the_terminal_shows_what_is_wanted_and_takes_no_empty_line() -> None:
    """Error, title and text are shown before the label that asks."""
    shown: list[str] = []
    typed = [Secret(b""), Secret(b"123456")]
    person = AtTerminal(shown.append, lambda label: (shown.append(label), typed.pop(0))[1])
    assert person.ask(PIN._replace(error="Wrong PIN.")) == Secret(b"123456")
    assert shown == ["Wrong PIN.", PIN.title, PIN.text, "PIN:", "PIN:"]
