"""Every state of the page, reached once in a real browser, in the words that a person reads."""

import os
import re
import time
from typing import Any

import pytest
from page_broker import PASSPHRASE, PageBroker, Ticket, forged_verdict
from playwright.sync_api import Browser, BrowserContext, Page, expect

from unlatch import base64url, seal
from unlatch.prompt import Verdict

pytest_plugins = ["page_broker"]


def heading(screen: Page, text: str) -> None:
    expect(screen.get_by_role("heading", level=1)).to_have_text(text)


def news(screen: Page, text: str) -> None:
    expect(screen.locator("#news")).to_have_text(text)


def question(screen: Page, ticket: Ticket) -> None:
    screen.goto(ticket.url)
    heading(screen, "web03 asks for a passphrase")


def unlock(screen: Page, secret: str = "correct horse") -> None:
    screen.get_by_label("Passphrase").fill(secret)
    screen.get_by_role("button", name="Unlock").click()


# Before there is a question


def test_loading(broker: PageBroker, screen: Page) -> None:
    """Until the broker replies, the page says that it is opening the link."""
    screen.route("**/hello", lambda route: None)
    screen.goto(broker.put().url)
    heading(screen, "Opening the link")
    expect(screen.locator("#panel-text")).to_contain_text("too old for the page")
    screen.unroute_all(behavior="ignoreErrors")


def test_not_a_secure_context(broker: PageBroker, screen: Page) -> None:
    """Over plain http, where anybody on the way could change the page, it asks for nothing and sends nothing."""
    screen.goto(broker.put().url.replace("localhost", "unlatch.test"))
    heading(screen, "This connection is not safe")
    expect(screen.locator("#panel")).to_contain_text("needs https")
    assert broker.log == []


def test_no_javascript(broker: PageBroker, engine: Browser) -> None:
    """Without scripts there is no form to type into, only what to do."""
    context = engine.new_context(java_script_enabled=False)
    screen = context.new_page()
    screen.goto(broker.put().url)
    expect(screen.get_by_role("heading", name="JavaScript is switched off")).to_be_visible()
    expect(screen.locator("#panel")).to_be_hidden()
    expect(screen.locator("form")).to_be_hidden()
    context.close()


def test_a_browser_without_x25519(broker: PageBroker, screen: Page) -> None:
    """A browser that cannot seal says so and leaves the link unspent."""
    screen.add_init_script(
        "SubtleCrypto.prototype.generateKey = async () => { throw new DOMException('', 'NotSupportedError'); };"
    )
    screen.goto(broker.put().url)
    heading(screen, "This browser is too old")
    expect(screen.locator("#panel")).to_contain_text("the link is still good")
    assert broker.log == []


@pytest.mark.parametrize("cut", [1, 40, 87])
def test_a_link_that_was_cut_off(broker: PageBroker, screen: Page, cut: int) -> None:
    """A link without its whole fragment is told apart from a dead one."""
    screen.goto(broker.put().url[:-cut])
    heading(screen, "This link is not complete")


def test_a_cut_link_that_is_mended(broker: PageBroker, screen: Page) -> None:
    """Pasting the whole link into the same tab goes on."""
    ticket = broker.put()
    screen.goto(ticket.url[:-1])
    heading(screen, "This link is not complete")
    screen.goto(ticket.url)
    heading(screen, "web03 asks for a passphrase")


# Dead links


def test_an_unknown_ticket(broker: PageBroker, screen: Page) -> None:
    """A ticket that nobody knows gets the static page."""
    response = screen.goto(broker.put().url.replace("/web03/", "/web03/A"))
    assert response is not None
    assert response.status == 404
    heading(screen, "There is nothing to answer here")


@pytest.mark.parametrize("dead", ["", "expired"])
def test_no_reason_without_proof(broker: PageBroker, screen: Page, dead: str) -> None:
    """Whoever knows the ticket without the fragment learns neither that it lives nor why it died."""
    ticket, other = broker.put(), broker.put()
    ticket.dead = dead
    screen.goto(f"{broker.url}{ticket.link.ticket_text}#{other.link.fragment}")
    heading(screen, "There is nothing to answer here")


DEAD = {
    "used": "This link has been used",
    "expired": "This link has expired",
    "withdrawn": "No longer needed",
    "denied": "Already denied",
    "replaced": "There is a newer link",
}


