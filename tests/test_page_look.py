"""The page for every eye, ear and thumb: contrast, small screens, large letters, names, focus, motion."""

from collections.abc import Callable, Iterator

import pytest
from page_broker import ASKER, PASSPHRASE, PageBroker, Ticket
from playwright.sync_api import Browser, BrowserContext, Page, expect

from unlatch.prompt import Key, Process, Verdict

pytest_plugins = ["page_broker"]

# Every visible text with its colour and what lies behind it, as contrast ratios (WCAG 2.2, 1.4.3); then the edges of
# what can be operated against the ground around them (1.4.11).
CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
      if (a !== 0) throw new Error("half transparent");
    }
    throw new Error("no ground");
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.matches(".unseen, script")) continue;
    const style = getComputedStyle(element);
    const colour = channels(style.color);
    const text = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim());
    const name = element.id || element.className || element.tagName;
    if (text || element.value) found.push(["text", name, ratio(colour, behind(element))]);
    const before = getComputedStyle(element, "::before");
    if (!["none", "normal", '""'].includes(before.content)) {
      const own = channels(before.backgroundColor);
      const ground = (own[3] ?? 1) === 1 ? own : behind(element);
      found.push(["text", `${name}::before`, ratio(channels(before.color), ground)]);
    }
    if (element.matches("button, input:not([readonly])"))
      found.push(["edge", element.id, ratio(channels(style.borderTopColor), behind(element.parentElement))]);
  }
  return found;
}"""

OVERFLOW = """() => [document.documentElement.scrollWidth - innerWidth,
  ...Array.from(document.querySelectorAll("main *"))
    .filter((e) => e.checkVisibility() && !e.matches("input, .unseen"))
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > (e.clientWidth || 1e9) + 1)
    .map((e) => e.id || e.className || e.tagName)]"""

LONG = PASSPHRASE._replace(
    title="The passphrase of a key whose name is rather long for a telephone",
    key=Key(
        "Donaudampfschifffahrtsgesellschaftskapitän <kapitaen@donaudampfschifffahrtsgesellschaft.example>",
        "9F2C41D07A55E310" * 2,
        "3D9A0C51" * 5,
    ),
    keeper="program",
    error="The passphrase was not accepted by something with-a-very-long-name-without-any-break-in-it-at-all",
    asker=ASKER._replace(
        command="/opt/averyveryverylongpathwithoutanybreaks/" + "x" * 60,
        system_unit="dump-of-all-databases-and-everything-else@sql-root.service",
        chain=(Process(4711, "pass", "bash " + "y" * 120),),
    ),
)


@pytest.fixture(params=["light", "dark"])
def look(engine: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[[int, int], Page]]:
    """A phone of a given size in both colour schemes."""
    contexts: list[BrowserContext] = []

    def make(width: int, height: int) -> Page:
        context = engine.new_context(
            viewport={"width": width, "height": height}, color_scheme=request.param, has_touch=True
        )
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def poor(screen: Page) -> list[list[object]]:
    """What is too faint."""
    found = screen.evaluate(CONTRAST)
    assert found
    return [entry for entry in found if entry[2] < (4.5 if entry[0] == "text" else 3)]


def shown(screen: Page, ticket: Ticket) -> None:
    screen.goto(ticket.url)
    expect(screen.locator("#question")).to_be_visible()


def test_contrast_of_the_question(broker: PageBroker, look: Callable[[int, int], Page]) -> None:
    """WCAG AA for every text and every edge, with warning, error and all details open."""
    screen = look(390, 844)
    shown(screen, broker.put(LONG, followers=["root (uid 0)"]))
    screen.get_by_text("More from the host").click()
    screen.get_by_role("button", name="Unlock").click()
    expect(screen.locator("#mistake")).to_be_visible()
    assert poor(screen) == []
    broker.fail()
    expect(screen.locator("#line")).to_be_visible()
    assert poor(screen) == []


@pytest.mark.parametrize("tone", ["wait", "good", "bad", "warn", "over"])
def test_contrast_of_the_other_states(broker: PageBroker, look: Callable[[int, int], Page], tone: str) -> None:
    """WCAG AA for the panels of every tone."""
    screen = look(320, 568)
    screen.goto(broker.put(views=0).url)
    expect(screen.get_by_role("heading", name="Already open elsewhere")).to_be_visible()
    screen.locator("#panel").evaluate("(panel, tone) => { panel.dataset.tone = tone; }", tone)
    assert poor(screen) == []


@pytest.mark.parametrize("letters", ["100%", "200%"])
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_cut_off(broker: PageBroker, engine: Browser, width: int, letters: str) -> None:
    """No sideways scrolling and nothing outside the screen at 320 px, nor with letters twice as large."""
    context = engine.new_context(viewport={"width": width, "height": 568})
    screen = context.new_page()
    for prompt in (PASSPHRASE, LONG, LONG._replace(kind="confirm", ok="x" * 60, notok="No " + "y" * 40, digits=True)):
        ticket = broker.put(prompt, host="db-primary-replica-03.internal.example.org", followers=["z" * 70])
        shown(screen, ticket)
        screen.evaluate("(size) => { document.documentElement.style.fontSize = size; }", letters)
        screen.get_by_text("More from the host").click()
        assert screen.evaluate(OVERFLOW) == [0]
    ticket.die("withdrawn")
    expect(screen.locator("#panel")).to_be_visible()
    assert screen.evaluate(OVERFLOW) == [0]
    context.close()


def test_the_usual_question_fits_on_one_screen(broker: PageBroker, screen: Page) -> None:
    """At 390x844 nothing needs scrolling from the host's name to Unlock."""
    shown(screen, broker.put())
    expect(screen.locator("#asks")).to_be_in_viewport(ratio=1)
    expect(screen.get_by_role("button", name="Unlock")).to_be_in_viewport(ratio=1)


