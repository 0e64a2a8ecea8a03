"""The page waits and answers at the same time; neither may take what the other has just done for the end."""

from page_broker import PageBroker
from playwright.sync_api import Page, Route, expect

from unlatch.prompt import Verdict

pytest_plugins = ["page_broker"]


def test_a_late_answer_does_not_hide_the_verdict(broker: PageBroker, screen: Page) -> None:
    """After an outage the answer may go out twice. The second finds a dead link, and the page hears the verdict."""

    def arrive_twice(route: Route) -> None:
        route.fetch()
        route.fulfill(status=410, json={"state": "replaced"})

    ticket, following = broker.put(), broker.put()
    screen.goto(ticket.url)
    screen.route("**/answer", arrive_twice)
    screen.get_by_label("Passphrase").fill("not this one")
    with screen.expect_response("**/answer"):
        screen.get_by_role("button", name="Unlock").click()
    screen.unroute("**/answer")
    link = (following.link.ticket_text, following.link.fragment)
    ticket.conclude(ticket.take(), Verdict("wrong", "", link))
    expect(screen.locator("#news")).to_have_text("Wrong passphrase.")


def test_a_question_outlives_the_answer_of_another_page(broker: PageBroker, screen: Page) -> None:
    """A page that comes back from an outage while another page's answer is tried waits for what becomes of that."""

    def tried(route: Route) -> None:
        route.fulfill(status=409, json={"state": "answered"})

    ticket = broker.put()
    screen.goto(ticket.url)
    expect(screen.get_by_label("Passphrase")).to_be_visible()
    screen.route("**/view", tried, times=1)
    with screen.expect_response("**/view"):
        ticket.come_back()  # with another nonce: the page has to prove the link anew
        ticket.become("open")
    with screen.expect_response("**/wait"):
        pass  # the other answer could not be opened, so the question is open again
    expect(screen.get_by_label("Passphrase")).to_be_visible()
    ticket.die("used")
    expect(screen.get_by_role("heading", name="This link has been used")).to_be_visible()