@pytest.mark.parametrize("reason", DEAD)
def test_a_dead_link_tells_why(broker: PageBroker, screen: Page, reason: str) -> None:
    """After proof the page says what became of the link, and takes its secret out of the address."""
    ticket = broker.put()
    ticket.dead = reason
    screen.goto(ticket.url)
    heading(screen, DEAD[reason])
    assert screen.url == ticket.url.split("#")[0]


@pytest.mark.parametrize("reason", DEAD)
def test_a_link_dies_while_the_page_is_open(broker: PageBroker, screen: Page, reason: str) -> None:
    """The open question gives way at once, and what was typed is gone from the document."""
    ticket = broker.put()
    question(screen, ticket)
    screen.get_by_label("Passphrase").fill("half typed")
    ticket.die(reason)
    heading(screen, DEAD[reason])
    assert screen.evaluate("() => document.documentElement.outerHTML.includes('half typed')") is False
    assert screen.locator("input").count() == 0 or screen.locator("#secret").input_value() == ""


def test_open_elsewhere(broker: PageBroker, screen: Page) -> None:
    """The page that comes after the views are spent is sent away; its address stays as it is."""
    ticket = broker.put(views=0)
    screen.goto(ticket.url)
    heading(screen, "Already open elsewhere")
    expect(screen.locator("#panel")).to_contain_text("A fresh link has been sent")
    assert screen.url == ticket.url


def test_a_reload_is_the_same_view(broker: PageBroker, screen: Page, handset: BrowserContext) -> None:
    """The page id lives as long as the tab; another tab is another view."""
    ticket = broker.put(views=1)
    question(screen, ticket)
    screen.reload()
    heading(screen, "web03 asks for a passphrase")
    assert len(ticket.pages) == 1
    other = handset.new_page()
    other.goto(ticket.url)
    heading(other, "Already open elsewhere")


# Seals that do not open


@pytest.mark.parametrize("what", ["details", "stamp"])
def test_a_question_that_was_changed_on_the_way(broker: PageBroker, screen: Page, what: str) -> None:
    """What was not sealed with the link is never shown; the page warns against typing."""

    def change(route: Any) -> None:
        response = route.fetch()
        body = response.json()
        sealed = bytearray(base64url.decode(body[what], what))
        sealed[20] ^= 1
        route.fulfill(response=response, json=body | {what: base64url.encode(bytes(sealed))})

    screen.route("**/view", change)
    screen.goto(broker.put().url)
    heading(screen, "Do not type anything")
    expect(screen.locator("form")).to_be_hidden()


@pytest.mark.parametrize("change", [b'"kind":"riddle"', b'"kind":"passphrase","more":1'])
def test_details_that_the_page_does_not_know(broker: PageBroker, screen: Page, change: bytes) -> None:
    """Another kind or another field than the protocol's is refused, not guessed at."""
    ticket = broker.put()
    ticket.details = seal.pad(ticket.details.rstrip().replace(b'"kind":"passphrase"', change))
    ticket.sealed_details = seal.seal_details(ticket.link, ticket.details, os.urandom)
    screen.goto(ticket.url)
    heading(screen, "This page is out of step")


# Answers and verdicts


def test_unlock(broker: PageBroker, screen: Page) -> None:
    """The answer reaches the asker byte for byte, each step is told, and nothing of it stays on the page."""
    ticket = broker.put()
    question(screen, ticket)
    unlock(screen, " pässwörd 🔑 ")
    answer = ticket.open_answer(ticket.sealed_answer())
    assert answer.secret is not None
    assert bytes(answer.secret.reveal()).decode() == " pässwörd 🔑 "
    news(screen, "Sent. Waiting for the verdict.")
    expect(screen.locator("#secret")).to_have_value("")
    expect(screen.get_by_role("button", name="Unlock")).to_be_disabled()
    assert screen.url == ticket.url, "a reload may still be needed"
    ticket.become("sent")
    news(screen, "Sent. web03 is checking it.")
    ticket.conclude(answer, Verdict("accepted"))
    heading(screen, "Unlocked")
    expect(screen.locator("#panel")).to_contain_text("web03 accepted it and goes on. You can close this page.")
    assert screen.url == ticket.url.split("#")[0]


