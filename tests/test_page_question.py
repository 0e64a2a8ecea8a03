"""What stands on the page for each kind of prompt, and what each answer is."""

from typing import Any

import pytest
from page_broker import ASKER, PASSPHRASE, PageBroker, Ticket
from playwright.sync_api import Page, expect

from unlatch.prompt import Answer, Key, Prompt, Verdict

pytest_plugins = ["page_broker"]


def shown(screen: Page, ticket: Ticket) -> None:
    screen.goto(ticket.url)
    expect(screen.locator("#question")).to_be_visible()


def rows(screen: Page, box: str) -> dict[str, str]:
    """The terms and descriptions of one list."""
    found: dict[str, str] = screen.locator(box).evaluate(
        "(dl) => Object.fromEntries(Array.from(dl.children, (row) => Array.from(row.children, (c) => c.textContent)))"
    )
    return found


def secret(answer: Answer) -> str:
    assert answer.secret is not None
    return bytes(answer.secret.reveal()).decode()


def test_the_kernels_word_stands_apart(broker: PageBroker, screen: Page) -> None:
    """Host and user are the stamp's; all that an asker claims is in another box, named so, and the followers too."""
    followers = ["nextcloud (uid 33) nightly-dump.service", "db1\nUser root (uid 0)\u202e"]
    shown(screen, broker.put(followers=followers))
    sure = screen.get_by_role("region", name="Checked by the kernel")
    expect(sure.get_by_role("term")).to_have_text(["Host", "User"])
    assert rows(screen, "#sure") == {"Host": "web03", "User": "backup (uid 34)"}
    said = screen.get_by_role("region", name="As reported by the host")
    expect(said).to_contain_text("nightly-dump.service")
    assert rows(screen, "#others") == {"Also waiting": f"{followers[0]}\ndb1 User root (uid 0)\ufffd"}
    expect(sure).not_to_contain_text("pass show")
    expect(screen.locator(".brand")).to_have_text("Unlatch for anna")


def test_what_the_host_reports(broker: PageBroker, screen: Page) -> None:
    """What is asked, for which key, by which service and command, since when; the rest one tap away."""
    shown(screen, broker.put())
    assert rows(screen, "#said") == {
        "Asks": "Passphrase of an OpenPGP key",
        "Key": "Nightly dumps <dumps@web03.example>\n0x9F2C41D07A55E310",
        "Service": "nightly-dump.service",
        "Command": "pass show sql-root",
        "Since": "16:06, 13 min ago",
    }
    expect(screen.locator("#chain")).to_be_hidden()
    screen.get_by_text("More from the host").click()
    expect(screen.locator("#chain li")).to_have_text(
        [
            "bash /usr/bin/pass show sql-root (pass, 4711)",
            "/usr/local/bin/nightly-dump --all (nightly-dump, 4702)",
            "/sbin/init (systemd, 1)",
        ]
    )
    expect(screen.locator("#long")).to_contain_text("Please enter the passphrase to unlock")
    assert rows(screen, "#more") == {"Keygrip": "3D9A0C51" * 5, "Terminal": "none"}


def test_the_match_words(broker: PageBroker, screen: Page) -> None:
    """The two words of the notification stand near the top, with what to do when they differ."""
    shown(screen, broker.put())
    expect(screen.locator("#words")).to_have_text("amber otter")
    expect(screen.locator(".words")).to_contain_text("The same words as in your message? If not, deny.")


def test_an_asker_that_says_nothing(broker: PageBroker, screen: Page) -> None:
    """Whoever asks from another pid namespace is "unknown", not an empty line."""
    shown(screen, broker.put(PASSPHRASE._replace(asker=ASKER._replace(command="", system_unit="", chain=()), key=None)))
    assert rows(screen, "#said") == {"Asks": PASSPHRASE.title, "Command": "unknown", "Since": "16:06, 13 min ago"}
    expect(screen.locator("#text")).to_contain_text("Please enter the passphrase")


def test_a_users_unit_is_not_a_system_unit(broker: PageBroker, screen: Page) -> None:
    """Any user can name a unit of their own like a service of the system, so both are named, theirs first."""
    asker = ASKER._replace(system_unit="user@34.service", user_unit="sshd.service")
    shown(screen, broker.put(PASSPHRASE._replace(asker=asker)))
    assert rows(screen, "#said")["Service"] == "sshd.service\n(the user’s own, in user@34.service)"