def test_everything_to_tap_is_large_enough(broker: PageBroker, screen: Page) -> None:
    """44 px and more (WCAG 2.5.5), and Unlock lies under the right thumb with room to Deny."""
    shown(screen, broker.put())
    for target in screen.locator("button:visible, summary, input:not([readonly]):visible").all():
        box = target.bounding_box()
        assert box is not None
        assert box["height"] >= 43.5
        assert box["width"] >= 44
    deny, unlock = screen.locator("#deny").bounding_box(), screen.locator("#unlock").bounding_box()
    assert deny is not None
    assert unlock is not None
    assert unlock["x"] - (deny["x"] + deny["width"]) >= 8
    assert unlock["width"] > 1.5 * deny["width"]


def test_what_a_screen_reader_meets(broker: PageBroker, screen: Page) -> None:
    """Roles, names and order of the whole question."""
    shown(screen, broker.put())
    expect(screen.locator("body")).to_match_aria_snapshot("""
    - banner:
      - paragraph: Unlatch for anna
      - timer: /min left/
    - main:
      - article:
        - heading "web03 asks for a passphrase" [level=1]
        - paragraph: amber otter The same words as in your message? If not, deny.
        - region "Checked by the kernel":
          - heading "Checked by the kernel" [level=2]
          - term: Host
          - definition: web03
          - term: User
          - definition: backup (uid 34)
        - region "As reported by the host":
          - heading "As reported by the host" [level=2]
          - term: Asks
          - definition: Passphrase of an OpenPGP key
          - term: Key
          - definition: /Nightly dumps/
          - term: Service
          - definition: nightly-dump.service
          - term: Command
          - definition: pass show sql-root
          - term: Since
          - definition: /min ago/
          - group: More from the host
        - group "Your answer":
          - paragraph:
            - text: Account
            - textbox "Account": backup@web03 0x9F2C41D07A55E310
          - paragraph:
            - text: Passphrase
            - textbox "Passphrase"
            - button "Show"
          - paragraph: /web03 says.+gpg-agent/
          - paragraph:
            - button "Deny"
            - button "Unlock"
        - paragraph: /sealed on this page/
    - status
    """)
    assert screen.evaluate("() => document.documentElement.lang") == "en"
    named = "Array.from(document.querySelectorAll('input, button')).every((e) => e.labels?.length || e.textContent)"
    assert screen.evaluate(named) is True


def test_focus_and_keyboard(broker: PageBroker, screen: Page) -> None:
    """The question is read first; then Tab goes through field, Show, Deny and Unlock, and each shows where it is."""
    shown(screen, broker.put())
    expect(screen.locator("#asks")).to_be_focused()
    for name in ("origin", "account", "secret", "show", "deny", "unlock"):
        screen.keyboard.press("Tab")
        focused = screen.evaluate(
            "() => [document.activeElement, document.activeElement.parentElement].map((e) => e.id)"
        )
        assert name in focused
        if name not in ("origin", "account"):
            assert screen.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_changes_are_spoken(broker: PageBroker, screen: Page) -> None:
    """What happens without a tap is announced politely; what follows a tap takes the focus."""
    ticket = broker.put()
    shown(screen, ticket)
    expect(screen.locator("#spoken")).to_have_attribute("role", "status")
    broker.fail()
    expect(screen.locator("#spoken")).to_have_text("No connection. Trying again; what you send will wait.")
    broker.fail(False)
    expect(screen.locator("#spoken")).to_have_text("Connected again.")
    screen.get_by_label("Passphrase").fill("x")
    screen.get_by_role("button", name="Unlock").click()
    expect(screen.locator("#news")).to_be_focused()
    answer = ticket.take()
    expect(screen.locator("#spoken")).to_have_text("Sent. web03 is checking it.")
    ticket.conclude(answer, Verdict("accepted"))
    expect(screen.get_by_role("heading", name="Unlocked")).to_be_focused()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_motion_is_left_out_on_request(broker: PageBroker, engine: Browser, motion: str) -> None:
    """The only thing that moves is the sign of waiting, and it stands still for whoever asks for that."""
    context = engine.new_context(reduced_motion="reduce" if motion == "reduce" else "no-preference")
    screen = context.new_page()
    ticket = broker.put()
    broker.fail()
    screen.goto(ticket.url)
    expect(screen.get_by_role("heading", name="No connection")).to_be_visible()
    moving = screen.evaluate("() => document.getAnimations({ subtree: true }).length")
    assert moving == (0 if motion == "reduce" else 1)
    context.close()