def test_deny(broker: PageBroker, screen: Page) -> None:
    """A no is a sealed answer as well, and needs nothing typed."""
    ticket = broker.put()
    question(screen, ticket)
    screen.get_by_role("button", name="Deny").click()
    answer = ticket.take()
    assert (answer.answer, answer.secret) == ("no", None)
    ticket.conclude(answer, Verdict("denied"))
    heading(screen, "Denied")
    expect(screen.locator("#panel")).to_contain_text("nothing was released")


def test_deny_that_ends_the_ticket_first(broker: PageBroker, screen: Page) -> None:
    """When the broker has already buried a ticket that this page denied, it still was this page's no."""
    ticket = broker.put()
    question(screen, ticket)
    screen.get_by_role("button", name="Deny").click()
    ticket.take()
    ticket.die("denied")
    heading(screen, "Denied")


def test_wrong_then_right(broker: PageBroker, screen: Page) -> None:
    """A wrong passphrase goes on by itself under the next ticket, which a reload finds too.

    The reloaded page has seen no verdict: what it knows of the earlier try is the host's claim.
    """
    first, second = broker.put(), broker.put(PASSPHRASE._replace(error="Bad Passphrase (try 2 of 3)", attempt=(2, 3)))
    question(screen, first)
    unlock(screen, "wrong")
    link = (second.link.ticket_text, second.link.fragment)
    first.conclude(first.take(), Verdict("wrong", "", link))
    news(screen, "Wrong passphrase. Try 2 of 3.")
    expect(screen.get_by_label("Passphrase")).to_be_focused()
    expect(screen.get_by_label("Passphrase")).to_have_value("")
    assert screen.url == second.url
    expect(screen.locator("#said")).not_to_contain_text("Bad Passphrase")
    screen.reload()
    expect(screen.locator("#said")).to_contain_text("Bad Passphrase (try 2 of 3)")
    expect(screen.locator("#news")).to_be_empty()
    unlock(screen, "right")
    second.conclude(second.take(), Verdict("accepted"))
    heading(screen, "Unlocked")


def test_nobody_says_whether_it_was_right(broker: PageBroker, screen: Page) -> None:
    """After a last try, or a card's PIN, the page claims neither success nor failure."""
    ticket = broker.put()
    question(screen, ticket)
    unlock(screen)
    ticket.conclude(ticket.take(), Verdict("unknown", "This was the last try."))
    heading(screen, "Handed on")
    expect(screen.locator("#panel-more")).to_have_text("web03 says: This was the last try.")


def test_another_question_follows(broker: PageBroker, screen: Page) -> None:
    """After the outcome "next" nothing was wrong; the page shows what is asked now."""
    weak = PASSPHRASE._replace(kind="confirm", key=None, title="Weak passphrase", text="Take it anyway?")
    first, second = broker.put(), broker.put(weak)
    question(screen, first)
    unlock(screen)
    first.conclude(first.take(), Verdict("next", "", (second.link.ticket_text, second.link.fragment)))
    heading(screen, "web03 asks for a yes or no")
    expect(screen.locator("#asks")).to_be_focused()
    expect(screen.locator("#news")).to_be_hidden()
    expect(screen.locator("#text")).to_have_text("Take it anyway?")
    screen.get_by_role("button", name="Allow").click()
    answer = second.take()
    assert answer.answer == "yes"
    second.conclude(answer, Verdict("accepted"))
    heading(screen, "Allowed")


def test_an_answer_that_could_not_be_used(broker: PageBroker, screen: Page) -> None:
    """A failure is told with the host's own words, marked as such and shown as text."""
    ticket = broker.put()
    question(screen, ticket)
    unlock(screen)
    ticket.conclude(ticket.take(), Verdict("failed", "<b>no space left</b>"))
    heading(screen, "It did not work")
    expect(screen.locator("#panel-more")).to_have_text("web03 says: <b>no space left</b>")


def test_an_answer_that_could_not_be_opened(broker: PageBroker, screen: Page) -> None:
    """A spoiled answer opens the form again; nothing was tried."""
    ticket = broker.put()
    question(screen, ticket)
    unlock(screen)
    ticket.sealed_answer()
    ticket.become("spoiled")
    news(screen, "The answer could not be opened, and nothing was tried. Please give it again.")
    unlock(screen, "again")
    answer = ticket.take()
    assert answer.secret is not None
    assert bytes(answer.secret.reveal()) == b"again"