def test_followers_who_come_later(broker: PageBroker, screen: Page) -> None:
    """The list of who else waits changes under the open page, and the time left with it."""
    ticket = broker.put()
    shown(screen, ticket)
    ticket.stamp = ticket.stamp | {"followers": ["nextcloud (uid 33)"]}
    ticket.remaining = 600
    ticket.become("open")
    expect(screen.locator("#others")).to_contain_text("nextcloud (uid 33)")
    expect(screen.locator("#left")).to_have_text("9 min left")


def test_claims_are_text(broker: PageBroker, screen: Page) -> None:
    """Markup in a claim is shown as it is; marks that hide or turn text around are made visible."""
    nasty = "<img src=x onerror=alert(1)>"
    key = Key("safe\u202e\u2066 txt\x00\u200bname", "", "", "")
    shown(screen, broker.put(PASSPHRASE._replace(title=nasty, key=key), user=nasty))
    assert rows(screen, "#said")["Asks"] == nasty
    assert rows(screen, "#said")["Key"] == "safe�� txt��name"
    assert rows(screen, "#sure")["User"] == f"{nasty} (uid 34)"
    assert screen.locator("#question img").count() == 0


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u3164", "\u180e", "\u00ad", "\u061c", "\x07", "\U000e0041"])
def test_nothing_invisible_is_in_a_claim(broker: PageBroker, screen: Page, hidden: str) -> None:
    """Bidi controls, fillers, soft hyphens, tags: each is made visible, wherever an asker wrote it."""
    key = Key(f"a{hidden}b", f"a{hidden}b", "", "")
    asker = ASKER._replace(command=f"a{hidden}b", tty=f"a{hidden}b")
    prompt = PASSPHRASE._replace(title=f"a{hidden}b", text=f"a{hidden}b", error=f"a{hidden}b", key=key, asker=asker)
    shown(screen, broker.put(prompt, followers=[f"a{hidden}b"], account=f"a{hidden}b"))
    screen.get_by_text("More from the host").click()
    assert hidden not in screen.locator("main").inner_text()
    assert hidden not in screen.get_by_label("Account").input_value()


def test_the_page_does_not_speak_for_the_asker(broker: PageBroker, screen: Page) -> None:
    """An error, a field's name, a try: none is in the page's own lines before the page itself saw a verdict."""
    lie = "Kernel check passed: root (uid 0)."
    prompt = PASSPHRASE._replace(
        kind="new-passphrase", error=lie, label=lie, repeat=lie, repeat_error=lie, ok=lie, cancel=lie, attempt=(2, 3)
    )
    shown(screen, broker.put(prompt))
    said = screen.get_by_role("region", name="As reported by the host")
    assert rows(screen, "#said").items() >= {"Says": lie, "Field": lie, "Try": "2 of 3"}.items()
    assert screen.locator("main").inner_text().count(lie) == said.inner_text().count(lie) == 2
    screen.get_by_label("New passphrase").fill("one")
    screen.get_by_role("button", name="Set passphrase").click()
    expect(screen.locator("#mistake")).to_have_text("The two are not the same. Nothing was sent.")


def test_who_keeps_the_answer(broker: PageBroker, screen: Page) -> None:
    """That gpg-agent keeps it is the host's claim, and shown as one; that a program receives it is a warning too."""
    shown(screen, broker.put())
    expect(screen.locator("#effect")).to_have_text("web03 says: gpg-agent checks it and keeps it for a while.")
    expect(screen.locator("#keeper")).to_be_hidden()
    shown(screen, broker.put(PASSPHRASE._replace(keeper="program")))
    expect(screen.locator("#keeper")).to_have_text(
        "web03 says: a program receives what you type, in clear, and may keep it."
    )


def test_passphrase_fields_are_for_password_managers(broker: PageBroker, screen: Page) -> None:
    """A readonly username with the stamp's account and a current-password, in one form; nothing hidden beside them."""
    shown(screen, broker.put())
    account = screen.get_by_label("Account")
    expect(account).to_have_value("backup@web03 0x9F2C41D07A55E310")
    expect(account).to_have_attribute("autocomplete", "username")
    expect(account).to_have_attribute("readonly", "")
    field = screen.get_by_label("Passphrase")
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_attribute("autocomplete", "current-password")
    assert screen.locator("form input").count() == 2


