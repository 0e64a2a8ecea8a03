"""A challenge on the page: a message to decrypt, as text and as a QR code, and a field for the response."""

import os
from pathlib import Path
from typing import Literal

import pytest
import qr_reader
from page_broker import PASSPHRASE, PageBroker
from playwright.sync_api import Browser, Page, expect

from unlatch.pam import asker, challenge, qr, question
from unlatch.prompt import Prompt, Verdict

pytest_plugins = ["page_broker"]

WORDS = ("amber", "canoe")
FACTS = challenge.Facts("alice", "web03", "sshd", "203.0.113.5", 1750000000)


def armour(size: int) -> str:
    """As many characters as a message of gpg has, in its form."""
    lines = [os.urandom(48).hex()[:64] for _ in range(size // 65)]
    return "\n".join(["-----BEGIN PGP MESSAGE-----", "", *lines, "=abcd", "-----END PGP MESSAGE-----", ""])


def unpack(packed: bytes) -> list[str]:
    side = int((len(packed) * 8) ** 0.5)
    bits = "".join(f"{byte:08b}" for byte in packed)
    return [bits[row * side : (row + 1) * side] for row in range(side)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [289, 476, 699])  # to cv25519, signed, to rsa3072
def test_the_code_is_read_from_the_screen_of_a_phone(
    broker: PageBroker, engine: Browser, tmp_path: Path, size: int, scheme: Literal["light", "dark"]
) -> None:
    """What another device scans from the page is the message, byte for byte, in the light and in the dark."""
    message = armour(size)
    ticket = broker.put(question.challenge(FACTS, message, WORDS), uid=0, user="root", login="alice")
    context = engine.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=2, color_scheme=scheme, locale="en-GB"
    )
    screen = context.new_page()
    screen.goto(ticket.url)
    expect(screen.locator("#qr")).to_be_visible()
    screen.screenshot(path=tmp_path / "page.png", full_page=True)
    context.close()
    assert qr_reader.read(tmp_path / "page.png") == message.strip()


def test_the_response_is_typed_below_the_message(broker: PageBroker, screen: Page) -> None:
    """Who logs in where stands above; what is typed is sealed as any answer; no password manager is offered a field."""
    message = armour(289)
    ticket = broker.put(question.challenge(FACTS, message, WORDS), uid=0, user="root", login="alice")
    screen.goto(ticket.url)
    expect(screen.locator("#asks")).to_have_text("web03 asks for a response")
    expect(screen.locator("#sure")).to_contain_text("root (uid 0)")
    expect(screen.locator("#sure div", has_text="Login")).to_contain_text("alice")
    expect(screen.locator("#said")).to_contain_text("Login of alice by sshd, from 203.0.113.5")
    assert screen.locator("#text").text_content() == message
    expect(screen.locator("#effect")).to_have_text("There is one attempt.")
    expect(screen.locator("#words")).to_be_hidden()  # no message came that could have them
    expect(screen.locator("#account")).to_have_count(0)
    field = screen.get_by_label("Response")
    expect(field).to_have_attribute("autocomplete", "off")
    field.fill("aB3dE6gH9j")
    screen.get_by_role("button", name="Send").click()
    answer = ticket.take()
    assert answer.secret is not None
    assert bytes(answer.secret.reveal()) == b"aB3dE6gH9j"
    ticket.conclude(answer, Verdict("accepted", asker.PRESS_ENTER))
    expect(screen.locator("#panel-title")).to_have_text("Accepted")
    expect(screen.locator("#panel-more")).to_have_text(f"web03 says: {asker.PRESS_ENTER}")


def test_the_message_is_copied_whole(broker: PageBroker, engine: Browser) -> None:
    """One tap has it in the clipboard, with every line end, for the program that decrypts."""
    message = armour(289)
    ticket = broker.put(question.challenge(FACTS, message, WORDS))
    context = engine.new_context(permissions=["clipboard-read", "clipboard-write"])
    screen = context.new_page()
    screen.goto(ticket.url)
    screen.get_by_role("button", name="Copy").click()
    expect(screen.get_by_role("button", name="Copied")).to_be_visible()
    # The page's own policy lets nobody read the clipboard: another page of the same browser does.
    other = context.new_page()
    other.set_content("<textarea></textarea>")
    other.locator("textarea").focus()
    other.keyboard.press("Control+V")
    pasted = other.locator("textarea").input_value()
    context.close()
    assert pasted == message


@pytest.mark.parametrize(
    "prompt",
    [PASSPHRASE, PASSPHRASE._replace(qr="gA"), Prompt("confirm", "Allow?", WORDS, 0, text="no code", qr="gA")],
)
def test_nothing_else_has_a_code(broker: PageBroker, screen: Page, prompt: Prompt) -> None:
    """Whatever the asker sends along, a passphrase's page shows neither a code nor a button to copy."""
    screen.goto(broker.put(prompt).url)
    expect(screen.locator("#question")).to_be_visible()
    expect(screen.locator("#qr")).to_be_hidden()
    expect(screen.locator("#copy")).to_be_hidden()


def test_a_message_that_no_code_holds_is_shown_without_one(broker: PageBroker, screen: Page) -> None:
    """Three large keys and a signature: the text is there, and so is the field."""
    message = armour(3500)
    screen.goto(broker.put(question.challenge(FACTS, message, WORDS)).url)
    expect(screen.locator("#text")).to_contain_text("BEGIN PGP MESSAGE")
    expect(screen.locator("#qr")).to_be_hidden()
    expect(screen.get_by_label("Response")).to_be_visible()


@pytest.mark.parametrize("bad", ["!", "gA==", "*" * 100])
def test_a_code_that_cannot_be_drawn_shows_no_question(broker: PageBroker, screen: Page, bad: str) -> None:
    """An asker that sends something else is out of step with the page, which says so and asks for nothing."""
    prompt = question.challenge(FACTS, armour(289), WORDS)._replace(qr=bad)
    screen.goto(broker.put(prompt).url)
    expect(screen.locator("#panel-title")).to_have_text("This page is out of step")
    expect(screen.locator("#question")).to_be_hidden()


def test_packed_modules_are_those_of_the_code(tmp_path: Path) -> None:
    """Drawn from what the page gets, the code reads as the message."""
    from unlatch import base64url

    message = armour(289)
    code = qr.modules(message)
    assert code is not None
    packed = base64url.decode(qr.packed(code), "qr")
    side = len(code)
    assert int((len(packed) * 8) ** 0.5) == side
    rows = [bytes(bit == "0" for bit in row) for row in unpack(packed)[:side]]
    edge, blank = b"\1" * 4, b"\1" * (side + 8)
    framed = [blank] * 4 + [edge + row + edge for row in rows] + [blank] * 4
    assert qr_reader.read(qr_reader.picture(framed, tmp_path / "code.png")) == message