def test_somebody_else_answers(broker: PageBroker, screen: Page) -> None:
    """A page that did not answer locks its form when another does, and cannot open that verdict."""
    ticket = broker.put()
    question(screen, ticket)
    ticket.become("sent")
    news(screen, "An answer was given on another page. Waiting for what becomes of it.")
    expect(screen.get_by_role("button", name="Unlock")).to_be_disabled()
    ticket.become("spoiled")
    news(screen, "The answer from the other page could not be opened. Yours is needed after all.")
    expect(screen.get_by_role("button", name="Unlock")).to_be_enabled()
    ticket.become("verdict", forged_verdict(ticket, Verdict("accepted")))
    heading(screen, "Answered on another page")


def test_two_answers_at_once(broker: PageBroker, screen: Page) -> None:
    """The second answer is not taken, and its page says that it was not used."""
    ticket = broker.put()
    question(screen, ticket)
    ticket.state = "opening"  # somebody else's answer has just arrived
    unlock(screen)
    news(screen, "An answer is already there. Waiting for what becomes of it.")
    ticket.become("verdict", forged_verdict(ticket, Verdict("accepted")))
    heading(screen, "Answered on another page")
    expect(screen.locator("#panel")).to_contain_text("What was typed here was not used.")


@pytest.mark.parametrize("outcome", ["wrong", "accepted"])
def test_a_verdict_forged_from_the_link_alone(broker: PageBroker, screen: Page, outcome: str) -> None:
    """Whoever has only the link can neither have the passphrase typed again elsewhere nor say that all is well."""
    ticket, trap = broker.put(), broker.put()
    question(screen, ticket)
    unlock(screen)
    ticket.take()
    link = (trap.link.ticket_text, trap.link.fragment) if outcome == "wrong" else None
    ticket.become("verdict", forged_verdict(ticket, Verdict(outcome, "", link)))
    heading(screen, "Sent, but no word back")
    assert trap.pages == set()


def test_a_verdict_sealed_for_another_ticket(broker: PageBroker, screen: Page) -> None:
    """A verdict under the right reply key but for another ticket does not open."""
    ticket, other = broker.put(), broker.put()
    question(screen, ticket)
    unlock(screen)
    answer = ticket.take()
    sealed = seal.seal_verdict(answer.reply_key, other.link.ticket, Verdict("accepted"), os.urandom)
    ticket.become("verdict", sealed)
    heading(screen, "Sent, but no word back")


# A broker that goes away


def test_unreachable_before_the_question(broker: PageBroker, timed: Page) -> None:
    """The page keeps trying, says so, and can be told to try at once."""
    ticket = broker.put()
    timed.clock.pause_at(time.time() + 3600)  # or the page's own next try might come before the click
    broker.fail()
    timed.goto(ticket.url)
    heading(timed, "No connection")
    expect(timed.locator("#panel")).to_contain_text("keeps trying for as long as the link may live")
    broker.fail(False)
    timed.get_by_role("button", name="Try again").click()
    heading(timed, "web03 asks for a passphrase")


def test_unreachable_while_the_question_is_open(broker: PageBroker, screen: Page) -> None:
    """The question stays; an answer given meanwhile goes out when the broker is back."""
    ticket = broker.put()
    question(screen, ticket)
    broker.fail()
    expect(screen.locator("#line")).to_have_text("No connection. Trying again; what you send will wait.")
    unlock(screen)
    news(screen, "Sealing and sending.")
    broker.fail(False)
    screen.evaluate("() => dispatchEvent(new Event('online'))")
    answer = ticket.take()
    expect(screen.locator("#line")).to_be_hidden()
    ticket.conclude(answer, Verdict("accepted"))
    heading(screen, "Unlocked")


def test_a_restarted_broker(broker: PageBroker, screen: Page) -> None:
    """A broker that forgot the ticket and hears of it again has a new nonce; the page proves itself anew."""
    ticket = broker.put(views=1)
    question(screen, ticket)
    ticket.forget()
    expect(screen.locator("#line")).to_be_visible()
    ticket.come_back()
    expect(screen.locator("#line")).to_be_hidden()
    assert len(ticket.pages) == 1
    unlock(screen)
    ticket.conclude(ticket.take(), Verdict("accepted"))
    heading(screen, "Unlocked")