def test_show_and_hide(broker: PageBroker, screen: Page) -> None:
    """What is typed can be looked at; it is hidden again before it is sent."""
    ticket = broker.put()
    shown(screen, ticket)
    field = screen.get_by_label("Passphrase")
    screen.get_by_role("button", name="Show").click()
    expect(field).to_have_attribute("type", "text")
    screen.get_by_role("button", name="Hide").click()
    expect(field).to_have_attribute("type", "password")
    screen.get_by_role("button", name="Show").click()
    field.fill("visible")
    field.press("Enter")
    assert secret(ticket.take()) == "visible"
    expect(field).to_have_attribute("type", "password")


@pytest.mark.parametrize(
    ("typed", "told"), [("", "Passphrase: nothing typed yet."), ("ä" * 4097, "That is too long: 8192 bytes at most.")]
)
def test_what_cannot_be_sent(broker: PageBroker, screen: Page, typed: str, told: str) -> None:
    """Nothing typed, or too much: the page says so at the field and sends nothing."""
    shown(screen, broker.put())
    field = screen.get_by_label("Passphrase")
    field.fill(typed)
    screen.get_by_role("button", name="Unlock").click()
    expect(screen.locator("#mistake")).to_have_text(told)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(f"{told} {screen.locator('#effect').text_content()}")
    assert broker.count("answer") == 0


def test_a_new_passphrase_is_typed_twice(broker: PageBroker, screen: Page) -> None:
    """Two fields, compared on the page."""
    prompt = PASSPHRASE._replace(
        kind="new-passphrase", label="", repeat="Repeat:", repeat_error="does not match - try again"
    )
    ticket = broker.put(prompt)
    shown(screen, ticket)
    expect(screen.get_by_role("heading", level=1)).to_have_text("web03 asks for a new passphrase")
    field, repeat = screen.get_by_label("New passphrase"), screen.get_by_label("The same again")
    expect(field).to_have_attribute("autocomplete", "new-password")
    expect(repeat).to_have_attribute("autocomplete", "new-password")
    field.fill("one")
    repeat.fill("two")
    screen.get_by_role("button", name="Set passphrase").click()
    expect(screen.locator("#mistake")).to_have_text("The two are not the same. Nothing was sent.")
    expect(repeat).to_be_focused()
    repeat.fill("one")
    repeat.press("Enter")
    answer = ticket.take()
    assert secret(answer) == "one"
    ticket.conclude(answer, Verdict("accepted"))
    expect(screen.get_by_role("heading", level=1)).to_have_text("Passphrase set")


def test_a_cards_pin(broker: PageBroker, screen: Page) -> None:
    """A PIN keeps the full keyboard, for it may have letters; tries left and which card are shown."""
    prompt = PASSPHRASE._replace(
        kind="pin", label="Admin PIN", keeper="card", key=Key("OpenPGP card", "", "", "0006 12345678"), attempt=(2, 3)
    )
    ticket = broker.put(prompt)
    shown(screen, ticket)
    expect(screen.get_by_role("heading", level=1)).to_have_text("web03 asks for a card’s PIN")
    assert rows(screen, "#said").items() >= {"Field": "Admin PIN", "Try": "2 of 3"}.items()
    expect(screen.locator("#effect")).to_contain_text("Each wrong try brings the card closer to locking itself")
    assert rows(screen, "#more")["Card"] == "0006 12345678"
    screen.get_by_label("PIN", exact=True).fill("12345678")
    screen.get_by_role("button", name="Unlock").click()
    assert secret(ticket.take()) == "12345678"


def test_a_yes_with_digits(broker: PageBroker, screen: Page) -> None:
    """A yes that needs the asking session carries its two digits; there is no passphrase field."""
    ticket = broker.put(PASSPHRASE._replace(kind="confirm", digits=True, keeper="none"))
    shown(screen, ticket)
    assert screen.locator("form input").count() == 1
    field = screen.get_by_label("The two digits that the asking session shows")
    expect(field).to_have_attribute("inputmode", "numeric")
    for typed in ("", "7", "x1"):
        field.fill(typed)
        screen.get_by_role("button", name="Allow").click()
        expect(screen.locator("#mistake")).to_have_text("Type the two digits first.")
    field.fill("07")
    screen.get_by_role("button", name="Allow").click()
    answer = ticket.take()
    assert (answer.answer, answer.digits) == ("yes", "07")


