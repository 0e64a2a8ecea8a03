"""The offer to keep an answer: a box on the page that nobody has ticked, what it says, and what it sends."""

import pytest
from page_broker import PASSPHRASE, PageBroker
from playwright.sync_api import Page, expect

from unlatch.prompt import Verdict

pytest_plugins = ["page_broker"]

HOURS = 8
OFFERED = PASSPHRASE._replace(keep=HOURS * 3600)


def unlock(screen: Page, secret: str = "correct horse") -> None:
    screen.get_by_label("Passphrase").fill(secret)
    screen.get_by_role("button", name="Unlock").click()


def test_without_an_offer_there_is_no_box(broker: PageBroker, screen: Page) -> None:
    """And the answer says nothing about keeping."""
    ticket = broker.put()
    screen.goto(ticket.url)
    expect(screen.locator("#question")).to_be_visible()
    expect(screen.get_by_role("checkbox")).to_have_count(0)
    unlock(screen)
    assert ticket.take().keep is False


def test_an_offer_is_a_box_that_nobody_has_ticked(broker: PageBroker, timed: Page) -> None:
    """It says until when, by the phone's clock, and what for; the time moves on while the page is open."""
    ticket = broker.put(OFFERED)
    timed.clock.set_system_time("2025-06-01T06:30:00Z")
    timed.goto(ticket.url)
    expect(timed.get_by_role("checkbox")).not_to_be_checked()
    label = "Keep it for later requests until {}, even if the program has given up"
    expect(timed.locator("#keep-label")).to_have_text(label.format("1 Jun 2025, 15:30"))
    timed.clock.fast_forward(60_000)
    expect(timed.locator("#keep-label")).to_have_text(label.format("1 Jun 2025, 15:31"))


@pytest.mark.parametrize("ticked", [True, False], ids=["ticked", "left alone"])
def test_what_the_answer_says(broker: PageBroker, screen: Page, *, ticked: bool) -> None:
    """A tap on the words ticks the box. Only then the answer may be kept."""
    ticket = broker.put(OFFERED)
    screen.goto(ticket.url)
    if ticked:
        screen.get_by_text("Keep it for later requests").click()
    unlock(screen)
    answer = ticket.take()
    assert (answer.answer, answer.keep) == ("secret", ticked)


def test_a_denial_keeps_nothing(broker: PageBroker, screen: Page) -> None:
    """Whatever the box says."""
    ticket = broker.put(OFFERED)
    screen.goto(ticket.url)
    screen.get_by_role("checkbox").check()
    screen.get_by_role("button", name="Deny").click()
    answer = ticket.take()
    assert (answer.answer, answer.keep) == ("no", False)


def test_after_a_wrong_passphrase_the_box_stays_as_it_is(broker: PageBroker, screen: Page) -> None:
    """The same person goes on with the same question, and need not agree anew."""
    ticket = broker.put(OFFERED)
    screen.goto(ticket.url)
    screen.get_by_role("checkbox").check()
    unlock(screen, "wrong")
    following = broker.put(OFFERED._replace(error="Bad passphrase", attempt=(2, 3)))
    link = (following.link.ticket_text, following.link.fragment)
    ticket.conclude(ticket.take(), Verdict("wrong", "Bad passphrase", link))
    expect(screen.locator("#news")).to_contain_text("Wrong passphrase")
    expect(screen.get_by_role("checkbox")).to_be_checked()
    unlock(screen)
    assert following.take().keep is True


def test_a_reload_unticks_it(broker: PageBroker, screen: Page) -> None:
    """A browser that remembers forms must not agree for anybody."""
    ticket = broker.put(OFFERED)
    screen.goto(ticket.url)
    screen.get_by_role("checkbox").check()
    screen.reload()
    expect(screen.get_by_role("checkbox")).not_to_be_checked()


def test_a_program_that_has_given_up_is_named(broker: PageBroker, screen: Page) -> None:
    """From then on only a kept answer is of use, and the open page says so."""
    ticket = broker.put(OFFERED)
    screen.goto(ticket.url)
    expect(screen.locator("#effect")).to_contain_text("gpg-agent checks it and keeps it for a while")
    ticket.stamp = ticket.stamp | {"orphaned": True}
    ticket.become("open")
    expect(screen.locator("#effect")).to_have_text("The program has given up. Only a kept answer is of use.")


def test_the_box_can_be_reached_without_eyes_or_mouse(broker: PageBroker, screen: Page) -> None:
    """By Tab from the field, ticked by the space bar, named by its words; large enough for a thumb."""
    screen.goto(broker.put(OFFERED).url)
    checkbox = screen.get_by_role("checkbox", name="Keep it for later requests until")
    screen.get_by_label("Passphrase").focus()
    screen.keyboard.press("Tab")  # Show
    screen.keyboard.press("Tab")
    expect(checkbox).to_be_focused()
    screen.keyboard.press("Space")
    expect(checkbox).to_be_checked()
    size = screen.locator("#keep-row label").bounding_box()
    assert size is not None
    assert size["height"] >= 44