def test_an_answer_that_died_with_the_broker(broker: PageBroker, screen: Page) -> None:
    """An answer that the asker never had is sent again, sealed as it was, once the asker brings the ticket back."""
    ticket = broker.put()
    question(screen, ticket)
    unlock(screen)
    lost = ticket.sealed_answer()
    ticket.forget()
    expect(screen.locator("#line")).to_be_visible()
    ticket.come_back()
    again = ticket.sealed_answer()
    assert again == lost
    answer = ticket.open_answer(again)
    ticket.become("sent")
    ticket.conclude(answer, Verdict("accepted"))
    heading(screen, "Unlocked")


def test_forgotten_for_good(broker: PageBroker, timed: Page) -> None:
    """A ticket that the broker does not know again within 20 s is over."""
    ticket = broker.put()
    question(timed, ticket)
    ticket.forget()
    expect(timed.locator("#line")).to_be_visible()
    timed.clock.fast_forward(15_000)
    expect(timed.locator("#line")).to_be_visible()
    timed.clock.fast_forward(6_000)
    heading(timed, "There is nothing to answer here")


@pytest.mark.parametrize("how", ["forgotten", "unreachable", "used"])
def test_verdict_unknown(broker: PageBroker, timed: Page, how: str) -> None:
    """When nobody can say any more what became of a sent answer, the page says that and warns against a second one."""
    ticket = broker.put()
    question(timed, ticket)
    unlock(timed)
    ticket.take()
    news(timed, "Sent. web03 is checking it.")
    if how == "used":
        ticket.die("used")
    else:
        ticket.forget() if how == "forgotten" else broker.fail()
        expect(timed.locator("#line")).to_be_visible()
        timed.clock.fast_forward(21_000 if how == "forgotten" else 61_000)
    heading(timed, "Sent, but no word back")
    expect(timed.locator("#panel")).to_contain_text("Do not send it again")


def test_out_of_reach_until_the_time_is_up(broker: PageBroker, timed: Page) -> None:
    """A page that never reached the broker again gives up when the prompt cannot be alive any more."""
    ticket = broker.put(remaining=100)
    question(timed, ticket)
    broker.fail()
    expect(timed.locator("#line")).to_be_visible()
    timed.clock.fast_forward(90_000)
    expect(timed.locator("#question")).to_be_visible()
    timed.clock.fast_forward(31_000)
    heading(timed, "This link has expired")


def test_retries_are_spaced(broker: PageBroker, screen: Page) -> None:
    """The pauses between attempts grow to 15 s, so that a phone does not drum on a broken server."""
    screen.add_init_script("""
        const real = setTimeout;
        window.pauses = [];
        window.setTimeout = (run, delay) => { pauses.push(delay / 1000); return real(run, delay / 1000); };
    """)
    broker.fail()
    screen.goto(broker.put().url)
    screen.wait_for_function("() => pauses.length >= 6")
    assert screen.evaluate("() => pauses.slice(0, 6)") == [1, 2, 4, 8, 15, 15]


# Time


def test_the_time_left_counts_down(broker: PageBroker, timed: Page) -> None:
    """From the broker's remaining seconds, by a clock that nobody can set; spoken only near the end."""
    timed.add_init_script(
        "AbortSignal.timeout = () => new AbortController().signal;"
    )  # it runs on the test's clock, too
    timed.clock.pause_at(time.time() + 3600)  # from here on only the test moves it
    ticket = broker.put(remaining=3601, age=0)
    question(timed, ticket)
    assert ticket.idle.wait(10)
    for seconds, left, spoken in (
        (0, "60 min left", ""),
        (3505, "96 s left", "5 min left."),
        (36, "60 s left", "60 s left."),
        (50, "10 s left", "60 s left."),
    ):
        timed.clock.run_for(1000 * seconds)
        expect(timed.locator("#left")).to_have_text(left)
        expect(timed.locator("#spoken")).to_have_text(spoken)
    timed.clock.run_for(20_000)
    expect(timed.locator("#left")).to_have_text("Time is up")
    expect(timed.locator("#since")).to_have_text(re.compile(r"^\d\d:\d\d, 60 min ago$"))