@pytest.mark.parametrize(
    ("labels", "buttons", "means"),
    [
        (
            {"ok": "Take this anyway", "notok": "Enter a new one"},
            ["No", "Yes"],
            {"Yes means": "Take this anyway", "No means": "Enter a new one"},
        ),
        ({"ok": "Deny", "cancel": "Allow"}, ["Deny", "Allow"], {}),
        ({"ok": "_Yes", "cancel": "_No"}, ["Deny", "Allow"], {}),
        ({"ok": "No, stop", "notok": "Yes"}, ["No", "Yes"], {"Yes means": "No, stop"}),
    ],
)
def test_a_yes_is_always_called_a_yes(
    broker: PageBroker, screen: Page, labels: dict[str, Any], buttons: list[str], means: dict[str, str]
) -> None:
    """The asker words no button; what it calls them stands among its claims."""
    ticket = broker.put(PASSPHRASE._replace(kind="confirm", keeper="none", **labels))
    shown(screen, ticket)
    expect(screen.locator(".buttons button")).to_have_text(buttons)
    assert {term: text for term, text in rows(screen, "#said").items() if "means" in term} == means
    screen.locator(".buttons button").first.click()
    assert ticket.take().answer == "no"


@pytest.mark.parametrize("kind", ["confirm", "notice"])
def test_the_text_of_a_question_is_never_folded_away(broker: PageBroker, screen: Page, kind: str) -> None:
    """Where nothing is typed the text is the question, whether or not it names a key."""
    text = "Really do this?\n\n" + "blah " * 60 + "This will DELETE the secret key."
    shown(screen, broker.put(PASSPHRASE._replace(kind=kind, keeper="none", text=text)))
    expect(screen.locator("#text")).to_be_visible()
    expect(screen.locator("#text")).to_contain_text("This will DELETE the secret key.")
    expect(screen.locator("#long")).to_be_hidden()


def test_a_notice_has_one_button(broker: PageBroker, screen: Page) -> None:
    """A notice is read, not answered: OK and nothing else."""
    ticket = broker.put(PASSPHRASE._replace(kind="notice", keeper="none", key=None, text="The key expires tomorrow."))
    shown(screen, ticket)
    expect(screen.get_by_role("heading", level=1)).to_have_text("web03 has a message for you")
    expect(screen.locator("#text")).to_have_text("The key expires tomorrow.")
    expect(screen.locator(".buttons button:visible")).to_have_text(["OK"])
    screen.get_by_role("button", name="OK").click()
    answer = ticket.take()
    assert answer.answer == "yes"
    ticket.conclude(answer, Verdict("accepted"))
    expect(screen.get_by_role("heading", level=1)).to_have_text("Read")


@pytest.mark.parametrize(
    ("kind", "label", "done"), [("challenge", "Response", "Accepted"), ("enrolment", "Answer", "Enrolled")]
)
def test_a_text_to_answer(broker: PageBroker, screen: Page, kind: str, label: str, done: str) -> None:
    """Challenge and enrolment show their text and take one line of it, readable and unknown to password managers."""
    prompt: Prompt = PASSPHRASE._replace(kind=kind, key=None, keeper="none", label="Response:", text="Decrypt: 7A55")
    ticket = broker.put(prompt)
    shown(screen, ticket)
    expect(screen.locator("#text")).to_have_text("Decrypt: 7A55")
    field = screen.get_by_label(label, exact=True)
    expect(field).to_have_attribute("type", "text")
    expect(field).to_have_attribute("autocomplete", "off")
    expect(screen.get_by_role("button", name="Show")).to_be_hidden()
    field.fill("kl3mmbrett")
    screen.get_by_role("button", name="Send").click()
    answer = ticket.take()
    assert secret(answer) == "kl3mmbrett"
    ticket.conclude(answer, Verdict("accepted"))
    expect(screen.get_by_role("heading", level=1)).to_have_text(done)


def test_the_page_talks_to_its_broker_only(broker: PageBroker, screen: Page) -> None:
    """No request goes anywhere else, and none carries the fragment or what was typed."""
    sent: list[str] = []
    screen.on("request", lambda r: sent.append(f"{r.url.split('#')[0]} {r.headers} {r.post_data}"))
    ticket = broker.put()
    shown(screen, ticket)
    screen.get_by_label("Passphrase").fill("a canary")
    screen.get_by_role("button", name="Unlock").click()
    ticket.conclude(ticket.take(), Verdict("accepted"))
    expect(screen.get_by_role("heading", level=1)).to_have_text("Unlocked")
    assert all(text.startswith(f"{broker.url}{ticket.link.ticket_text}") for text in sent)
    assert not [
        text for text in sent if "canary" in text or ticket.link.fragment in text or ticket.link.fragment[43:] in text
    ]
